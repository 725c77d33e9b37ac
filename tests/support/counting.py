"""Counts calls of a method, for tests that hold work to its price. They need the sources (the marker `patches`)."""

from __future__ import annotations

from typing import Any

import pytest


class Calls:
    """Calls of one method since it was watched, or since `count` was set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.count = 0
        method = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            self.count += 1
            return method(*arguments)

        monkeypatch.setattr(owner, name, counted)
