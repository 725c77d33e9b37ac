"""Keys that the program itself names: their entries cannot pile up, and the checker must be silent.

Each program counts down or takes out under such keys only, in the ways of `countdown` and `emptied`.
tests/support/lint_programs.py explains the form of the programs.
"""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from naught.lint import check_source
from support.lint_programs import check, check_claims, programs

FEW = {
    "constants as defaults of parameters": """
        from collections import defaultdict
        GROUP = "all"
        class Pool:
            def __init__(self):
                self.used = defaultdict(int)
                self.of = defaultdict(set)
            def take(self, what, group="default", other=GROUP):
                self.used[group] += 1
                self.of[other].add(what)
            def give(self, what, group="default", other=GROUP):
                self.used[group] -= 1
                self.of[other].discard(what)
        """,
    "the configuration": """
        from collections import defaultdict
        import os
        class Pool:
            def __init__(self, config, settings):
                self.config, self.settings = config, settings
                self.used = defaultdict(int)
                self.of = defaultdict(set)
            def take(self, what):
                name = self.config.pool_name
                self.used[name] += 1
                self.used[self.settings["pool"]] += 1
                self.used[os.environ["POOL"]] += 1
                self.used[os.environ.get("POOL", "x")] += 1
                self.of[self.config.get("pool", what)].add(what)
            def give(self, what):
                name = self.config.pool_name
                self.used[name] -= 1
                self.used[self.settings["pool"]] -= 1
                self.used[os.environ["POOL"]] -= 1
                self.used[os.environ.get("POOL", "x")] -= 1
                for pool in self.config.pools:
                    self.of[pool].discard(what)
        """,
    "routes, endpoints and views": """
        from collections import Counter
        IN_FLIGHT = Counter()
        class Middleware:
            def begin(self, request):
                IN_FLIGHT[request.route] += 1
                IN_FLIGHT[request.endpoint] += 1
                IN_FLIGHT[request.url_rule] += 1
                IN_FLIGHT[request.route.name] += 1
            def end(self, request, view_name):
                IN_FLIGHT[request.route] -= 1
                IN_FLIGHT[request.endpoint] -= 1
                IN_FLIGHT[request.url_rule] -= 1
                IN_FLIGHT[view_name] -= 1
        """,
    "the name of the host, of the process and of the user": """
        import getpass
        import os
        import platform
        import socket
        from collections import Counter
        HERE = Counter()
        hostname = socket.gethostname()
        class Workers:
            def __init__(self):
                self.host = socket.gethostname().lower()
                self.of = {}
            def start(self, job):
                here = platform.node()
                HERE[here] += 1
                HERE[hostname] += 1
                HERE[self.host] += 1
                HERE[f"{socket.getfqdn()}:{os.getpid()}"] += 1
                self.of.setdefault(self.host, set()).add(job)
            def end(self, job):
                here = platform.node()
                HERE[here] -= 1
                HERE[hostname] -= 1
                HERE[self.host] -= 1
                HERE[f"{socket.getfqdn()}:{os.getpid()}"] -= 1
                HERE[getpass.getuser()] -= 1
                self.of[self.host].discard(job)
        """,
    "an attribute of the object that has the map": """
        class Client:
            def __init__(self, address):
                self.address = address
                self.calls = {}
            def begin(self):
                self.calls[self.address] = self.calls.get(self.address, 0) + 1
            def end(self):
                self.calls[self.address] -= 1
        """,
    "every call passes a constant": """
        from collections import Counter
        class Stats:
            def __init__(self):
                self.now = Counter()
            def _enter(self, what):
                self.now[what] += 1
            def _leave(self, what):
                self.now[what] -= 1
            def read(self):
                self._enter("reading")
                self._leave("reading")
            def write(self):
                self._enter(what="writing")
                self._leave(what="writing")
        """,
    "compared with constants": """
        from collections import defaultdict
        SIDES = frozenset({"left", "right"})
        class Hands:
            def __init__(self):
                self.of = defaultdict(set)
            def take(self, where, what):
                if where not in SIDES:
                    raise ValueError(where)
                self.of[where].add(what)
            def drop(self, where, what):
                if where in ("left", "right"):
                    self.of[where].discard(what)
        """,
    "a key that the program also writes out": """
        from collections import defaultdict
        class Gates:
            def __init__(self):
                self.waiting = defaultdict(list)
            def enter(self, gate, what):
                self.waiting[gate].append(what)
                self.waiting["north"].append(what)
            def leave(self, gate, what):
                self.waiting[gate].remove(what)
        """,
    "a global that is assigned once, and literals that are put together": """
        import sys
        from collections import Counter
        USED = Counter()
        system = sys.platform
        def begin(kind):
            USED[system] += 1
            USED["a" + "b"] += 1
            USED[str(kind)] += 1
        def end(kind):
            USED[system] -= 1
            USED["a" + "b"] -= 1
            USED[str(kind)] -= 1
        """,
    "a count of successes that is taken back": """
        from collections import Counter
        class Calls:
            def __init__(self):
                self.succeeded = Counter()
            def success(self, caller):
                self.succeeded[caller] += 1
            def retract_success(self, caller):
                self.succeeded[caller] -= 1
        """,
    "names in capitals, and keywords of a call": """
        from collections import defaultdict
        class Queues:
            def __init__(self):
                self.of = defaultdict(list)
                self.stacks = defaultdict(list)
            def push(self, eventType, what):
                self.of[eventType].append(what)
            def pop(self, eventType):
                return self.of[eventType].pop()
            def scoped(self, **values):
                for each, value in values.items():
                    self.stacks[each].append(value)
                yield
                for each in values:
                    self.stacks[each].pop()
        """,
    "a count that stays above a limit": """
        from collections import Counter, defaultdict
        MOST = 256
        class Logs:
            def __init__(self):
                self.lines = Counter()
                self.bytes = defaultdict(lambda: {"n": 0})
            def add(self, user):
                self.lines[user] += 1
                self.bytes[user]["n"] += 1
            def cut(self, user):
                while self.lines[user] > MOST:
                    self.lines[user] -= 1
                if self.bytes[user]["n"] >= MOST:
                    self.bytes[user]["n"] -= 1
        """,
    "a pool, in capitals": """
        from collections import defaultdict
        BUFFER_POOL = defaultdict(list)
        def take(user):
            return BUFFER_POOL[user].pop()
        def give(user, buffer):
            BUFFER_POOL[user].append(buffer)
        """,
    "counts that decay": """
        from collections import Counter
        class Uses:
            def __init__(self):
                self.counts = Counter()
            def use(self, what):
                self.counts[what] += 1
            def decay(self):
                self.counts.subtract({what: count // 2 for what, count in self.counts.items()})
        """,
}

TABLES = {"no few": FEW}


@pytest.mark.parametrize("source", programs(TABLES))
def test_table(source: str) -> None:
    check(source)


def test_tables_say_what_they_claim() -> None:
    check_claims(TABLES)


KEYS = [
    ("user", False),
    ("request.user", False),
    ("str(user)", False),
    ("user.lower()", False),
    ("f'{user}:x'", False),
    ("(user, 'x')", False),
    ("user or 'nobody'", False),
    ("request.headers['user']", False),
    ("request.user_config", True),
    ("config.user", True),
    ("self.config['user']", True),
    ("app.settings.get('user')", True),
    ("request.route", True),
    ("request.route_name", True),
    ("socket.gethostname()", True),
    ("socket.gethostname().split('.')[0]", True),
    ("os.uname().nodename", True),
    ("os.uname()[1]", True),
    ("os.getenv('USER')", True),
    ("sys.argv[1]", True),
    ("State.BUSY.value", True),
    ("state.name", True),
    ("(state, level)", True),
    ("f'{state}:{level}'", True),
    ("'a' if user else 'b'", True),
    ("state or 'idle'", True),
]


@pytest.mark.parametrize(("key", "few"), KEYS, ids=[key for key, _ in KEYS])
def test_key(key: str, few: bool) -> None:
    """Each key alone, counted down in a map that nothing deletes from."""
    program = """
        import os, socket, sys
        from collections import Counter
        class Counts:
            def __init__(self):
                self.of = Counter()
        """
    body = "def up(self, user, request, state, level, config, app):\n    self.of[KEY] += 1\n"
    body += "def down(self, user, request, state, level, config, app):\n    self.of[KEY] -= 1\n"
    source = dedent(program) + indent(body.replace("KEY", key), "    ")
    assert [found.rule for found in check_source(source, "counts.py")] == ([] if few else ["NZ101"])
