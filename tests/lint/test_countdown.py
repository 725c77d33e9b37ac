"""Programs in which the rule on counting down (NZ101) finds something, and programs in which it must not.

tests/support/lint_programs.py explains the form of the programs.
"""

from __future__ import annotations

import pytest

from support.lint_programs import check, check_claims, programs

COUNTDOWN = {
    "attribute of plain dict": """
        class Pool:
            def __init__(self):
                self.refs = {}
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
            def release(self, key):
                self.refs[key] -= 1  #! NZ101
        """,
    "attribute of defaultdict": """
        from collections import defaultdict
        class Pool:
            def __init__(self):
                self.refs: defaultdict[str, int] = defaultdict(int)
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                self.refs[key] -= 1  #! NZ101
        """,
    "imported under other names": """
        import collections as c
        from collections import Counter as Tally
        class Pool:
            def __init__(self):
                self.refs = c.defaultdict(int)
                self.users = Tally()
            def acquire(self, key):
                self.refs[key] += 1
                self.users[key] += 1
            def release(self, key):
                self.refs[key] -= 1  #! NZ101
                self.users[key] -= 1  #! NZ101
        """,
    "global counter": """
        from collections import Counter
        ACTIVE = Counter()
        def start(user):
            ACTIVE[user] += 1
        def stop(user):
            ACTIVE[user] -= 1  #! NZ101
        """,
    "a map in a class body, and a dataclass field": """
        from collections import Counter
        from dataclasses import dataclass, field
        class Shared:
            refs = {}
            def acquire(self, key):
                self.refs.setdefault(key, 0)
                self.refs[key] += 1
            def release(self, key):
                self.refs[key] -= 1  #! NZ101
        @dataclass
        class Seats:
            taken: Counter[str] = field(default_factory=Counter)
            def enter(self, key):
                self.taken[key] += 1
            def leave(self, key):
                self.taken[key] -= 1  #! NZ101
        """,
    "spelt out": """
        class Pool:
            def __init__(self):
                self.refs = {}
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
            def release(self, key):
                self.refs[key] = self.refs[key] - 1  #! NZ101
            def release_at_most(self, key):
                self.refs[key] = max(0, self.refs.get(key, 0) - 1)  #! NZ101
            def release_slowly(self, key):
                left = self.refs[key] - 1
                self.refs[key] = left  #! NZ101
            def release_more_slowly(self, key):
                left = self.refs.get(key, 0)
                left -= 1
                self.refs[key] = left  #! NZ101
            def undo(self, key):
                self.refs[key] += -1  #! NZ101
        """,
    "subtract": """
        from collections import Counter
        class Stock:
            def __init__(self):
                self.items = Counter()
            def arrive(self, names):
                self.items.update(names)
            def sell(self, names):
                self.items.subtract(names)  #! NZ101
        """,
    "through an alias and through a parameter": """
        from collections import Counter
        class Pool:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                refs = self.refs
                refs[key] -= 1  #! NZ101
            def release_all(self, keys):
                _down(self.refs, keys)
        def _down(refs, keys):
            for key in keys:
                refs[key] -= 1  #! NZ101
        """,
    "nested map": """
        from collections import Counter, defaultdict
        class Pool:
            def __init__(self):
                self.refs = defaultdict(Counter)
            def acquire(self, tenant, key):
                self.refs[tenant][key] += 1
            def release(self, tenant, key):
                self.refs[tenant][key] -= 1  #! NZ101
        """,
    "nested in a closure": """
        from collections import Counter
        class Pool:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release_later(self, key):
                def done():
                    self.refs[key] -= 1  #! NZ101
                return done
        """,
    "inherited": """
        from collections import Counter
        class Base:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
        class Pool(Base):
            def release(self, key):
                self.refs[key] -= 1  #! NZ101
        """,
    "an amount is added and subtracted again, whatever it measures": """
        class Loads:
            def __init__(self):
                self.forces = {}
                self.at = {}
            def apply(self, label, place):
                if place in self.at:
                    self.at[place] += self.forces[label]["f"] * 0.5
                else:
                    self.at[place] = self.forces[label]["f"] * 0.5
            def lift(self, label, place):
                self.at[place] -= self.forces[label]["f"] * 0.5  #! NZ101
        """,
    "a local whose size is asked after the countdown": """
        from collections import Counter
        def distinct_in_windows(items, width):
            window = Counter()
            for i, item in enumerate(items):
                window[item] += 1
                if i >= width:
                    window[items[i - width]] -= 1  #! NZ101
                yield len(window)
        """,
    "beside maps that are joined with their own entries": """
        class Pool:
            def __init__(self):
                self.open = {}
            def opened(self, address):
                self.open[address] = self.open.get(address, 0) + 1
            def closed(self, address):
                self.open[address] -= 1  #! NZ101
        def bracket(result, right, left, chosen, count):
            last = result["last"][:count]
            both = right.copy()
            both[chosen] = last[chosen]
            result["both"] = both
        """,
    "by the names of functions that are given": """
        from collections import defaultdict
        COUNTS = defaultdict(int)
        def register(given):
            name = given.run.__name__
            COUNTS[name] += 1
            yield
            COUNTS[name] -= 1  #! NZ101
        """,
}

NO_COUNTDOWN = {
    "deleted at zero": """
        class Pool:
            def __init__(self):
                self.refs = {}
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
            def release(self, key):
                self.refs[key] -= 1
                if not self.refs[key]:
                    del self.refs[key]
        """,
    "deleted elsewhere in the class": """
        from collections import Counter
        class Pool:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                self.refs[key] -= 1
            def forget(self, key):
                self.refs.pop(key, None)
        """,
    "deleted from outside the class": """
        from collections import Counter
        class Pool:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                self.refs[key] -= 1
        def forget(pool, key):
            del pool.refs[key]
        """,
    "deleted through an alias": """
        from collections import Counter
        class Pool:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                refs = self.refs
                self.refs[key] -= 1
                if refs[key] <= 0:
                    refs.pop(key)
        """,
    "deleted by a function it is passed to": """
        from collections import Counter
        class Pool:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                self.refs[key] -= 1
                _tidy(self.refs)
        def _tidy(counts):
            for key in [k for k, n in counts.items() if not n]:
                del counts[key]
        """,
    "deleted in a subclass": """
        from collections import Counter
        class Base:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                self.refs[key] -= 1
        class Tidy(Base):
            def tidy(self):
                self.refs.clear()
        """,
    "a counter's own addition drops its zeros": """
        from collections import Counter
        class Stock:
            def __init__(self):
                self.items = Counter()
            def arrive(self, names):
                self.items.update(names)
            def sell(self, names):
                self.items.subtract(names)
                self.items += Counter()
        """,
    "replaced later": """
        from collections import Counter
        class Window:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                self.refs[key] -= 1
            def rotate(self):
                self.refs = Counter()
        """,
    "handed to code out of reach": """
        from collections import Counter
        from elsewhere import tidy
        class Pool:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                self.refs[key] -= 1
                tidy(self.refs)
        """,
    "made by code out of reach": """
        from elsewhere import ExpiringMap
        class Pool:
            def __init__(self, given):
                self.refs = ExpiringMap()
                self.given = given
            def acquire(self, key):
                self.refs[key] += 1
                self.given[key] = 1
            def release(self, key):
                self.refs[key] -= 1
                self.given[key] -= 1
        def lower(counts: dict[str, int], key):
            counts[key] = counts.get(key, 0) + 1
            counts[key] -= 1
        """,
    "a fixed set of keys": """
        from collections import Counter
        class Stats:
            def __init__(self):
                self.n = Counter()
            def enter(self, who):
                self.n[who] += 1
            def leave(self, status, what):
                self.n["active"] -= 1
                self.n[IDLE] -= 1
                self.n[State.BUSY] -= 1
                self.n[status] -= 1
                self.n[type(what)] -= 1
                for name in ("a", "b"):
                    self.n[name] -= 1
        """,
    "every key made in the constructor": """
        class Credits:
            def __init__(self, names):
                self.left = {name: 10 for name in names}
                self.used = dict.fromkeys(names, 0)
                self.slow = {}
                for name in names:
                    self.slow[name] = 3
            def spend(self, name):
                self.left[name] -= 1
                self.used[name] -= 1
                self.slow[name] -= 1
        """,
    "every key made by a helper of the constructor": """
        from collections import Counter
        class Order:
            def __init__(self, edges):
                self.waiting = Counter()
                self._fill(edges)
            def _fill(self, edges):
                for _, target in edges:
                    self.waiting[target] += 1
            def done(self, target):
                self.waiting[target] -= 1
        """,
    "numbers that are no counts": """
        class Chat:
            def __init__(self):
                self.last_message = {}
            def sent(self, chat, message):
                self.last_message[chat] = message.id
            def undo(self, chat):
                self.last_message[chat] -= 1
        """,
    "an account, whose zero is an answer": """
        class Bank:
            def __init__(self):
                self.balance = {}
            def deposit(self, account, amount):
                self.balance[account] = self.balance.get(account, 0.0)
                self.balance[account] += amount
            def withdraw(self, account, amount):
                self.balance[account] -= amount
        """,
    "a list": """
        class Board:
            def __init__(self, n):
                self.degree = [0] * n
            def remove(self, i):
                self.degree[i] -= 1
        """,
    "a local that ends with the call": """
        from collections import defaultdict
        def order(graph):
            waiting = defaultdict(int)
            for node, targets in graph.items():
                for target in targets:
                    waiting[target] += 1
            ready = [node for node in graph if node not in waiting]
            for node in ready:
                for target in graph[node]:
                    waiting[target] -= 1
                    if not waiting[target]:
                        ready.append(target)
            return ready
        """,
    "the whole map is dropped": """
        from collections import Counter
        class Pool:
            def __init__(self):
                self.refs = Counter()
            def acquire(self, key):
                self.refs[key] += 1
            def release(self, key):
                self.refs[key] -= 1
            def close(self):
                self.refs = None
        """,
    "a local that deletes": """
        from collections import Counter
        def distinct_in_windows(items, width):
            window = Counter()
            for i, item in enumerate(items):
                window[item] += 1
                if i >= width:
                    window[items[i - width]] -= 1
                    if not window[items[i - width]]:
                        del window[items[i - width]]
                yield len(window)
        """,
    "made by the caller, unless there is none": """
        class Pool:
            def __init__(self, refs=None):
                if refs is None:
                    refs = {}
                self.refs = refs
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
            def release(self, key):
                self.refs[key] -= 1
        """,
    "weak keys go by themselves": """
        import weakref
        class Pool:
            def __init__(self):
                self.refs = weakref.WeakKeyDictionary()
            def acquire(self, key):
                self.refs[key] = self.refs.get(key, 0) + 1
            def release(self, key):
                self.refs[key] -= 1
        """,
    "a sum of measurements is no count": """
        class Model:
            def __init__(self):
                self.weight = {}
            def learn(self, name, rate):
                self.weight[name] = self.weight.get(name, 0.0)
                self.weight[name] -= rate * 0.5
        """,
    "deleted at the level above": """
        from collections import Counter, defaultdict
        class Pool:
            def __init__(self):
                self.refs = defaultdict(Counter)
            def acquire(self, tenant, key):
                self.refs[tenant][key] += 1
            def release(self, tenant, key):
                self.refs[tenant][key] -= 1
            def drop(self, tenant):
                self.refs.pop(tenant, None)
        """,
    "cleared through the values of the map above": """
        from collections import Counter, defaultdict
        class Pool:
            def __init__(self):
                self.refs = defaultdict(Counter)
            def acquire(self, kind, key):
                self.refs[kind][key] += 1
            def release(self, kind, key):
                self.refs[kind][key] -= 1
            def tidy(self):
                for counts in self.refs.values():
                    counts.clear()
        """,
    "a largest value, whose name leads back to itself": """
        class Depths:
            def __init__(self):
                self.depth = {}
            def begin(self, node):
                self.depth[node] = 0
            def note(self, node, levels):
                deepest = 0
                for child in node:
                    deepest = max(deepest, levels + self.depth.get(child, 0))
                self.depth[node] = deepest
            def note_both(self, node, one, other):
                one = max(other, 1)
                other = max(one, 2)
                self.depth[node] = one
        """,
    "keys that are ways of transport, languages and sections": """
        class Open:
            def __init__(self):
                self.of = {}
            def opened(self, what):
                self.of[what] = self.of.get(what, 0) + 1
            def closed(self, transport, language, handler):
                self.of[transport] -= 1
                self.of[language] -= 1
                self.of[handler.section] -= 1
        """,
}

TABLES = {
    "countdown": COUNTDOWN,
    "no countdown": NO_COUNTDOWN,
}


@pytest.mark.parametrize("source", programs(TABLES))
def test_table(source: str) -> None:
    check(source)


def test_tables_say_what_they_claim() -> None:
    check_claims(TABLES)
