"""Run `naught.lint` over code its authors never saw: the standard library and well-known packages.

    python tools/lint_corpus.py --into FOLDER                       download once, check, write findings.json
    python tools/lint_corpus.py --into FOLDER --locals --sample 50  and draw a sample to judge by hand
    python tools/lint_corpus.py --into FOLDER --sets second         only the packages of one set

There are two sets. The first, with the standard library, was read while the rules were made, so how right the
rules are in it says little about other code. The second is held out: it was chosen by name and its versions
were pinned before the checker was run over it, and no rule was changed until every finding was judged. Since
then it has been read as well: another judgement that is to be independent needs a third set.

The packages are downloaded into FOLDER as wheels, in the versions named below, and are unpacked, never
installed or imported. FOLDER is not part of the repository. findings.json names files relative to FOLDER
(or to the standard library, as `stdlib/…`), so that two people's results can be compared. The sample has
the form of the verdicts in docs/lint-verdicts.json with the verdicts left open. That a file does not parse
is not drawn, for there is nothing to judge in it; that the checker alone gives up on one (NZ100 as well) is.
Where there is no more to draw than was asked for, all of it is drawn. The seed of the draw is printed. A file
that makes the checker raise ends the run with a traceback: there is no such file.
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

FIRST, SECOND = "first", "second"
SETS: dict[str, list[str]] = {
    FIRST: words("""
        aiohttp==3.14.5 celery==5.7.0 django==5.2.19 flask==3.1.3 networkx==3.6.1 pandas==3.1.1 requests==2.34.2
        scikit-learn==1.9.1 sqlalchemy==2.1.9 sympy==1.14.0 tornado==6.6.1 twisted==26.10.0
    """),
    SECOND: words("""
        angr==9.2.213 ansible-core==2.19.14 apache-airflow-core==3.3.2 astroid==4.3.4 biopython==1.88
        bokeh==3.9.2 buildbot==4.3.0 dask==2026.8.0 distributed==2026.8.0 docutils==0.23 gensim==4.4.0
        hypothesis==6.170.15 ipython==9.18.1 jax==0.10.2 jedi==0.20.1 jinja2==3.1.6 kombu==5.7.0 luigi==3.8.1
        matplotlib==3.11.2 matrix-synapse==1.163.2 mitmproxy==11.0.2 mypy==2.4.1 nltk==3.10.4 numba==0.68.1
        pip==26.3 prefect==3.9.1 pylint==4.1.4 pytest==9.2.0 qiskit==2.6.2 scapy==2.8.0 scipy==1.17.1
        scrapy==2.19.0 setuptools==84.2.1 spacy==3.8.18 sphinx==9.0.4 statsmodels==0.15.0 transformers==5.23.0
        werkzeug==3.1.9 xarray==2026.9.0
    """),
}
"""The packages by the name of their set. The standard library belongs to the first."""
STANDARD_LIBRARY = "stdlib"
UNPARSED = "does not parse"
"""How the message of NZ100 begins where Python itself will not have the file."""


def folders_of(sets: list[str], into: Path) -> dict[str, Path]:
    """The folder of everything in these sets, by its name."""
    folders = {STANDARD_LIBRARY: Path(sysconfig.get_path("stdlib"))} if FIRST in sets else {}
    for name in sets:
        folders |= download(SETS[name], into)
    return folders


def download(packages: list[str], into: Path) -> dict[str, Path]:
    """The folder of every package's source, downloading and unpacking what is not there yet."""
    sources: dict[str, Path] = {}
    for package in packages:
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
    versions = {STANDARD_LIBRARY: platform.python_version()}
    set_of = {STANDARD_LIBRARY: FIRST}
    for name, packages in SETS.items():
        versions |= dict(package.split("==") for package in packages)
        set_of |= dict.fromkeys((package.partition("==")[0] for package in packages), name)
    # In an order of its own, so that the draw does not depend on the order in which the folders were read.
    population = sorted(each for each in findings if each.rule != UNREADABLE or UNPARSED not in each.message)
    drawn = random.Random(seed).sample(population, min(size, len(population)))
    print(f"drew {len(drawn)} of {len(population)} findings with --seed {seed}")
    return [
        {
            "set": set_of[package],
            "package": package,
            "version": versions[package],
            "file": file,
            "line": found.line,
            "column": found.column,
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
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="only these sets of packages")
    parser.add_argument("--locals", action="store_true", help="look at maps that end with their call as well")
    parser.add_argument("--sample", type=int, default=0, help="how many findings to draw")
    parser.add_argument("--seed", type=int, default=None, help="what the draw depends on (chosen, and printed)")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    folders = folders_of(arguments.sets, arguments.into)
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
