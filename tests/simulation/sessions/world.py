"""A server without sockets and clock, clients with sessions, and connections that break, driven by one random source.

    with World(seed, ...) as world:
        world.run(steps)           raises AssertionError at the first difference from the model

Between any two turns anything can happen: input in pieces of any size; connections that break in the middle of a
message, or at one end only; a resumption while the old connection still looks open and has unread bytes; time that
passes by a millisecond or by more than a lease; steps of the sweeper that hold a shard's lock until a later step;
clients that never come back.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from random import Random
from typing import Any

from naught_server import session
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.hot import SHARD_SHIFT
from naught_server.protocol import ServerProtocol
from naught_server.store import Cache
from simulation.sessions.audit import Audit, recording
from simulation.sessions.client import Client, SimulatedConnection
from simulation.sessions.model import Numbers, Record, SessionCache
from simulation.sessions.requests import Requests
from simulation.world import POLICY_STEPS, change_evictions

ROUNDS_MAX = 3_000
"""Rounds after the last request in which all work must be done."""


def keys_for(shards: int, count: int) -> list[bytes]:
    """Keys of one length that are in the shards in turn, whatever Python's hash is in this process. So a seed has the
    same effect in every process."""
    keys = []
    for number in range(count):
        for salt in itertools.count(1_000):
            key = b"%03d:%d" % (number, salt)
            if hash(key) >> SHARD_SHIFT & (shards - 1) == number % shards:
                keys.append(key)
                break
    return keys


class World:
    """Two caches of one engine, some clients, and the model of all of them."""

    def __init__(self, seed: int, eviction: Any, shards: int, limit: int | None = None, clients: int = 5) -> None:
        self.random = random = Random(seed)
        policies = {
            "default": CachePolicy("default", shards=shards, eviction=eviction, max_counters=limit),
            "other": CachePolicy("other", shards=1, eviction="lazy" if eviction == "eager" else "eager"),
        }
        first_hold = random.choice([1, 1_000, 2**40])
        self.engine = Engine(
            ServerConfig(caches=policies, compaction_bytes_per_entry=100),
            new_session_id=lambda: random.randbytes(16),
            first_hold=first_hold,
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
        self.connections: list[SimulatedConnection] = []  # those open at the server's end
        self.sessions: list[Record] = []  # the sessions ever opened, temporary ones too
        self.delayed: set[str] = set()  # caches in which grants may be delayed until a later step of the engine
        self.stalls = 0
        self.takeovers = 0
        self.expelled = 0  # sessions that the operator has ended
        self.resumptions = 0
        self._recording = ExitStack()

    def __enter__(self) -> World:
        self._recording.enter_context(recording(self.engine, self.audit.notes))
        return self

    def __exit__(self, *_: object) -> None:
        self._recording.close()

    @property
    def grants(self) -> int:
        """Waiting requests that were granted."""
        return sum(model.grants for model in self.models.values())

    def run(self, steps: int) -> None:
        """Take random steps. Every 400 steps and at the end, finish all work and check the state."""
        for step in range(steps):
            if not step % 100:
                for requests in self.requests.values():
                    requests.change_direction()
            if not (step + 1) % POLICY_STEPS:
                change_evictions(self.engine)
            self._step()
            if not step % 10:
                self.engine.invariants(self.now_ms)
            if step % 400 == 399:
                self._rest()
        self._rest()

    # ------------------------------------------------------------------------------------- random steps

    def _step(self) -> None:
        random = self.random
        what = random.random()
        client = random.choice(self.clients)
        if client.connection is None and random.random() < 0.7:
            self._connect(client)
        if what < 0.40:
            for _ in range(random.choice([1, 2, 3, 8, 12])):
                self._ask(client)
            if random.random() < 0.6:
                self._push(client.connection)
            if random.random() < 0.4:
                self._pull(client)
                client.acknowledge()
        elif what < 0.49:
            self._push(random.choice(self.connections) if self.connections else None)
        elif what < 0.54:
            self._turn(random.choice(self.connections) if self.connections else None)
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
            if self.connections:
                self._close(random.choice(self.connections))
        elif what < 0.97:
            client.leave()
        elif what < 0.975:
            client.send_garbage()
        elif what < 0.98:
            self._expel()
        else:
            self._cut(client)  # and this client never comes back
            self._replace(client)

    def _expel(self) -> None:
        """The operator ends a session."""
        sessions = list(self.engine.sessions)
        if not sessions:
            return
        session = self.random.choice(sessions)
        self.audit.records[session].expelled = True
        self.engine.sessions.end_by_operator(session, self.now_ms)
        self.expelled += 1
        self.audit.check(None, None, self.now_ms)
        self._check_missed_waiters()

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
        connection = SimulatedConnection(client)
        connection.protocol = ServerProtocol(self.engine, connection.wake)
        client.connect(connection, self._record(client.named))
        if not client.named:
            assert connection.record is not None
            self.audit.records[connection.protocol.session] = connection.record
        self.connections.append(connection)
        if self.random.random() < 0.8:
            self._push(connection, whole=True)
            self._pull(client)

    def _ask(self, client: Client) -> None:
        if client.record is not None:
            self.requests[client.record.cache.name].ask(client)

    def _push(self, connection: SimulatedConnection | None, whole: bool = False) -> None:
        """Some more bytes arrive at the server: all that were sent, or a part of any size."""
        if connection is None or connection.closed:
            return
        random = self.random
        size = len(connection.up) if whole or random.random() < 0.7 else random.randint(0, len(connection.up))
        piece, connection.up = connection.up[:size], connection.up[size:]
        if not piece:
            return
        if connection.protocol.backlog or (not whole and random.random() < 0.3):
            # Received and not executed, so that a takeover can find it.
            connection.protocol.feed(piece)
        else:
            self._take_replies(connection, connection.protocol.receive(piece, self.now_ms))

    def _turn(self, connection: SimulatedConnection | None) -> None:
        if connection is not None and not connection.closed:
            connection.woken = False
            self._take_replies(connection, connection.protocol.turn(self.now_ms))

    def _take_replies(self, connection: SimulatedConnection, replies: bytes) -> None:
        """After a turn of a protocol: compare it with the model, and send its replies."""
        protocol = connection.protocol
        if protocol.aborted:
            assert not replies, "a connection without its session still replies"
        self.audit.check(protocol, connection.record, self.now_ms)
        self.stalls += protocol._waiting
        self._check_counts(protocol)
        if connection.client is not None:
            connection.down += replies
        if protocol.closing:
            if not protocol.aborted or self.random.random() < 0.7:
                self._close(connection)
            else:
                connection.woken = True  # it will be closed later; until then it may receive more input
        self._check_missed_waiters()

    def _check_counts(self, protocol: ServerProtocol) -> None:
        record = self.audit.records.get(protocol.session)
        if record is not None and record.named and not record.ended and protocol.session.outlet is protocol:
            assert protocol.session.accepted == record.accepted
            assert protocol.session.replied == len(record.replies)

    def _pull(self, client: Client) -> None:
        """Some more bytes arrive at the client."""
        connection = client.connection
        if connection is None:
            return
        size = self.random.choice([len(connection.down), self.random.randint(0, len(connection.down))])
        piece, connection.down = connection.down[:size], connection.down[size:]
        if client.receive(piece):
            self._start_new_session(client, connection)
        elif connection.closed and not connection.down:
            client.drop_connection()

    def _start_new_session(self, client: Client, connection: SimulatedConnection) -> None:
        """The session has ended, and the client knows it: it has sent bye, or received `no_session`."""
        assert client.record is not None
        assert client.record.ended, "the server does not know a session that has not ended"
        if connection.closed:
            client.session_id = None
            client.drop_connection()
        else:
            client.open(self._record(True))

    def _cut(self, client: Client) -> None:
        """The client's connection breaks. Some of its bytes may still arrive, and the server may not notice."""
        connection = client.drop_connection()
        if connection is not None and not connection.closed:
            connection.up = connection.up[: self.random.randint(0, len(connection.up))]
            if self.random.random() < 0.4:
                self._close(connection)

    def _close(self, connection: SimulatedConnection) -> None:
        """The server notices that a connection is lost, or closes it."""
        if connection.closed:
            return
        connection.closed = True
        self.connections.remove(connection)
        protocol = connection.protocol
        record = self.audit.records.get(protocol.session)
        if record is not None and protocol.session.outlet is protocol:
            record.lost_ms = self.now_ms
        if protocol.aborted and not (record is not None and record.expelled):
            self.takeovers += 1
        protocol.close(self.now_ms)
        self.audit.check(None, None, self.now_ms)

    def _advance(self, entries_max: int) -> int:
        done = self.engine.advance(self.now_ms, entries_max)
        assert not self.failures, f"a job of the sweeper raised: {self.failures}"
        self.audit.check(None, None, self.now_ms)
        self._check_missed_waiters()
        return done

    # ------------------------------------------------------------------------------------- checks

    def _check_missed_waiters(self) -> None:
        """Check that each waiting request was granted in the step that made room for it.

        A grant may be delayed for two reasons only: work goes on in a shard (afterwards the engine must be due at
        once), or a counter has expired and was not taken out yet.
        """
        for name, cache in self.engine.store.caches.items():
            if cache.locks.held or cache.wheel.due(self.now_ms, 1):
                self.delayed.add(name)
                continue
            if name in self.delayed and cache.waiters.unsettled:
                assert self.engine.next_due(self.now_ms) == self.now_ms, (
                    "a waiter could be answered, and the engine is not due"
                )
                continue
            self.delayed.discard(name)
            model = self.models[name]
            model.purge(self.now_ms)
            assert not model.missed_waiters(), f"{model.missed_waiters()} should have been answered"
            assert not cache.waiters.unsettled, "a waiter was not looked at"

    def _rest(self) -> None:
        """Send no more requests, and let everything arrive and be answered."""
        for _ in range(ROUNDS_MAX):
            moved = False
            for client in self.clients:
                if client.connection is None:
                    self._connect(client)
            for connection in list(self.connections):
                moved |= bool(connection.up)
                self._push(connection)
                while not connection.closed and (
                    connection.woken or connection.protocol.wants_turn or self._has_input(connection)
                ):
                    moved = True
                    self._turn(connection)
            for client in self.clients:
                if client.connection is not None:
                    moved |= bool(client.connection.down) or client.connection.closed
                    self._pull(client)
            moved |= bool(self._advance(100_000)) or any(connection.woken for connection in self.connections)
            self.now_ms += 1
            if not moved and not any(record.named and self._is_to_end(record) for record in self.sessions):
                break
        else:
            raise AssertionError("the work does not end")
        self.now_ms -= 1
        self._check_end_state()

    @staticmethod
    def _has_input(connection: SimulatedConnection) -> bool:
        return connection.protocol.backlog and not connection.protocol._waiting

    def _is_to_end(self, record: Record) -> bool:
        return not record.ended and record.lost_ms is not None and record.lost_ms + record.lease_ms <= self.now_ms

    def _check_end_state(self) -> None:
        self.engine.invariants(self.now_ms)
        assert not self.engine.sessions.unfinished, "an ended session was not emptied"
        for client in self.clients:
            record = client.record
            if record is not None and client.ready:
                assert client.received == len(record.replies), f"{client.received} of {len(record.replies)} replies"
                assert record.accepted == len(record.stream), f"{record.stream[record.accepted]} was never executed"
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
            assert cache.deadlines() == model.deadlines
            assert cache.locks.held == 0, "a lock is still held"
            assert self._holders_of(cache) == model.holders(), "who holds what is off"
            assert not model.missed_waiters(), f"{model.missed_waiters()} should have been answered"
            assert not any(hold.record.ended and model.live(hold) for hold in model.holds.values()), (
                "an ended session still has holds"
            )
            assert {key: len(cache.waiters.queues.of(key)) for key in cache.waiters.queues.by_key} == {
                key: len(queue) for key, queue in model.queues.items()
            }
        self.sessions = [record for record in self.sessions if not record.ended]

    def _holders_of(self, cache: Cache) -> dict[bytes, dict[Record, int]]:
        """By key: how much of it each session holds."""
        found: dict[bytes, dict[Record, int]] = {}
        for key in cache.waiters.generations:
            if cache.is_expired(key, self.now_ms):
                continue
            for number, amount in cache.waiters.held_by(key):
                session = self.engine.sessions.get(number)
                assert session is not None, "a session that has ended holds something"
                found.setdefault(key, {})[self.audit.records[session]] = amount
        return found
