"""The exit statuses of `naught-loadtest`, in one place."""

from __future__ import annotations

OK = 0
# The run failed, requests failed, or the counters are not what was acknowledged.
FAILED = 1
USAGE = 2
# The generator itself spoiled the figures.
INVALID = 3
# An objective (--slo) was missed.
OBJECTIVE_MISSED = 99
INTERRUPTED = 130
