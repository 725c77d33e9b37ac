"""`naught-loadtest merge A.json B.json ...`: the runs of several hosts as one.

Start `run --json` with the same options on each host at the same time, against one server, and merge the reports.
Counts and rates are added up and histograms are merged; no percentile is averaged. The result is a report of `run`
again, so it can be compared, and has a page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from naught_loadtest.commands import status
from naught_loadtest.commands.outputs import add_csv_argument, add_html_argument, write_outputs
from naught_loadtest.commands.run import objective
from naught_loadtest.measure.loading import load
from naught_loadtest.measure.merging import merge
from naught_loadtest.measure.origin import whole_command
from naught_loadtest.measure.report import milliseconds, text_stream, write_json
from naught_loadtest.measure.slo import allow_errors
from naught_loadtest.measure.verification import other_failures, worst_check


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `merge`."""
    add = parser.add_argument
    add("reports", nargs="+", metavar="FILE", help="reports that `run --json` has written; two or more")
    add("--slo", type=objective, action="append", default=[], metavar="'p99<2ms'", help="an objective, repeatable")
    add("--json", metavar="FILE", help="the merged report as JSON; - for standard output")
    add_csv_argument(parser)
    add_html_argument(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole command. Returns the exit status."""
    if len(arguments.reports) < 2:
        raise ValueError("there must be two reports or more")
    documents = [load(name, "run") for name in arguments.reports]
    document = {**merge(documents, arguments.slo), "command": whole_command()}
    out = text_stream(arguments.json)
    print("\n".join(lines(document)), file=out)
    if arguments.json:
        write_json(document, arguments.json)
    write_outputs(arguments, document)
    check = worst_check(document)
    failures = sum(document["failed"].values()) + document["timed_out"] + document["not_sent"]
    failures += sum(other_failures(document).values())
    if (failures and not allow_errors(arguments.slo)) or (check is not None and not check["passed"]):
        return status.FAILED
    if document["invalid"]:
        return status.INVALID
    return status.OK if all(each["met"] for each in document["objectives"]) else status.OBJECTIVE_MISSED


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The merged report for the terminal."""
    for each in document["merged"]:
        yield f"{each['host']}: {each['throughput_per_s']:,.0f} operations/s from {each['started_at'][:19]} on"
    yield ""
    yield f"throughput    {document['throughput_per_s']:,.0f} operations/s"
    yield f"requests      {document['requests']:,} completed"
    failed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(document["failed"].items()))
    yield f"failed        {failed or 'none'}; timed out {document['timed_out']:,}; not sent {document['not_sent']:,}"
    for kind, count in other_failures(document).items():
        yield f"              {count:,} {kind}"
    for name, value_ns in document["response_ns"].items():
        if value_ns is not None and name != "samples":
            yield f"{name:<14}{milliseconds(value_ns)}"
    check = worst_check(document)
    if check is None:
        yield "verified      no: not all of the runs were"
    elif check["passed"]:
        yield f"verified      {check['compared']:,} counters compared, all equal to what was acknowledged"
    else:
        yield f"verified      WRONG: {check['wrong']:,} counters differ from what was acknowledged"
    for each in document["objectives"]:
        yield f"objective     {each['sentence']}"
    for reason in document["invalid"]:
        yield f"INVALID       {reason}"
