"""Compiles the modules that run hot, in place or into another folder: `python tools/compile.py [FOLDER]`.

mypyc turns a module of typed Python into an extension module. Python stays the only language: the very same file runs
interpreted where there is no compiler. Which modules are compiled, and what each gained, stands in `MODULES`.

Exit status 0 when all were compiled, 3 when there is no C compiler or no header of Python, which is said in one line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "client"))

from naught._compiled import HASHES_FILE, hash_of  # noqa: E402 - of this checkout, wherever it is called from

SOURCE_ROOTS = ("client", "server", "loadtest")

# By package: its folder, and its modules.
MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "naught_server": ("server/naught_server", ("hot", "walk")),
}

NO_COMPILER_STATUS = 3


def missing() -> str | None:
    """What is missing to compile; None where nothing is."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"no C compiler ({compiler})"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "no header of Python (Python.h)"
    return None


def compile_module(name: str, folder: Path, build: Path) -> list[Path]:
    """Compile one module. Returns the files that make it up: a library, and the module that loads it."""
    search = os.pathsep.join(str(ROOT / root) for root in SOURCE_ROOTS)
    program = (
        "from setuptools import setup\n"
        "from mypyc.build import mypycify\n"
        f"setup(name={name!r}, packages=[], ext_modules=mypycify([{str(folder / f'{name}.py')!r}], opt_level='3', "
        f"target_dir={str(build / 'c')!r}), script_args=['-q', 'build_ext', '--build-lib', {str(build)!r}, "
        f"'--build-temp', {str(build / 'o')!r}])\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=build, env=os.environ | {"MYPYPATH": search}, timeout=300
    )
    return list(build.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"))


def compile_all(target: Path) -> list[str]:
    """Compile all modules into the source roots below `target`. Returns their names."""
    done = []
    for package, (path, names) in MODULES.items():
        source, folder = ROOT / path, target / path
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            with tempfile.TemporaryDirectory(prefix="naught-compile-") as build:
                for built in compile_module(name, source, Path(build)):
                    # Into place in one step: a process that has the old one mapped keeps it.
                    fresh = folder / f".{built.name}.new"
                    shutil.copy(built, fresh)
                    fresh.rename(folder / built.name)
            done.append(f"{package}.{name}")
        hashes = {name: hash_of(source / f"{name}.py") for name in names}
        (folder / HASHES_FILE).write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")
    return done


def main() -> int:
    """Do what the command line says. The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT, help="where to put them (beside their sources)")
    target = parser.parse_args().folder
    why = missing()
    if why is not None:
        print(f"naught runs interpreted: {why} to compile it with")
        return NO_COMPILER_STATUS
    print(f"compiled {', '.join(compile_all(target))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
