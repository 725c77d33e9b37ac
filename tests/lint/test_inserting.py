"""What the rules on reads that insert (NZ103, NZ107) find, and what they leave alone: small programs.

How the programs say it: lint_programs.py.
"""

from __future__ import annotations

import pytest

from support.lint_programs import check, check_claims, programs

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
    "keys made of what a public function is given": """
        from collections import defaultdict
        class Spans:
            def __init__(self):
                self.by_tag = defaultdict(list)
            def add(self, span):
                for tag in span.tags:
                    self.by_tag[tag].append(span)
            def find(self, *tags):
                for tag in tags:
                    for span in self.by_tag[tag]:  #! NZ107
                        yield span
            def update(self, **kwargs):
                tag = kwargs["span"]["tag"]
                for span in self.by_tag[tag]:  #! NZ107
                    span.update()
        """,
    "down to the leaves": """
        from collections import defaultdict
        class Tree:
            def __init__(self):
                self.children = defaultdict(list)
            def add(self, parent, child):
                self.children[parent].append(child)
            def _visit(self, node):
                for child in self.children[node]:  #! NZ107
                    self._visit(child)
        """,
}

NO_INSERTING_LOOP = {
    "keys the program has kept, and keys that its own functions give": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(list)
                self.topics = {}
            def listen(self, topic, listener):
                self.listeners[topic].append(listener)
            def publish(self, message):
                for listener in self.listeners[self.topics[message]]:
                    listener(message)
            def publish_all(self):
                for topic in self.topics.values():
                    for listener in self.listeners[topic]:
                        listener(None)
            def publish_later(self, message):
                topic = self.topics[message]
                for listener in self.listeners[topic]:
                    listener(message)
            def _publish(self, topic):
                for listener in self.listeners[topic]:
                    listener(None)
        """,
    "every edge entered at both its ends": """
        from collections import defaultdict
        class Graph:
            def __init__(self):
                self.edges = defaultdict(list)
            def add(self, one, other):
                self.edges[one].append(other)
                self.edges[other].append(one)
            def _visit(self, node, seen):
                for other in self.edges[node]:
                    if other not in seen:
                        self._visit(other, seen | {other})
        """,
    "entries made empty on purpose": """
        from collections import defaultdict
        class Graph:
            def __init__(self):
                self.edges = defaultdict(list)
            def add_node(self, node):
                self.edges[node] = []
            def add(self, one, other):
                self.edges[one].append(other)
            def neighbours(self, node):
                return [other for other in self.edges[node]]
        """,
    "keys that are names of events": """
        from collections import defaultdict
        class Application:
            def __init__(self):
                self.event_handlers = defaultdict(list)
            def on(self, name, handler):
                self.event_handlers[name].append(handler)
            def emit(self, name):
                for handler in self.event_handlers[name]:
                    handler()
        """,
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
    "functions by the name of the part of the program they are of": """
        from collections import defaultdict
        class App:
            def __init__(self):
                self.after_request_funcs = defaultdict(list)
            def after(self, name, function):
                self.after_request_funcs[name].append(function)
            def run(self, request, names):
                for name in names:
                    for function in self.after_request_funcs[name]:
                        function(request)
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
                made = node.__class__
                made = made.make(key)
                return self.sizes[made] > 3  #! NZ103
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
                    self.listeners[topic].remove(listener)  # noqa: NZ108
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

TABLES = {
    "inserting loop": INSERTING_LOOP,
    "no inserting loop": NO_INSERTING_LOOP,
    "inserting read": INSERTING_READ,
    "no inserting read": NO_INSERTING_READ,
}


@pytest.mark.parametrize("source", programs(TABLES))
def test_table(source: str) -> None:
    check(source)


def test_tables_say_what_they_claim() -> None:
    check_claims(TABLES)
