"""Relatives of the shapes of test_shapes.py: the same leaks in other spellings.

tests/support/lint_programs.py explains the form of the programs.
"""

from __future__ import annotations

import pytest

from support.lint_programs import check, check_claims, programs

RELATIVES = {
    "a field of a dataclass": """
        from dataclasses import dataclass, field
        from collections import deque, defaultdict
        @dataclass
        class S:
            q: dict[str, deque] = field(default_factory=lambda: defaultdict(deque))
            def push(self, k, x):
                self.q[k].append(x)
            def pop(self, k):
                return self.q[k].popleft()  #! NZ108
        """,
    "made where the key is missing": """
        class S:
            def __init__(self): self.m = {}
            def add(self, k, x):
                try:
                    self.m[k].add(x)
                except KeyError:
                    self.m[k] = {x}
            def rem(self, k, x):
                try:
                    self.m[k].remove(x)  #! NZ108
                except KeyError:
                    pass
        """,
    "asked for, or made": """
        class S:
            def __init__(self): self.m = {}
            def add(self, k, x):
                s = self.m.get(k)
                if s is None:
                    s = self.m[k] = set()
                s.add(x)
            def rem(self, k, x):
                s = self.m.get(k)
                if s is not None:
                    s.discard(x)  #! NZ108
        """,
    "a new set, stored afterwards": """
        class S:
            def __init__(self): self.m = {}
            def add(self, k, x):
                s = self.m.get(k, set())
                s.add(x)
                self.m[k] = s
            def rem(self, k, x):
                self.m.get(k, set()).discard(x)  #! NZ108
        """,
    "the union and the difference": """
        class S:
            def __init__(self): self.m = {}
            def add(self, k, x):
                self.m[k] = self.m.get(k, set()) | {x}
            def rem(self, k, x):
                self.m[k] = self.m[k] - {x}  #! NZ108
        """,
    "augmented assignments": """
        from collections import defaultdict
        class S:
            def __init__(self): self.m = defaultdict(set)
            def add(self, k, x):
                self.m[k] |= {x}
            def rem(self, k, x):
                self.m[k] -= {x}  #! NZ108
        """,
    "filtered": """
        from collections import defaultdict
        class S:
            def __init__(self): self.m = defaultdict(list)
            def add(self, k, x): self.m[k].append(x)
            def rem(self, k, x):
                self.m[k] = list(filter(lambda y: y is not x, self.m[k]))  #! NZ108
        """,
    "replaced in place": """
        from collections import defaultdict
        class S:
            def __init__(self): self.m = defaultdict(list)
            def add(self, k, x): self.m[k].append(x)
            def rem(self, k, x):
                self.m[k][:] = [y for y in self.m[k] if y is not x]  #! NZ108
        """,
    "under an asynchronous lock": """
        import asyncio
        class S:
            def __init__(self):
                self.m: dict[str, int] = {}
                self.lock = asyncio.Lock()
            async def acq(self, k):
                async with self.lock:
                    self.m.setdefault(k, 0)
                    self.m[k] += 1
            async def rel(self, k):
                async with self.lock:
                    self.m[k] = max(self.m[k] - 1, 0)  #! NZ101
        """,
    "a map of maps": """
        class S:
            def __init__(self): self.m = {}
            def inc(self, a, b):
                self.m.setdefault(a, {})
                self.m[a][b] = self.m[a].get(b, 0) + 1
            def dec(self, a, b):
                self.m[a][b] -= 1  #! NZ101
        """,
    "a record of a dataclass": """
        from dataclasses import dataclass
        @dataclass
        class R:
            conn: object
            refs: int = 0
        class S:
            def __init__(self): self.m: dict[str, R] = {}
            def acq(self, k, make):
                r = self.m.get(k)
                if r is None:
                    r = R(make(k))
                    self.m[k] = r
                r.refs += 1
                return r.conn
            def rel(self, k):
                r = self.m[k]
                r.refs -= 1  #! NZ101
        """,
    "a record, in a context manager": """
        import contextlib, threading
        class Lock:
            def __init__(self):
                self.lock = threading.Lock(); self.n = 0
        class S:
            def __init__(self): self.m = {}
            @contextlib.contextmanager
            def hold(self, k):
                e = self.m.setdefault(k, Lock())
                e.n += 1
                try:
                    with e.lock:
                        yield
                finally:
                    e.n -= 1  #! NZ101
        """,
    "a record that is replaced": """
        class S:
            def __init__(self): self.m = {}
            def acq(self, k, obj):
                obj, n = self.m.get(k, (obj, 0))
                self.m[k] = (obj, n + 1)
            def rel(self, k):
                obj, n = self.m[k]
                self.m[k] = (obj, n - 1)  #! NZ101
        """,
    "a global made by setup": """
        ACTIVE = None
        def setup():
            global ACTIVE
            ACTIVE = {}
        def enter(user):
            ACTIVE[user] = ACTIVE.get(user, 0) + 1
        def leave(user):
            ACTIVE[user] = ACTIVE[user] - 1  #! NZ101
        """,
    "None at logout": """
        class S:
            sessions = {}
            def login(self, user, s): self.sessions[user] = s
            def logout(self, user): self.sessions[user] = None  #! NZ102
        """,
    "False at disconnect": """
        class S:
            def __init__(self): self.online = {}
            def connect(self, user): self.online[user] = True
            def disconnect(self, user): self.online[user] = False  #! NZ102
        """,
    "subtracted": """
        from collections import Counter
        class S:
            def __init__(self): self.c = Counter()
            def add(self, items): self.c.update(items)
            def rem(self, items): self.c.subtract(items)  #! NZ101
        """,
    "subtracted as a dict": """
        from collections import Counter
        class S:
            def __init__(self): self.c = Counter()
            def add(self, k): self.c.update([k])
            def rem(self, k): self.c.subtract({k: 1})  #! NZ101
        """,
    "subtracted as a list": """
        from collections import Counter
        class S:
            def __init__(self): self.c = Counter()
            def add(self, k): self.c[k] += 1
            def rem(self, k): self.c.subtract([k])  #! NZ101
        """,
    "a heap": """
        import heapq
        from collections import defaultdict
        class S:
            def __init__(self): self.m = defaultdict(list)
            def add(self, k, x): heapq.heappush(self.m[k], x)
            def take(self, k): return heapq.heappop(self.m[k])  #! NZ108
        """,
    "drained": """
        from collections import defaultdict, deque
        class S:
            def __init__(self): self.m = defaultdict(deque)
            def add(self, k, x): self.m[k].append(x)
            async def drain(self, k):
                q = self.m[k]
                while q:
                    await q.popleft()  #! NZ108
        """,
    "expired for every key": """
        import time
        from collections import defaultdict
        class S:
            def __init__(self): self.m = defaultdict(list)
            def add(self, k): self.m[k].append(time.time())
            def expire(self):
                now = time.time()
                for k in self.m:
                    self.m[k] = [t for t in self.m[k] if now - t < 60]  #! NZ108
        """,
    "expired for every item": """
        import time
        from collections import defaultdict, deque
        class S:
            def __init__(self): self.m = defaultdict(deque)
            def add(self, k): self.m[k].append(time.time())
            def expire(self):
                now = time.time()
                for k, q in self.m.items():
                    while q and q[0] < now - 60:
                        q.popleft()  #! NZ108
        """,
    "in the closure of a decorator": """
        import functools
        def limit(f):
            calls = {}
            @functools.wraps(f)
            def wrapper(user):
                calls[user] = calls.get(user, 0) + 1
                try:
                    return f(user)
                finally:
                    calls[user] -= 1  #! NZ101
            return wrapper
        """,
    "an assignment expression": """
        from collections import defaultdict
        class S:
            def __init__(self): self.m = defaultdict(set)
            def add(self, k, x): self.m[k].add(x)
            def rem(self, k, x):
                if (s := self.m.get(k)) and x in s:
                    s.remove(x)  #! NZ108
        """,
    "a function that is returned": """
        from collections import defaultdict
        subs = defaultdict(list)
        def subscribe(topic, fn):
            subs[topic].append(fn)
            def unsubscribe():
                subs[topic].remove(fn)  #! NZ108
            return unsubscribe
        """,
    "a base class": """
        class Base:
            def __init__(self):
                self.m = {}
        class S(Base):
            def __init__(self):
                super().__init__()
            def add(self, k): self.m[k] = self.m.get(k, 0) + 1
            def rem(self, k): self.m[k] -= 1  #! NZ101
        """,
    "slots": """
        import typing as t
        class S:
            __slots__ = ("m",)
            m: t.Dict[str, t.Set[str]]
            def __init__(self): self.m = {}
            def add(self, k, x): self.m.setdefault(k, set()).add(x)
            def rem(self, k, x): self.m[k].remove(x)  #! NZ108
        """,
    "a gauge at disconnect": """
        from prometheus_client import Gauge
        G = Gauge("conns", "d", ["peer"])
        class S:
            def on_connect(self, peer): G.labels(peer=peer).set(1)
            def on_disconnect(self, peer): G.labels(peer=peer).set(0)  #! NZ106
        """,
    "a gauge for users that are gone": """
        from prometheus_client import Gauge as G
        Q = G("q", "d", labelnames=("user_id",))
        def report(users, gone):
            for u in users:
                Q.labels(u.id).set(u.count)
            for u in gone:
                Q.labels(u.id).set(0)  #! NZ106
        """,
    "made by cog_load": """
        class Cog:
            def __init__(self, bot): self.bot = bot
            async def cog_load(self):
                self.playing = {}
            def play(self, guild, x):
                self.playing.setdefault(guild.id, []).append(x)
            def done(self, guild):
                self.playing[guild.id].pop(0)  #! NZ108
        """,
    "moved to another key": """
        from collections import defaultdict
        class S:
            def __init__(self): self.rooms = defaultdict(set)
            def move(self, who, old, new):
                self.rooms[old].discard(who)  #! NZ108
                self.rooms[new].add(who)
        """,
    "a display with what was there": """
        class S:
            def __init__(self): self.m = {}
            def add(self, k, x): self.m[k] = [*self.m.get(k, []), x]
            def rem(self, k, x): self.m[k] = [y for y in self.m[k] if y != x]  #! NZ108
        """,
    "an empty text": """
        class S:
            def __init__(self): self.m = {}
            def put(self, k, x): self.m[k] = x
            def remove(self, k): self.m[k] = ""  #! NZ102
        """,
}

# What a set loses by `-`, parts of a message that is called an event, maps made where a framework starts an object.
SETS = """
        class Members:
            def __init__(self): self.of = {{}}
            def grant(self, group_id, users):
                self.of.setdefault(group_id, set()).update(users)
            def revoke(self, group_id, users):
                {take}
        """
EVENTS = """
        from collections import Counter
        ACTIVE = Counter()
        def on_open({given}):
            ACTIVE[{key}] += 1
        def on_close({given}):
            ACTIVE[{key}] -= 1{mark}
        """
STARTS = """
        class Factory:
            def {name}(self, *given):
                self.open = {{}}
            def up(self, user): self.open[user] = self.open.get(user, 0) + 1
            def down(self, user): self.open[user] -= 1  #! NZ101
        """
DIFFERENCES = {
    take: SETS.format(take=f"{take}  #! NZ108")
    for take in (
        "self.of[group_id] -= set(users)",
        "self.of[group_id] -= frozenset(users)",
        "self.of[group_id] -= users",
        "self.of[group_id] -= users.keys()",
        "self.of[group_id] &= users",
        "self.of[group_id] = self.of[group_id] - users",
        "self.of[group_id] = self.of[group_id] - set(users)",
    )
}
DELETED_DIFFERENCES = {
    take: SETS.format(take=f"{take}\n                if not self.of[group_id]: del self.of[group_id]")
    for take in ("self.of[group_id] -= set(users)", "self.of[group_id] = self.of[group_id] - users")
}
MESSAGES = {
    key: EVENTS.format(given=key.partition("[")[0], key=key, mark="  #! NZ101")
    for key in (
        'event["user"]',
        "event['user_id']",
        'event["data"]["room"]',
        'command["peer"]',
        'socket_event["host"]',
    )
}
OWN_MESSAGES = {
    key: EVENTS.format(given=key.partition("[")[0], key=key, mark="")
    for key in (
        *('event["type"]', 'event["data"]["kind"]', "event[0]", "event[:2]", 'event["status"]'),
        *('plugin["user"]', 'tool["id"]', 'config["room"]', 'EVENT["user"]', 'event["name"]', 'event["action_id"]'),
    )
}
LOWERED = """
        OPEN = {{}}
        def start(user):
            OPEN[user] = OPEN.get(user, 0) + 1
        def stop(user):
            {less}
            OPEN[user] = {stored}  #! NZ101
        """
IN_STEPS = {
    f"{less}; {stored}": LOWERED.format(less=less, stored=stored)
    for less, stored in (
        ("n = OPEN[user] - 1", "n"),
        ("n = OPEN.get(user, 0) - 1", "n"),
        ("n = OPEN[user]", "n - 1"),
        ("n = OPEN.get(user, 1)", "max(n - 1, 0)"),
    )
}
SERIES = """
        import prometheus_client as prom
        ONLINE = prom.Gauge("online", "", ["peer"])
        def {name}(peers, {gone}):
            for peer in peers: ONLINE.labels(peer).set(1)
            for peer in {gone}: ONLINE.labels(peer).set(0){mark}
        """
GONE = {
    gone: SERIES.format(name="report", gone=gone, mark="  #! NZ106")
    for gone in ("dead", "stale_peers", "missing", "inactive", "previousPeers")
}
STILL_THERE = {
    "a function that looks for them": SERIES.format(name="check_stale", gone="all_peers", mark=""),
}
STARTED = {name: STARTS.format(name=name) for name in ("startFactory", "startService", "open_spider")}

TABLES = {
    "relatives": RELATIVES,
    "differences": DIFFERENCES,
    "not differences that are deleted": DELETED_DIFFERENCES,
    "messages": MESSAGES,
    "not what the program names itself": OWN_MESSAGES,
    "started": STARTED,
    "in steps": IN_STEPS,
    "gone": GONE,
    "not gone": STILL_THERE,
}


@pytest.mark.parametrize("source", programs(TABLES))
def test_table(source: str) -> None:
    check(source)


def test_tables_say_what_they_claim() -> None:
    check_claims(TABLES)
