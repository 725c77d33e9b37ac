"""The sessions and holders of `naught watch`, as a real server lists them."""

from __future__ import annotations

import os
from pathlib import Path

from support.pseudo_terminal import PseudoTerminal
from support.server_process import server_process


async def test_who_holds_and_who_waits(tmp_path: Path) -> None:
    with server_process(tmp_path) as server, server.connect() as holder, server.connect() as waiter:
        holder.call("hello", {"session": True, "name": "render:7"})
        assert holder.call("acquire", [[b"gpu", 3, 4]])[0] is True
        waiter.call("hello", {"session": True, "name": "late:8"})
        waiter.call("wait_zero", b"nothing", 1_000)
        environment = {**os.environ, "NAUGHT_URL": f"naught://127.0.0.1:{server.port}"}
        async with PseudoTerminal(["watch", "--interval", "0.05"], environment, columns=140) as terminal:
            await terminal.until(r"commands/s")
            terminal.type("s")
            shown = await terminal.until(r"render:7 +127\.0\.0\.1 +up +\d+ s +1 +1 +0  gpu ×3\n")
            assert "late:8" in shown
            terminal.type("h")
            await terminal.until(r"default +gpu +3 +1 +0  render:7 ×3\n")
            holder.call("bye")
            await terminal.until(r"CACHE +KEY +HELD ↓ +HOLDERS +WAITERS +WHO\n\n")
            terminal.type("q")
            assert await terminal.ended() == 0
