"""Judging a run: latencies, the account of every request, whether the counters are right, and the report."""
