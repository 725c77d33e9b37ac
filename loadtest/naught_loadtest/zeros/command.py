"""`naught-loadtest zeros`: what zeros that stay in a map cost in Python, beside what is claimed of them elsewhere.

A dict whose zeros stay, a dict whose keys are deleted at zero, naught.SafeMap, and the server's engine in process
(memory://) do the same work on 10 000 to 10 000 000 keys, each in a process of its own, in interleaved rounds.
Measured are rates, allocations, memory, the collector's pauses, and the time to go over what lives. Beside the
figures stand the claims of the article this product grew from, each with a verdict.

The rounds are interleaved: a round starts every way of counting once, and each round begins with another one, so
that what changes on the machine meanwhile falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TextIO

from naught_loadtest.commands import status
from naught_loadtest.generate.runner import RunError
from naught_loadtest.measure.machine import available_bytes, machine_lines
from naught_loadtest.measure.report import write_json
from naught_loadtest.zeros import claims, table
from naught_loadtest.zeros.maps import TITLES, TRACKED, UNTRACKED, VALUES, VARIANTS, counts
from naught_loadtest.zeros.table import Figures, Place
from naught_loadtest.zeros.trial import Task

# What `--only` chooses from: rates, memory and pauses; allocations; SafeMap beside itself without eviction.
PARTS = ("work", "allocations", "guard")
KEYS_DEFAULT = (10_000, 100_000, 1_000_000)
KEYS_FULL = (*KEYS_DEFAULT, 10_000_000)
ROUNDS_DEFAULT = 3
# From this many keys on one round is all: a round takes minutes, and the short ones have shown the spread.
ONE_ROUND_FROM = 10_000_000
# Allocations of an operation do not depend on the number of keys; more would only take longer.
ALLOCATION_KEYS_MAX = 100_000
# What a counter may take at most just after a table has doubled, keys of the churn included: with these a run
# is skipped rather than pushed into swap.
BYTES_PER_COUNTER_MAX = {UNTRACKED: 300, TRACKED: 500}
MEMORY_PART_MAX = 0.8


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of `zeros`."""
    add = parser.add_argument
    sizes = ",".join(str(count) for count in KEYS_DEFAULT)
    add("--keys", type=key_counts, metavar="N,…", help=f"numbers of keys ({sizes})")
    add("--full", action="store_true", help="to 10 000 000 keys: takes several gigabytes and up to half an hour")
    add("--values", choices=VALUES, help="one kind only: int, or tracked by the collector (both)")
    add("--rounds", type=int, default=ROUNDS_DEFAULT, metavar="N", help="(%(default)s; one from 10 000 000 keys on)")
    add("--rest", type=float, default=15.0, metavar="S", help="longest wait for memory to settle (%(default)g)")
    add("--only", action="append", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}; repeatable (all)")
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")


def key_counts(text: str) -> tuple[int, ...]:
    """Numbers of keys, as `10000,1e6`."""
    numbers = tuple(int(float(word)) for word in text.split(","))
    if min(numbers) < 100:
        raise argparse.ArgumentTypeError("there are at least 100 keys, so that one in a hundred can live")
    return numbers


def execute(arguments: argparse.Namespace) -> int:
    """The whole command. Its exit status."""
    if arguments.rounds < 1:
        raise ValueError("there is at least one round")
    sizes = arguments.keys or (KEYS_FULL if arguments.full else KEYS_DEFAULT)
    kinds = (arguments.values,) if arguments.values else VALUES
    people = sys.stderr if arguments.json == "-" else sys.stdout
    how = (
        f"{arguments.rounds} rounds interleaved ({ONE_ROUND_FROM:,} keys and more: one), a process for each;"
        " medians, least and most in brackets; CPU times"
    )
    heading = [*machine_lines(), how]
    print("\n".join(heading), file=people, flush=True)
    parts = arguments.only or PARTS
    figures = Figures()
    if "work" in parts:
        for size in sizes:
            for values in kinds:
                _measure(figures, size, values, arguments, people)
    if "allocations" in parts:
        _measure_allocations(figures, min(ALLOCATION_KEYS_MAX, max(sizes)), kinds, arguments.rest, people)
    if "guard" in parts:
        print("\nSafeMap beside itself without the eviction branch", file=people, flush=True)
        figures.guard = run_trial(Task("guard"))["ratios"]
        print("\n".join(table.guard_lines(figures.guard)), file=people)
    verdicts = claims.judge(figures)
    print("\n".join(["", *table.claim_lines(verdicts)]), file=people)
    if arguments.json:
        write_json(document(heading, figures, verdicts), arguments.json)
    return status.OK


def _measure(figures: Figures, size: int, values: str, arguments: argparse.Namespace, people: TextIO) -> None:
    """All ways of counting at one size, with one kind of value; printed when done."""
    print(f"\n{size:,} keys, values {table.VALUES_TITLES[values]}", file=people, flush=True)
    needed = size * BYTES_PER_COUNTER_MAX[values]
    free = available_bytes()
    if free is not None and needed > free * MEMORY_PART_MAX:
        reason = f"it may need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free"
        figures.skipped.append(f"{size:,} keys, values {values}: {reason}")
        print(f"skipped: {reason}", file=people)
        return
    rounds = 1 if size >= ONE_ROUND_FROM else arguments.rounds
    for variant in interleaved(rounds, [name for name in VARIANTS if counts(name, values)]):
        task = Task("work", variant, values, size, arguments.rest)
        figures.add(Place(variant, values, size), run_trial(task))
    print("\n".join(table.work_lines(figures, values, size)), file=people, flush=True)


def _measure_allocations(
    figures: Figures, size: int, kinds: tuple[str, ...], rest_s_max: float, people: TextIO
) -> None:
    print(f"\nallocations, {size:,} new keys counted to 1 and back to zero", file=people, flush=True)
    for values in kinds:
        for variant in VARIANTS:
            if counts(variant, values):
                task = Task("allocations", variant, values, size, rest_s_max)
                figures.allocations[variant, values] = run_trial(task)
    print("\n".join(table.allocation_lines(figures)), file=people, flush=True)


def interleaved(rounds: int, names: list[str]) -> Iterator[str]:
    """Every name once a round, each round beginning one further on."""
    for number in range(rounds):
        start = number % len(names)
        yield from names[start:] + names[:start]


def run_trial(task: Task) -> dict[str, Any]:
    """One process from its start to its figures. RunError with what it said when it failed."""
    words = [sys.executable, "-m", "naught_loadtest.zeros.trial"]
    done = subprocess.run(words, input=json.dumps(asdict(task)), capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise RunError(f"{TITLES.get(task.variant, task.kind)}, {task.keys:,} keys: {said[-1] if said else 'killed'}")
    figures: dict[str, Any] = json.loads(done.stdout)["figures"]
    return figures


def document(heading: list[str], figures: Figures, verdicts: list[claims.Verdict]) -> dict[str, Any]:
    """The report for programs. Times and sizes carry their unit in their name."""
    return {
        "schema": 1,
        "kind": "zeros",
        "machine": heading,
        "work": [
            {**asdict(place), "rounds": len(rounds), "figures": rounds} for place, rounds in figures.work.items()
        ],
        "allocations": [
            {"variant": variant, "values": values, **found}
            for (variant, values), found in figures.allocations.items()
        ],
        "guard": figures.guard,
        "skipped": figures.skipped,
        "claims": [asdict(verdict) for verdict in verdicts],
    }
