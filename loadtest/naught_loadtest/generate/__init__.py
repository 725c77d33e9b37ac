"""Making load: which requests are sent and when they are due, and the processes that send them.

`plan`, `workload`, `schedule` and `encoding` are seeded and pure. `runner` starts the worker processes, `worker` is
one of them, and `closed_loop`, `open_loop` and `closing` are its connections.
"""
