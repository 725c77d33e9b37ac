"""The process from which servers are forked, see `forked.py`. It runs as a program.

A line on standard input asks for a server. Standard output says which process it is, and when a process has ended.
Where standard input ends, the servers end with it.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
from typing import Any

from naught_server.__main__ import main


def serve() -> dict[str, Any]:
    """Fork a process for each request. Returns, in that process, its request."""
    awake, waker = os.pipe()
    for end in (awake, waker):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    children: set[int] = set()
    unread = b""
    while True:
        readable, _, _ = select.select([0, awake], [], [])
        if awake in readable:
            os.read(awake, 1 << 10)
            reap(children)
        if 0 in readable:
            data = os.read(0, 1 << 20)
            if not data:
                for child in children:
                    os.kill(child, signal.SIGKILL)
                os._exit(0)
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                child = os.fork()
                if not child:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(awake)
                    os.close(waker)
                    asked: dict[str, Any] = json.loads(line)
                    return asked
                children.add(child)
                say(f"started {child}")


def reap(children: set[int]) -> None:
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        children.discard(child)
        say(f"ended {child} {os.waitstatus_to_exitcode(status)}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def become(asked: dict[str, Any]) -> None:
    """Take on what a process has from its start."""
    os.chdir(asked["folder"])
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(asked["descriptors"]))
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    os.close(nothing)
    os.close(log)
    os.environ.clear()
    os.environ.update(asked["environment"])


request = serve()
become(request)
sys.exit(main(request["arguments"]))
