"""Where the figures of a report come from: the machine, the versions, when it began, and the whole command."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from naught.url import without_secret
from naught_loadtest.measure.machine import machine_lines


def origin(started_at_s: float | None = None) -> dict[str, Any]:
    """The fields that every report has. Without the time at which it began, that is now."""
    moment = datetime.now(UTC) if started_at_s is None else datetime.fromtimestamp(started_at_s, UTC)
    return {
        "started_at": moment.isoformat(timespec="milliseconds"),
        "host": platform.node(),
        "machine": list(machine_lines()),
        "command": whole_command(),
    }


def whole_command() -> str:
    """The command line of this process, as a shell takes it, without secrets."""
    program = Path(sys.argv[0]).name
    if program in ("__main__.py", "-c", ""):
        program = "naught-loadtest"
    return shlex.join([program, *map(without_secret, sys.argv[1:])])


def with_origin(document: dict[str, Any]) -> dict[str, Any]:
    """A report with these fields. A field that it has already is kept."""
    head: dict[str, Any] = {name: document[name] for name in ("schema", "kind") if name in document}
    return {**head, **origin(), **document}
