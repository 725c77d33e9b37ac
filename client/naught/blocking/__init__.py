"""The client for threads: `naught.blocking.Client`, with the calls and patterns of `naught.Client`.

    from naught import blocking

    with blocking.Client("naught://localhost:6480/orders") as counters:
        counters.incr("seats:42")                              # 1
        with counters.semaphore("gpu", limit=4): ...

One client serves all threads of a process, with one connection: there is no pool to size. Calls that threads make
at the same time travel together. After a fork the child starts anew, with a connection and a session of its own;
what the parent holds stays the parent's.

    client.py     Client, and the patterns in patterns.py: the very methods of the asyncio client, made to wait
    future.py     what a call answers with before its reply is there
    link.py       the threads that call: who reads, who writes, who waits
    gathering.py  which of their calls go in one write, and how they wait
    crowd.py      the gate for many of them
    keeper.py     the client's own thread: connects, and reads while nobody calls
    wires.py      a socket, or the engine in this process
"""

from naught.blocking.client import Client
from naught.blocking.patterns import InFlight, Lost, Permit, Quota, Reference, Semaphore, WaitGroup

__all__ = ["Client", "InFlight", "Lost", "Permit", "Quota", "Reference", "Semaphore", "WaitGroup"]
