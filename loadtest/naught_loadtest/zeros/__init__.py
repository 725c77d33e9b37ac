"""What `naught-loadtest zeros` measures: the cost in Python of zeros that stay in a map.

    maps      the ways of counting that are compared
    trial     one process that measures one way of counting
    figures   the figures of all trials
    table     the figures as tables for the terminal
    claims    the claims of an article about such zeros, and what the figures say about each
    page      tables and claims as parts of a page of the documentation

The command itself, which starts the trials, is `commands.zeros`. The package imports nothing, because a trial runs
as `python -m naught_loadtest.zeros.trial`, and Python warns if the package has imported that module before.
(`naught.zeros` is unrelated: it finds zeros in the data of a program.)
"""
