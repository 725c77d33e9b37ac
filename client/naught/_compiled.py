"""Which modules run compiled, and that none of them is older than its source.

mypyc compiles some modules to extension modules, which lie beside their sources and would be imported instead of
them. Two things must not happen: that a compiled module is used after a source it was made from has changed, and that
nobody can run the sources. So a package that may have compiled modules calls `watch` before it imports any of its
own:

- with `NAUGHT_PURE=1` in the environment all modules of the package run from their sources;
- without, its compiled modules are used only if each of them is there and all sources are those they were made from.
  Else all of them run from their sources, and a `RuntimeWarning` says why. All or none: the modules of a package are
  compiled together, and each knows how the objects of the others lie in memory.

`tools/compile.py` compiles, and writes down what it made from what: the *record* of the package, one for each kind of
interpreter. Sources are those of the compiled modules and of all modules of this distribution that these import,
because the compiler puts constants of one module into the code of another.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING, Any, Final

# `import naught` begins with this module, and where nothing is compiled, as in a command that is started often, what
# else it needs would take most of the time.
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import ModuleType

PURE_VARIABLE: Final = "NAUGHT_PURE"

SUFFIX: Final = EXTENSION_SUFFIXES[0]
"""How the names of modules end that are compiled for this interpreter, such as .cpython-311-x86_64-linux-gnu.so."""

RECORD_FILE: Final = f"_compiled{SUFFIX.rpartition('.')[0]}.json"

_compiled: Final[set[str]] = set()
"""The watched packages whose compiled modules are used."""


def is_compiled(package: str) -> bool:
    """Whether the compiled modules of a package are used."""
    return package in _compiled


def running(package: str) -> str:
    """How the package runs, in a word: compiled or interpreted."""
    return "compiled" if is_compiled(package) else "interpreted"


def is_pure() -> bool:
    """Whether the environment says that sources are to be used."""
    return os.environ.get(PURE_VARIABLE, "") not in ("", "0")


def watch(package: str, path: str) -> None:
    """Decide whether the compiled modules of a package are used. Called by the package, with its `__name__` and
    `__path__[0]`, before it imports any module of its own.
    """
    compiled = set(compiled_files(path))
    if not compiled:
        return
    import warnings

    if not is_pure():
        why = _why_stale(package, path, compiled)
        if why is None:
            _compiled.add(package)
            return
        warnings.warn(
            f"{why}: {package} runs interpreted, which is several times slower. In a checkout, `make compile` "
            "compiles it again",
            RuntimeWarning,
            stacklevel=2,
        )
    modules = {name: os.path.join(path, *name.split(".")) + ".py" for name in compiled}
    sys.meta_path.insert(0, _SourceFinder({f"{package}.{name}": source for name, source in modules.items()}))


def compiled_files(folder: str | Path) -> Iterator[str]:
    """The compiled modules below the folder of a package that this interpreter would import, by their name in it."""
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        inside = os.path.relpath(path, folder)
        prefix = "" if inside == "." else f"{inside.replace(os.sep, '.')}."
        for name in files:
            stem, _, suffix = name.partition(".")
            if f".{suffix}" in EXTENSION_SUFFIXES:
                yield prefix + stem


def hash_of(source: str | Path) -> str:
    """The hash that ties a compiled module to its sources: the one by which CPython knows that bytecode is stale, as
    `hashlib` takes 3 ms to import."""
    from importlib.util import source_hash

    with open(source, "rb") as file:
        return source_hash(file.read()).hex()


def source_of(module: str, roots: dict[str, str]) -> str | None:
    """The source of a module of these packages, whose folders are given; None where there is none."""
    package, *names = module.split(".")
    if package not in roots:
        return None
    stem = os.path.join(roots[package], *names)
    for source in (f"{stem}.py", os.path.join(stem, "__init__.py")):
        if os.path.isfile(source):
            return source
    return None


def _why_stale(package: str, folder: str, compiled: set[str]) -> str | None:
    """Why these compiled modules must not be used; None where they may."""
    import json

    try:
        with open(os.path.join(folder, RECORD_FILE), encoding="utf-8") as file:
            record: dict[str, Any] = json.load(file)
        files, sources = set(record["files"]), dict(record["sources"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"nothing says what the compiled modules in {folder} were made from"
    if files != compiled:
        name = min(files ^ compiled)
        return f"the compiled module {package}.{name} is {'missing' if name in files else 'left over'}"
    roots = {"naught": os.path.dirname(__file__), package: folder}
    for module, expected in sources.items():
        source = source_of(module, roots)
        if source is None or hash_of(source) != expected:
            return f"{module} has changed since {package} was compiled"
    return None


class _SourceFinder:
    """Finds the sources of modules whose compiled form must not be used."""

    def __init__(self, sources: dict[str, str]) -> None:
        self._sources: Final = sources  # by the module's full name

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module that this finder knows; None leaves it to the others."""
        source = self._sources.get(name)
        if source is None or not os.path.isfile(source):
            return None
        import importlib.util

        loader = importlib.machinery.SourceFileLoader(name, source)
        return importlib.util.spec_from_file_location(name, source, loader=loader)
