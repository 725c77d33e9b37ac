"""The command line: `naught COMMAND ...`.

main.py          finds the command and runs its module
counters.py      the commands that talk to a server: get, incr, stat and so on
stat.py          the figures that `naught stat` prints
tables.py        the tables that `naught sessions` and `naught holders` print
check.py         `naught ping --check`
completion.py    the completion scripts for bash and zsh
exit_status.py   the exit statuses
"""
