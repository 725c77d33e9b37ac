"""Compiles the modules that run hot, beside their sources or into another folder: `python tools/compile.py [FOLDER]`.

mypyc turns modules of typed Python into extension modules. Python stays the only language: the very same files run
interpreted where there is no compiler. Which modules are compiled, and what each gains, stands in `GROUPS`.

The modules of a group become one shared library, in which they call each other as C functions do. It lies in the
group's package, and beside each source lies a small extension module that loads it. `naught._compiled` decides at
import whether they are used, by the record that is written last. So a program that imports a package while it is
being compiled gets its sources.

Nothing is done where everything is compiled already. `make compile` calls this, and so does the hook that builds
wheels (`hatch_build.py`).

Exit status 0 when all is compiled; 3 when there is no C compiler or no header of Python or `NAUGHT_PURE=1` is set,
which is said in one line; 1 when compiling failed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]

if TYPE_CHECKING:
    from naught import _compiled
else:
    # By its file: importing the package would import the product's dependencies, which a build does not have.
    _spec = importlib.util.spec_from_file_location("_compiled", ROOT / "client" / "naught" / "_compiled.py")
    _compiled = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_compiled)


class Group(NamedTuple):
    """Modules that are compiled together."""

    package: str
    root: str  # the folder in which the package lies
    modules: tuple[str, ...]  # by their names in the package

    @property
    def library(self) -> str:
        """The name of the shared library, in the package."""
        return f"{LIBRARY}__mypyc"

    def folder(self, base: Path) -> Path:
        """The folder of the package in a tree like this one."""
        return base / self.root / self.package

    def sources(self) -> list[str]:
        """The modules' files, from the folder `root`."""
        return [f"{self.package}/{name.replace('.', '/')}.py" for name in self.modules]


LIBRARY: Final = "_native"

GROUPS: Final = (
    Group(
        "naught_server",
        "server",
        (
            "admission",
            "batch",
            "clock",
            "commands",
            "decoder",
            "expiry",
            "holds",
            "hot",
            "listing",
            "locks",
            "marks",
            "params",
            "principal",
            "protocol",
            "queues",
            "session",
            "slowlog",
            "stats",
            "store",
            "timers",
            "waiters",
            "walk",
        ),
    ),
    Group("naught", "client", ("core.busy", "core.messages", "core.session", "core.session_holds", "core.windows")),
)

SOURCE_ROOTS: Final = ("client", "server")

OPT_LEVEL: Final = "2"

NOT_COMPILED_STATUS: Final = 3


def requirements() -> list[str]:
    """What has to be installed to compile."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        groups: dict[str, list[str]] = tomllib.load(file)["dependency-groups"]
    return groups["compile"]


def why_not() -> str | None:
    """Why nothing can or should be compiled here; None where it can."""
    if _compiled.is_pure():
        return f"{_compiled.PURE_VARIABLE} is set"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}) to compile it with"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "there is no header of Python (Python.h) to compile it with"
    return None


# ------------------------------------------------------------------------------------- what is made from what


def roots_of_packages() -> dict[str, Path]:
    """The packages' folders, by name."""
    return {group.package: group.folder(ROOT) for group in GROUPS}


def imported_by(module: str, source: Path) -> Iterator[str]:
    """The names that a module imports, and for `from a import b` also a.b, which may be a module."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{module}: imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources_of(group: Group) -> dict[str, Path]:
    """The sources that a group is made from: those of its modules, and of all they import from this distribution."""
    roots = {package: str(folder) for package, folder in roots_of_packages().items()}
    found: dict[str, Path] = {}
    left = [f"{group.package}.{name}" for name in group.modules]
    while left:
        module = left.pop()
        source = _compiled.source_of(module, roots)
        # A package that is only passed through says nothing about the modules in it.
        if module in found or source is None or module in roots:
            continue
        found[module] = Path(source)
        left += imported_by(module, found[module])
    return found


def compiled_by() -> str:
    """What compiles here, and how."""
    try:
        version = importlib.metadata.version("mypy")
    except importlib.metadata.PackageNotFoundError:
        version = "that is not installed"
    return f"mypyc {version} -O{OPT_LEVEL}"


def record_of(group: Group) -> dict[str, Any]:
    """What is written down about a compiled group."""
    return {
        "files": sorted((*group.modules, group.library)),
        "sources": {name: _compiled.hash_of(source) for name, source in sorted(sources_of(group).items())},
        "compiled_by": compiled_by(),
    }


def is_up_to_date(group: Group, target: Path) -> bool:
    """Whether the group is compiled into this tree, from the sources as they are."""
    folder = group.folder(target)
    try:
        record = json.loads((folder / _compiled.RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(record == record_of(group)) and set(_compiled.compiled_files(folder)) == set(record["files"])


# ------------------------------------------------------------------------------------- compiling


def compile_group(group: Group, build: Path) -> None:
    """Compile a group into a folder. Only in a process of its own: setuptools and mypyc change where they run."""
    # Files are named from their root, so that a traceback does not show where a wheel was built.
    os.chdir(ROOT / group.root)
    os.environ["MYPYPATH"] = os.pathsep.join(str(ROOT / root) for root in SOURCE_ROOTS)

    from mypyc.build import mypycify
    from setuptools import Extension, setup
    from setuptools.command.build_ext import build_ext

    class ParallelBuild(build_ext):
        """Compiles all files of all extension modules at a time, and links after that."""

        def build_extensions(self) -> None:
            files = [(extension, source) for extension in self.extensions for source in extension.sources]
            # The longest first: else it would be left alone at the end.
            files.sort(key=lambda file: -Path(file[1]).stat().st_size)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for (extension, _), made in zip(files, pool.map(self.compile_file, files), strict=True):
                    extension.extra_objects += made
            for extension in self.extensions:
                extension.sources = []
            super().build_extensions()

        def compile_file(self, file: tuple[Extension, str]) -> list[str]:
            extension, source = file
            made: list[str] = self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=extension.include_dirs,
                extra_postargs=extension.extra_compile_args,
            )
            return made

    generated = build / "c"
    extensions = mypycify(
        ["--config-file=", "--no-incremental", "--ignore-missing-imports", *group.sources()],
        opt_level=OPT_LEVEL,
        debug_level="0",
        multi_file=True,
        group_name=f"{group.package}.{LIBRARY}",
        target_dir=str(generated),
    )
    for extension in extensions:
        # mypyc looks for the library's header beside the C files, and writes it into the folder of the package.
        extension.include_dirs.append(str(generated / group.package))
        extension.extra_compile_args.append("-Wno-error")  # what a newer compiler has to say is no reason to fail
    setup(
        name=group.package,
        packages=[],
        ext_modules=extensions,
        cmdclass={"build_ext": ParallelBuild},
        script_args=["-q", "build_ext", f"--build-lib={build / 'made'}", f"--build-temp={build / 'objects'}"],
    )


class CompileError(Exception):
    """Compiling failed. The message is what the compiler has said."""


def build_group(group: Group, build: Path) -> Path:
    """Compile a group in a process of its own; the folder in which its package is then. Raises CompileError."""
    build.mkdir()
    command = [sys.executable, __file__, "--group", group.package, str(build)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise CompileError(f"{group.package} could not be compiled:\n{done.stdout}")
    return build / "made" / group.package


def stale_groups(target: Path) -> list[Group]:
    """The groups that are not compiled into this tree, or not from the sources as they are."""
    return [group for group in GROUPS if not is_up_to_date(group, target)]


def compile_into(target: Path) -> None:
    """Compile what has to be compiled, into a tree like this one. Raises CompileError."""
    groups = stale_groups(target)
    with tempfile.TemporaryDirectory(prefix="naught-compile-") as build, ThreadPoolExecutor(len(GROUPS)) as pool:
        records = [record_of(group) for group in groups]
        made = list(pool.map(lambda group: build_group(group, Path(build) / group.package), groups))
        for group, record, folder in zip(groups, records, made, strict=True):
            put_in_place(group, folder, group.folder(target), record)


def put_in_place(group: Group, made: Path, folder: Path, record: dict[str, Any]) -> None:
    """Replace the compiled modules of a package by those that were made. Without a record none of them is used."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _compiled.RECORD_FILE).unlink(missing_ok=True)
    remove(folder)
    for name in record["files"]:
        file = f"{name.replace('.', '/')}{_compiled.SUFFIX}"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / file, folder / file)
    text = json.dumps(record, indent=1) + "\n"
    (folder / _compiled.RECORD_FILE).write_text(text, encoding="utf-8")


def remove(folder: Path) -> None:
    """Remove the compiled modules of a package. A process that runs keeps those that it has loaded."""
    for name in list(_compiled.compiled_files(folder)):
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            (folder / f"{name.replace('.', '/')}{suffix}").unlink(missing_ok=True)


def main() -> int:
    """Do what the command line says. The exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT, help="the tree to put them in (this one)")
    parser.add_argument("--can", action="store_true", help="only say whether it can be done, by the exit status")
    parser.add_argument("--group", choices=[group.package for group in GROUPS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.group:
        compile_group(next(group for group in GROUPS if group.package == arguments.group), arguments.folder.resolve())
        return 0
    why = why_not()
    if why is not None:
        print(f"naught runs interpreted: {why}")
        return NOT_COMPILED_STATUS
    target = arguments.folder.resolve()
    modules = sum(len(group.modules) for group in stale_groups(target))
    if arguments.can or not modules:
        return 0
    print(f"compiling {modules} modules: ", end="", flush=True)
    start = time.monotonic()
    try:
        compile_into(target)
    except CompileError as error:
        print(f"failed, so naught runs interpreted\n{error}", flush=True)
        return 1
    print(f"naught runs compiled ({time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
