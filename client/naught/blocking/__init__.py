"""The client for threads: `naught.blocking.Client`, with the calls and patterns of `naught.Client`.

    with naught.blocking.Client("naught://localhost:6480/orders") as counters:
        counters.incr("seats:42")                              # 1
        with counters.semaphore("gpu", limit=4): ...

One client serves all threads of a process with one connection, so there is no pool to size. `loop.py` has the thread
that owns the connection, `future.py` how other threads wait for it.
"""

from naught.blocking.client import Client
from naught.blocking.patterns import InFlight, Lost, Permit, Quota, Reference, Semaphore, WaitGroup

__all__ = ["Client", "InFlight", "Lost", "Permit", "Quota", "Reference", "Semaphore", "WaitGroup"]
