"""Which modules run compiled, and that none of them is older than its source.

mypyc compiles some modules to extension modules, which lie beside their sources and would be imported instead of
them. Two things must not happen: that a compiled module is used after its source has changed, and that nobody can run
the sources. So a package that has compiled modules calls `watch` before it imports any. From then on

- a compiled module is used only if the hash of its source is the one it was compiled from; else the source is used,
  and a `RuntimeWarning` says so;
- with `NAUGHT_PURE=1` in the environment the sources are used.

`tools/compile.py` compiles, and writes the hashes to `_compiled.json` of the package. There is nothing to do where
that file is missing: everything runs interpreted.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

HASHES_FILE = "_compiled.json"
PURE_VARIABLE = "NAUGHT_PURE"


def hash_of(source: Path) -> str:
    """The hash that ties a compiled module to its source."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


class _SourceFinder:
    """Finds the sources of modules whose compiled form must not be used."""

    def __init__(self, sources: dict[str, Path]) -> None:
        self._sources = sources  # by the module's full name

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module that this finder knows; None leaves it to the others."""
        source = self._sources.get(name)
        if source is None:
            return None
        loader = importlib.machinery.SourceFileLoader(name, str(source))
        return importlib.util.spec_from_file_location(name, source, loader=loader)


def watch(package: str, folder: Path) -> None:
    """Have the modules of a package checked when they are imported. Called by the package, before it imports any."""
    try:
        hashes: dict[str, str] = json.loads((folder / HASHES_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    pure = os.environ.get(PURE_VARIABLE, "") not in ("", "0")
    from_source = {}
    for name, expected in hashes.items():
        source = folder / f"{name.replace('.', '/')}.py"
        if not pure:
            if hash_of(source) == expected:
                continue
            warnings.warn(
                f"{package}.{name} has changed since it was compiled: its source is used, which is slower. "
                "`make compile` compiles it again",
                RuntimeWarning,
                stacklevel=2,
            )
        from_source[f"{package}.{name}"] = source
    if from_source:
        sys.meta_path.insert(0, _SourceFinder(from_source))


def is_compiled(module: ModuleType) -> bool:
    """Whether a module that was imported is a compiled one."""
    file = module.__file__ or ""
    return file.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
