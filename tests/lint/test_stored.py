"""What the rules on stored zeros (NZ102, NZ105) find, and what they leave alone: small programs.

How the programs say it: lint_programs.py.
"""

from __future__ import annotations

import pytest

from support.lint_programs import check, check_claims, programs

DELETED_AS_ZERO = {
    "none in a method that removes": """
        class Registry:
            def __init__(self):
                self.handlers = {}
            def register(self, name, handler):
                self.handlers[name] = handler
            def unregister(self, name):
                self.handlers[name] = None  #! NZ102
        """,
    "zero in a method that removes": """
        class Presence:
            def __init__(self):
                self.sessions = {}
            def join(self, user):
                self.sessions[user] = self.sessions.get(user, 0) + 1
            def remove_user(self, user):
                self.sessions[user] = 0  #! NZ102
        """,
    "taken and blanked": """
        WAITING = {}
        def wait(key, future):
            WAITING[key] = future
        def wake(key):
            future = WAITING[key]
            WAITING[key] = None  #! NZ102
            future.set_result(None)
        """,
    "blanked at the last reference": """
        class Pool:
            def __init__(self):
                self.refs = {}
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
            def give_back(self, key):
                if self.refs[key] <= 1:
                    self.refs[key] = 0  #! NZ102
        """,
    "blanked by a loop over the map as well, which begins nothing": """
        class Limits:
            def __init__(self):
                self.deadlines = {}
            def check(self, now):
                for thread, deadline in self.deadlines.items():
                    if deadline and now > deadline:
                        self.deadlines[thread] = None
            def begin(self, thread, deadline):
                self.deadlines[thread] = deadline
            def delete(self, thread):
                self.deadlines[thread] = None  #! NZ102
        """,
}

NO_DELETED_AS_ZERO = {
    "a first value": """
        class Registry:
            def __init__(self):
                self.handlers = {}
                self.hits = {}
            def announce(self, name):
                self.handlers[name] = None
                self.hits[name] = 0
            def register(self, name, handler):
                self.handlers[name] = handler
        """,
    "really deleted as well": """
        class Registry:
            def __init__(self):
                self.handlers = {}
            def register(self, name, handler):
                self.handlers[name] = handler
            def unregister(self, name):
                self.handlers[name] = None
            def forget(self, name):
                del self.handlers[name]
        """,
    "a set kept as a dict of None": """
        class Removed:
            def __init__(self):
                self.names = {}
            def remove(self, name):
                self.names[name] = None
        """,
    "where `in` is asked, None is an answer": """
        class Parsers:
            def __init__(self):
                self.of = {}
            def ask(self, host, future):
                if host not in self.of:
                    self.of[host] = future
                return self.of[host]
            def failed(self, host):
                future = self.of[host]
                self.of[host] = None
                future.set_result(None)
        """,
    "a dict that is written out with its keys": """
        HOOKS = {"out": None, "err": None}
        class Hook:
            def install(self):
                HOOKS[self.stream] = self
            def uninstall(self):
                HOOKS[self.stream] = None
        """,
    "a fixed key": """
        class State:
            def __init__(self):
                self.of = {}
            def set(self, key, value):
                self.of[key] = value
            def clear_error(self):
                self.of["error"] = None
        """,
    "a local": """
        def remove_all(names, found):
            gone = {}
            for name in names:
                gone[name] = found(name)
                gone[name] = None
            return gone
        """,
    "a counter that is read and begun anew": """
        from collections import defaultdict
        class Reads:
            def __init__(self):
                self.of = defaultdict(int)
            def read(self, socket):
                self.of[socket] += 1
            def collect(self, sockets):
                for socket in sockets:
                    reads = self.of[socket]
                    self.of[socket] = 0
                    yield reads
        """,
    "an entry that begins like this": """
        AVERAGES = {}
        TEXTS = {}
        class Store:
            def __init__(self, index):
                self.index = index
                AVERAGES[self.index] = 0.0
                TEXTS[self.index] = None
            def write(self, average, text):
                AVERAGES[self.index] = average
                TEXTS[self.index] = text
            def delete_all(self):
                AVERAGES[self.index] = 0.0
                TEXTS[self.index] = None
        """,
}

SETDEFAULT = {
    "a read that inserts": """
        class Hits:
            def __init__(self):
                self.of = {}
            def hit(self, page):
                self.of[page] = self.of.get(page, 0) + 1
            def count(self, page):
                return self.of.setdefault(page, 0)  #! NZ105
        """,
    "in a condition": """
        class Failures:
            def __init__(self):
                self.count = {}
            def fail(self, host):
                self.count[host] = self.count.get(host, 0) + 1
            def is_bad(self, host):
                return self.count.setdefault(host, 0) > 3  #! NZ105
        """,
    "counted only sometimes": """
        HITS = {}
        def see(page, is_robot):
            HITS.setdefault(page, 0)  #! NZ105
            if not is_robot:
                HITS[page] += 1
        """,
}

NO_SETDEFAULT = {
    "counted at once": """
        HITS = {}
        def see(page):
            HITS.setdefault(page, 0)
            HITS[page] += 1
        def see_again(page):
            HITS[page] = HITS.setdefault(page, 0) + 1
        """,
    "deleted somewhere": """
        HITS = {}
        def count(page):
            return HITS.setdefault(page, 0)
        def forget(page):
            del HITS[page]
        """,
    "fixed keys, other zeros, other maps": """
        HITS = {}
        def prepare(environ, page):
            HITS.setdefault("total", 0)
            environ.setdefault(page, 0)
            HITS.setdefault(page, [])
        """,
    "where `in` is asked, a zero is an answer": """
        class Walk:
            def __init__(self):
                self.pending = {}
            def visit(self, node, is_leaf):
                if node in self.pending:
                    return
                self.pending.setdefault(node, 0)
                if not is_leaf:
                    self.pending[node] += 1
        """,
    "a local table": """
        def table(rows):
            sums = {}
            for name, n in rows:
                sums.setdefault(name, 0)
                if n > 3:
                    sums[name] += n
            return sums
        """,
}

TABLES = {
    "deleted as zero": DELETED_AS_ZERO,
    "no deleted as zero": NO_DELETED_AS_ZERO,
    "setdefault": SETDEFAULT,
    "no setdefault": NO_SETDEFAULT,
}


@pytest.mark.parametrize("source", programs(TABLES))
def test_table(source: str) -> None:
    check(source)


def test_tables_say_what_they_claim() -> None:
    check_claims(TABLES)
