"""Flask under gunicorn, with processes and threads: seats are sold once, and two reports are made at a time.

    naught-server &
    gunicorn --chdir examples --workers 2 --threads 4 flask_app:app
    curl -X POST http://127.0.0.1:8000/flights/LH1/seats

The threads of a worker share one client. It works with and without `--preload`: in the child of a fork the client
connects anew.
"""

from __future__ import annotations

import os

from flask import Flask

import naught.blocking

SEATS = 5

app = Flask(__name__)
counters = naught.blocking.Client(os.environ.get("NAUGHT_URL", "naught://localhost:6480"))


@app.post("/flights/<flight>/seats")
def book(flight: str) -> tuple[dict[str, object], int]:
    """The next seat. No two requests get the same one, and none gets a sixth."""
    granted, (taken,) = counters.try_incr([(f"seats:{flight}", 1, SEATS)])
    if not granted:
        return {"error": "sold out"}, 409
    return {"seat": taken}, 201


@app.delete("/flights/<flight>/seats")
def give_back(flight: str) -> tuple[dict[str, object], int]:
    """A seat is free again. When none is taken any more, the flight has no counter."""
    return {"taken": counters.decr(f"seats:{flight}")}, 200


@app.get("/report")
def report() -> tuple[dict[str, object], int]:
    """At most two reports are made at a time. A third request waits for up to five seconds."""
    try:
        permit = counters.semaphore("reports", limit=2).acquire(timeout=5)
    except naught.CallTimeout:
        return {"error": "try again later"}, 503
    with permit:
        return {"flights": dict(counters.top(10, prefix="seats:"))}, 200
