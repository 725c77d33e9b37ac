"""Small sizes for tests that should meet every limit and every wrap often.

A compiled module has its constants in its code, where nothing replaces them. There the tests run with the sizes that
the product has: the same steps, with fewer limits met. The interpreted run meets them.
"""

from __future__ import annotations

from types import ModuleType

import pytest

from naught._compiled import SUFFIX


def shrink(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **sizes: int) -> None:
    """Set constants of a module until the test ends, if it runs from its source."""
    assert module.__file__ is not None
    if module.__file__.endswith(SUFFIX):
        return
    for name, size in sizes.items():
        monkeypatch.setattr(module, name, size)
