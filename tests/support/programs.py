"""Programs that are not Python's, for tests that need them."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str) -> None:
    """Skip without this program, but fail in CI."""
    if shutil.which(program) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed, and in CI it must be")
        pytest.skip(f"{program} is not installed")
