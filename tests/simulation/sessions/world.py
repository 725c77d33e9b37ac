"""A server without sockets and clock, clients with sessions, and a network that breaks: all run by one random source.

    with World(seed, ...) as world:
        world.run(steps)           raises AssertionError at the first thing that is not as the model has it

Between any two turns anything may happen: pieces of input of any size; connections that break in the middle of a
message, or at one end only; another connection resuming while the old one still looks open, with unread bytes in it;
time passing by a millisecond or through the leases; steps of the sweeper that hold a shard from one to the next;
clients that die for good.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from random import Random
from typing import Any

from naught_server import session
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.protocol import ServerProtocol
from simulation.sessions.audit import Audit, listening
from simulation.sessions.client import Client, Link
from simulation.sessions.model import Numbers, Record, SessionCache
from simulation.sessions.requests import Requests

ROUNDS_MAX = 3_000
"""Rounds in which everything must have come to rest once nothing new is asked."""


def keys_for(shards: int, count: int) -> list[bytes]:
    """Keys that go round the shards in order, whatever Python's hash is in this process: so a seed means the same
    everywhere. They have one length, too."""
    keys = []
    for number in range(count):
        for salt in itertools.count(1_000):
            key = b"%03d:%d" % (number, salt)
            if hash(key) & (shards - 1) == number % shards:
                keys.append(key)
                break
    return keys


class World:
    """Two caches of one engine, some clients, and the model of all that."""

    def __init__(self, seed: int, eviction: Any, shards: int, limit: int | None = None, clients: int = 5) -> None:
        self.random = random = Random(seed)
        policies = {
            "default": CachePolicy("default", shards=shards, eviction=eviction, max_counters=limit),
            "other": CachePolicy("other", shards=1, eviction="lazy" if eviction == "eager" else "eager"),
        }
        first_hold = random.choice([1, 1_000, 2**40])
        self.engine = Engine(
            ServerConfig(caches=policies), new_session_id=lambda: random.randbytes(16), first_hold=first_hold
        )
        self.failures: list[str] = []  # jobs of the sweeper that raised
        self.engine.sweep._failed = lambda job, fault: self.failures.append(f"{job}: {fault!r}")
        numbers = Numbers(first_hold)
        self.models = {
            name: SessionCache(name, policy.max_counters, numbers, session.PARKED_MAX, session.UNACKNOWLEDGED_MAX)
            for name, policy in policies.items()
        }
        self.requests = {
            name: Requests(random, keys_for(policy.shards, 70 if policy.max_counters is None else 90))
            for name, policy in policies.items()
        }
        self.now_ms = 1_000_000
        self.audit = Audit()
        self.clients = [self._client() for _ in range(clients)]
        self.links: list[Link] = []  # whose end at the server is open
        self.sessions: list[Record] = []  # all that were ever opened, nameless ones too
        self.owed: set[str] = set()  # caches in which somebody may have to wait for a step of the engine
        self.stalls = 0
        self.takeovers = 0
        self.resumptions = 0
        self._listening = ExitStack()

    def __enter__(self) -> World:
        self._listening.enter_context(listening(self.engine, self.audit.notes))
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    @property
    def grants(self) -> int:
        """Waits that ended because there was room."""
        return sum(model.grants for model in self.models.values())

    def run(self, steps: int) -> None:
        """Let things happen, and now and then come to rest and look at what is left."""
        for step in range(steps):
            if not step % 100:
                for requests in self.requests.values():
                    requests.turn_tide()
            self._step()
            if not step % 10:
                self.engine.invariants(self.now_ms)
            if step % 400 == 399:
                self._rest()
        self._rest()

    # ------------------------------------------------------------------------------------- what happens

    def _step(self) -> None:
        random = self.random
        what = random.random()
        client = random.choice(self.clients)
        if client.link is None and random.random() < 0.7:
            self._connect(client)
        if what < 0.40:
            for _ in range(random.choice([1, 2, 3, 8, 12])):
                self._ask(client)
            if random.random() < 0.6:
                self._push(client.link)
            if random.random() < 0.4:
                self._pull(client)
                client.acknowledge()
        elif what < 0.49:
            self._push(random.choice(self.links) if self.links else None)
        elif what < 0.54:
            self._turn(random.choice(self.links) if self.links else None)
        elif what < 0.68:
            self._pull(client)
            client.acknowledge()
        elif what < 0.80:
            self._advance(random.choice([1, 1, 1, 2, 2, 4, 20, 2_000]))
        elif what < 0.88:
            self.now_ms += random.choice([0, 1, 1, 2, 5, 20, 50, 120])
        elif what < 0.89:
            self.now_ms += random.choice([300, 1_000, 3_000])
        elif what < 0.94:
            self._cut(client)
        elif what < 0.95:
            if self.links:
                self._close(random.choice(self.links))
        elif what < 0.97:
            client.leave()
        elif what < 0.975:
            client.talk_garbage()
        else:
            self._cut(client)  # and it is never heard of again
            self._replace(client)

    def _replace(self, client: Client) -> None:
        self.resumptions += client.resumptions
        self.clients[self.clients.index(client)] = self._client()

    def _client(self) -> Client:
        return Client(self.random, self.random.random() < 0.85, self.random.random() < 0.95)

    def _record(self, named: bool) -> Record:
        random = self.random
        model = self.models[random.choice(["default", "default", "other"]) if named else "default"]
        record = Record(named, model, random.choice([100, 150, 400, 2_000]))
        self.sessions.append(record)
        return record

    def _connect(self, client: Client) -> None:
        link = Link(client)
        link.protocol = ServerProtocol(self.engine, link.wake)
        client.connect(link, self._record(client.named))
        if not client.named:
            assert link.record is not None
            self.audit.records[link.protocol.session] = link.record
        self.links.append(link)
        if self.random.random() < 0.8:
            self._push(link, whole=True)
            self._pull(client)

    def _ask(self, client: Client) -> None:
        if client.record is not None:
            self.requests[client.record.cache.name].ask(client)

    def _push(self, link: Link | None, whole: bool = False) -> None:
        """Some more bytes arrive at the server; all, or a piece cut anywhere."""
        if link is None or link.closed:
            return
        random = self.random
        size = len(link.up) if whole or random.random() < 0.7 else random.randint(0, len(link.up))
        piece, link.up = link.up[:size], link.up[size:]
        if not piece:
            return
        if link.protocol.backlog or (not whole and random.random() < 0.3):
            # Read and not executed: where a takeover finds it.
            link.protocol.feed(piece)
        else:
            self._hear(link, link.protocol.receive(piece, self.now_ms))

    def _turn(self, link: Link | None) -> None:
        if link is not None and not link.closed:
            link.woken = False
            self._hear(link, link.protocol.turn(self.now_ms))

    def _hear(self, link: Link, replies: bytes) -> None:
        """A turn of a channel is over: hold it against the model, and send its replies on their way."""
        protocol = link.protocol
        if protocol.aborted:
            assert not replies, "a connection that lost its session goes on"
        self.audit.hold(protocol, link.record, self.now_ms)
        self.stalls += protocol._waiting
        self._look_at_counts(protocol)
        if link.client is not None:
            link.down += replies
        if protocol.closing:
            if not protocol.aborted or self.random.random() < 0.7:
                self._close(link)
            else:
                link.woken = True  # it is to be closed; until then it may be given more
        self._look_for_sleepers()

    def _look_at_counts(self, protocol: ServerProtocol) -> None:
        record = self.audit.records.get(protocol.session)
        if record is not None and record.named and not record.ended and protocol.session.outlet is protocol:
            assert protocol.session.accepted == record.accepted
            assert protocol.session.replied == len(record.replies)

    def _pull(self, client: Client) -> None:
        """Some more bytes arrive at the client."""
        link = client.link
        if link is None:
            return
        size = self.random.choice([len(link.down), self.random.randint(0, len(link.down))])
        piece, link.down = link.down[:size], link.down[size:]
        if client.hear(piece):
            self._begin_anew(client, link)
        elif link.closed and not link.down:
            client.give_up()

    def _begin_anew(self, client: Client, link: Link) -> None:
        """The session is over, and the client knows: it said bye, or was told `no_session`."""
        assert client.record is not None
        assert client.record.ended, "the server does not know a session that has not ended"
        if link.closed:
            client.session_id = None
            client.give_up()
        else:
            client.open(self._record(True))

    def _cut(self, client: Client) -> None:
        """The client's connection breaks; some of what was sent may still arrive, and the server may not notice."""
        link = client.give_up()
        if link is not None and not link.closed:
            link.up = link.up[: self.random.randint(0, len(link.up))]
            if self.random.random() < 0.4:
                self._close(link)

    def _close(self, link: Link) -> None:
        """The server notices that a connection is gone, or ends it."""
        if link.closed:
            return
        link.closed = True
        self.links.remove(link)
        protocol = link.protocol
        record = self.audit.records.get(protocol.session)
        if record is not None and protocol.session.outlet is protocol:
            record.lost_ms = self.now_ms
        if protocol.aborted:
            self.takeovers += 1
        protocol.close(self.now_ms)
        self.audit.hold(None, None, self.now_ms)

    def _advance(self, entries_max: int) -> int:
        done = self.engine.advance(self.now_ms, entries_max)
        assert not self.failures, f"a job of the sweeper raised: {self.failures}"
        self.audit.hold(None, None, self.now_ms)
        self._look_for_sleepers()
        return done

    # ------------------------------------------------------------------------------------- what must be

    def _look_for_sleepers(self) -> None:
        """Whoever can be granted has been, in the step that made it so. Two things may keep the engine: a shard that
        is worked on (then it is in a hurry when that is over), and a counter that has expired and that nobody has
        looked at since."""
        for name, cache in self.engine.store.caches.items():
            if cache.locks.held or cache.wheel.due(self.now_ms, 1):
                self.owed.add(name)
                continue
            if name in self.owed and cache.waiters.unsettled:
                assert self.engine.next_due(self.now_ms) == self.now_ms, "somebody could be answered, and no hurry"
                continue
            self.owed.discard(name)
            model = self.models[name]
            model.purge(self.now_ms)
            assert not model.sleepers(), f"{model.sleepers()} could be answered and sleep"
            assert not cache.waiters.unsettled, "somebody was not looked at"

    def _rest(self) -> None:
        """Ask nothing more, and let everything arrive."""
        for _ in range(ROUNDS_MAX):
            moved = False
            for client in self.clients:
                if client.link is None:
                    self._connect(client)
            for link in list(self.links):
                moved |= bool(link.up)
                self._push(link)
                while not link.closed and (link.woken or link.protocol.wants_turn or self._has_input(link)):
                    moved = True
                    self._turn(link)
            for client in self.clients:
                if client.link is not None:
                    moved |= bool(client.link.down) or client.link.closed
                    self._pull(client)
            moved |= bool(self._advance(100_000)) or any(link.woken for link in self.links)
            self.now_ms += 1
            if not moved and not any(record.named and self._is_to_end(record) for record in self.sessions):
                break
        else:
            raise AssertionError("it does not come to rest")
        self.now_ms -= 1
        self._look_at_what_is_left()

    @staticmethod
    def _has_input(link: Link) -> bool:
        return link.protocol.backlog and not link.protocol._waiting

    def _is_to_end(self, record: Record) -> bool:
        return not record.ended and record.lost_ms is not None and record.lost_ms + record.lease_ms <= self.now_ms

    def _look_at_what_is_left(self) -> None:
        self.engine.invariants(self.now_ms)
        assert not self.engine.sessions.unfinished, "an ended session was not emptied"
        for client in self.clients:
            record = client.record
            if record is not None and client.ready:
                assert client.received == len(record.replies), f"{client.received} of {len(record.replies)} replies"
                assert record.accepted == len(record.stream), f"{record.stream[record.accepted]} never ran"
                waiting = [request for request in record.stream if not request.answered]
                assert {request.msgid for request in waiting} == set(record.waiters), f"{waiting} have no reply"
        for each in self.engine.sessions:
            record = self.audit.records[each]
            assert not record.ended
            assert set(each.parked) == set(record.waiters)
        for name, cache in self.engine.store.caches.items():
            model = self.models[name]
            model.purge(self.now_ms)
            left: dict[bytes, int] = {}
            for shard in range(len(cache.tables)):
                left.update(cache.counters_of(shard, self.now_ms, b""))
            assert left == model.values
            assert {key: at for shard in cache.deadlines for key, at in shard.items()} == model.deadlines
            assert cache.locks.held == 0, "a lock was left behind"
            assert not model.sleepers(), f"{model.sleepers()} could be answered and sleep"
            assert not any(hold.record.ended and model.live(hold) for hold in model.holds.values()), (
                "an ended session holds something"
            )
            assert {key: len(queue) for key, queue in cache.waiters.queues.items()} == {
                key: len(queue) for key, queue in model.queues.items()
            }
        self.sessions = [record for record in self.sessions if not record.ended]
