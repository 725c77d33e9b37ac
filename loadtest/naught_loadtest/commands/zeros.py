"""`naught-loadtest zeros`: what zeros that stay in a map cost in Python, compared with the claims of an article.

Four ways of counting do the same work on 10 000 to 10 000 000 keys: a dict whose zeros stay, a dict whose keys are
deleted at zero, naught.SafeMap, and the server's engine in this process (memory://). Each trial has a process of its
own. Measured are rates, allocations, memory, pauses of the garbage collector, and the time to iterate over the live
counters. The report sets the figures beside the claims of the article that this product grew from, with a verdict on
each.

The rounds are interleaved: every round runs each way of counting once and begins with another one than the round
before. So a change on the machine affects all of them.
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
from naught_loadtest.measure.report import text_stream, write_json
from naught_loadtest.zeros import claims, page, table
from naught_loadtest.zeros.figures import Figures, Place
from naught_loadtest.zeros.maps import TITLES, TRACKED, UNTRACKED, VALUES, VARIANTS, supports
from naught_loadtest.zeros.trial import Trial

# What `--only` chooses from: rates, memory and pauses; allocations; SafeMap beside a dict and a lock.
PARTS = ("work", "allocations", "guard")
KEYS_DEFAULT = (10_000, 100_000, 1_000_000)
KEYS_FULL = (*KEYS_DEFAULT, 10_000_000)
ROUNDS_DEFAULT = 3
# From this number of keys on there is one round only. It takes minutes, and the smaller sizes have shown the spread.
ONE_ROUND_FROM = 10_000_000
# Allocations per operation do not depend on the number of keys, so more keys would only take longer.
ALLOCATION_KEYS_MAX = 100_000
# The most memory that one counter may need, reached just after a table has doubled, keys of the churn included. A run
# for which this does not fit into `MEMORY_PART_MAX` of the free memory is skipped, as it might swap.
BYTES_PER_COUNTER_MAX = {UNTRACKED: 300, TRACKED: 500}
MEMORY_PART_MAX = 0.8


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `zeros`."""
    add = parser.add_argument
    sizes = ",".join(str(count) for count in KEYS_DEFAULT)
    add("--keys", type=key_counts, metavar="N,…", help=f"numbers of keys ({sizes})")
    add("--full", action="store_true", help="up to 10 000 000 keys: takes several gigabytes and half an hour")
    add("--values", choices=VALUES, help="one kind only: int, or values the collector tracks (both)")
    add("--rounds", type=int, default=ROUNDS_DEFAULT, metavar="N", help="(%(default)s; one from 10 000 000 keys on)")
    add("--rest", type=float, default=15.0, metavar="S", help="longest wait for memory to settle (%(default)g)")
    add("--only", action="append", choices=PARTS, metavar="PART", help=f"one of {', '.join(PARTS)}; repeatable (all)")
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")
    add("--page", metavar="FILE", help="put the tables and claims into this page of Markdown, between its marks")


def key_counts(text: str) -> tuple[int, ...]:
    """An argparse type: numbers of keys, as in `10000,1e6`."""
    try:
        numbers = tuple(int(float(word)) for word in text.split(","))
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text}: no number of keys is infinite") from None
    if min(numbers) < 100:
        raise argparse.ArgumentTypeError("at least 100 keys are needed, because one in a hundred stays alive")
    return numbers


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole command. Returns the exit status."""
    if arguments.rounds < 1:
        raise ValueError("--rounds must be at least 1")
    if arguments.page:
        page.need_marks(arguments.page)
    sizes = arguments.keys or (KEYS_FULL if arguments.full else KEYS_DEFAULT)
    kinds = (arguments.values,) if arguments.values else VALUES
    out = text_stream(arguments.json)
    method = (
        f"{arguments.rounds} rounds interleaved ({ONE_ROUND_FROM:,} keys and more: one), one process per trial;"
        " medians, least and most in brackets; CPU times"
    )
    heading = [*machine_lines(), method]
    print("\n".join(heading), file=out, flush=True)
    parts = arguments.only or PARTS
    figures = Figures()
    if "work" in parts:
        for size in sizes:
            for values in kinds:
                _measure_work(figures, size, values, arguments, out)
    if "allocations" in parts:
        _measure_allocations(figures, min(ALLOCATION_KEYS_MAX, max(sizes)), kinds, arguments.rest, out)
    if "guard" in parts:
        print("\nSafeMap's rate as a part of that of a dict and a lock whose zeros stay", file=out, flush=True)
        for size in sizes:
            if size < ONE_ROUND_FROM:  # from there on it would take as long as all the rest
                figures.guard[size] = run_trial(Trial("guard", keys=size))["ratios"]
        print("\n".join(table.aligned(table.guard_rows(figures.guard))), file=out)
    verdicts = claims.judge(figures)
    print("\n".join(["", *table.claim_lines(verdicts)]), file=out)
    if arguments.json:
        write_json(document(heading, figures, verdicts), arguments.json)
    if arguments.page:
        page.write(arguments.page, figures, heading)
    return status.OK


def _measure_work(figures: Figures, size: int, values: str, arguments: argparse.Namespace, out: TextIO) -> None:
    """Measure all ways of counting at one size with one kind of value, and print their table."""
    print(f"\n{size:,} keys, values {table.VALUES_TITLES[values]}", file=out, flush=True)
    needed = size * BYTES_PER_COUNTER_MAX[values]
    free = available_bytes()
    if free is not None and needed > free * MEMORY_PART_MAX:
        reason = f"it may need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free"
        figures.skipped.append(f"{size:,} keys, values {values}: {reason}")
        print(f"skipped: {reason}", file=out)
        return
    rounds = 1 if size >= ONE_ROUND_FROM else arguments.rounds
    for variant in interleaved(rounds, [name for name in VARIANTS if supports(name, values)]):
        trial = Trial("work", variant, values, size, arguments.rest)
        figures.add(Place(variant, values, size), run_trial(trial))
    print("\n".join(table.aligned(table.work_rows(figures, values, size))), file=out, flush=True)


def _measure_allocations(figures: Figures, size: int, kinds: tuple[str, ...], rest_s_max: float, out: TextIO) -> None:
    """Measure the allocations of all ways of counting, and print their table."""
    print(f"\nallocations, {size:,} new keys counted to 1 and back to zero", file=out, flush=True)
    for values in kinds:
        for variant in VARIANTS:
            if supports(variant, values):
                trial = Trial("allocations", variant, values, size, rest_s_max)
                figures.allocations[variant, values] = run_trial(trial)
    print("\n".join(table.aligned(table.allocation_rows(figures))), file=out, flush=True)


def interleaved(rounds: int, names: list[str]) -> Iterator[str]:
    """Every name once in each round; each round begins with the name after the one that began the round before."""
    for number in range(rounds):
        start = number % len(names)
        yield from names[start:] + names[:start]


def run_trial(trial: Trial) -> dict[str, Any]:
    """Run one trial in a process of its own. Returns its figures; RunError quotes the error when it fails."""
    command = [sys.executable, "-m", "naught_loadtest.zeros.trial"]
    done = subprocess.run(command, input=json.dumps(asdict(trial)), capture_output=True, text=True, check=False)
    if done.returncode:
        errors = done.stderr.strip().splitlines() or ["killed"]
        raise RunError(f"{TITLES.get(trial.variant, trial.kind)}, {trial.keys:,} keys: {errors[-1]}")
    figures: dict[str, Any] = json.loads(done.stdout)["figures"]
    return figures


def document(heading: list[str], figures: Figures, verdicts: list[claims.Verdict]) -> dict[str, Any]:
    """The report for programs. Names of times and sizes end in their unit."""
    return {
        "schema": 1,
        "kind": "zeros",
        "machine": heading,
        "work": [
            {**asdict(place), "rounds": len(rounds), "figures": rounds} for place, rounds in figures.work.items()
        ],
        "allocations": [
            {"variant": variant, "values": values, **measured}
            for (variant, values), measured in figures.allocations.items()
        ],
        "guard": {str(keys): ratios for keys, ratios in figures.guard.items()},
        "skipped": figures.skipped,
        "claims": [asdict(verdict) for verdict in verdicts],
    }
