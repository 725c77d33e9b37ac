"""The command line: `naught COMMAND ...`.

main.py          finds the command and runs its module
counters.py      the commands that talk to a server: get, incr, stat and so on
text.py          texts of clients for a terminal
figures.py       what a server did between two results of `info`
stat.py          the lines that `naught stat` prints
tables.py        the tables that `naught sessions` and `naught holders` print
slowlog.py       the table that `naught slowlog` prints
check.py         `naught ping --check`
screen.py        the screens of `naught watch`, without input and output
watch.py         the terminal of `naught watch`, and the questions to the server
completion.py    the completion scripts for bash and zsh
exit_status.py   the exit statuses
"""
