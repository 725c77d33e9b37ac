"""Run `naught.lint` over code its authors never saw: the standard library and well-known packages.

    python tools/lint_corpus.py --into FOLDER                       download once, check, write findings.json
    python tools/lint_corpus.py --into FOLDER --sample 50 --seed 1  and draw a sample to judge by hand

The packages are downloaded into FOLDER as wheels, in the versions named below, and are unpacked, never
installed or imported. FOLDER is not part of the repository. findings.json names files relative to FOLDER
(or to the standard library, as `stdlib/…`), so that two people's results can be compared. The sample has
the same form as docs/lint-verdicts.json with the verdicts left open; findings that a file does not parse
(NZ100) are not drawn, for there is nothing to judge in them. The packages were chosen because they are well
known and large, and because they schedule, count, cache or keep graphs; whatever was found in them stays in
the population.
"""

from __future__ import annotations

import argparse
import json
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
    angr==9.2.213 ansible-core==2.19.14 apache-airflow-core==3.3.2 apache-beam==2.77.0 biopython==1.88
    breezy==3.3.23 buildbot==4.3.0 celery==5.7.0 dagster==1.13.29 distributed==2026.8.0 django==5.2.19
    evennia==5.0.1 homeassistant==2024.3.3 jax==0.10.2 matrix-synapse==1.163.2 mitmproxy==11.0.2
    mlflow==3.18.0 mypy==2.4.1 networkx==3.6.1 neutron==29.0.0 nltk==3.10.4 nova==34.0.0 numba==0.68.1
    prefect==3.9.1 pylint==4.1.4 pytype==2024.10.11 qiskit==2.6.2 ray==2.60.0 scapy==2.8.0 scrapy==2.19.0
    sglang==0.5.23 snakemake==9.27.1 sphinx==9.0.4 sqlalchemy==2.1.9 swift==2.38.3 sympy==1.14.0
    torch-geometric==2.8.1 trl==1.16.0 twisted==26.10.0 wandb==0.31.0
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


def check(folder: Path, name: str) -> tuple[list[Finding], int, float]:
    """All findings below a folder, with paths that begin with `name`; how many files, and the seconds it
    took."""
    began = time.perf_counter()
    files = list(python_files([str(folder)], Config(root=folder)))
    found = [
        Finding(
            f"{name}/{Path(each.path).relative_to(folder).as_posix()}",
            each.line, each.column, each.rule, each.message, each.end_line,
        )
        for each in check_files(files, jobs=2)
    ]  # fmt: skip
    return found, len(files), time.perf_counter() - began


def sample_of(findings: list[Finding], size: int, seed: int) -> list[dict[str, object]]:
    """A random sample, in the form the verdicts are kept in."""
    population = [found for found in findings if found.rule != UNREADABLE]
    drawn = random.Random(seed).sample(population, min(size, len(population)))
    return [
        {
            "rule": found.rule,
            "file": found.path,
            "line": found.line,
            "finding": found.message,
            "verdict": None,
            "reason": "",
        }
        for found in sorted(drawn)
    ]


def main() -> int:
    """Download, check, write; the figures go to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True, help="the folder for downloads and results")
    parser.add_argument("--sample", type=int, default=0, help="how many findings to draw")
    parser.add_argument("--seed", type=int, default=1, help="what the draw depends on")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    folders = {"stdlib": Path(sysconfig.get_path("stdlib")), **download(arguments.into)}
    everything: list[Finding] = []
    for name, folder in folders.items():
        found, files, seconds = check(folder, name)
        everything += found
        print(f"{name:22} {files:6} files {seconds:6.1f} s  {len(found):4} findings", flush=True)
    print(", ".join(f"{rule}: {count}" for rule, count in sorted(Counter(f.rule for f in everything).items())))
    whole = [found.as_json() for found in everything]
    (arguments.into / "findings.json").write_text(json.dumps(whole, indent=1) + "\n")
    if arguments.sample:
        drawn = sample_of(everything, arguments.sample, arguments.seed)
        (arguments.into / "sample.json").write_text(json.dumps(drawn, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
