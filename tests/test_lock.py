"""`requirements.lock`, which CI installs, has all that pyproject.toml asks for, with hashes, and names no host."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from support.paths import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
NOT_LOCKED = {"lock", "audit", "hooks"}
"""Groups that nothing of CI uses."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked_for() -> Iterator[str]:
    """The names of all requirements, those of the build too."""
    groups = [group for name, group in PROJECT["dependency-groups"].items() if name not in NOT_LOCKED]
    extras = PROJECT["project"]["optional-dependencies"].values()
    lists = [PROJECT["project"]["dependencies"], PROJECT["build-system"]["requires"], *groups, *extras]
    for requirement in (each for found in lists for each in found if isinstance(each, str)):
        yield normal(re.match(r"[\w.-]+", requirement)[0])  # type: ignore[index]


def test_all_that_is_asked_for_is_locked() -> None:
    locked = {normal(name) for name in re.findall(r"^([\w.-]+)==", LOCK, re.MULTILINE)}
    missing = set(asked_for()) - locked
    assert not missing, "`make lock` writes it anew"


def test_each_has_a_hash_and_nothing_else() -> None:
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(entries) > 50
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==\S+( ; [^\\]+)? \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+", entry), entry[
            :200
        ]
