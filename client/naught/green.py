"""Green threads: what differs where gevent or eventlet has patched the standard library.

With gevent many greenlets share one thread, so none of them may wait on a lock of the system. It waits on an event of
gevent, which the client's own thread, a real one, sets through gevent's loop. eventlet has nothing by which another
thread can wake its loop, so it is refused. Nothing is imported here that the program has not imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final

from naught.errors import NaughtError


class GreenWaker:
    """What one greenlet sleeps on, and any thread may wake it, once."""

    def __init__(self) -> None:
        self._loop: Final[Any] = _gevent().get_hub().loop
        self._event: Final[Any] = importlib.import_module("gevent.event").Event()

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, and for so long at most. Returns whether it was woken."""
        return bool(self._event.wait(seconds))

    def wake(self) -> None:
        """In any thread."""
        self._loop.run_callback_threadsafe(self._event.set)


def _gevent() -> Any:
    """gevent where it has patched threads or sockets, else None. Raises NaughtError where eventlet has."""
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and (eventlet.is_monkey_patched("thread") or eventlet.is_monkey_patched("socket")):
        raise NaughtError("naught.blocking does not work where eventlet has patched threads or sockets; gevent works")
    monkey: Any = sys.modules.get("gevent.monkey")
    patched = monkey is not None and (monkey.is_module_patched("threading") or monkey.is_module_patched("socket"))
    return sys.modules["gevent"] if patched else None


def is_green() -> bool:
    """Whether this program has greenlets in place of threads. Raises NaughtError where they cannot use a client."""
    if _gevent() is None:
        return False
    if importlib.util.find_spec("uvloop") is None:  # the loop of asyncio would run on patched sockets and threads
        raise NaughtError("naught.blocking needs uvloop where gevent has patched threads or sockets: install it")
    return True


def start_thread(run: Callable[[], None], name: str) -> None:
    """Start a real thread that does not keep the process alive. Raises RuntimeError when there can be none."""
    gevent = _gevent()
    if gevent is None:
        threading.Thread(target=run, name=name, daemon=True).start()
    else:
        # The first hub imports what gevent is configured to use. As the locks of imports are patched too, two threads
        # that make their first hubs at one time would wait for each other for ever.
        gevent.get_hub()
        sys.modules["gevent.monkey"].get_original("_thread", "start_new_thread")(run, ())


def current_caller() -> Hashable:
    """The thread or greenlet that runs this."""
    gevent = _gevent()
    return threading.get_ident() if gevent is None else gevent.getcurrent()
