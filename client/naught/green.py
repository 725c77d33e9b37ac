"""Green threads: what differs where gevent or eventlet has patched the standard library.

With gevent many greenlets share one thread, so none of them may wait on a lock of the system. It waits on an event of
gevent, which the client's own thread, a real one, sets through gevent's loop. eventlet has nothing by which another
thread can wake its loop, so it is refused. Nothing is imported here that the program has not imported.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Hashable
from typing import Any

from naught.errors import NaughtError


def gevent(name: str = "gevent") -> Any:
    """A module of gevent where gevent has patched threads or sockets, else None. Raises NaughtError for eventlet."""
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and (eventlet.is_monkey_patched("thread") or eventlet.is_monkey_patched("socket")):
        raise NaughtError("naught.blocking does not work where eventlet has patched threads or sockets; gevent works")
    monkey: Any = sys.modules.get("gevent.monkey")
    patched = monkey is not None and (monkey.is_module_patched("threading") or monkey.is_module_patched("socket"))
    return importlib.import_module(name) if patched else None


def start_thread(run: Callable[[], None], name: str) -> None:
    """Start a real thread that does not keep the process alive. Raises RuntimeError when there can be none."""
    monkey = gevent("gevent.monkey")
    if monkey is None:
        threading.Thread(target=run, name=name, daemon=True).start()
    else:
        monkey.get_original("_thread", "start_new_thread")(run, ())


def current_caller() -> Hashable:
    """The thread or greenlet that runs this."""
    greenlets = gevent()
    return threading.get_ident() if greenlets is None else greenlets.getcurrent()
