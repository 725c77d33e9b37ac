"""Making load: what is asked and when it is due (seeded and pure), and the worker processes that send it."""
