"""The engine of `memory://` in a process: who does its upkeep."""

from __future__ import annotations

import asyncio

import pytest

from naught.memory import Host, _MemoryTransport

CONNECTIONS = 50


@pytest.mark.patches
async def test_connections_of_one_engine_do_its_upkeep_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a timer for it. With 250 connections the steps took all of the time there was."""
    host = Host()
    connections = [_MemoryTransport(host, asyncio.Protocol()) for _ in range(CONNECTIONS)]
    host._ahead_ms += 60_000  # a step is due, and the clock stands still for all of them
    now_ms = host.now_ms()
    monkeypatch.setattr(host, "now_ms", lambda: now_ms)
    steps = []
    advance = host.engine.advance

    def counted(*arguments: int) -> int:
        steps.append(arguments)
        return advance(*arguments)

    monkeypatch.setattr(host.engine, "advance", counted)
    assert host.engine.next_due(now_ms) <= now_ms
    for connection in connections:
        connection._sweep()
    assert 1 <= len(steps) < 5  # a step may leave work that is due at once
    for connection in connections:
        connection.close()
