"""Random requests for the simulation's clients: on a few keys that all use, and on many keys that batches change."""

from __future__ import annotations

from random import Random
from typing import Any

from simulation.sessions.client import Client
from support.cases_counters import INVALID


class Requests:
    """A source of requests on one cache."""

    def __init__(self, random: Random, keys: list[bytes]) -> None:
        self.random = random
        self.held = keys[:3]  # mostly acquired and released
        self.wanted = keys[:6]  # also incremented, decremented and waited for
        self.keys = keys
        self.draining = False  # most batches decrement, so that tables become almost empty

    def change_direction(self) -> None:
        """Choose whether batches fill the tables or empty them from now on."""
        self.draining = self.random.random() < 0.5

    def ask(self, client: Client) -> None:
        """Have a client send a random request."""
        what = self.random.random()
        for share, ask in self._SHARES:
            if what < share:
                ask(self, client)
                return
            what -= share
        self._acquire(client)

    def _key(self) -> bytes:
        return self.random.choice(self.wanted if self.random.random() < 0.12 else self.wanted[len(self.held) :])

    def _held_key(self) -> bytes:
        return self.random.choice(self.wanted if self.random.random() < 0.2 else self.held)

    def _ttl(self) -> int | None:
        return self.random.choice([None, None, None, 1, 5, 30, 200])

    def _count(self, client: Client) -> None:
        random = self.random
        method = random.choice(["incr", "decr", "decr", "decr"])
        params: tuple[Any, ...] = (self._key(), *random.choice([(), (), (1,), (2,)]))
        if method == "incr" and random.random() < 0.15:
            params = (self._key(), random.choice([1, 2]), self._ttl())
        elif method == "decr" and random.random() < 0.1:
            params = (self._key(), random.choice([1, 2]), True)
        client.ask(method, params)

    def _batch(self, client: Client) -> None:
        random = self.random
        mixed = random.random() < 0.4
        keys = random.sample(self.keys[len(self.wanted) :], random.choice([1, 3, 10, 40, 60]))
        deltas: Any = random.choice([-9, -1, -1]) if self.draining else 1
        if mixed or deltas == -1:
            keys += random.choices(self.wanted, k=random.choice([0, 2, 5]))
        random.shuffle(keys)
        if mixed:
            deltas = [random.choice([-3, -1, -1, 1, 2]) for _ in keys]
        client.ask("apply", (keys, deltas) if random.random() < 0.8 else (keys, deltas, self._ttl()))

    def _look(self, client: Client) -> None:
        random = self.random
        key = self._key()
        asked: list[tuple[str, tuple[Any, ...]]] = [
            ("get", (key,)),
            ("get", (key,)),
            ("ttl", (key,)),
            ("get_many", (self.wanted,)),
            ("count", ()),
            ("held", ()),
            ("held", (max(client.holds, default=0) // 2,)),
            ("ping", ()),
            ("top", (3, b"00")),
            ("holders", (self._held_key(),)),
        ]
        client.ask(*random.choice(asked))

    def _end_generations(self, client: Client) -> None:
        random = self.random
        what = random.random()
        if what < 0.4:
            client.ask("set", (self._key(), random.choice([0, 1, 2, 4]), self._ttl()))
        elif what < 0.6:
            client.ask("take", ([self._key(), self._key(), random.choice(self.keys)],))
        elif what < 0.98:
            key = self._key() if random.random() < 0.5 else self._held_key()
            client.ask("expire", (key, random.choice([None, 1, 1, 10, 60])))
        else:
            client.ask("clear", ())

    def _items(self) -> list[list[Any]]:
        random = self.random
        count = random.choice([1, 1, 1, 2, 3])
        return [
            [self._key(), random.choice([1, 1, 2, 3]), random.choice([1, 2, 3, 3, 4, 6, 8, 0])] for _ in range(count)
        ]

    def _try(self, client: Client) -> None:
        client.ask("try_incr", (self._items(), *self.random.choice([(), (), (self._ttl(),)])))

    def _acquire(self, client: Client) -> None:
        wait = self.random.choice([(), (0,), (1,), (20,), (150,), (2_000,), (None,), (None,)])
        client.ask("acquire", (self._items(), *wait))

    def _release(self, client: Client) -> None:
        random = self.random
        if random.random() < 0.05:
            client.ask("release", (random.choice([0, 1, 5, 1_000, 2**40, 2**40 + 3]),))
            return
        if not client.holds:
            self._acquire(client)
            return
        number = random.choice(list(client.holds))
        items = [[key, by] for key, by, _ in client.holds[number]]
        what = random.random()
        if what < 0.55:
            client.ask("release", (number,))
            if random.random() < 0.9:
                del client.holds[number]  # otherwise it is released again later
        elif what < 0.9:
            client.ask("release", (number, [[key, random.randint(1, by)] for key, by in items]))
        else:
            client.ask("release", (number, [*items, [self._key(), 1]]))

    def _wait_zero(self, client: Client) -> None:
        client.ask("wait_zero", (self.random.choice(self.wanted), self.random.choice([0, 2, 20, 150, None, None])))

    def _cancel(self, client: Client) -> None:
        assert client.record is not None
        waiting = [request.msgid for request in client.record.stream[-30:] if not request.answered]
        client.ask("cancel", (self.random.choice([*waiting, 7]),))

    def _bad(self, client: Client) -> None:
        client.ask("incr", (self._key(), 0), INVALID)

    _SHARES = (
        (0.22, _count),
        (0.08, _batch),
        (0.08, _look),
        (0.06, _end_generations),
        (0.06, _try),
        (0.18, _release),
        (0.07, _wait_zero),
        (0.05, _cancel),
        (0.01, _bad),
    )
    """The share of each kind of request; the rest is `acquire`."""
