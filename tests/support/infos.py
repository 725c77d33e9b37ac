"""Results of `info` and rows of `sessions` with the words of the real ones, for tests of what shows them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from naught_server.config import ServerConfig
from naught_server.engine import Engine

Info = dict[str, Any]


def info_of(
    *,
    commands: Mapping[str, int] | None = None,
    errors: Mapping[str, int] | None = None,
    caches: Mapping[str, tuple[int, int]] | None = None,
    uptime_ms: int = 60_000,
) -> Info:
    """What an engine with nothing in it says, with these figures; `caches` have (live counters, raw entries)."""
    engine = Engine(ServerConfig())
    engine.start(0)
    info = copy.deepcopy(engine.info(uptime_ms))
    info["commands"] = dict(commands or {})
    info["errors"] = dict(errors or {})
    empty = info["caches"]["default"]
    info["caches"] = {
        name: {
            **copy.deepcopy(empty),
            "counters": counters,
            "raw_entries": raw_entries,
            "deviation": (raw_entries - counters) / counters if counters else float(raw_entries),
        }
        for name, (counters, raw_entries) in (caches or {"default": (0, 0)}).items()
    }
    return info


def later(info: Info, seconds: float = 1.0) -> Info:
    """The same, of a later time."""
    return {**copy.deepcopy(info), "uptime_ms": info["uptime_ms"] + round(seconds * 1000)}


def session_row(number: int = 1, **words: Any) -> Info:
    """A row of `sessions`."""
    return {
        "session": number,
        "cache": "default",
        "connected": True,
        "age_ms": 1_000,
        "lease_ms": 10_000,
        "unacknowledged": 0,
        "kept_bytes": 0,
        "parked": 0,
        "holds": 0,
        "name": f"host:{number}",
        "address": "127.0.0.1",
        "commands": 0,
        "held": [],
        "waits": [],
        **words,
    }
