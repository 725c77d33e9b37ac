"""Which modules are imported: compiled ones that fit their sources, or the sources.

The packages here are made up. What stands for a compiled module is a file that no interpreter can load: that it is
loaded shows as ImportError.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import naught
import naught_server
from naught import _compiled
from naught._compiled import RECORD_FILE, SUFFIX, hash_of

NUMBERS = count()


class Package:
    """A package with two modules that are compiled together from three sources."""

    def __init__(self, folder: Path) -> None:
        self.name = f"made_up_{next(NUMBERS)}"
        self.folder = folder / self.name
        (self.folder / "deep").mkdir(parents=True)
        source = "from naught._compiled import watch\nwatch(__name__, __path__[0])\n"
        (self.folder / "__init__.py").write_text(source)
        (self.folder / "deep" / "__init__.py").touch()
        self.sources = {
            name: self.folder / f"{name.replace('.', '/')}.py" for name in ("hot", "deep.hotter", "limits")
        }
        for name, path in self.sources.items():
            path.write_text(f"NAME = {name!r}\n")
        self.compiled = {name: self.folder / f"{name.replace('.', '/')}{SUFFIX}" for name in ("hot", "deep.hotter")}
        for path in self.compiled.values():
            path.write_text("not a library")
        self.record = {
            "files": list(self.compiled),
            "sources": {f"{self.name}.{name}": hash_of(path) for name, path in self.sources.items()},
        }
        self.write_record(self.record)

    def write_record(self, record: Any) -> None:
        (self.folder / RECORD_FILE).write_text(json.dumps(record))

    def runs_sources(self) -> bool:
        """Import its modules. Whether these were the sources: either all are, or none."""
        importlib.import_module(self.name)
        files = []
        for name in self.compiled:
            try:
                files.append(importlib.import_module(f"{self.name}.{name}").__file__)
            except ImportError as error:
                files.append(error.path)
        sources = [str(self.sources[name]) for name in self.compiled]
        assert files in (sources, list(map(str, self.compiled.values())))
        assert _compiled.is_compiled(self.name) is (files != sources)
        return files == sources


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    monkeypatch.delenv("NAUGHT_PURE", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    package = Package(tmp_path)
    yield package
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.partition(".")[0] == package.name]:
        del sys.modules[name]


def test_what_fits_its_sources_is_used(package: Package) -> None:
    assert not package.runs_sources()
    assert _compiled.running(package.name) == "compiled"


def test_the_time_of_a_file_does_not_matter(package: Package) -> None:
    for path in package.compiled.values():
        path.touch()
    for path in package.sources.values():
        path.touch()
    assert not package.runs_sources()


def change_a_source(package: Package) -> None:
    with package.sources["hot"].open("a") as file:
        file.write("# changed\n")


def change_what_a_source_imports(package: Package) -> None:
    with package.sources["limits"].open("a") as file:
        file.write("# changed\n")


def remove_what_a_source_imports(package: Package) -> None:
    package.sources["limits"].unlink()


def remove_the_record(package: Package) -> None:
    (package.folder / RECORD_FILE).unlink()


def spoil_the_record(package: Package) -> None:
    (package.folder / RECORD_FILE).write_text("{")


def empty_the_record(package: Package) -> None:
    package.write_record({})


def make_the_record_a_list(package: Package) -> None:
    package.write_record([])


def leave_a_module_over(package: Package) -> None:
    package.write_record({**package.record, "files": ["hot"]})


def lose_a_module(package: Package) -> None:
    package.write_record({**package.record, "files": [*package.compiled, "limits"]})


STALE: list[tuple[Callable[[Package], None], str]] = [
    (change_a_source, r"^{name}\.hot has changed since {name} was compiled: {name} runs interpreted"),
    (change_what_a_source_imports, r"^{name}\.limits has changed since"),
    (remove_what_a_source_imports, r"^{name}\.limits has changed since"),
    (remove_the_record, r"^nothing says what the compiled modules in .* were made from"),
    (spoil_the_record, r"^nothing says"),
    (empty_the_record, r"^nothing says"),
    (make_the_record_a_list, r"^nothing says"),
    (leave_a_module_over, r"^the compiled module {name}\.deep\.hotter is left over"),
    (lose_a_module, r"^the compiled module {name}\.limits is missing"),
]


@pytest.mark.parametrize(("spoil", "why"), STALE, ids=[spoil.__name__ for spoil, _ in STALE])
def test_what_does_not_fit_is_not_used_and_that_is_said(
    package: Package, spoil: Callable[[Package], None], why: str
) -> None:
    spoil(package)
    with pytest.warns(RuntimeWarning, match=why.format(name=package.name)) as warned:
        assert package.runs_sources()
    assert len(warned) == 1
    assert "`make compile`" in str(warned[0].message)
    assert _compiled.running(package.name) == "interpreted"


@pytest.mark.parametrize(("value", "pure"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_variable(package: Package, value: str, pure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUGHT_PURE", value)
    assert package.runs_sources() is pure


def test_with_the_variable_nothing_is_said_of_what_does_not_fit(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAUGHT_PURE", "1")
    change_a_source(package)
    assert package.runs_sources()  # and no warning, which would be an error


def test_where_nothing_is_compiled_nothing_is_changed(package: Package) -> None:
    remove_the_record(package)
    for path in package.compiled.values():
        path.unlink()
    finders = list(sys.meta_path)
    assert package.runs_sources()
    assert sys.meta_path == finders


def test_what_was_compiled_for_another_interpreter_is_not_looked_at(package: Package) -> None:
    remove_the_record(package)
    for path in package.compiled.values():
        path.rename(path.with_name(path.name.replace(SUFFIX, ".cpython-39-another-machine.so")))
    assert package.runs_sources()


@pytest.mark.parametrize("suffix", EXTENSION_SUFFIXES)
def test_whatever_python_would_import_is_looked_at(package: Package, suffix: str) -> None:
    remove_the_record(package)
    for path in package.compiled.values():
        path.rename(path.with_name(path.name.replace(SUFFIX, suffix)))
    with pytest.warns(RuntimeWarning, match="nothing says"):
        assert package.runs_sources()


def test_the_modules_around_are_found_as_ever(package: Package) -> None:
    change_a_source(package)
    with pytest.warns(RuntimeWarning, match="has changed"):
        importlib.import_module(f"{package.name}.limits")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{package.name}.nowhere")


@pytest.mark.parametrize("package", [naught, naught_server], ids=lambda package: package.__name__)
def test_both_packages_look_before_they_import(package: ModuleType) -> None:
    """A module that a package imported before it had looked would be in use whatever it was compiled from."""
    assert package.__file__ is not None
    doc, imports, looks, *_ = ast.parse(Path(package.__file__).read_text()).body
    assert isinstance(doc, ast.Expr)
    assert ast.unparse(imports) in ("from naught import _compiled", "from naught._compiled import watch")
    assert ast.unparse(looks).removeprefix("_compiled.") == "watch(__name__, __path__[0])"
