"""What the rule on collections that run empty (NZ108) finds, and what it leaves alone: small programs.

How the programs say it: lint_programs.py.
"""

from __future__ import annotations

import pytest

from support.lint_programs import check, check_claims, programs

EMPTIED = {
    "a set of a defaultdict": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(set)
            def listen(self, topic, listener):
                self.listeners[topic].add(listener)
            def leave(self, topic, listener):
                self.listeners[topic].discard(listener)  #! NZ108
        """,
    "made by setdefault, by a question and by the first item": """
        class Rooms:
            def __init__(self):
                self.people = {}
                self.chairs = {}
                self.lamps = {}
                self.shelves = {}
            def enter(self, room, person):
                self.people.setdefault(room, set()).add(person)
                if room not in self.chairs:
                    self.chairs[room] = []
                self.chairs[room].append(person)
                if room in self.lamps:
                    self.lamps[room].append(person)
                else:
                    self.lamps[room] = [person]
                shelf = self.shelves.setdefault(room, {})
                shelf[person] = True
            def leave(self, room, person):
                self.people[room].remove(person)  #! NZ108
                self.chairs[room].pop()  #! NZ108
                self.lamps[room].remove(person)  #! NZ108
                del self.shelves[room][person]  #! NZ108
        """,
    "through a name": """
        from collections import defaultdict, deque
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(set)
                self.waiting = defaultdict(deque)
            def listen(self, topic, listener):
                self.listeners[topic].add(listener)
                waiting = self.waiting[topic]
                waiting.append(listener)
            def leave(self, topic, listener):
                listeners = self.listeners.get(topic)
                if listeners:
                    listeners.discard(listener)  #! NZ108
            def next(self, topic):
                if waiting := self.waiting.get(topic):
                    return waiting.popleft()  #! NZ108
        """,
    "out of every entry": """
        from collections import defaultdict
        class Rooms:
            def __init__(self):
                self.people = defaultdict(set)
            def enter(self, room, person):
                self.people[room].add(person)
            def leave_all(self, person):
                for people in self.people.values():
                    people.discard(person)  #! NZ108
            def leave_most(self, person):
                for room, people in list(self.people.items()):
                    if room != 1:
                        people.discard(person)  #! NZ108
            def leave_some(self, person):
                for room in self.people:
                    self.people[room].discard(person)  #! NZ108
        """,
    "kept but for one": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(list)
            def listen(self, topic, listener):
                self.listeners[topic].append(listener)
            def leave(self, topic, listener):
                self.listeners[topic] = [each for each in self.listeners[topic] if each is not listener]  #! NZ108
        """,
    "the map above keeps the emptied map": """
        from collections import defaultdict
        class Seats:
            def __init__(self):
                self.taken = defaultdict(dict)
            def enter(self, hall, seat, person):
                self.taken[hall][seat] = person
            def leave(self, hall, seat):
                self.taken[hall].pop(seat, None)  #! NZ108
        """,
    "a global": """
        from collections import defaultdict
        SESSIONS = defaultdict(set)
        def open_session(user, session):
            SESSIONS[user].add(session)
        def close_session(user, session):
            SESSIONS[user].remove(session)  #! NZ108
        """,
}

NO_EMPTIED = {
    "deleted when empty": """
        from collections import defaultdict
        class Bus:
            def __init__(self):
                self.listeners = defaultdict(set)
            def listen(self, topic, listener):
                self.listeners[topic].add(listener)
            def leave(self, topic, listener):
                self.listeners[topic].discard(listener)
                if not self.listeners[topic]:
                    del self.listeners[topic]
        """,
    "deleted elsewhere, replaced, handed out of reach": """
        from collections import defaultdict
        from elsewhere import tidy
        class Bus:
            def __init__(self):
                self.one = defaultdict(set)
                self.two = defaultdict(set)
                self.three = defaultdict(set)
            def listen(self, topic, listener):
                self.one[topic].add(listener)
                self.two[topic].add(listener)
                self.three[topic].add(listener)
            def leave(self, topic, listener):
                self.one[topic].discard(listener)
                self.two[topic].discard(listener)
                self.three[topic].discard(listener)
            def tidy(self):
                self.one.popitem()
                self.two = {topic: each for topic, each in self.two.items() if each}
                tidy(self.three)
        """,
    "an empty entry is made on purpose": """
        class Graph:
            def __init__(self):
                self.edges = {}
            def add_node(self, node):
                self.edges[node] = set()
            def add_edge(self, node, other):
                self.edges[node].add(other)
            def remove_edge(self, node, other):
                self.edges[node].remove(other)
        """,
    "also made empty on purpose": """
        from collections import defaultdict
        class Graph:
            def __init__(self):
                self.edges = defaultdict(set)
            def add_node(self, node):
                self.edges[node] = set()
            def add_edge(self, node, other):
                self.edges[node].add(other)
            def remove_edge(self, node, other):
                self.edges[node].remove(other)
        """,
    "touched so that it is there": """
        from collections import defaultdict
        class Graph:
            def __init__(self):
                self.edges = defaultdict(set)
            def add_node(self, node):
                self.edges[node]
            def add_edge(self, node, other):
                self.edges[node].add(other)
            def remove_edge(self, node, other):
                self.edges[node].remove(other)
        """,
    "every entry made in the constructor": """
        class Lanes:
            def __init__(self, lanes):
                self.cars = {lane: [] for lane in lanes}
                self.carts = {}
                for lane in lanes:
                    self.carts[lane] = []
            def enter(self, lane, car):
                self.cars[lane].append(car)
                self.carts[lane].append(car)
            def leave(self, lane):
                self.cars[lane].pop()
                self.carts[lane].pop()
        """,
    "put back in the same function, or bounded": """
        from collections import defaultdict
        class Recent:
            def __init__(self):
                self.items = defaultdict(list)
            def use(self, key, item):
                items = self.items[key]
                items.remove(item)
                items.append(item)
            def see(self, key, item):
                self.items[key].append(item)
                if len(self.items[key]) > 10:
                    self.items[key].pop(0)
            def trim(self, key):
                while len(self.items[key]) > 5:
                    self.items[key].pop(0)
        """,
    "keys the program names": """
        from collections import defaultdict
        class Hooks:
            def __init__(self):
                self.of = defaultdict(list)
            def add(self, event, what, hook):
                self.of[event].append(hook)
                self.of[what].append(hook)
            def remove(self, event, hook, request_type, node_class, attr):
                self.of[node_class].remove(hook)
                self.of[attr].remove(hook)
                self.of[event].remove(hook)
                self.of["ready"].remove(hook)
                self.of[type(hook)].remove(hook)
                self.of[request_type].remove(hook)
        """,
    "a map named by its few keys": """
        from collections import defaultdict
        class Jobs:
            def __init__(self):
                self.jobs_by_state = defaultdict(set)
                self.counts_by_tier = defaultdict(int)
            def add(self, where, job):
                self.jobs_by_state[where].add(job)
                self.counts_by_tier[where] += 1
            def remove(self, where, job):
                self.jobs_by_state[where].remove(job)
                self.counts_by_tier[where] -= 1
        """,
    "records, and maps that the program writes out the keys of": """
        from collections import defaultdict
        class Packages:
            def __init__(self):
                self.of = defaultdict(dict)
                self.loads = defaultdict(list)
            def add(self, name, version):
                self.of[name]["version"] = version
                self.loads["cpu"].append(version)
                self.loads["disk" + name].append(version)
            def strip(self, name):
                self.of[name].pop("version", None)
                del self.of[name]["version"]
                for load in self.loads.values():
                    del load[:]
        """,
    "keys that are names of events": """
        class Stream:
            def __init__(self):
                self.__event_handlers = {}
                self.listeners = {}
            def on(self, what, name, handler):
                self.__event_handlers.setdefault(what, []).append(handler)
                self.listeners.setdefault(name, []).append(handler)
            def off(self, what, name, handler):
                self.__event_handlers[what].remove(handler)
                self.listeners[name].remove(handler)
        """,
    "nothing is put in here": """
        from collections import defaultdict
        class Bus:
            def __init__(self, given):
                self.listeners = defaultdict(set)
                self.listeners.update(given)
            def leave(self, topic, listener):
                self.listeners[topic].discard(listener)
        """,
    "a local": """
        from collections import defaultdict
        def order(edges):
            into = defaultdict(set)
            for one, other in edges:
                into[other].add(one)
            for one, other in edges:
                into[other].discard(one)
            return [node for node, left in into.items() if not left]
        """,
    "keys of a process, a language, an assistant, and what is annotated as a kind": """
        import os
        from collections import defaultdict
        from elsewhere import SensorKind
        class Waiting:
            def __init__(self):
                self.of = defaultdict(list)
            def add(self, what, job):
                self.of[what].append(job)
            def remove(self, language, job, where: SensorKind, who: type[Waiting]):
                pid = os.getpid()
                self.of[pid].remove(job)
                self.of[os.getpid()].remove(job)
                self.of[language].remove(job)
                self.of[job.assistant].remove(job)
                self.of[where].remove(job)
                self.of[who].remove(job)
                called = type(job).__name__
                self.of[called].remove(job)
        """,
    "kept but for some, and filled again": """
        class Values:
            def __init__(self):
                self.of = {}
            def note(self, name, value):
                self.of.setdefault(name, []).append(value)
            def join(self, name, value):
                self.of[name] = [each for each in self.of[name] if each > value]
                if value:
                    self.of[name].append(value)
        """,
    "what it is an entry of is replaced": """
        class Builder:
            def __init__(self):
                self.stored = [{}, {}]
            def store(self, side, value, index):
                of = self.stored[side]
                typed = of.get(type(value))
                if typed is None:
                    typed = {}
                    of[type(value)] = typed
                stored = typed.get(value)
                if stored is None:
                    typed[value] = [index]
                else:
                    stored.append(index)
            def take(self, side, value):
                typed = self.stored[side].get(type(value))
                stored = typed.get(value)
                if stored:
                    return stored.pop()
            def end(self):
                self.stored = [{}, {}]
        """,
    "all of it is begun anew": """
        from collections import defaultdict
        class Voices:
            def __init__(self):
                self.pools = defaultdict(list)
            def give_back(self, rate, voice):
                self.pools[rate].append(voice)
            def stop(self):
                for pool in self.pools.values():
                    for voice in pool:
                        voice.destroy()
                    pool.clear()
        """,
    "maps of events whose keys are their names": """
        class Client:
            def __init__(self):
                self.extra_events = {}
            def add(self, listener, name):
                name_ = name or listener.__name__
                if name_ in self.extra_events:
                    self.extra_events[name_].append(listener)
                else:
                    self.extra_events[name_] = [listener]
            def remove(self, listener, name):
                if name in self.extra_events:
                    self.extra_events[name].remove(listener)
        """,
}

TABLES = {
    "emptied": EMPTIED,
    "no emptied": NO_EMPTIED,
}


@pytest.mark.parametrize("source", programs(TABLES))
def test_table(source: str) -> None:
    check(source)


def test_tables_say_what_they_claim() -> None:
    check_claims(TABLES)
