"""naught: counters that are gone at zero.

    import naught

    async with naught.connect("naught://localhost:6480/orders") as counters:
        await counters.incr("seats:42")   # 1
        await counters.decr("seats:42")   # 0: gone

This package exports what most programs need: `connect`, `Client`, the patterns, and the exceptions (`naught.errors`
shows their tree). `naught.asgi` and `naught.wsgi` are middlewares.

Threads use `naught.blocking.Client`, which has the same methods. Two tools work without a server: `SafeMap`, a
mapping that removes a key when its number reaches zero, and `naught.zeros`, which finds and clears zeros in nested
data.

What a program uses is imported when it first asks for it: `import naught` alone costs few milliseconds, and so does
the command `naught` where it needs no connection.
"""

from naught import _compiled

_compiled.watch(__name__, __path__[0])  # it decides from what the modules below are imported

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from naught._version import __version__

if TYPE_CHECKING:
    from naught import asgi, blocking, wsgi, zeros
    from naught.aio.client import Client, connect
    from naught.core.calls import Acquired, Grant, Holder, ScanPage, Throttled
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
        NoPermit,
        NoSession,
        NotHeld,
        OutcomeUnknown,
        ProtocolError,
        ServerTimeout,
        ShuttingDown,
        TooLarge,
        Unauthenticated,
        Unavailable,
        Underflow,
        UnknownMethod,
        WrongLoop,
    )
    from naught.patterns import InFlight, Permit, Quota, Reference, Semaphore, WaitGroup
    from naught.safemap import SafeMap

# Where each name is defined that is imported when it is asked for, and the modules of their own that are names too.
_DEFINED: Final = {
    "naught.aio.client": ("Client", "connect"),
    "naught.core.calls": ("Acquired", "Grant", "Holder", "ScanPage", "Throttled"),
    "naught.core.holds": ("Hold",),
    "naught.core.hooks": ("ObservedCall",),
    "naught.errors": (
        "Busy",
        "CacheFull",
        "CallTimeout",
        "ClientClosed",
        "CommandError",
        "ConnectionFailed",
        "CounterOverflow",
        "CounterUnderflow",
        "Denied",
        "InvalidRequest",
        "NaughtError",
        "NoPermit",
        "NoSession",
        "NotHeld",
        "OutcomeUnknown",
        "ProtocolError",
        "ServerTimeout",
        "ShuttingDown",
        "TooLarge",
        "Unauthenticated",
        "Unavailable",
        "Underflow",
        "UnknownMethod",
        "WrongLoop",
    ),
    "naught.patterns": ("InFlight", "Permit", "Quota", "Reference", "Semaphore", "WaitGroup"),
    "naught.safemap": ("SafeMap",),
}
_MODULE_OF: Final = {name: module for module, names in _DEFINED.items() for name in names}
_MODULES: Final = {
    "aio",
    "asgi",
    "blocking",
    "core",
    "errors",
    "fork",
    "lint",
    "patterns",
    "safemap",
    "url",
    "wire",
    "wsgi",
    "zeros",
}

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
    "InFlight",
    "InvalidRequest",
    "NaughtError",
    "NoPermit",
    "NoSession",
    "NotHeld",
    "ObservedCall",
    "OutcomeUnknown",
    "Permit",
    "ProtocolError",
    "Quota",
    "Reference",
    "SafeMap",
    "ScanPage",
    "Semaphore",
    "ServerTimeout",
    "ShuttingDown",
    "Throttled",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Underflow",
    "UnknownMethod",
    "WaitGroup",
    "WrongLoop",
    "__version__",
    "asgi",
    "blocking",
    "connect",
    "wsgi",
    "zeros",
]

if not TYPE_CHECKING:  # for type checkers the names are those above, and no others

    def __getattr__(name: str) -> Any:
        """Import what is asked for. It is kept, so this happens once a name."""
        if name in _MODULES:
            return import_module(f"naught.{name}")
        try:
            module = _MODULE_OF[name]
        except KeyError:
            raise AttributeError(f"module 'naught' has no attribute {name!r}") from None
        found = globals()[name] = getattr(import_module(module), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULE_OF, *_MODULES})
