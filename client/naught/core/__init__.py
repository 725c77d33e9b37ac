"""The client without input and output: what a method sends, how replies become results, and sessions. Sans-IO.

No module here imports asyncio, socket, threading or a clock. Bytes and the current time go in; bytes and results come
out. `naught.aio` and `naught.blocking` are the adapters: they own the connection and the timer, and drive a session.

    commands.py   a method for every method of the wire; every client class is or has a `Commands`
    sink.py       `CallSink`: the interface through which the commands hand a call to an adapter
    calls.py      per method: check the arguments, build the params, convert the result
    messages.py   what travels under one msgid: one call, or several changes joined into one `apply`
    session.py    `ClientSession`: queues, deadlines, resumption after a broken connection
    windows.py    `Windows`: msgids, and how many requests may be unanswered or unacknowledged
    silence.py    when an open connection counts as dead
    holds.py  options.py  backoff.py    a granted hold; checked arguments; pauses between attempts to connect
"""
