"""Run `naught.lint` over code its authors never saw: the standard library and well-known packages.

    python tools/lint_corpus.py --into FOLDER                       download once, check, write findings.json
    python tools/lint_corpus.py --into FOLDER --locals --sample 50  and draw a sample to judge by hand

The packages are downloaded into FOLDER as wheels, in the versions named below, and are unpacked, never
installed or imported. FOLDER is not part of the repository. findings.json names files relative to FOLDER
(or to the standard library, as `stdlib/…`), so that two people's results can be compared. The sample has
the form of the verdicts in docs/lint-verdicts.json with the verdicts left open; that a file does not parse
(NZ100) is not drawn, for there is nothing to judge in it, and where there is no more to draw than was asked
for, all of it is drawn. The seed of the draw is printed. A file that makes the checker raise ends the run
with a traceback: there is no such file.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections import Counter
from pathlib import Path

from naught.lint.config import Config
from naught.lint.files import check_files, python_files
from naught.lint.finding import UNREADABLE, Finding, words

PACKAGES = words("""
    aiohttp==3.14.5 celery==5.7.0 django==5.2.19 flask==3.1.3 networkx==3.6.1 pandas==3.1.1 requests==2.34.2
    scikit-learn==1.9.1 sqlalchemy==2.1.9 sympy==1.14.0 tornado==6.6.1 twisted==26.10.0
""")


def download(into: Path) -> dict[str, Path]:
    """The folder of every package's source, downloading and unpacking what is not there yet."""
    sources: dict[str, Path] = {}
    for package in PACKAGES:
        source = into / "source" / package.partition("==")[0]
        if not source.is_dir():
            wheels = into / "wheels" / package
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*pip, "--dest", str(wheels), package], check=True)
            unpack(next(wheels.glob("*.whl")), source)
        sources[source.name] = source
    return sources


def unpack(wheel: Path, source: Path) -> None:
    """Take the Python files out of a wheel. The folder appears only when all of them are there."""
    partial = source.with_name(source.name + ".partial")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(partial, [name for name in archive.namelist() if name.endswith(".py")])
    partial.rename(source)


def check(folder: Path, name: str, with_locals: bool) -> tuple[list[Finding], int, float]:
    """All findings below a folder, with paths that begin with `name`; how many files, and the seconds it
    took."""
    began = time.perf_counter()
    files = list(python_files([str(folder)], Config(root=folder)))
    found = [
        Finding(
            f"{name}/{Path(each.path).relative_to(folder).as_posix()}",
            each.line, each.column, each.rule, each.message, each.end_line,
        )
        for each in check_files(files, 2, with_locals)
    ]  # fmt: skip
    return found, len(files), time.perf_counter() - began


def sample_of(findings: list[Finding], lasting: set[Finding], size: int, seed: int) -> list[dict[str, object]]:
    """A random sample, in the form the verdicts are kept in. `lasting`: what is found without `--locals`."""
    versions = dict(package.split("==") for package in PACKAGES) | {"stdlib": platform.python_version()}
    population = [found for found in findings if found.rule != UNREADABLE]
    drawn = random.Random(seed).sample(population, min(size, len(population)))
    print(f"drew {len(drawn)} of {len(population)} findings with --seed {seed}")
    return [
        {
            "package": package,
            "version": versions[package],
            "file": file,
            "line": found.line,
            "rule": found.rule,
            "local": found not in lasting,
            "verdict": None,
            "reason": "",
        }
        for found in sorted(drawn)
        for package, _, file in [found.path.partition("/")]
    ]


def main() -> int:
    """Download, check, write; the figures go to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True, help="the folder for downloads and results")
    parser.add_argument("--locals", action="store_true", help="look at maps that end with their call as well")
    parser.add_argument("--sample", type=int, default=0, help="how many findings to draw")
    parser.add_argument("--seed", type=int, default=None, help="what the draw depends on (chosen, and printed)")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    folders = {"stdlib": Path(sysconfig.get_path("stdlib")), **download(arguments.into)}
    everything: list[Finding] = []
    lasting: set[Finding] = set()
    for name, folder in folders.items():
        found, files, seconds = check(folder, name, arguments.locals)
        everything += found
        lasting.update(check(folder, name, False)[0] if arguments.locals else found)
        print(f"{name:22} {files:6} files {seconds:6.1f} s  {len(found):4} findings", flush=True)
    print(", ".join(f"{rule}: {count}" for rule, count in sorted(Counter(f.rule for f in everything).items())))
    whole = [found.as_json() for found in everything]
    (arguments.into / "findings.json").write_text(json.dumps(whole, indent=1) + "\n")
    if arguments.sample:
        seed = random.SystemRandom().randrange(10_000) if arguments.seed is None else arguments.seed
        drawn = sample_of(everything, lasting, arguments.sample, seed)
        (arguments.into / "sample.json").write_text(json.dumps(drawn, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
