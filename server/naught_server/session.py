"""The server's half of a session: what outlives a connection. Sans-IO.

A session is a pair of ordered streams, requests and replies. Both ends count. `hello` opens one on a connection, and
on a later connection it resumes it: the client says how many replies it has, the server how many requests it has
accepted, and sends again the replies the client lacks. So a request runs once at most, however often the
connection breaks.

    connection (connection.py) -> Channel (channel.py) -> Session -> holds, parked requests, unacknowledged replies

What is here is what a connection must not take along when it breaks: the two counts, the replies that are not
acknowledged, what is parked or works in slices, and the holds. A channel has exactly one session. One that was
never opened by `hello` is *nameless*: it has no id, keeps no replies, can hold nothing, and ends with its connection;
so a parked request always belongs to a session, and there is one way to park.

Replies are kept by the chunk, as the channel sent them: one entry for each turn and not for each reply. An
acknowledgement drops whole chunks, so what is kept may begin with some that were acknowledged; a resumption cuts
those off. The windows must not depend on how replies came to share a chunk, so what they need is noted by the reply:
of a long one its length, of one to a request that may wait that it was.

**The end.** A session ends by `bye`, when its lease has run out after its connection was lost, or because its peer
broke the rules. It is unknown from that moment on. What it holds goes back in bounded steps, each hold once: it is
taken off the list in the same step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from naught.errors import Busy, CommandError, InvalidRequest, NoSession, NotHeld, TooLarge
from naught.wire.codec import encode_error, encode_result
from naught.wire.limits import (
    PARKED_MAX,
    REPLY_BYTES_MAX,
    SESSION_ID_BYTES,
    UNACKNOWLEDGED_BYTES_MAX,
    UNACKNOWLEDGED_MAX,
)
from naught_server.config import HELD_ITEMS_MAX, LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN
from naught_server.decoder import without_first
from naught_server.timers import Alarm
from naught_server.waiters import SETTLED_AT_ONCE, Life, Waiter

if TYPE_CHECKING:
    from naught_server.batch import Batch
    from naught_server.commands import Slices
    from naught_server.engine import Engine
    from naught_server.protocol import Channel
    from naught_server.store import Cache

SHORT_REPLY_BYTES: Final = 32
"""Replies up to this size are only counted: as many as may be kept have 0.3 MiB. Such are those of the fast loop,
which knows how many they are and not how long."""

ACK_THOSE: Final = "ack those that have come"


class Hold:
    """An amount that a session has added and will give back."""

    __slots__ = ("amounts", "number")

    def __init__(self, number: int, amounts: dict[bytes, tuple[int, Life]]) -> None:
        self.number: Final = number
        self.amounts = amounts  # by key: how much, and the life it is on; what was given back is not here any more


class Session:
    """One client's conversation with one cache."""

    __slots__ = (
        "_long",
        "accepted",
        "acknowledged",
        "batch",
        "cache",
        "channel",
        "engine",
        "held_items",
        "holds",
        "id",
        "kept",
        "kept_after",
        "kept_bytes",
        "lease",
        "lease_ms",
        "long_bytes",
        "now_ms",
        "number",
        "opened_ms",
        "parked",
        "parked_replies",
        "posted",
        "replied",
        "slices",
    )

    def __init__(self, engine: Engine, cache: Cache, channel: Channel) -> None:
        self.engine: Final = engine
        self.cache = cache  # the one it works on; a nameless session may change it
        self.channel: Channel | None = channel  # the connection it has; None while it has none
        self.id: bytes | None = None  # the credential; None for a nameless session
        self.number = 0  # what operators call it
        self.now_ms = 0  # the time of the latest slice of work in slices
        self.opened_ms = 0
        self.lease_ms = LEASE_MS_DEFAULT  # how long it outlives its connection
        self.lease: Alarm | None = None  # rings when that has passed; set while there is no connection
        self.accepted = 0  # requests, ever; a parked one counts when it is accepted
        self.replied = 0  # replies, ever
        self.acknowledged = 0  # replies the client has said it has
        self.kept: deque[tuple[int, bytes]] = deque()  # chunks: the number of the last reply, bytes
        self.kept_after = 0  # the last reply before those chunks
        self.kept_bytes = 0  # of those chunks
        # Of the replies that are not acknowledged, by number:
        self.parked_replies: deque[int] = deque()  # those to requests that were parked, or might have been
        self._long: deque[tuple[int, int]] = deque()  # those of more than SHORT_REPLY_BYTES, with their bytes
        self.long_bytes = 0  # of the long ones
        # Replies that were not sent yet: of the turn under way, and between turns what was made for the next one.
        self.posted: list[bytes] = []
        self.slices: deque[tuple[int, Slices]] = deque()  # requests working in slices, with their msgids
        self.batch: Batch | None = None  # an `apply` of which a part is done; nothing behind it begins before its end
        self.parked: dict[int, Waiter] = {}  # requests that wait, by msgid
        self.holds: dict[int, Hold] = {}  # by number, in rising order
        self.held_items = 0  # amounts in all holds, those included whose life has ended

    # ---------------------------------------------------------------------------------------- replies

    def answer(self, msgid: int, result: object) -> None:
        """Reply to a parked request: now if a turn is under way, else in the next, or on the next connection."""
        waiter = self.parked.pop(msgid)
        if waiter.alarm is not None:
            self.engine.alarms.cancel(waiter.alarm)
        if isinstance(result, CommandError):
            self.engine.stats.error(result.code)
            reply = encode_error(msgid, result.code, str(result))
        else:
            reply = encode_result(msgid, result)
        self.replied += 1
        if self.id is not None:
            self.parked_replies.append(self.replied)
            self.note_length(len(reply))
        if self.channel is not None:
            self.posted.append(reply)
            self.channel.post()
        else:
            self.keep(reply)

    def keep(self, chunk: bytes) -> None:
        """Keep replies until they are acknowledged: all made since the last call, sent as this chunk."""
        self.kept.append((self.replied, chunk))
        self.kept_bytes += len(chunk)

    def note_length(self, size: int) -> None:
        """Count the bytes of the last reply, where they matter to the window."""
        if size > SHORT_REPLY_BYTES:
            self._long.append((self.replied, size))
            self.long_bytes += size

    def acknowledge(self, received: int) -> None:
        """The client has this many replies. Raises InvalidRequest for what cannot be."""
        self.need_sent(received)
        self.acknowledged = received
        kept = self.kept
        while kept and kept[0][0] <= received:
            self.kept_after, chunk = kept.popleft()
            self.kept_bytes -= len(chunk)
        parked = self.parked_replies
        while parked and parked[0] <= received:
            parked.popleft()
        long = self._long
        while long and long[0][0] <= received:
            self.long_bytes -= long.popleft()[1]

    def need_sent(self, received: int) -> None:
        """Raise InvalidRequest where the client cannot have so many replies, or had more before."""
        if not self.acknowledged <= received <= self.replied:
            raise InvalidRequest(
                f"received is an integer from {self.acknowledged} to {self.replied}, which were sent, not {received}"
            )

    def replies_again(self) -> list[bytes]:
        """For a new connection: the chunks the client has not acknowledged, cut where what it has ends."""
        surplus = self.acknowledged - self.kept_after
        if self.kept and surplus:
            number, chunk = self.kept[0]
            rest = without_first(chunk, surplus)
            self.kept_bytes += len(rest) - len(chunk)
            self.kept[0] = (number, rest)
            self.kept_after = self.acknowledged
        return [chunk for _, chunk in self.kept]

    def unacknowledged(self) -> int:
        """Replies that count against the window: those to requests that may wait have a bound of their own."""
        return self.replied - self.acknowledged - len(self.parked_replies)

    def has_room(self, requests: int) -> bool:
        """Whether so many more requests may be executed before the client acknowledges."""
        return (
            self.replied - self.acknowledged - len(self.parked_replies) + requests <= UNACKNOWLEDGED_MAX
            and self.long_bytes <= UNACKNOWLEDGED_BYTES_MAX
        )

    @property
    def overrun(self) -> bool:
        """Whether the client has gone on twice as far as it may without acknowledging."""
        return self.unacknowledged() > 2 * UNACKNOWLEDGED_MAX or self.long_bytes > 2 * UNACKNOWLEDGED_BYTES_MAX

    # ---------------------------------------------------------------------------------------- parked requests

    def park(self, msgid: int, waiter: Waiter, now_ms: int) -> None:
        """Let a request wait. Raises Busy where too many do, InvalidRequest where one has the same msgid."""
        if msgid in self.parked:
            raise InvalidRequest(f"msgid {msgid} is that of a request that waits")
        self.need_room_to_wait()
        self.parked[msgid] = waiter
        waiter.answer = partial(self.answer, msgid)
        waiter.stand()
        if waiter.wait_ms is not None:
            waiter.alarm = self.engine.alarms.set(now_ms + waiter.wait_ms, waiter.end)

    def need_room_to_wait(self) -> None:
        """Raise Busy where as many requests as may wait do, or have and are not acknowledged."""
        if len(self.parked) + len(self.parked_replies) >= PARKED_MAX:
            raise Busy(f"at most {PARKED_MAX} requests of a client wait at a time")
        if self.long_bytes > UNACKNOWLEDGED_BYTES_MAX:
            raise Busy(f"as many bytes are unacknowledged as are kept for a client; {ACK_THOSE}")

    def cancel(self, msgid: int, now_ms: int) -> bool:
        """End a wait as if its time had run out; whether there was one."""
        waiter = self.parked.get(msgid)
        if waiter is None:
            return False
        waiter.end(now_ms)
        return True

    def refuse_parked(self, fault: CommandError) -> None:
        """Answer all that wait with an error; nothing of them was done."""
        for waiter in list(self.parked.values()):
            waiter.leave()
            waiter.finish(fault)

    # ---------------------------------------------------------------------------------------- holds

    def need_room_for_holds(self, items: int) -> None:
        """Raise NoSession where there is nobody to hold for, Busy where too much is held already."""
        if self.id is None:
            raise NoSession("acquire needs a session: hello opens one")
        if self.held_items + items > HELD_ITEMS_MAX:
            raise Busy(f"a session holds at most {HELD_ITEMS_MAX} amounts")

    def hold(self, sums: dict[bytes, int]) -> int:
        """Note that these amounts, which have just been added, are held; the hold's number."""
        lives = self.cache.waiting.lives
        amounts = {}
        for key, by in sums.items():
            life = lives.get(key)
            if life is None:
                life = lives[key] = Life()
            life.holds += 1
            amounts[key] = (by, life)
        self.held_items += len(amounts)
        hold = Hold(self.engine.sessions.next_hold(), amounts)
        self.holds[hold.number] = hold
        return hold.number

    def live_amounts(self, hold: Hold, now_ms: int) -> dict[bytes, int]:
        """What of a hold is still held: the amounts on counters that have lived on since."""
        cache = self.cache
        lives = cache.waiting.lives
        return {
            key: by
            for key, (by, life) in hold.amounts.items()
            if lives.get(key) is life and not cache.expired(key, now_ms)
        }

    def release(self, number: int, items: Sequence[tuple[bytes, int]] | None, now_ms: int) -> list[int]:
        """Give back a hold, or these amounts of it; the values after. Raises NotHeld, with nothing changed."""
        hold = self.holds.get(number)
        live = {} if hold is None else self.live_amounts(hold, now_ms)
        if hold is None or not live:
            if hold is not None:
                self._drop(hold)
            raise NotHeld(f"hold {number} is not, or no longer, held by this session")
        if items is None:
            values = [self._give_back(hold, key, by, now_ms) for key, by in live.items()]
            self._drop(hold)
            return values
        sums: dict[bytes, int] = {}
        for key, by in items:
            sums[key] = sums.get(key, 0) + by
        for key, by in sums.items():
            if live.get(key, 0) < by:
                raise NotHeld(f"hold {number} has {live.get(key, 0)} of a counter of which {by} was to be released")
        after = {key: self._give_back(hold, key, by, now_ms) for key, by in sums.items()}
        if not hold.amounts:
            del self.holds[number]
        return [after[key] for key, _ in items]

    def _give_back(self, hold: Hold, key: bytes, by: int, now_ms: int) -> int:
        """Take away what is held of one counter, or a part; its value after."""
        held, life = hold.amounts[key]
        if by < held:
            hold.amounts[key] = (held - by, life)
        else:
            del hold.amounts[key]
            self.held_items -= 1
            self._let_go(key, life)
        return self.cache.decr(key, by, False, now_ms)

    def _let_go(self, key: bytes, life: Life) -> None:
        life.holds -= 1
        lives = self.cache.waiting.lives
        if not life.holds and lives.get(key) is life:
            del lives[key]

    def _drop(self, hold: Hold) -> None:
        """Forget a hold of which nothing is left but amounts on lives that have ended."""
        for key, (_, life) in hold.amounts.items():
            self._let_go(key, life)
        self.held_items -= len(hold.amounts)
        del self.holds[hold.number]

    def give_back(self, now_ms: int, items_max: int) -> int:
        """Of a session that has ended: let what it held go back, up to about so many amounts; how many went."""
        done = 0
        cache = self.cache
        while self.holds and done < items_max:
            hold = next(iter(self.holds.values()))
            if cache.being_worked_on(hold.amounts):
                break
            live = self.live_amounts(hold, now_ms)
            for key, by in live.items():
                self._give_back(hold, key, by, now_ms)
            done += len(live) + 1
            self._drop(hold)
        return done

    def held(self, after: int, now_ms: int) -> list[tuple[int, list[tuple[bytes, int]]]]:
        """The holds above a number, as many as fit a reply. Raises TooLarge where the first of them does not."""
        found: list[tuple[int, list[tuple[bytes, int]]]] = []
        room = REPLY_BYTES_MAX - 64
        for number, hold in self.holds.items():
            if number <= after:
                continue
            live = self.live_amounts(hold, now_ms)
            if not live:
                continue
            room -= 16 + sum(len(key) + 13 for key in live)
            if room < 0:
                if not found:  # an empty page would say that there are no more
                    raise TooLarge(
                        f"hold {number} has {len(live)} amounts, more than fit a reply; ask for those after it"
                    )
                break
            found.append((number, list(live.items())))
        return found


class Sessions:
    """All sessions of an engine by their id, and those that have ended and still hold something."""

    def __init__(self, engine: Engine, new_id: Callable[[], bytes], first_hold: int, sessions_max: int) -> None:
        self._engine: Final = engine
        self._new_id: Final = new_id
        self._sessions_max: Final = sessions_max
        self._by_id: dict[bytes, Session] = {}
        self._ended: deque[Session] = deque()  # what they hold goes back, step by step
        self._opened = 0  # since the start
        self._hold = first_hold - 1  # the last number given to a hold

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        """In the order they were opened."""
        return iter(self._by_id.values())

    def next_hold(self) -> int:
        """A number higher than any before."""
        self._hold += 1
        return self._hold

    def open(self, session: Session, lease_ms: int | None, now_ms: int) -> None:
        """Give a nameless session an id. Raises InvalidRequest where it has one, Busy where there are too many."""
        if session.id is not None:
            raise InvalidRequest("this connection has a session; bye ends it")
        if len(self._by_id) >= self._sessions_max:
            raise Busy(f"the server has {self._sessions_max} sessions already")
        self._opened += 1
        session.id = self._new_id()
        assert len(session.id) == SESSION_ID_BYTES, "an id is a credential of 128 bits"
        session.number = self._opened
        session.opened_ms = now_ms
        session.accepted = session.replied = 0
        if lease_ms is not None:
            session.lease_ms = min(max(lease_ms, LEASE_MS_MIN), LEASE_MS_MAX)
        self._by_id[session.id] = session

    def resume(self, nameless: Session, session_id: bytes, received: int) -> Session:
        """Give a session the connection of this nameless one, and take it from the one it may still have.

        Raises NoSession where there is none of that id, or its replies from there on are gone; InvalidRequest where
        the connection's own session is in use, or `received` cannot be.
        """
        session = self._by_id.get(session_id)
        if session is None:
            raise NoSession("the server does not know this session, or no longer")
        if session is nameless:
            raise InvalidRequest("this connection has that session already")
        if nameless.id is not None or nameless.parked or nameless.slices:
            raise InvalidRequest("this connection has work under way; resume on a new one")
        if received < session.acknowledged:
            raise NoSession("the replies from there on were acknowledged, and are gone")
        session.need_sent(received)
        # Before anything is counted: what the old connection has read and not executed was never accepted.
        if session.channel is not None:
            session.channel.lose_session()
        session.acknowledge(received)
        self._keep_posted(session)
        if session.lease is not None:
            self._engine.alarms.cancel(session.lease)
            session.lease = None
        channel, nameless.channel = nameless.channel, None
        assert channel is not None, "who resumes has a connection"
        session.channel = channel
        channel.session = session
        return session

    @staticmethod
    def _keep_posted(session: Session) -> None:
        """The connection they were for is gone."""
        posted, session.posted = session.posted, []
        if posted:
            session.keep(b"".join(posted))

    def leave(self, session: Session, now_ms: int) -> None:
        """Its connection is gone: the lease begins. A nameless session ends."""
        session.channel = None
        if session.id is None:
            self.end(session, now_ms)
            return
        self._keep_posted(session)
        session.lease = self._engine.alarms.set(now_ms + session.lease_ms, partial(self.end, session))

    def end(self, session: Session, now_ms: int) -> None:
        """For good. Whoever is in its turn on the session's channel gives the channel another one."""
        if session.id is not None:
            self._by_id.pop(session.id, None)
        if session.lease is not None:
            self._engine.alarms.cancel(session.lease)
            session.lease = None
        session.batch = None
        session.slices.clear()
        session.kept.clear()
        session.kept_bytes = 0
        for waiter in session.parked.values():
            waiter.answer = None  # from here on nothing is granted to it
        if session.parked or session.holds:
            self._ended.append(session)
            self.step(now_ms, SETTLED_AT_ONCE)

    def step(self, now_ms: int, entries_max: int) -> int:
        """Let ended sessions leave the queues and give back what they hold; how many entries were worked on."""
        done = 0
        for _ in range(len(self._ended)):
            session = self._ended[0]
            done += self._empty(session, now_ms, entries_max - done)
            self._ended.popleft()
            if session.parked or session.holds:
                self._ended.append(session)  # others may not have to wait for a shard
            if done >= entries_max:
                break
        return done

    def _empty(self, session: Session, now_ms: int, entries_max: int) -> int:
        done = 0
        while session.parked and done < entries_max:
            _, waiter = session.parked.popitem()
            if waiter.alarm is not None:
                self._engine.alarms.cancel(waiter.alarm)
            waiter.leave()
            done += 1
        done += session.give_back(now_ms, entries_max - done)
        waiting = session.cache.waiting
        if waiting.unsettled:
            waiting.settle(now_ms, SETTLED_AT_ONCE)
        return done

    @property
    def unfinished(self) -> bool:
        """Whether `step` has anything to do."""
        return bool(self._ended)

    def listed(self, after: int, count_max: int, now_ms: int) -> list[dict[str, Any]]:
        """What operators may know of the sessions with numbers above `after`; never the id."""
        found: list[dict[str, Any]] = []
        for session in self:
            if session.number > after:
                found.append(_words(session, now_ms))
                if len(found) == count_max:
                    break
        return found

    def totals(self) -> dict[str, int]:
        """For `info`. O(sessions)."""
        sessions: Iterable[Session] = [*self, *self._ended]
        return {
            "open": len(self._by_id),
            "connected": sum(session.channel is not None for session in sessions),
            "opened": self._opened,
            "holds": sum(len(session.holds) for session in sessions),
            "parked": sum(len(session.parked) for session in sessions),
        }

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless sessions, holds and lives agree. O(everything)."""
        holds: dict[int, int] = {}
        everyone = [*self, *self._ended]
        for session in everyone:
            assert session.held_items == sum(len(hold.amounts) for hold in session.holds.values()), (
                "held_items is off"
            )
            assert session.kept_bytes == sum(len(chunk) for _, chunk in session.kept), "kept_bytes is off"
            assert session.long_bytes == sum(size for _, size in session._long), "long_bytes is off"
            assert list(session.holds) == sorted(session.holds), "holds are not in order"
            for hold in session.holds.values():
                for key, (by, life) in hold.amounts.items():
                    assert by > 0, f"{key!r}: nothing is held"
                    if session.cache.waiting.lives.get(key) is life:
                        holds[id(life)] = holds.get(id(life), 0) + 1
        for session in self:
            assert (session.channel is None) == (session.lease is not None), "a lease runs where it should not"
        for cache in self._engine.store.caches.values():
            for key, life in cache.waiting.lives.items():
                assert holds.get(id(life)) == life.holds, (
                    f"{key!r}: {life.holds} holds noted, {holds.get(id(life))} there"
                )


def _words(session: Session, now_ms: int) -> dict[str, Any]:
    return {
        "session": session.number,
        "cache": session.cache.name,
        "connected": session.channel is not None,
        "age_ms": now_ms - session.opened_ms,
        "lease_ms": session.lease_ms,
        "accepted": session.accepted,
        "unacknowledged": session.replied - session.acknowledged,
        "kept_bytes": session.kept_bytes,
        "parked": len(session.parked),
        "holds": len(session.holds),
    }
