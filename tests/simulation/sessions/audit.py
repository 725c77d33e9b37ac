"""Compares everything an engine does with the model, in the order in which the engine does it.

Replies alone do not show that order: an amount that one session's request frees is granted to another session, whose
client receives the reply later or on its next connection. So the few methods where a step becomes final are wrapped
while a `World` runs, and each call adds a note:

    ServerProtocol.turn                a turn begins: its replies are noted as they come
    ServerProtocol._serve_plain        the hot path begins, and ends; its requests show by their replies
    ServerProtocol._answer             any other request begins
    Batch._do_plain                    the hot path has done some items of an apply
    Cache.apply_item                   any other item of an apply begins
    Session._answer                    a request that waited has its answer
    Holds.give_back                    holds of an ended session go back
    Sessions.end                       a session ends

A wrapper only makes a note. When the turn or the step is over, `Audit.check` goes through the notes and has the model
do the same: each request when it ran, each grant where it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from naught.errors import CommandError
from naught.wire.codec import reply_unpacker
from naught_server.batch import Batch
from naught_server.engine import Engine
from naught_server.holds import Holds
from naught_server.hot import PlainApply
from naught_server.protocol import ServerProtocol
from naught_server.session import Session
from naught_server.store import Cache
from simulation.sessions.model import PARKED, SLICED, UNKNOWN, Record, Request
from support.cases_counters import Refused

OUTSIDE = 1 << 31
"""The first msgid of requests outside of the streams: hello, ack and bye."""

Note = tuple[Any, ...]


class _Replies(list[bytes]):
    """The outbox of a session during a turn; makes a note of each reply."""

    def __init__(self, notes: list[Note], posted: list[bytes]) -> None:
        super().__init__(posted)
        self._notes = notes

    def append(self, piece: bytes) -> None:
        self._notes.append(("reply", piece))
        super().append(piece)

    def __iadd__(self, pieces: Any) -> Any:  # type: ignore[misc]
        self._notes.extend(("reply", piece) for piece in pieces)
        super().extend(pieces)
        return self


@contextmanager
def recording(engine: Engine, notes: list[Note]) -> Iterator[None]:
    """Make notes while the context is open. Only for one engine at a time: the methods of all are wrapped."""

    def wrap(owner: Any, name: str, note: Callable[..., Note]) -> Any:
        original = getattr(owner, name)

        def noting(*args: Any) -> Any:
            notes.append(note(*args))
            return original(*args)

        return mock.patch.object(owner, name, noting)

    turn = ServerProtocol.turn
    give_back = Holds.give_back
    resume_session = ServerProtocol.resume_session
    end_session = ServerProtocol.end_session
    serve_plain = ServerProtocol._serve_plain
    do_plain = Batch._do_plain

    noted: list[Session] = []  # sessions whose replies are noted in this turn

    def note_replies(session: Session) -> None:
        session.outbox = _Replies(notes, session.outbox)
        noted.append(session)

    def resuming(protocol: ServerProtocol, *args: Any) -> Session:
        session = resume_session(protocol, *args)
        note_replies(session)
        return session

    def ending(protocol: ServerProtocol, *args: Any) -> None:
        end_session(protocol, *args)
        note_replies(protocol.session)

    def turning(protocol: ServerProtocol, now_ms: int) -> bytes:
        note_replies(protocol.session)
        try:
            return turn(protocol, now_ms)
        finally:
            # Between turns no notes are made.
            for session in noted:
                session.outbox = list(session.outbox)
            noted.clear()

    def doing_plain(batch: Batch, plain: PlainApply, cache: Cache, stop: int) -> None:
        before = batch.done
        do_plain(batch, plain, cache, stop)
        notes.append(("portion", batch.done - before))

    def giving_back(holds: Holds, *args: Any) -> int:
        session = next(each.session for each in engine.sessions._ended if each.session.holds is holds)
        before = [hold.number for hold in holds]
        done = give_back(holds, *args)
        notes.extend(("gave_back", session, number) for number in before if holds.get(number) is None)
        return done

    def serving_plain(protocol: ServerProtocol, session: Session, cache: Cache) -> bool:
        notes.append(("fast", True))
        found_apply = serve_plain(protocol, session, cache)
        notes.append(("fast", False))
        if found_apply:
            assert session.batch is not None
            notes.append(("begin_plain", session.batch.msgid))
        return found_apply

    with (
        mock.patch.object(ServerProtocol, "turn", turning),
        mock.patch.object(Batch, "_do_plain", doing_plain),
        mock.patch.object(Holds, "give_back", giving_back),
        mock.patch.object(ServerProtocol, "resume_session", resuming),
        mock.patch.object(ServerProtocol, "end_session", ending),
        mock.patch.object(ServerProtocol, "_serve_plain", serving_plain),
        wrap(
            ServerProtocol, "_answer", lambda protocol, msgid, method, _, params, __: ("begin", msgid, method, params)
        ),
        wrap(Cache, "apply_item", lambda _, key, delta, *__: ("item", key, delta)),
        wrap(Session, "_answer", lambda session, msgid, result: ("woken", session, msgid, _plain(result))),
        wrap(engine.sessions, "end", lambda session, *_: ("ended", session)),
    ):
        yield


def _plain(result: object) -> Any:
    """A result as the client decodes it."""
    if isinstance(result, CommandError):
        return Refused(result.code)
    return [_plain(each) for each in result] if isinstance(result, list | tuple) else result


class Audit:
    """The records of all sessions of an engine, updated from the notes."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.records: dict[Session, Record] = {}
        self.answered = 0
        self.ends = 0
        self._now_ms = 0
        self._record = Record(False, None, 0)  # type: ignore[arg-type]  # of the connection whose turn it was
        self._unpacker = reply_unpacker()
        self._received = 0  # `received` of the hello under way
        self._begun: Request | None = None  # a request that has begun and is not answered yet
        self._right: Any = None  # the model's answer to it
        self._fast = False  # the hot path runs

    def check(self, protocol: ServerProtocol | None, record: Record | None, now_ms: int) -> None:
        """Compare the notes of a turn or step with the model. `record`: the session of the connection in its turn."""
        notes = self.notes.copy()
        self.notes.clear()
        self._now_ms = now_ms
        if record is not None:
            self._record = record
        self._fast = False
        for kind, *what in notes:
            getattr(self, f"on_{kind}")(protocol, *what)
        assert self._begun is None, f"{self._begun} was not answered"

    # ------------------------------------------------------------------------------------- requests

    def on_fast(self, protocol: ServerProtocol, begins: bool) -> None:
        self._fast = begins

    def on_begin_plain(self, protocol: ServerProtocol, msgid: int) -> None:
        self._record.batch = self._record.accept(msgid)
        self._record.batch_answer = []

    def on_begin(self, protocol: ServerProtocol, msgid: int | None, method: bytes, params: tuple[Any, ...]) -> None:
        self.on_fast(protocol, False)
        assert self._begun is None, f"{self._begun} was not answered {self._right}"
        record = self._record
        if msgid is None or msgid >= OUTSIDE:
            if method == b"ack":
                record.acknowledge(params[0])
            elif method == b"bye":
                record.leaving = True
            else:
                self._received = dict(params[0].pairs).get(b"received", 0)
            return
        request = record.accept(msgid)
        right = self._execute(request)
        if right is PARKED or right is UNKNOWN:
            return
        if request.method == "apply" and right == []:
            record.batch = request
            record.batch_answer = []
            return
        self._begun, self._right = request, right

    def _execute(self, request: Request) -> Any:
        record = self._record
        if request.method == "apply":
            # Waiters may be granted between two items, so the answer is built item by item by `on_item`.
            request = Request(request.msgid, "apply", ([], []))
        return record.cache.execute(record, request, self._now_ms)

    def on_item(self, protocol: ServerProtocol, key: bytes, delta: int) -> None:
        batch = self._record.batch
        if batch is not None:
            ttl_ms = batch.params[2] if len(batch.params) == 3 else None
            self._record.batch_answer.append(self._record.cache.answer("_change", (key, delta, ttl_ms), self._now_ms))

    def on_portion(self, protocol: ServerProtocol, items: int) -> None:
        """The hot path has done so many items of the batch. None of them has ended a wait."""
        record = self._record
        batch = record.batch
        assert batch is not None, "a portion of no batch"
        keys, deltas = batch.params[:2]
        done = len(record.batch_answer)
        each = deltas if isinstance(deltas, list) else [deltas] * len(keys)
        for key, delta in zip(keys[done : done + items], each[done : done + items], strict=True):
            record.batch_answer.append(record.cache.answer("_change", (key, delta, None), self._now_ms))

    def on_reply(self, protocol: ServerProtocol, piece: bytes) -> None:
        self._unpacker.feed(piece)
        for kind, msgid, error, result in self._unpacker:
            assert kind == 1
            answer = result if error is None else Refused(error[0].decode())
            if msgid >= OUTSIDE:
                self._outside(protocol, answer)
            else:
                self._answered(protocol, msgid, answer)

    def _answered(self, protocol: ServerProtocol, msgid: int, answer: Any) -> None:
        record = self._record
        request = record.by_msgid.get(msgid)
        assert request is not None, f"a reply to {msgid}, which was not requested"
        answer = request.normalized(answer)
        if request.answered:
            assert answer == request.answer, f"{request} was answered {request.answer}, and now {answer}"
            return
        if request is self._begun:
            self._begun = None
            right = self._right
        elif request is record.batch:
            record.batch = None
            right = record.batch_answer
            assert len(right) == len(request.params[0]), f"{request} was answered before its last item"
        elif request.method in SLICED and record.stream.index(request) < record.accepted:
            right = UNKNOWN  # its slices have ended
        elif answer == Refused("busy") and not self._fast:  # it has more work than it can do: see overload.py
            record.accept(msgid)
            right = answer
        else:
            assert self._fast, f"{request} was answered and has not begun"
            right = self._execute(record.accept(msgid))
        if right is UNKNOWN and answer == Refused("busy"):
            right = answer
        if right is not UNKNOWN:
            assert type(answer) is type(right), f"{request} gave {answer!r}, must be {right!r}"
            assert answer == right, f"{request} gave {answer!r}, must be {right!r}"
        self.answered += 1
        record.reply(request, answer)

    def _outside(self, protocol: ServerProtocol, answer: Any) -> None:
        record = self._record
        if isinstance(answer, dict) and b"accepted" in answer:
            assert self.records[protocol.session] is record, "a session was given to another client"
            assert answer[b"accepted"] == record.accepted
            record.acknowledge(self._received)
            assert answer[b"replies_from"] == record.acknowledged + 1
            record.lost_ms = None
        elif isinstance(answer, dict) and b"session" in answer:
            self.records[protocol.session] = record

    # ------------------------------------------------------------------------------------- waits, ends, holds

    def on_woken(self, protocol: ServerProtocol | None, session: Session, msgid: int, answer: Any) -> None:
        assert not self._fast, "the hot path has ended a wait"
        record = self.records[session]
        assert not record.ended, f"request {msgid} was answered in a session that has ended"
        record.cache.check_ended_wait(record, msgid, answer, self._now_ms)
        record.reply(record.by_msgid[msgid], answer)
        self.answered += 1

    def on_ended(self, protocol: ServerProtocol | None, session: Session) -> None:
        record = self.records.get(session)
        if record is None:
            return  # the temporary session that replaces one that has ended
        assert not record.ended, "a session ends twice"
        overrun = record.unacknowledged(waits=False) > 2 * record.cache.unacknowledged_max
        lease_over = record.lost_ms is not None and (
            not record.named or record.lost_ms + record.lease_ms <= self._now_ms
        )
        assert record.leaving or record.garbage or overrun or lease_over or record.expelled, (
            "a session ended without a reason"
        )
        record.ended = True
        record.cache.ended_session(record)
        self.ends += 1

    def on_gave_back(self, protocol: ServerProtocol | None, session: Session, number: int) -> None:
        record = self.records[session]
        record.cache.gave_back(record, number, self._now_ms)
