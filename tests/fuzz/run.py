"""Run the fuzz targets: with atheris, which is guided by coverage, where it is installed; else with mutations.

    python tests/fuzz/run.py                     every target, an hour in all
    python tests/fuzz/run.py --seconds 60        a minute in all
    python tests/fuzz/run.py --runs 20000 --seed 1   so many inputs for each, the same ones each time
    python tests/fuzz/run.py url http            these targets
    python tests/fuzz/run.py url --input FILE    one input again

Each target is in `targets/`, and its corpus in `corpus/`. New inputs that reach further are kept in `.fuzz/`, which
git ignores. An input that fails is written there, and the way to try it again is printed. Without atheris inputs are
mutated from a printed seed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

HERE = Path(__file__).parent
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))
KEPT = HERE.parents[1] / ".fuzz"
INPUT_BYTES_MAX = 4_096
INTERESTING = [
    *(b"\x00", b"\xff", b"\x94\x00", b"\x94\x01", b"\x93\x02", b"\xc1", b"\xa1k", b"\xdd\xff\xff\xff\xff"),
    *(b"\xcf" + b"\xff" * 8, b"\r\n\r\n", b"=", b"[", b"\n", b"-1", b"9" * 30, b"%", b"\xc3\xa9"),
]


def corpus(target: str) -> list[bytes]:
    """The inputs that are kept for a target."""
    return [path.read_bytes() for path in sorted((HERE / "corpus" / target).iterdir())]


def one_of(target: str) -> Callable[[bytes], None]:
    """The function that tries an input."""
    found: Callable[[bytes], None] = importlib.import_module(f"fuzz.targets.{target}").one
    return found


def quiet() -> None:
    """What the server logs is looked at by the targets."""
    from fuzz.fuzz_wire import FAULTS

    logger = logging.getLogger("naught.server")
    if FAULTS not in logger.handlers:
        logger.addHandler(FAULTS)
    logger.propagate = False


def mutated(draw: random.Random, inputs: list[bytes]) -> bytes:
    """An input with some bytes changed, removed, repeated, or joined with another's."""
    data = bytearray(draw.choice(inputs))
    for _ in range(draw.choice([1, 1, 2, 4, 8])):
        place = draw.randint(0, len(data))
        kind = draw.randrange(6)
        if kind == 0 and data:
            data[place % len(data)] = draw.randrange(256)
        elif kind == 1:
            del data[place : place + draw.randint(1, 8)]
        elif kind == 2:
            data[place:place] = draw.choice(INTERESTING)
        elif kind == 3:
            data[place:place] = data[place : place + draw.randint(1, 40)]
        elif kind == 4:
            other = draw.choice(inputs)
            begin = draw.randint(0, len(other))
            data[place:] = other[begin:]
        elif data:
            data[place % len(data)] ^= 1 << draw.randrange(8)
    return bytes(data[:INPUT_BYTES_MAX])


def mutate(target: str, seed: int, *, seconds: float = 0, inputs_max: int | None = None) -> int:
    """Try the corpus and then mutations of it. Returns how many inputs were tried."""
    quiet()
    one = one_of(target)
    inputs = corpus(target)
    draw = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    for data in inputs:
        one(data)
        count += 1
    while count < inputs_max if inputs_max is not None else time.monotonic() < end:
        data = mutated(draw, inputs)
        try:
            one(data)
        except BaseException:
            print(f"{target} failed: {keep(target, data)}", file=sys.stderr)
            raise
        count += 1
    return count


def keep(target: str, data: bytes) -> str:
    """Write an input that fails. Returns the command that tries it again."""
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{target}-failed-{len(list(KEPT.iterdir()))}"
    path.write_bytes(data)
    return f"python tests/fuzz/run.py {target} --input {path}"


def guided(target: str, limit: str, seed: int) -> None:
    """Have atheris try inputs. Does not return: libFuzzer ends the process."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["naught", "naught_server"]):
        one = one_of(target)
    quiet()
    found = KEPT / target
    found.mkdir(parents=True, exist_ok=True)
    options = [
        limit,
        f"-seed={seed % 2**32 or 1}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-artifact_prefix={KEPT}/{target}-",
        "-print_final_stats=1",
        "-rss_limit_mb=4096",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(found), str(HERE / "corpus" / target)], one)
    atheris.Fuzz()


def run(target: str, limit: list[str], seed: int) -> bool:
    """Fuzz a target in a process of its own. Returns whether all went well."""
    print(f"{target}: {importlib.import_module(f'fuzz.targets.{target}').__doc__.splitlines()[0]}", flush=True)
    how = "guided" if importlib.util.find_spec("atheris") is not None else "mutate"
    done = subprocess.run(
        [sys.executable, __file__, target, "--how", how, *limit, "--seed", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said = done.stderr.splitlines()
    if done.returncode:
        print("\n".join(said[-60:]), file=sys.stderr)
        return False
    print(f"  {how}: {next((line for line in said if 'number_of_executed_units' in line), 'done')}", flush=True)
    return True


def main() -> int:
    """Run what is asked for. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=3600, help="in all")
    parser.add_argument("--runs", type=int, help="instead: how many inputs for each target")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--input", type=Path, help="try this input only")
    parser.add_argument("--how", choices=("guided", "mutate"), help="try one target in this process")
    given = parser.parse_args()
    targets = given.targets or TARGETS
    if given.input is not None:
        quiet()
        one_of(targets[0])(given.input.read_bytes())
        return 0
    if given.how == "guided":
        limit = f"-runs={given.runs}" if given.runs else f"-max_total_time={max(1, int(given.seconds))}"
        guided(targets[0], limit, given.seed)
    if given.how == "mutate":
        count = mutate(targets[0], given.seed, seconds=given.seconds, inputs_max=given.runs)
        print(f"{count} inputs", file=sys.stderr)
        return 0
    print(f"seed {given.seed}")
    limit = ["--runs", str(given.runs)] if given.runs else ["--seconds", str(given.seconds / len(targets))]
    went_well = [run(target, limit, given.seed) for target in targets]
    return 0 if all(went_well) else 1


if __name__ == "__main__":
    sys.exit(main())
