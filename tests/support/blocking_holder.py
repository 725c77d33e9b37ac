"""A process with a client for threads, which holds permits and obeys commands of the test. Run with

    python blocking_holder.py URL LEASE HOW LIFE

HOW is `hold`; `fork`, where a child uses the same client at once, beside a thread that waits in the parent; or
`fork-connecting`, where the process forks while its client has sent `hello` and has no reply yet. Children run until
the pipe LIFE (a descriptor, read end) is closed. It writes a line for each event, and reads commands, one a line:
`count` and `release`. At the end of its input it exits without closing its session.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import naught
from naught import blocking

GUARD_S = 60.0
PERMITS = 3


def say(*words: object) -> None:
    """Write a line with one system call, because its child writes to the same pipe."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def attempted(call: Callable[[], Any]) -> str:
    """The name of the exception that a call raises."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "nothing"


def fork(life: int, in_child: Callable[[], None]) -> None:
    """Fork a child that calls `in_child` and then waits for the end of the pipe."""
    if os.fork() == 0:
        try:
            in_child()
            os.read(life, 1)
        finally:
            os._exit(0)


def connecting(url: str, life: int) -> None:
    opening = threading.Thread(target=lambda: attempted(lambda: blocking.Client(url, connect_timeout=GUARD_S)))
    opening.daemon = True
    opening.start()
    sys.stdin.readline()  # the other end has read the greeting
    fork(life, lambda: say("child", os.getpid()))


def main(url: str, lease: float, how: str, life: int) -> None:
    if how == "fork-connecting":
        connecting(url, life)
        sys.stdin.read()
        os._exit(0)
    client = blocking.Client(url, lease=lease, timeout=GUARD_S)
    semaphore = client.semaphore("s", PERMITS)
    held = [semaphore.acquire() for _ in range(PERMITS)]
    if how == "fork":
        group = client.wait_group("group")
        group.add()
        waiter = threading.Thread(target=lambda: say("waited", group.wait()))
        waiter.start()
        while client.info()["sessions"]["parked"] == 0:
            pass

        def in_child() -> None:
            lost = all(permit.lost for permit in held)
            released = attempted(held[0].release)
            own = client.semaphore("own", 1).acquire()
            (holder,) = client.holders("own")
            say("child", os.getpid(), client.incr("child"), lost, released, client.get("s"), own.number, holder.name)
            client.close()

        fork(life, in_child)
        group.done()
        waiter.join()
    say("holding", *(permit.number for permit in held))
    for line in sys.stdin:
        if line == "count\n":
            say("counted", client.incr("counted"))
        else:
            for permit in held:
                say("released", attempted(permit.release))
    os._exit(0)


if __name__ == "__main__":
    assert naught.__version__
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
