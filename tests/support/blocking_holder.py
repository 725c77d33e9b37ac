"""A client for threads in a process of its own, which holds permits and does what the test says. Run with

    python blocking_holder.py URL LEASE HOW LIFE

HOW is `hold`; `fork`, where a child uses the same client at once, beside a thread that waits in the parent; or
`fork-connecting`, where the process forks while its client has a connection that the server has not greeted. Children
live until the pipe LIFE (a descriptor, read end) is closed. It writes a line for each thing that has happened, and
reads commands, a line each: `count`, `release`, and the end of its input, at which it ends without a word to the
server.
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
    """In one piece: its child says something, too."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def attempted(call: Callable[[], Any]) -> str:
    """The name of what a call raises."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "nothing"


def fork(life: int, in_child: Callable[[], None]) -> None:
    """A child that does one thing and lives on."""
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
            say("child", os.getpid(), client.incr("child"), lost, released, client.get("s"), own.number)
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
