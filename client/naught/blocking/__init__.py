"""The client for threads: `naught.blocking.Client`, with the calls and patterns of `naught.Client`.

    from naught import blocking

    with blocking.Client("naught://localhost:6480/orders") as counters:
        counters.incr("seats:42")                              # 1
        with counters.semaphore("gpu", limit=4): ...

One client serves all threads of a process with one connection, so there is no pool to size. Calls that threads make
at the same time are sent together. After a fork, the client in the child opens a connection and a session of its own;
the holds stay the parent's.

    client.py     Client: the methods of the asyncio client, which block the calling thread
    patterns.py   the same for the patterns; both use waiting.py, which makes a blocking method of an async one
    future.py     the result of a call that is not answered yet
    link.py       the connection: which of the calling threads reads, which writes, which waits
    exclusive.py  the lock of the connection
    gathering.py  which calls are written together, and how their threads wait
    crowd.py      lets many waiting threads continue at once
    keeper.py     the client's own thread: connects, and reads while no thread calls
    wires.py      the transport: a socket, or the engine in this process
"""

from naught.blocking.client import Client
from naught.blocking.patterns import InFlight, Lost, Permit, Quota, Reference, Semaphore, WaitGroup

__all__ = ["Client", "InFlight", "Lost", "Permit", "Quota", "Reference", "Semaphore", "WaitGroup"]
