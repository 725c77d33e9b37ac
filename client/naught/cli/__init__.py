"""The command line: `naught COMMAND ...`.

main.py          finds the command and runs its module
counters.py      the commands that talk to a server: get, incr, stat and so on
stat.py          the figures that `naught stat` prints
completion.py    the completion scripts for bash and zsh
exit_status.py   the exit statuses
"""
