"""What the rules on reads and gauges (NZ103, NZ104, NZ106, NZ107) find and leave alone.

A line that must be found says so itself, in a comment `#! NZ101`; every other line must be silent. A
program with no such comment is one the checker must not say a word about, and most are: a false alarm costs
more than a miss.
"""

from __future__ import annotations

import re
from textwrap import dedent

import pytest

from naught.lint import check_source

INSERTING_LOOP = {
    "over the entry, its items or its sorted self": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(list)
                self.by_name = defaultdict(dict)
            def listen(self, topic, listener, name):
                self.listeners[topic].append(listener)
                self.by_name[topic][name] = listener
            def publish(self, topic, message):
                for listener in self.listeners[topic]:  #! NZ107
                    listener(message)
            def names(self, topic):
                return [name for name, _ in sorted(self.by_name[topic].items())]  #! NZ107
        """,
    "entries are deleted elsewhere, by key": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(list)
            def listen(self, topic, listener):
                self.listeners[topic].append(listener)
            def forget(self, topic):
                del self.listeners[topic]
            def publish(self, topic, message):
                for listener in self.listeners[topic]:  #! NZ107
                    listener(message)
        """,
}

NO_INSERTING_LOOP = {
    "guarded, filled, or asked with get": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(list)
            def listen(self, topic, listener):
                self.listeners[topic].append(listener)
                for each in self.listeners[topic]:
                    each.joined(listener)
            def publish(self, topic, message):
                if topic in self.listeners:
                    for listener in self.listeners[topic]:
                        listener(message)
                for listener in self.listeners.get(topic, ()):
                    listener(message)
            def publish_all(self, message):
                for topic in self.listeners:
                    for listener in self.listeners[topic]:
                        listener(message)
        """,
    "the function it calls deletes the entry": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(list)
            def listen(self, topic, listener):
                self.listeners[topic].append(listener)
            def _forget(self, topic):
                del self.listeners[topic]
            def close(self, topic):
                for listener in self.listeners[topic]:
                    listener.close()
                self._forget(topic)
        """,
    "keys noted where the entries are filled": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(list)
                self.topics = set()
            def listen(self, topic, listener):
                self.topics.add(topic)
                self.listeners[topic].append(listener)
            def publish_all(self, message):
                for topic in self.topics:
                    for listener in self.listeners[topic]:
                        listener(message)
        """,
    "the whole map is emptied now and then": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(list)
            def listen(self, topic, listener):
                self.listeners[topic].append(listener)
            def publish(self, topic, message):
                for listener in self.listeners[topic]:
                    listener(message)
            def close(self):
                self.listeners.clear()
        """,
    "the class of something, by a name": """
        from collections import defaultdict
        class Visitor:
            def __init__(self):
                self.handlers = defaultdict(list)
            def register(self, cls, handler):
                self.handlers[cls].append(handler)
            def visit(self, node):
                cls = node.__class__
                for handler in self.handlers[cls]:
                    handler(node)
            def leave(self, node):
                cls = type(node)
                for handler in self.handlers[cls]:
                    handler(node)
        """,
}

INSERTING_READ = {
    "truth of a counter": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def is_bad(self, host):
                if self.count[host] > 3:  #! NZ103
                    return True
                return False
        """,
    "a comparison is a condition wherever it stands": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def is_bad(self, host):
                return self.count[host] > 3  #! NZ103
            def all_bad(self, hosts):
                return [h for h in hosts if self.count[h]]  #! NZ103
            def worst(self, host):
                return "bad" if self.count[host] else "good"  #! NZ103
            def wait(self, host):
                while not self.count[host]:  #! NZ103
                    pass
        """,
    "an empty container is a zero too": """
        from collections import defaultdict
        SUBSCRIBERS = defaultdict(set)
        def subscribe(topic, who):
            SUBSCRIBERS[topic].add(who)
        def is_subscribed(topic, who):
            return who in SUBSCRIBERS[topic]  #! NZ103
        """,
    "a local whose entries are listed afterwards": """
        from collections import defaultdict
        def busy(events, watched):
            seen = defaultdict(int)
            for event in events:
                seen[event.name] += 1
            for name in watched:
                if seen[name] > 2:  #! NZ103
                    print(name)
            return len(seen)
        """,
    "twice in one function, said once": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def grade(self, host):
                if self.count[host] > 9:  #! NZ103
                    return "worst"
                if self.count[host] > 3:
                    return "bad"
                return "good"
        """,
    "a countdown inside does not fill it": """
        from collections import defaultdict
        class Pool:
            def __init__(self):
                self.free = defaultdict(lambda: 0)
            def give(self, kind_of_thing):
                self.free[kind_of_thing] += 1
            def take(self, name):
                if self.free[name] > 0:  #! NZ103
                    self.free[name] -= 1  #! NZ101
                    return True
                return False
        """,
    "the largest of something else, and a class that may be another": """
        from collections import defaultdict
        class Sizes:
            def __init__(self):
                self.sizes = defaultdict(int)
            def note(self, size):
                self.sizes[size] += 1
            def usual(self, asked):
                most = max(asked)
                return most if self.sizes[most] > 3 else None  #! NZ103
            def of(self, node, key):
                cls = node.__class__
                cls = cls.make(key)
                return self.sizes[cls] > 3  #! NZ103
        """,
}

NO_INSERTING_READ = {
    "guarded": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def a(self, host):
                return host in self.count and self.count[host] > 3
            def b(self, host):
                if host in self.count:
                    if self.count[host] > 3:
                        return True
            def c(self, host):
                if host not in self.count:
                    return False
                return self.count[host] > 3
            def d(self, host):
                if host not in self.count or self.count[host] == 0:
                    return False
            def e(self, host):
                return self.count[host] > 3 if host in self.count else False
            def f(self, host):
                if host not in self.count:
                    ok = True
                else:
                    ok = self.count[host] > 3
        """,
    "filled by the same function": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
                self.names = defaultdict(list)
            def fail(self, host):
                self.count[host] += 1
                if self.count[host] > 3:
                    raise ValueError
            def name(self, host, name):
                if name not in self.names[host]:
                    self.names[host].append(name)
        """,
    "keys of the map itself": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def bad(self):
                for host in self.count:
                    if self.count[host] > 3:
                        yield host
                for host in sorted(self.count.keys()):
                    if self.count[host] > 3:
                        yield host
                return [h for h, n in self.count.items() if self.count[h] > 3]
        """,
    "keys that a set of the map's keys goes into": """
        from collections import defaultdict
        def join(rows, columns):
            at = defaultdict(list)
            for place, row in rows:
                at[place].append(row)
            known = set(at)
            for column in known & columns.keys():
                for row in at[column]:
                    yield row
            print(len(at))
        """,
    "counted down before it is read": """
        from collections import defaultdict
        class Chords:
            def __init__(self):
                self.of = defaultdict(int)
            def add(self, node):
                self.of[node] += 1
            def drop(self, node):
                self.of[node] -= 1
                if self.of[node] == 0:
                    print(node)
            def forget(self, removed):
                self.of.pop(removed)
        """,
    "guarded by a name for the question": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def is_bad(self, host):
                known = host in self.count
                if known:
                    return self.count[host] > 3
                return False
        """,
    "keys of the map, by way of a name and of a method": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def hosts(self):
                return sorted(self.count)
            def bad(self):
                hosts = sorted(self.count)
                return [host for host in hosts if self.count[host] > 3]
            def good(self):
                return [host for host in self.hosts() if self.count[host] < 3]
        """,
    "filled by the function around": """
        from collections import defaultdict
        class Barrier:
            def __init__(self):
                self.seen = defaultdict(int)
            def arrive(self, name, wait):
                self.seen[name] += 1
                wait(lambda: self.seen[name] > 3)
        """,
    "keys noted as values": """
        from collections import defaultdict
        class Imports:
            def __init__(self):
                self.count = defaultdict(int)
                self.names = {}
            def add(self, name, alias):
                self.count[name] += 1
                self.names[alias] = name
            def used(self):
                return [alias for alias, name in self.names.items() if self.count[name]]
        """,
    "a local that a nested function reads": """
        from collections import defaultdict
        def sizes(words, later):
            groups = defaultdict(set)
            for word in words:
                groups[word[0]].add(word)
            later(lambda letter: len(groups[letter]) > 3)
            return len(groups)
        """,
    "handed to code out of reach": """
        from collections import defaultdict
        from elsewhere import freeze
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def close(self):
                freeze(self.count)
            def is_bad(self, host):
                return self.count[host] > 3
        """,
    "asked before it is taken out": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(set)
            def listen(self, topic, listener):
                self.listeners[topic].add(listener)
            def stop(self, topic, listener):
                if listener in self.listeners[topic]:
                    self.listeners[topic].remove(listener)
        """,
    "filled out of reach": """
        from collections import defaultdict
        class Pages:
            def __init__(self):
                self.metadata = defaultdict(dict)
            def is_orphan(self, page):
                return "orphan" in self.metadata[page]
        """,
    "a local nobody lists": """
        from collections import defaultdict
        def repeated(words, watched):
            seen = defaultdict(int)
            for word in words:
                seen[word] += 1
            return [each for each in watched if seen[each] > 1]
        """,
    "filled from what is asked": """
        from collections import defaultdict
        def repeated(words):
            seen = defaultdict(int)
            for word in words:
                seen[word] += 1
            for word in words:
                if seen[word] > 1:
                    print(word, len(seen))
        """,
    "get does not insert": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def is_bad(self, host):
                return self.count.get(host, 0) > 3
        """,
    "a counter and a plain dict do not insert": """
        from collections import Counter
        class Failures:
            def __init__(self):
                self.count = Counter()
                self.plain = {}
            def fail(self, host):
                self.count[host] += 1
            def is_bad(self, host):
                return self.count[host] > 3 or self.plain[host] > 3
        """,
    "a fixed key": """
        from collections import defaultdict
        class Stats:
            def __init__(self):
                self.count = defaultdict(int)
            def any_errors(self):
                return self.count["errors"] > 0
        """,
    "taken for granted": """
        from collections import defaultdict
        class Queues:
            def __init__(self):
                self.of = defaultdict(list)
                self.parent = defaultdict(lambda: None)
            def put(self, name, item):
                self.of[name].append(item)
                self.parent[name] = item
            def check(self, name, item):
                assert item in self.of[name]
                if self.of[name][0] == item:
                    return True
                return item == self.parent[name]
        """,
    "entries made by reading": """
        from collections import defaultdict
        class Graph:
            def __init__(self):
                self.edges = defaultdict(set)
            def add(self, node, targets):
                edges = self.edges[node]
                edges.update(targets)
            def is_edge(self, node, target):
                return target in self.edges[node]
        """,
    "read before": """
        from collections import defaultdict
        class Failures:
            def __init__(self):
                self.count = defaultdict(int)
            def fail(self, host):
                self.count[host] += 1
            def describe(self, host):
                lines = [self.count[host]]
                return lines if self.count[host] else ""
        """,
    "a factory that makes something": """
        from collections import defaultdict
        class Locks:
            def __init__(self, make):
                self.limit = defaultdict(lambda: 10)
                self.lock = defaultdict(make)
            def allowed(self, host, n):
                return n < self.limit[host] and self.lock[host].free()
        """,
    "the map's own largest key": """
        from collections import defaultdict
        class Sizes:
            def __init__(self):
                self.sizes = defaultdict(int)
            def note(self, size):
                self.sizes[size] += 1
            def usual(self):
                most = max(self.sizes, key=lambda size: self.sizes[size])
                return most if self.sizes[most] > 3 else None
        """,
    "an attribute of what a loop that filled it ran over, by a name": """
        from collections import defaultdict
        class Names:
            def __init__(self):
                self.seen = defaultdict(set)
            def note(self, rows):
                for row in rows:
                    self.seen[row.name].add(row)
                for row in rows:
                    name = row.name
                    if len(self.seen[name]) > 1:
                        yield row
        """,
}

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
    "inserting loop": INSERTING_LOOP,
    "no inserting loop": NO_INSERTING_LOOP,
    "inserting read": INSERTING_READ,
    "no inserting read": NO_INSERTING_READ,
    "misread": MISREAD,
    "no misread": NO_MISREAD,
    "gauge": GAUGE,
    "no gauge": NO_GAUGE,
}
PROGRAMS = [
    pytest.param(dedent(source), id=f"{table}: {name}")
    for table, programs in TABLES.items()
    for name, source in programs.items()
]


def expected(source: str) -> list[tuple[int, str]]:
    """The line numbers and rules that the program's own comments announce."""
    return [
        (number, rule)
        for number, line in enumerate(source.split("\n"), 1)
        for rule in re.findall(r"#! (NZ\d+)", line)
    ]


@pytest.mark.parametrize("source", PROGRAMS)
def test_table(source: str) -> None:
    found = [(finding.line, finding.rule) for finding in check_source(source, "program.py")]
    assert found == expected(source)


@pytest.mark.parametrize("table", TABLES)
def test_tables_say_what_they_claim(table: str) -> None:
    """A table of finds has one in every program, a table of silence in none."""
    for name, source in TABLES[table].items():
        assert bool(expected(source)) == (not table.startswith("no")), name
