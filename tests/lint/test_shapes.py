"""Shapes in which leaks were reported in public: each as a leak, which is found, and mended, which is silent.

tests/support/lint_programs.py explains the form of the programs.
"""

from __future__ import annotations

from textwrap import dedent

import pytest

from naught.lint import check_source
from support.lint_programs import check, check_claims, programs

# Shape -> (the leak, the same program mended).
SHAPES = {
    "a set begun by a comprehension": (
        """
        class Rooms:
            def __init__(self):
                self.people = {}
            def open(self, room, people):
                self.people[room] = {person.id for person in people}
            def leave(self, room, person):
                self.people[room].discard(person.id)  #! NZ108
        """,
        """
        class Rooms:
            def __init__(self):
                self.people = {}
            def open(self, room, people):
                self.people[room] = {person.id for person in people}
            def leave(self, room, person):
                self.people[room].discard(person.id)
                if not self.people[room]:
                    del self.people[room]
        """,
    ),
    "a list begun from an iterable, and a dict by a comprehension": (
        """
        from collections import deque
        class Jobs:
            def __init__(self):
                self.left = {}
                self.parts = {}
                self.steps = {}
            def start(self, job, parts):
                self.left[job] = set(parts)
                self.parts[job] = {part: 0 for part in parts}
                self.steps[job] = deque(parts)
            def done(self, job, part):
                self.left[job].remove(part)  #! NZ108
                self.parts[job].pop(part, None)  #! NZ108
                self.steps[job].popleft()  #! NZ108
        """,
        """
        from collections import deque
        class Jobs:
            def __init__(self):
                self.left = {}
                self.parts = {}
                self.steps = {}
            def start(self, job, parts):
                self.left[job] = set(parts)
                self.parts[job] = {part: 0 for part in parts}
                self.steps[job] = deque(parts)
            def done(self, job, part):
                self.left[job].remove(part)
                self.parts[job].pop(part, None)
                self.steps[job].popleft()
                if not self.left[job]:
                    self.left.pop(job)
                    self.parts.pop(job)
                    self.steps.pop(job)
        """,
    ),
    "put in, and taken out in finally": (
        """
        class Waiters:
            def __init__(self):
                self.of = {}
            async def wait(self, key, future):
                self.of.setdefault(key, []).append(future)
                try:
                    return await future
                finally:
                    self.of[key].remove(future)  #! NZ108
        """,
        """
        class Waiters:
            def __init__(self):
                self.of = {}
            async def wait(self, key, future):
                self.of.setdefault(key, []).append(future)
                try:
                    return await future
                finally:
                    self.of[key].remove(future)
                    if not self.of[key]:
                        del self.of[key]
        """,
    ),
    "put in and taken out by a context manager": (
        """
        from collections import defaultdict
        from contextlib import contextmanager, asynccontextmanager
        class Topics:
            def __init__(self):
                self.queues = defaultdict(set)
            @asynccontextmanager
            async def subscribed(self, topic, queue):
                self.queues[topic].add(queue)
                try:
                    yield queue
                finally:
                    self.queues[topic].discard(queue)  #! NZ108
            @contextmanager
            def listening(self, topic, queue):
                queues = self.queues[topic]
                queues.add(queue)
                yield queue
                queues.remove(queue)  #! NZ108
        """,
        """
        from collections import defaultdict
        from contextlib import asynccontextmanager
        class Topics:
            def __init__(self):
                self.queues = defaultdict(set)
            @asynccontextmanager
            async def subscribed(self, topic, queue):
                self.queues[topic].add(queue)
                try:
                    yield queue
                finally:
                    queues = self.queues[topic]
                    queues.discard(queue)
                    if not queues:
                        self.queues.pop(topic, None)
        """,
    ),
    "counted in finally and in with": (
        """
        from collections import defaultdict
        class InFlight:
            def __init__(self, lock):
                self.lock = lock
                self.by_host = defaultdict(int)
                self.by_user = {}
            async def fetch(self, host, get):
                self.by_host[host] += 1
                try:
                    return await get(host)
                finally:
                    self.by_host[host] -= 1  #! NZ101
            def begin(self, user):
                with self.lock:
                    self.by_user[user] = self.by_user.get(user, 0) + 1
            def end(self, user):
                with self.lock:
                    self.by_user[user] -= 1  #! NZ101
        """,
        """
        from collections import defaultdict
        class InFlight:
            def __init__(self, lock):
                self.lock = lock
                self.by_host = defaultdict(int)
                self.by_user = {}
            async def fetch(self, host, get):
                self.by_host[host] += 1
                try:
                    return await get(host)
                finally:
                    self.by_host[host] -= 1
                    if not self.by_host[host]:
                        del self.by_host[host]
            def begin(self, user):
                with self.lock:
                    self.by_user[user] = self.by_user.get(user, 0) + 1
            def end(self, user):
                with self.lock:
                    self.by_user[user] -= 1
                    if self.by_user[user] <= 0:
                        self.by_user.pop(user)
        """,
    ),
    "a window that slides past its last item": (
        """
        import time
        from collections import defaultdict, deque
        class Rates:
            def __init__(self):
                self.hits = defaultdict(deque)
            def hit(self, user):
                self.hits[user].append(time.monotonic())
            def rate(self, user):
                hits = self.hits[user]
                while hits and hits[0] < time.monotonic() - 60:
                    hits.popleft()  #! NZ108
                return len(hits)
        """,
        """
        import time
        from collections import defaultdict, deque
        class Rates:
            def __init__(self):
                self.hits = defaultdict(deque)
            def hit(self, user):
                self.hits[user].append(time.monotonic())
            def rate(self, user):
                hits = self.hits[user]
                while hits and hits[0] < time.monotonic() - 60:
                    hits.popleft()
                if not hits:
                    del self.hits[user]
                return len(hits)
        """,
    ),
    "a window whose last item is at hand": (
        """
        import time
        from collections import defaultdict, deque
        WINDOW_S = 60
        REQUESTS = defaultdict(deque)
        def seen(client):
            REQUESTS[client].append(time.time())
        def recent(client):
            q = REQUESTS[client]
            while len(q) > 0 and time.time() - q[0] > WINDOW_S:
                q.popleft()  #! NZ108
            return len(q)
        """,
        """
        import time
        from collections import defaultdict, deque
        WINDOW_S = 60
        REQUESTS = defaultdict(deque)
        def seen(client):
            REQUESTS[client].append(time.time())
        def recent(client):
            q = REQUESTS[client]
            while len(q) > 0 and time.time() - q[0] > WINDOW_S:
                q.popleft()
            if len(q) == 0:
                REQUESTS.pop(client)
            return len(q)
        """,
    ),
    "the entry is passed to a helper": (
        """
        class Bus:
            def __init__(self):
                self.listeners = {}
            def listen(self, topic, listener):
                self.listeners.setdefault(topic, []).append(listener)
            def leave(self, topic, listener):
                _without(self.listeners[topic], listener)
        def _without(listeners, listener):
            if listener in listeners:
                listeners.remove(listener)  #! NZ108
        """,
        """
        class Bus:
            def __init__(self):
                self.listeners = {}
            def listen(self, topic, listener):
                self.listeners.setdefault(topic, []).append(listener)
            def leave(self, topic, listener):
                _without(self.listeners[topic], listener)
                if not self.listeners[topic]:
                    del self.listeners[topic]
        def _without(listeners, listener):
            if listener in listeners:
                listeners.remove(listener)
        """,
    ),
    "the entry is passed to a method, through a name, by keyword": (
        """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(set)
            def listen(self, topic, listener):
                self._put(self.listeners[topic], listener)
            def _put(self, listeners, listener):
                listeners.add(listener)
            def leave(self, topic, listener):
                of_topic = self.listeners[topic]
                self._take(listener, listeners=of_topic)
            def _take(self, listener, listeners):
                listeners.discard(listener)  #! NZ108
        """,
        """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(set)
            def listen(self, topic, listener):
                self._put(self.listeners[topic], listener)
            def _put(self, listeners, listener):
                listeners.add(listener)
            def leave(self, topic, listener):
                of_topic = self.listeners[topic]
                self._take(topic, listener, listeners=of_topic)
            def _take(self, topic, listener, listeners):
                listeners.discard(listener)
                if not listeners:
                    self.listeners.pop(topic)
        """,
    ),
    "the entry is returned by a helper": (
        """
        class Bus:
            def __init__(self):
                self.listeners = {}
            def _of(self, topic):
                return self.listeners.setdefault(topic, set())
            def listen(self, topic, listener):
                self._of(topic).add(listener)
            def leave(self, topic, listener):
                self._of(topic).discard(listener)  #! NZ108
        """,
        """
        class Bus:
            def __init__(self):
                self.listeners = {}
            def _of(self, topic):
                return self.listeners.setdefault(topic, set())
            def listen(self, topic, listener):
                self._of(topic).add(listener)
            def leave(self, topic, listener):
                self._of(topic).discard(listener)
                if not self._of(topic):
                    del self.listeners[topic]
        """,
    ),
    "a list drained to empty": (
        """
        from collections import defaultdict
        class Pending:
            def __init__(self):
                self.of = defaultdict(list)
                self.more = {}
                self.last = defaultdict(list)
                self.rest = defaultdict(list)
            def add(self, key, call):
                self.of[key].append(call)
                self.more.setdefault(key, []).append(call)
                self.last[key].append(call)
                self.rest[key].append(call)
            def run(self, key):
                while self.of[key]:
                    self.of[key].pop()()  #! NZ108
            def flush(self, key):
                for call in self.more[key]:
                    call()
                self.more[key].clear()  #! NZ108
            def drain(self, key):
                for call in list(self.last[key]):
                    self.last[key].remove(call)  #! NZ108
                self.rest[key][:] = []  #! NZ108
        """,
        """
        from collections import defaultdict
        class Pending:
            def __init__(self):
                self.of = defaultdict(list)
                self.more = defaultdict(list)
                self.last = defaultdict(list)
            def add(self, key, call):
                self.of[key].append(call)
                self.more[key].append(call)
                self.last[key].append(call)
            def run(self, key):
                while self.of[key]:
                    self.of[key].pop()()
                del self.of[key]
            def flush(self, key):
                for call in self.more.pop(key, ()):
                    call()
            def drain(self, key):
                for call in list(self.last[key]):
                    self.last[key].remove(call)
                self.last.pop(key)
        """,
    ),
    "a batch is taken, and an empty one stored": (
        """
        class Batches:
            def __init__(self, send):
                self.send = send
                self.waiting = {}
                self.queued = {}
            def add(self, key, item):
                self.waiting.setdefault(key, []).append(item)
                if key not in self.queued:
                    self.queued[key] = []
                self.queued[key].append(item)
            def flush(self, key):
                batch = self.waiting[key]
                self.waiting[key] = []  #! NZ102
                self.send(batch)
            def send_all(self, key):
                batch, self.queued[key] = self.queued[key], []  #! NZ102
                self.send(batch)
        """,
        """
        class Batches:
            def __init__(self, send):
                self.send = send
                self.waiting = {}
                self.queued = {}
            def add(self, key, item):
                self.waiting.setdefault(key, []).append(item)
                if key not in self.queued:
                    self.queued[key] = []
                self.queued[key].append(item)
            def flush(self, key):
                self.send(self.waiting.pop(key))
            def send_all(self, key):
                batch = self.queued.pop(key, [])
                self.send(batch)
        """,
    ),
    "an empty container is stored where one is removed": (
        """
        class Sessions:
            def __init__(self):
                self.of = {}
                self.tokens = {}
                self.data = {}
                self.names = {}
            def login(self, user, session):
                self.of.setdefault(user, set()).add(session)
                self.tokens.setdefault(user, []).append(session)
                self.data.setdefault(user, {})[session] = 1
                self.names[user] = (session,)
            def remove(self, user):
                self.of[user] = set()  #! NZ102
                self.tokens[user] = []  #! NZ102
            def forget_user(self, user):
                self.data[user] = {}  #! NZ102
                self.names[user] = ()  #! NZ102
        """,
        """
        class Sessions:
            def __init__(self):
                self.of = {}
                self.tokens = {}
                self.data = {}
                self.names = {}
            def login(self, user, session):
                self.of.setdefault(user, set()).add(session)
                self.tokens.setdefault(user, []).append(session)
                self.data.setdefault(user, {})[session] = 1
                self.names[user] = (session,)
            def remove(self, user):
                self.of.pop(user, None)
                del self.tokens[user]
            def forget_user(self, user):
                self.data.pop(user)
                self.names.pop(user)
        """,
    ),
    "a gauge set to 0 for users that have gone": (
        """
        from prometheus_client import Gauge
        SESSIONS = Gauge("sessions", "Open sessions", ["user"])
        class Sessions:
            def report(self, counts, known):
                for user, count in counts.items():
                    SESSIONS.labels(user).set(count)
                for user in known - counts.keys():
                    SESSIONS.labels(user).set(0)  #! NZ106
        """,
        """
        from prometheus_client import Gauge
        SESSIONS = Gauge("sessions", "Open sessions", ["user"])
        class Sessions:
            def report(self, counts, known):
                for user, count in counts.items():
                    SESSIONS.labels(user).set(count)
                for user in known - counts.keys():
                    SESSIONS.remove(user)
        """,
    ),
    "a gauge set to 0 at logout, and through a name": (
        """
        import prometheus_client
        class Metrics:
            def __init__(self):
                self.online = prometheus_client.Gauge("online", "Who is online", ("user",))
                self.depth = prometheus_client.Gauge("depth", "Depth of queues", labelnames=["queue"])
            def login(self, user):
                self.online.labels(user=user).set(1)
            def logout(self, user):
                self.online.labels(user=user).set(0)  #! NZ106
            def measure(self, queue):
                self.depth.labels(queue.number).set(len(queue))
            def closed(self, queue):
                series = self.depth.labels(queue.number)
                series.set(0.0)  #! NZ106
        """,
        """
        import prometheus_client
        class Metrics:
            def __init__(self):
                self.online = prometheus_client.Gauge("online", "Who is online", ("user",))
                self.depth = prometheus_client.Gauge("depth", "Depth of queues", labelnames=["queue"])
            def login(self, user):
                self.online.labels(user=user).set(1)
            def logout(self, user):
                self.online.remove(user)
            def measure(self, queue):
                self.depth.labels(queue.number).set(len(queue))
            def closed(self, queue):
                self.depth.remove(queue.number)
        """,
    ),
    "a count in a list": (
        """
        class Cache:
            def __init__(self):
                self.of = {}
            def acquire(self, key, make):
                entry = self.of.get(key)
                if entry is None:
                    entry = self.of[key] = [0, make(key)]
                entry[0] += 1
                return entry[1]
            def release(self, key):
                entry = self.of[key]
                entry[0] -= 1  #! NZ101
        """,
        """
        class Cache:
            def __init__(self):
                self.of = {}
            def acquire(self, key, make):
                entry = self.of.get(key)
                if entry is None:
                    entry = self.of[key] = [0, make(key)]
                entry[0] += 1
                return entry[1]
            def release(self, key):
                entry = self.of[key]
                entry[0] -= 1
                if entry[0] == 0:
                    del self.of[key]
        """,
    ),
    "a count in an object": (
        """
        class Lock:
            def __init__(self):
                self.n = 0
        class Locks:
            def __init__(self):
                self.of = {}
            def take(self, key):
                if key not in self.of:
                    self.of[key] = Lock()
                self.of[key].n += 1
            def give_back(self, key):
                self.of[key].n -= 1  #! NZ101
        """,
        """
        class Lock:
            def __init__(self):
                self.n = 0
        class Locks:
            def __init__(self):
                self.of = {}
            def take(self, key):
                if key not in self.of:
                    self.of[key] = Lock()
                self.of[key].n += 1
            def give_back(self, key):
                self.of[key].n -= 1
                if not self.of[key].n:
                    del self.of[key]
        """,
    ),
    "a count in a dict": (
        """
        from collections import defaultdict
        class Blobs:
            def __init__(self):
                self.blobs = {}
                self.users = defaultdict(lambda: {"n": 0, "names": []})
            def open(self, digest, data):
                blob = self.blobs.setdefault(digest, {"data": data, "n": 0})
                blob["n"] += 1
                self.users[digest]["n"] += 1
            def close(self, digest):
                self.blobs[digest]["n"] -= 1  #! NZ101
                users = self.users[digest]
                users["n"] = users["n"] - 1  #! NZ101
        """,
        """
        from collections import defaultdict
        class Blobs:
            def __init__(self):
                self.blobs = {}
                self.users = defaultdict(lambda: {"n": 0, "names": []})
            def open(self, digest, data):
                blob = self.blobs.setdefault(digest, {"data": data, "n": 0})
                blob["n"] += 1
                self.users[digest]["n"] += 1
            def close(self, digest):
                self.blobs[digest]["n"] -= 1
                users = self.users[digest]
                users["n"] = users["n"] - 1
                if not users["n"]:
                    del self.blobs[digest], self.users[digest]
        """,
    ),
    "a record that is begun with one": (
        """
        import threading
        LOCKS = {}
        GUARD = threading.Lock()
        def lock(name):
            with GUARD:
                if name in LOCKS:
                    LOCKS[name][1] += 1
                else:
                    LOCKS[name] = [threading.Lock(), 1]
            LOCKS[name][0].acquire()
        def unlock(name):
            with GUARD:
                LOCKS[name][1] -= 1  #! NZ101
                LOCKS[name][0].release()
        """,
        """
        import threading
        LOCKS = {}
        GUARD = threading.Lock()
        def lock(name):
            with GUARD:
                if name in LOCKS:
                    LOCKS[name][1] += 1
                else:
                    LOCKS[name] = [threading.Lock(), 1]
            LOCKS[name][0].acquire()
        def unlock(name):
            with GUARD:
                LOCKS[name][1] -= 1
                LOCKS[name][0].release()
                if LOCKS[name][1] == 0:
                    LOCKS.pop(name)
        """,
    ),
    "a pydantic field and a private attribute": (
        """
        from collections import Counter, defaultdict
        from pydantic import BaseModel, Field, PrivateAttr
        class Pool(BaseModel):
            refs: dict[str, int] = Field(default_factory=dict)
            users: Counter[str] = Field(default_factory=Counter)
            _open: dict[str, set[str]] = PrivateAttr(default_factory=lambda: defaultdict(set))
            def acquire(self, key, user):
                self.refs[key] = self.refs.get(key, 0) + 1
                self.users[user] += 1
                self._open[key].add(user)
            def release(self, key, user):
                self.refs[key] -= 1  #! NZ101
                self.users[user] -= 1  #! NZ101
                self._open[key].discard(user)  #! NZ108
        """,
        """
        from collections import Counter, defaultdict
        from pydantic import BaseModel, Field, PrivateAttr
        class Pool(BaseModel):
            refs: dict[str, int] = Field(default_factory=dict)
            users: Counter[str] = Field(default_factory=Counter)
            _open: dict[str, set[str]] = PrivateAttr(default_factory=lambda: defaultdict(set))
            def acquire(self, key, user):
                self.refs[key] = self.refs.get(key, 0) + 1
                self.users[user] += 1
                self._open[key].add(user)
            def release(self, key, user):
                self.refs[key] -= 1
                self.users[user] -= 1
                self._open[key].discard(user)
                if not self.refs[key]:
                    del self.refs[key], self.users[user], self._open[key]
        """,
    ),
    "attrs, in each of its spellings, and msgspec": (
        """
        import attr
        import msgspec
        from attrs import Factory, define, field
        @define
        class One:
            refs: dict[str, int] = field(factory=dict)
            more: dict[str, int] = Factory(dict)
            rest: dict[str, int] = attr.ib(default=attr.Factory(dict))
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
                self.more[key] = self.more.get(key, 0) + 1
                self.rest[key] = self.rest.get(key, 0) + 1
            def release(self, key):
                self.refs[key] -= 1  #! NZ101
                self.more[key] -= 1  #! NZ101
                self.rest[key] -= 1  #! NZ101
        class Two(msgspec.Struct):
            refs: dict[str, int] = msgspec.field(default_factory=dict)
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
            def release(self, key):
                self.refs[key] -= 1  #! NZ101
        """,
        """
        import attr
        from attrs import Factory, define, field
        @define
        class One:
            refs: dict[str, int] = field(factory=dict)
            more: dict[str, int] = Factory(dict)
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
                self.more[key] = self.more.get(key, 0) + 1
            def release(self, key):
                for counts in (self.refs, self.more):
                    counts[key] -= 1
                    if not counts[key]:
                        del counts[key]
        """,
    ),
    "a map made in setup": (
        """
        from collections import defaultdict
        class Plugin:
            refs = None
            def setup(self):
                self.refs = {}
                self.people = defaultdict(set)
            def acquire(self, key, person):
                self.refs[key] = self.refs.get(key, 0) + 1
                self.people[key].add(person)
            def release(self, key, person):
                self.refs[key] -= 1  #! NZ101
                self.people[key].remove(person)  #! NZ108
        """,
        """
        from collections import defaultdict
        class Plugin:
            refs = None
            def setup(self):
                self.refs = {}
                self.people = defaultdict(set)
            def acquire(self, key, person):
                self.refs[key] = self.refs.get(key, 0) + 1
                self.people[key].add(person)
            def release(self, key, person):
                self.refs[key] -= 1
                if not self.refs[key]:
                    del self.refs[key]
                self.people[key].remove(person)
                if not self.people[key]:
                    del self.people[key]
        """,
    ),
    "a map made in initialize, on_start, or a function that begins the program": (
        """
        class Service:
            def __init__(self):
                self.open = None
            async def initialize(self):
                self.open = {}
                self._more()
            def _more(self):
                self.seen = {}
            async def opened(self, peer):
                self.open[peer] = self.open.get(peer, 0) + 1
                self.seen[peer] = self.seen.get(peer, 0) + 1
            async def closed(self, peer):
                self.open[peer] -= 1  #! NZ101
                self.seen[peer] -= 1  #! NZ101
        COUNTS = None
        def init_counts():
            global COUNTS
            COUNTS = {}
        def begin(user):
            COUNTS[user] = COUNTS.get(user, 0) + 1
        def end(user):
            COUNTS[user] -= 1  #! NZ101
        """,
        """
        class Service:
            def __init__(self):
                self.open = None
            async def initialize(self):
                self.open = {}
            async def opened(self, peer):
                self.open[peer] = self.open.get(peer, 0) + 1
            async def closed(self, peer):
                self.open[peer] -= 1
                if self.open[peer] == 0:
                    del self.open[peer]
        """,
    ),
    "counted down by an assignment expression, in a chain and in a tuple": (
        """
        class Pool:
            def __init__(self):
                self.refs = {}
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
            def release(self, key, close):
                if (left := self.refs[key] - 1) <= 0:
                    close(key)
                self.refs[key] = left  #! NZ101
            def release_in_a_chain(self, key):
                self.refs[key] = left = self.refs[key] - 1  #! NZ101
                return left
            def release_at_once(self, key, close):
                self.refs[key] = (left := self.refs[key] - 1)  #! NZ101
                return left
            def release_two(self, key, other):
                self.refs[key], self.last = self.refs[key] - 1, other  #! NZ101
            def update(self, key):
                self.refs.update({key: self.refs[key] - 1})  #! NZ101
            def raw(self, key):
                self.refs.__setitem__(key, self.refs[key] - 1)  #! NZ101
        """,
        """
        class Pool:
            def __init__(self):
                self.refs = {}
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
            def release(self, key):
                if (left := self.refs[key] - 1) <= 0:
                    del self.refs[key]
                else:
                    self.refs[key] = left
        """,
    ),
    "a map of a class, a chain of maps, a nested function, a lambda": (
        """
        from collections import ChainMap
        class Pool:
            open = {}
            @classmethod
            def acquire(cls, key):
                cls.open[key] = cls.open.get(key, 0) + 1
            @classmethod
            def release(cls, key):
                cls.open[key] -= 1  #! NZ101
        class Scopes:
            def __init__(self):
                self.uses = ChainMap()
            def enter(self, name):
                self.uses[name] = self.uses.get(name, 0) + 1
            def exit(self, name):
                self.uses[name] -= 1  #! NZ101
        def make():
            waiting = {}
            def wait(key, who):
                waiting.setdefault(key, set()).add(who)
            def wake(key, who):
                waiting[key].discard(who)  #! NZ108
            return wait, wake
        """,
        """
        class Pool:
            open = {}
            @classmethod
            def acquire(cls, key):
                cls.open[key] = cls.open.get(key, 0) + 1
            @classmethod
            def release(cls, key):
                cls.open[key] -= 1
                if cls.open[key] < 1:
                    cls.open.pop(key)
        def make():
            waiting = {}
            def wait(key, who):
                waiting.setdefault(key, set()).add(who)
            def wake(key, who):
                waiting[key].discard(who)
                if not waiting[key]:
                    del waiting[key]
            return wait, wake
        """,
    ),
    "a method of the class that is called on a dict": (
        """
        from collections import Counter
        class Refs(dict):
            def acquire(self, key):
                self[key] = self.get(key, 0) + 1
            def release(self, key):
                self[key] -= 1  #! NZ101
        class Users(Counter):
            def enter(self, user):
                self[user] += 1
            def leave(self, user):
                self[user] -= 1  #! NZ101
        """,
        """
        class Refs(dict):
            def acquire(self, key):
                self[key] = self.get(key, 0) + 1
            def release(self, key):
                self[key] -= 1
                if not self[key]:
                    del self[key]
        """,
    ),
}

# These keep their keys as well. But when the call ends, the entry is not empty: it keeps the last times of a key that
# is not used again. So they are reported only with all findings.
NOT_EMPTY = {
    "a window that slides, and is then added to": (
        """
        import time
        from collections import deque
        class Limiter:
            def __init__(self, limit, period):
                self.limit, self.period = limit, period
                self.calls = {}
                self.times = {}
            def allow(self, address):
                now = time.monotonic()
                calls = self.calls.setdefault(address, deque())
                while calls and calls[0] <= now - self.period:
                    calls.popleft()  #! NZ108
                if len(calls) >= self.limit:
                    return False
                calls.append(now)
                return True
            def allow_listed(self, address, now):
                cutoff = now - self.period
                self.times[address] = [t for t in self.times.get(address, []) if t > cutoff]  #! NZ108
                if len(self.times[address]) >= self.limit:
                    return False
                self.times[address].append(now)
                return True
        """,
        """
        import time
        from collections import deque
        class Limiter:
            def __init__(self, limit, period):
                self.limit, self.period = limit, period
                self.calls = {}
            def allow(self, address):
                now = time.monotonic()
                calls = self.calls.setdefault(address, deque())
                while calls and calls[0] <= now - self.period:
                    calls.popleft()
                if len(calls) >= self.limit:
                    return False
                calls.append(now)
                return True
            def tidy(self):
                now = time.monotonic()
                for address in [a for a, calls in self.calls.items() if calls[-1] <= now - self.period]:
                    del self.calls[address]
        """,
    ),
}

TABLES = {
    "leaks": {name: leak for name, (leak, _) in SHAPES.items()},
    "no leaks, mended": {name: mended for name, (_, mended) in SHAPES.items()},
}


@pytest.mark.parametrize("source", programs(TABLES))
def test_table(source: str) -> None:
    check(source)


@pytest.mark.parametrize(("leak", "mended"), NOT_EMPTY.values(), ids=NOT_EMPTY)
def test_what_is_not_empty_is_found_on_request(leak: str, mended: str) -> None:
    assert check_source(dedent(leak), "program.py") == []
    check(dedent(leak), with_all=True)
    check(dedent(mended), with_all=True)


def test_tables_say_what_they_claim() -> None:
    check_claims(TABLES)
