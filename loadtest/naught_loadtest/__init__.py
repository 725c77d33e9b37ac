"""The load-test harness of naught: the command `naught-loadtest`.

generate/   which requests are sent and when they are due, and the worker processes that send them
measure/    histograms, the account of every request, verification of the counters, reports, comparisons
drivers/    the protocols of the servers that can be driven, and starting these servers
commands/   the subcommands
bars/       what `naught-loadtest bars` measures
zeros/      what `naught-loadtest zeros` measures
"""
