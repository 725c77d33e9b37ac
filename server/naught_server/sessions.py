"""All sessions of an engine: opening, resuming and ending them. Sans-IO.

A session ends for one of the reasons in `EndReason`. From that moment it is unknown to clients. Its waiters leave
their queues and its holds are given back in bounded steps; each hold is taken off the list in the step that gives it
back, so it is given back exactly once. Where a session did not end by `bye`, its client is gone or is to go; then it
is reported once all that it held was taken back.

There is a bound on all sessions, and one on those opened from one address. At a bound, a new session takes the place
of one that has no connection and was never used. If there is none, opening is refused.

The figures of all sessions are kept as they change, so reading them takes no walk:

    figure                                         kept by
    connected, opened, ended, taken back           Sessions
    holds, held_amounts                            HoldCounts, to which each session's Holds reports
    parked, parked_keys, parked_bytes              Sessions, to which each session reports what waits
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from naught.errors import Busy, InvalidRequest, NoSession
from naught.wire.limits import REPLY_BYTES_MAX, SESSION_ID_BYTES
from naught_server.access import Access, Login
from naught_server.holds import HoldCounts, TakenBack
from naught_server.quotas import Quota
from naught_server.session import END_REASONS, EndReason, Outlet, Session
from naught_server.stats import Stats
from naught_server.store import Cache, Store
from naught_server.timers import Timers
from naught_server.waiters import SETTLED_AT_ONCE

PAGE_ENTRIES_MAX: Final = 1_000
"""Work for one page of sessions: half a millisecond, for about 200 of them."""

NUMBERS_PER_ENTRY: Final = 32
"""Sessions that `page` passes over for an entry."""

REPORT_ENTRIES: Final = 40
"""Reporting that a session's holds were taken back, with a line in the log: about 15 us."""

ROW_BYTES: Final = 392
"""At most what a row of `page` takes without its texts and keys: the words, the largest integers, the longest name of
a cache, and what comes before each wait."""

OnTakenBack = Callable[[Session, EndReason, TakenBack], None]
"""Called when all that a session held was taken back, and it did not end by `bye`."""


class _Share:
    """The sessions that were opened from one address."""

    __slots__ = ("address", "count", "idle")

    def __init__(self, address: str | None) -> None:
        self.address = address
        self.count = 0
        self.idle: dict[Session, None] = {}  # those that were never used and have no connection, the oldest first


class _Ended:
    """A session that has ended and still waits or holds something."""

    __slots__ = ("reason", "session", "taken")

    def __init__(self, session: Session, reason: EndReason) -> None:
        self.session: Final = session
        self.reason: Final = reason
        self.taken: Final = TakenBack()  # what was taken back from it so far


class Sessions:
    """All sessions of an engine by their id, and those that have ended and still wait or hold something."""

    def __init__(
        self,
        store: Store,
        timers: Timers,
        stats: Stats,
        *,
        new_id: Callable[[], bytes],
        first_hold: int,
        sessions_max: int,
        of_address_max: int,
        parked_bytes_max: int,
        on_taken_back: OnTakenBack,
    ) -> None:
        self.timers: Final = timers
        self.stats: Final = stats
        self.hold_counts: Final = HoldCounts()  # what all sessions hold
        self._on_taken_back: Final = on_taken_back
        self._store: Final = store
        self._new_id: Final = new_id
        self._sessions_max: Final = sessions_max
        self._of_address_max: Final = of_address_max
        self._shares: dict[str | None, _Share] = {}  # by address; those with sessions
        self._share_of: dict[bytes, _Share] = {}  # by session
        self._quotas_of: dict[bytes, tuple[Quota, ...]] = {}  # the principals a session counts for, by session
        self._idle: dict[Session, None] = {}  # those of all shares
        self._parked_bytes_max: Final = parked_bytes_max
        # Requests that wait, of all sessions and of connections without one; the keys they wait for; their memory.
        self.parked = 0
        self.parked_keys = 0
        self.parked_bytes = 0
        # The open sessions, in the order of their numbers.
        self._by_id: dict[bytes, Session] = {}
        self._by_number: dict[int, Session] = {}
        self._ended: deque[_Ended] = deque()  # to be emptied by `step`
        self._away = 0  # open sessions without a connection: their leases run
        self._hold = first_hold - 1  # the last number given to a hold
        # Since the start:
        self.opened = 0  # sessions; the number of the last one
        self.ended: dict[EndReason, int] = dict.fromkeys(END_REASONS, 0)  # sessions, by reason
        # Holds, and amounts in them, that were taken back from sessions that did not end by `bye`.
        self.holds_taken_back = 0
        self.held_amounts_taken_back = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        """In the order they were opened."""
        return iter(self._by_id.values())

    def next_hold(self) -> int:
        """A number for a hold, higher than all before."""
        self._hold += 1
        return self._hold

    def add_parked(self, keys: int, size: int) -> None:
        """A request is to wait for this number of keys, and takes `size` bytes. Raises Busy where all waits together
        take too much."""
        if self.parked_bytes + size > self._parked_bytes_max:
            raise Busy(f"the server has {self._parked_bytes_max} bytes for requests that wait, and they are in use")
        self.parked += 1
        self.parked_keys += keys
        self.parked_bytes += size

    def remove_parked(self, keys: int, size: int) -> None:
        """Such a request waits no longer."""
        self.parked -= 1
        self.parked_keys -= keys
        self.parked_bytes -= size

    @property
    def connected(self) -> int:
        """Open sessions that have a connection."""
        return len(self._by_id) - self._away

    @property
    def holds(self) -> int:
        """Holds of all sessions. Those of a session that has ended are included until they were taken back."""
        return self.hold_counts.holds

    @property
    def held_amounts(self) -> int:
        """Amounts in these holds: one for each counter of a hold. Amounts of a counter that has been absent since
        are included until they are found."""
        return self.hold_counts.amounts

    def temporary(self, cache: Cache, outlet: Outlet) -> Session:
        """A session for a connection that has asked for none."""
        return Session(self, cache, outlet)

    def open(self, session: Session, lease_ms: int | None, now_ms: int) -> None:
        """Give a temporary session an id. Raises InvalidRequest where it has one, Busy where there are too many."""
        if session.id is not None:
            raise InvalidRequest("this connection has a session; bye ends it")
        if session.parked or session.slices:
            # Their replies would be counted in the session and sent again after a cut, but the requests were not sent
            # in it.
            raise InvalidRequest(
                "this connection has work under way; open a session before it, or on a new connection"
            )
        outlet = session.outlet
        assert outlet is not None, "a request comes from a connection"
        share = self._shares.get(outlet.address) or _Share(outlet.address)
        quotas = self._quota_of_session(outlet)
        try:
            self._make_room(share, now_ms)
        except Busy:
            for quota in quotas:
                quota.sessions -= 1
            raise
        self.opened += 1
        session_id = self._new_id()
        assert len(session_id) == SESSION_ID_BYTES, "an id is a credential of 128 bits"
        session.open(session_id, self.opened, lease_ms, now_ms, outlet.login)
        self._by_id[session_id] = session
        self._by_number[self.opened] = session
        self._shares[share.address] = share
        self._share_of[session_id] = share
        if quotas:
            self._quotas_of[session_id] = quotas
        share.count += 1

    @staticmethod
    def _quota_of_session(outlet: Outlet) -> tuple[Quota, ...]:
        """Count a session for the principals of its connection. Raises Busy, with nothing counted."""
        counted: list[Quota] = []
        try:
            for quota in outlet.quotas:
                quota.open_session()
                counted.append(quota)
        except Busy:
            for quota in counted:
                quota.sessions -= 1
            raise
        return tuple(counted)

    def _make_room(self, share: _Share, now_ms: int) -> None:
        """For one more session of this address: end one that was never used if there are too many. Raises Busy."""
        # A Unix socket and a process of its own have no address: their clients were let in by other means.
        if share.address is not None and share.count >= self._of_address_max:
            if not share.idle:
                raise Busy(f"the address of this client has {share.count} sessions already")
            self.end(next(iter(share.idle)), now_ms, "displaced")
        if len(self._by_id) >= self._sessions_max:
            if not self._idle:
                raise Busy(f"the server has {self._sessions_max} sessions already")
            self.end(next(iter(self._idle)), now_ms, "displaced")

    def _leave_share(self, session: Session) -> None:
        assert session.id is not None
        for quota in self._quotas_of.pop(session.id, ()):
            quota.sessions -= 1
        self._idle.pop(session, None)
        share = self._share_of.pop(session.id)
        share.idle.pop(session, None)
        share.count -= 1
        if not share.count:
            del self._shares[share.address]

    def resume(self, temporary: Session, session_id: bytes, received: int) -> Session:
        """The session of this id, with the connection of the temporary one; its former connection is closed.

        Raises NoSession where there is none of that id, or its replies from there on are gone; InvalidRequest where
        the connection's own session is in use, or `received` cannot be.
        """
        session = self._by_id.get(session_id)
        # A session of another user is answered as if it did not exist.
        if session is None or not _is_of(session.login, temporary.outlet):
            raise NoSession("the server does not know this session; it may have ended")
        if session is temporary:
            raise InvalidRequest("this connection has that session already")
        if temporary.id is not None or temporary.parked or temporary.slices:
            raise InvalidRequest("this connection has work under way; resume on a new one")
        if received < session.acknowledged:
            raise NoSession("the replies from there on were acknowledged, and are gone")
        session.need_sent(received)
        self._idle.pop(session, None)
        self._share_of[session_id].idle.pop(session, None)
        # Before anything is counted: requests that the old connection has read and not executed were never accepted.
        if session.outlet is not None:
            session.outlet.lose_session()
        else:
            self._away -= 1
        session.acknowledge(received)
        session.detach()
        outlet = temporary.outlet
        assert outlet is not None, "a request comes from a connection"
        session.attach(outlet)
        return session

    def leave(self, session: Session, now_ms: int) -> None:
        """Its connection is lost: the lease begins. A temporary session ends."""
        session.detach()
        if session.id is None:
            self.end(session, now_ms, "bye")
        else:
            self._away += 1
            session.start_lease(now_ms, partial(self._end_of_lease, session))
            if not session.accepted:
                # It has counted nothing and holds nothing: its client loses nothing but its id.
                self._idle[session] = self._share_of[session.id].idle[session] = None

    def get(self, number: int) -> Session | None:
        """The open session of this number."""
        return self._by_number.get(number)

    def without_access(self, access: Access) -> list[Session]:
        """The open sessions whose user is gone or may do less than before; the others are told what it may do now.
        O(sessions)."""
        found = []
        for session in self:
            login = access.renewed(session.login)
            if login is not None:
                session.renew_login(login)
            elif access.required:
                found.append(session)
        return found

    def end_by_operator(self, session: Session, now_ms: int, reason: EndReason = "operator") -> int:
        """End an open session, and close its connection at once. Returns the entries of work."""
        if session.outlet is not None:
            session.outlet.lose_session()
            session.detach()
        return self.end(session, now_ms, reason)

    def _end_of_lease(self, session: Session, now_ms: int) -> int:
        """A session was without a connection for too long. Returns the entries of work."""
        return self.end(session, now_ms, "lease")

    def end(self, session: Session, now_ms: int, reason: EndReason) -> int:
        """End a session. A connection that still has it must take another one. Returns the entries of work."""
        if session.id is not None:
            if session.has_lease_running:
                self._away -= 1
            self._by_id.pop(session.id, None)
            self._by_number.pop(session.number, None)
            self._leave_share(session)
            self.ended[reason] += 1
        session.end()
        done = 0
        if session.parked or session.holds:
            self._ended.append(_Ended(session, reason))
            done = self.step(now_ms, SETTLED_AT_ONCE)
        return done

    def step(self, now_ms: int, entries_max: int) -> int:
        """Empty ended sessions, for up to about `entries_max` entries of work. Returns how many were done."""
        done = 0
        for _ in range(len(self._ended)):
            ended = self._ended[0]
            session = ended.session
            done += _empty(ended, now_ms, entries_max - done)
            self._ended.popleft()
            if session.parked or session.holds:
                self._ended.append(ended)  # its shard may be held, which must not stop the others
            else:
                done += self._report(ended)
            if done >= entries_max:
                break
        return done

    def _report(self, ended: _Ended) -> int:
        """All that an ended session held was taken back. Returns the entries of work."""
        taken = ended.taken
        if ended.reason == "bye" or not taken.holds:
            return 0
        self.holds_taken_back += taken.holds
        self.held_amounts_taken_back += taken.amounts
        self._on_taken_back(ended.session, ended.reason, taken)
        return REPORT_ENTRIES

    @property
    def unfinished(self) -> int:
        """The number of ended sessions that still wait or hold something: `step` has to empty them."""
        return len(self._ended)

    def page(self, after: int, now_ms: int) -> tuple[list[dict[str, Any]], int]:
        """The sessions with numbers above `after`, for operators: as many as fit one reply and a turn. And the
        entries of work. O(sessions), of which passing over one costs a hundredth of listing it."""
        numbers = list(self._by_number)
        entries = len(numbers) // NUMBERS_PER_ENTRY
        room = REPLY_BYTES_MAX - 64
        found: list[dict[str, Any]] = []
        for at in range(bisect_right(numbers, after), len(numbers)):
            session = self._by_number[numbers[at]]
            row = session.as_dict(now_ms)
            entries += session.price_of_dict()
            room -= _row_bytes(row)
            if room < 0:
                break
            found.append(row)
            if entries >= PAGE_ENTRIES_MAX:
                break
        return found, entries

    def totals(self) -> dict[str, Any]:
        """For `info`. O(1)."""
        return {
            "open": len(self._by_id),
            "connected": self.connected,
            "opened": self.opened,
            "ended": dict(self.ended),
            "holds": self.holds,
            "held_amounts": self.held_amounts,
            "holds_taken_back": self.holds_taken_back,
            "held_amounts_taken_back": self.held_amounts_taken_back,
            "parked": self.parked,
            "parked_keys": self.parked_keys,
        }

    def invariants(self) -> None:
        """Raise AssertionError, naming what is wrong, unless sessions, holds, generations and figures agree.
        O(everything)."""
        holds: dict[int, int] = {}
        amounts: dict[tuple[int, int], int] = {}  # by generation and session
        everyone = [*self, *(ended.session for ended in self._ended)]
        for session in everyone:
            session.invariants()
            generations = session.cache.waiters.generations
            for hold in session.holds:
                for key, (by, generation) in hold.amounts.items():
                    if generations.get(key) is generation:
                        holds[id(generation)] = holds.get(id(generation), 0) + 1
                        its = (id(generation), session.number)
                        amounts[its] = amounts.get(its, 0) + by
        assert sum(share.count for share in self._shares.values()) == len(self._by_id) == len(self._share_of)
        assert [session.number for session in self] == list(self._by_number) == sorted(self._by_number), (
            "the sessions by id and by number are not the same"
        )
        for session in self:
            assert session.id is not None
            idle = session.outlet is None and not session.accepted
            assert (session in self._idle) == (session in self._share_of[session.id].idle) == idle, "idle is off"
            assert (session.outlet is None) == session.has_lease_running, "a lease runs where it should not"
        for cache in self._store.caches.values():
            for key, generation in cache.waiters.generations.items():
                assert holds.get(id(generation)) == generation.holds, (
                    f"{key!r}: {generation.holds} holds noted, {holds.get(id(generation))} there"
                )
                for number, amount in generation.amounts():
                    its = (id(generation), number)
                    assert amounts.pop(its, 0) == amount, f"{key!r}: what session {number} holds of it is off"
        assert not amounts, "a generation does not know a session that holds it"
        self._check_figures(everyone)

    def _check_figures(self, everyone: list[Session]) -> None:
        """Raise AssertionError unless the figures are those of a walk. `everyone`: also those that have ended."""
        assert self.connected == sum(session.outlet is not None for session in self), "connected is off"
        assert self.opened == len(self._by_id) + sum(self.ended.values()), "opened and ended are off"
        assert self.holds == sum(len(session.holds) for session in everyone), "holds is off"
        assert self.held_amounts == sum(session.holds.items for session in everyone), "held_amounts is off"
        waiting = {waiter for session in everyone for waiter in session.parked.values()}
        whole = True
        for cache in self._store.caches.values():
            of_cache = cache.waiters.unanswered()  # also those of connections without a session
            whole &= of_cache is not None
            waiting.update(of_cache or ())
        figures = (self.parked, self.parked_keys, self.parked_bytes)
        walked = (
            len(waiting),
            sum(waiter.size for waiter in waiting),
            sum(waiter.memory_bytes for waiter in waiting),
        )
        assert figures == walked or not whole, f"parked is {figures}, and {walked} wait"


def _is_of(login: Login | None, outlet: Outlet | None) -> bool:
    """Whether a connection's user is that of this login."""
    if login is None:
        return True
    asking = None if outlet is None else outlet.login
    return asking is not None and asking.rights.user == login.rights.user


def _row_bytes(row: dict[str, Any]) -> int:
    """At most how many bytes a row of `page` takes in a reply."""
    size = ROW_BYTES + len(row["name"].encode()) + len(row["address"].encode()) + len(row["user"] or "")
    for key, _ in row["held"]:
        size += len(key) + 13
    for _, keys in row["waits"]:
        size += sum(map(len, keys)) + 3 * len(keys)
    return size


def _empty(ended: _Ended, now_ms: int, entries_max: int) -> int:
    """Let an ended session's waiters leave their queues and give back its holds. Returns the entries of work."""
    session = ended.session
    done = session.empty_queues(entries_max)
    done += session.holds.give_back(ended.taken, now_ms, entries_max - done)
    waiters = session.cache.waiters
    if waiters.unsettled:
        done += waiters.settle(now_ms, SETTLED_AT_ONCE)
    return done
