"""What the rules on misread zeros and gauges (NZ104, NZ106) find, and what they leave alone: small programs.

How the programs say it: lint_programs.py.
"""

from __future__ import annotations

import pytest

from support.lint_programs import check, check_claims, programs

MISREAD = {
    "or, where a stored zero becomes the default": """
        class Quota:
            def __init__(self):
                self.left = {}
            def use(self, user):
                self.left[user] = max(0, (self.left.get(user) or 100) - 1)  #! NZ104
            def drop(self, user):
                del self.left[user]
        """,
    "or, behind a name": """
        class Quota:
            def __init__(self):
                self.left = {}
            def start(self, user):
                self.left[user] = 100
            def use(self, user):
                self.left[user] -= 1
            def remaining(self, user):
                left = self.left.get(user)
                return left or 100  #! NZ104
            def drop(self, user):
                del self.left[user]
        """,
    "not found, or found to be zero": """
        class Seats:
            def __init__(self):
                self.left = {}
            def open(self, flight, seats):
                self.left[flight] = 100
            def book(self, flight):
                self.left[flight] -= 1
            def close(self, flight):
                del self.left[flight]
            def available(self, flight):
                if not self.left.get(flight):  #! NZ104
                    raise KeyError(flight)
                return self.left[flight]
        """,
    "a remembered zero is computed again": """
        SIZES = {}
        def size(path, scan):
            found = SIZES.get(path)
            if not found:  #! NZ104
                found = len(scan(path))
                SIZES[path] = found
            return found
        """,
}

NO_MISREAD = {
    "zero and absent mean the same": """
        class Failures:
            def __init__(self):
                self.count = {}
            def fail(self, host):
                self.count[host] = (self.count.get(host) or 0) + 1
            def succeed(self, host):
                if self.count.get(host):
                    self.count[host] -= 1
                    if not self.count[host]:
                        del self.count[host]
        """,
    "no zero is ever stored": """
        class Limits:
            def __init__(self):
                self.of = {}
            def set(self, user):
                self.of[user] = 50
            def get(self, user):
                return self.of.get(user) or len("default")
        """,
    "values that are no numbers": """
        class Names:
            def __init__(self):
                self.of = {}
            def set(self, user):
                self.of[user] = "somebody"
            def get(self, user):
                return self.of.get(user) or "nobody"
            def clear(self, user):
                self.of[user] = 0
        """,
    "or zero": """
        class Quota:
            def __init__(self):
                self.left = {}
            def start(self, user):
                self.left[user] = 100
            def use(self, user):
                self.left[user] -= 1
            def remaining(self, user):
                return self.left.get(user) or 0
            def drop(self, user):
                del self.left[user]
        """,
    "asked the right way": """
        class Quota:
            def __init__(self):
                self.left = {}
            def start(self, user):
                self.left[user] = 100
            def use(self, user):
                self.left[user] -= 1
            def remaining(self, user):
                left = self.left.get(user)
                return 100 if left is None else left
            def drop(self, user):
                del self.left[user]
        """,
    "or between two questions": """
        class Seats:
            def __init__(self):
                self.left = {}
            def open(self, flight):
                self.left[flight] = 100
            def book(self, flight):
                self.left[flight] -= 1
            def close(self, flight):
                del self.left[flight]
            def useful(self, flight, wanted):
                if self.left.get(flight) or wanted:
                    return True
        """,
}

GAUGE = {
    "down by the value of a label": """
        from prometheus_client import Gauge
        OPEN = Gauge("open", "Open connections", ["peer"])
        def opened(peer):
            OPEN.labels(peer).inc()
        def closed(peer):
            OPEN.labels(peer).dec()  #! NZ106
        """,
    "other ways down": """
        import prometheus_client
        class Metrics:
            def __init__(self):
                self.jobs = prometheus_client.Gauge("jobs", "Jobs", labelnames=("user",))
            def run(self, user, job):
                with self.jobs.labels(user=user).track_inprogress():  #! NZ106
                    job()
            def leave(self, user):
                mine = self.jobs.labels(user=user)
                mine.dec()  #! NZ106
            def undo(self, user):
                self.jobs.labels(user=user).inc(-1)  #! NZ106
        """,
}

NO_GAUGE = {
    "removed": """
        from prometheus_client import Gauge
        OPEN = Gauge("open", "Open connections", ["peer"])
        def closed(peer):
            OPEN.labels(peer).dec()
        def gone(peer):
            OPEN.remove(peer)
        """,
    "fixed labels, or none": """
        from prometheus_client import Gauge
        OPEN = Gauge("open", "Open connections", ["side"])
        ALL = Gauge("all", "All connections")
        def closed(peer):
            OPEN.labels("left").dec()
            OPEN.labels(side="right").dec()
            ALL.dec()
        """,
    "labels a process has few of": """
        from prometheus_client import Gauge
        OPEN = Gauge("open", "Open connections", ["server_name"])
        class Server:
            def closed(self):
                OPEN.labels(self.server_name).dec()
        """,
    "somebody else's gauge": """
        from tkinter_gauges import Gauge
        OPEN = Gauge("open", "Open connections", ["peer"])
        def closed(peer):
            OPEN.labels(peer).dec()
        """,
    "only up": """
        from prometheus_client import Gauge
        OPEN = Gauge("open", "Open connections", ["peer"])
        def opened(peer):
            OPEN.labels(peer).inc()
            OPEN.labels(peer).set(3)
        """,
}

TABLES = {
    "misread": MISREAD,
    "no misread": NO_MISREAD,
    "gauge": GAUGE,
    "no gauge": NO_GAUGE,
}


@pytest.mark.parametrize("source", programs(TABLES))
def test_table(source: str) -> None:
    check(source)


def test_tables_say_what_they_claim() -> None:
    check_claims(TABLES)
