"""The exit statuses of `naught-loadtest`."""

from __future__ import annotations

OK = 0
# The run failed, requests failed, or counters differ from what was acknowledged.
FAILED = 1
# The arguments are wrong.
USAGE = 2
# The generator was the limit or was late, so the figures must not be believed.
INVALID = 3
# An objective (--slo) was missed.
OBJECTIVE_MISSED = 99
# SIGINT or SIGTERM.
INTERRUPTED = 130
