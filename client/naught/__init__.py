"""naught: counters that are gone at zero.

    import naught

    async with naught.connect("naught://localhost:6480/orders") as counters:
        await counters.incr("seats:42")   # 1
        await counters.decr("seats:42")   # 0: gone

This package exports what most programs need: `connect`, `Client`, and the exceptions (`naught.errors` shows their
tree). Threads use `naught.blocking.Client`, which has the same methods. Two tools work without a server: `SafeMap`, a
mapping that removes a key when its number reaches zero, and `naught.zeros`, which finds and clears zeros in nested
data.
"""

from naught import _compiled

_compiled.watch(__name__, __path__[0])  # it decides from what the modules below are imported

# isort: split
from naught import blocking, zeros
from naught._version import __version__
from naught.aio.client import Client, connect
from naught.core.calls import Acquired, Grant, Holder, ScanPage
from naught.core.holds import Hold
from naught.core.hooks import ObservedCall
from naught.errors import (
    Busy,
    CacheFull,
    CallTimeout,
    ClientClosed,
    CommandError,
    ConnectionFailed,
    CounterOverflow,
    CounterUnderflow,
    Denied,
    InvalidRequest,
    NaughtError,
    NoSession,
    NotHeld,
    OutcomeUnknown,
    ProtocolError,
    ServerTimeout,
    ShuttingDown,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnknownMethod,
)
from naught.patterns import Permit, Semaphore
from naught.safemap import SafeMap

__all__ = [
    "Acquired",
    "Busy",
    "CacheFull",
    "CallTimeout",
    "Client",
    "ClientClosed",
    "CommandError",
    "ConnectionFailed",
    "CounterOverflow",
    "CounterUnderflow",
    "Denied",
    "Grant",
    "Hold",
    "Holder",
    "InvalidRequest",
    "NaughtError",
    "NoSession",
    "NotHeld",
    "ObservedCall",
    "OutcomeUnknown",
    "Permit",
    "ProtocolError",
    "SafeMap",
    "ScanPage",
    "Semaphore",
    "ServerTimeout",
    "ShuttingDown",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnknownMethod",
    "__version__",
    "blocking",
    "connect",
    "zeros",
]
