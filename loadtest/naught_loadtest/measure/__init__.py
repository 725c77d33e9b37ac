"""Measuring and judging: histograms, the account of every request, verification of the counters, and the reports.

`tally`, `histogram` and `expectation` serve one run; `result`, `verification`, `slo` and `report` judge and print it;
`rounds` and `ceiling` compare several runs; `cores`, `usage` and `machine` ask the system.
"""
