"""The reference model of sessions, holds and waits: plain queues and lists on top of `ModelCache`.

A `Record` is the expected state of one session: the stream of requests its client sends, how many of them were
executed, all replies in order, and how many were acknowledged. A `SessionCache` adds waiting requests, in the order
they came, and holds to the counters. It grants no request by itself. When the engine has granted one,
`check_ended_wait` checks whether that was right; `missed_waiters` lists those that should have been granted and were
not.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from simulation.model import ModelCache
from support.cases_counters import FULL, Refused

BUSY: Final = Refused("busy")
NOT_HELD: Final = Refused("not_held")
NO_SESSION: Final = Refused("no_session")

PARKED: Final = object()
"""In place of an answer: the request waits."""

UNKNOWN: Final = object()
"""In place of an answer: the request works in slices, and its result is not checked here."""

SLICED: Final = {"top", "holders"}
"""Methods that do."""

PASSING: Final = {"cancel", "release"}
"""Methods that are executed also when the window is full."""


class Request:
    """One request of a session's stream."""

    def __init__(self, msgid: int, method: str, params: tuple[Any, ...], refusal: Refused | None = None) -> None:
        self.msgid = msgid
        self.method = method
        self.params = params
        self.refusal = refusal  # the expected error of a bad request
        self.answer: Any = None  # set with `answered`
        self.answered = False

    @property
    def may_wait(self) -> bool:
        """Whether it counts against the limit of requests that may wait, even if it is answered at once."""
        return self.method in {"acquire", "wait_zero"} and len(self.params) == 2 and self.params[1] != 0

    def normalized(self, answer: Any) -> Any:
        """A decoded answer, with the errors of items as Refused."""
        if self.method == "apply" and isinstance(answer, list):
            return [Refused(item[0].decode()) if isinstance(item, list) else item for item in answer]
        return answer

    def __repr__(self) -> str:
        return f"{self.msgid}:{self.method}{self.params}"[:200]


class Record:
    """The expected state of one session."""

    def __init__(self, named: bool, cache: SessionCache, lease_ms: int) -> None:
        self.named = named  # opened by hello; a temporary session ends with its connection
        self.cache = cache
        self.lease_ms = lease_ms
        self.stream: list[Request] = []  # all requests its client sends, those not sent yet included
        self.by_msgid: dict[int, Request] = {}
        self.accepted = 0  # how many requests of the stream were executed
        self.replies: list[tuple[int, Any, bool]] = []  # every reply: msgid, answer, whether it counts as a wait
        self.acknowledged = 0
        self.waiters: dict[int, Waiter] = {}
        self.lost_ms: int | None = None  # since when it has no connection
        self.ended = False
        self.garbage = False  # its client has sent bytes that are not a message
        self.leaving = False  # its bye is being executed
        self.expelled = False  # the operator ends it
        self.batch: Request | None = None  # an apply that is partly done
        self.batch_answer: list[Any] = []  # the results of that part

    def add(self, request: Request) -> None:
        """The client puts a request in its stream."""
        self.stream.append(request)
        self.by_msgid[request.msgid] = request

    def accept(self, msgid: int) -> Request:
        """The server executes this request: it must be the next of the stream."""
        assert not self.ended, f"request {msgid} was executed in a session that has ended"
        request = self.by_msgid.get(msgid)
        assert request is not None, f"request {msgid} was never sent"
        assert self.accepted < len(self.stream), f"{request} was executed twice"
        following = self.stream[self.accepted]
        assert request is following, f"{request} was executed instead of {following}"
        self.accepted += 1
        return request

    def reply(self, request: Request, answer: Any) -> None:
        """The server has answered."""
        assert not request.answered, f"{request} is answered twice"
        request.answered = True
        request.answer = answer
        self.replies.append((request.msgid, answer, request.may_wait))

    def acknowledge(self, received: int) -> None:
        """An ack arrives; an impossible number changes nothing."""
        if self.acknowledged <= received <= len(self.replies):
            self.acknowledged = received

    def unacknowledged(self, waits: bool) -> int:
        """Replies that were not acknowledged: to requests that may wait, or to the others."""
        return sum(may_wait is waits for _, _, may_wait in self.replies[self.acknowledged :])


class Waiter:
    """A request that waits."""

    def __init__(self, record: Record, request: Request, wait_ms: int | None, now_ms: int) -> None:
        self.record = record
        self.request = request
        self.due_ms = None if wait_ms is None else now_ms + wait_ms
        self.cancelled = False
        self.woken = False  # wait_zero: its counter has been absent
        keys = request.params[:1] if request.method == "wait_zero" else [key for key, _, _ in request.params[0]]
        self.keys = list(dict.fromkeys(keys))

    @property
    def items(self) -> list[Any]:
        """The items of an acquire."""
        items: list[Any] = self.request.params[0]
        return items

    def may_end(self, now_ms: int) -> bool:
        """Whether it may end without success: cancelled, or its time has run out."""
        return self.cancelled or (self.due_ms is not None and self.due_ms <= now_ms)

    def __repr__(self) -> str:
        return f"{self.request} since the session's request {self.record.stream.index(self.request) + 1}"


class Hold:
    """The amounts that one acquire has added: by key the amount, and the generation of the counter."""

    def __init__(self, record: Record, amounts: dict[bytes, tuple[int, int]]) -> None:
        self.record = record
        self.amounts = amounts


class Numbers:
    """The numbers of holds, for all caches of an engine."""

    def __init__(self, first: int) -> None:
        self.last = first - 1

    def next_number(self) -> int:
        """The number of a new hold."""
        self.last += 1
        return self.last


class SessionCache(ModelCache):
    """Counters with waiting requests and holds."""

    def __init__(
        self, name: str, limit: int | None, numbers: Numbers, parked_max: int, unacknowledged_max: int
    ) -> None:
        super().__init__(limit)
        self.name = name
        self.numbers = numbers
        self.generations: Counter[bytes] = Counter()  # by key: how many generations have ended
        self.queues: dict[bytes, list[Waiter]] = {}
        self.awaited: dict[bytes, list[Waiter]] = {}
        self.woken: list[Waiter] = []  # wait_zero requests whose counter was absent, not answered yet
        self.holds: dict[int, Hold] = {}
        self.grants = 0  # waiting requests that were granted
        self.parked_max = parked_max
        self.unacknowledged_max = unacknowledged_max

    def _evict(self, key: bytes, reason: str) -> None:
        super()._evict(key, reason)
        self.generations[key] += 1
        for waiter in self.awaited.pop(key, ()):
            waiter.woken = True
            self.woken.append(waiter)

    # ------------------------------------------------------------------------------------- executing

    def execute(self, record: Record, request: Request, now_ms: int) -> Any:
        """Execute a request of this session. Returns the answer, PARKED or UNKNOWN."""
        self.purge(now_ms)
        method, params = request.method, request.params
        if record.named and method not in PASSING:
            if request.may_wait:
                if self._too_many_wait(record):
                    return BUSY
            elif record.unacknowledged(waits=False) + 1 > self.unacknowledged_max:
                return BUSY
        if method in SLICED:
            return UNKNOWN
        if method in {"acquire", "wait_zero", "release", "held", "cancel"}:
            return getattr(self, f"_{method}")(record, request, now_ms, *params)
        if request.refusal is not None:
            return request.refusal
        return self.answer(method, params, now_ms)

    def try_incr(self, now_ms: int, items: list[Any], ttl_ms: int | None = None) -> list[Any] | Refused:
        if any(key in self.queues for key, _, _ in items):
            return [False, [self.values.get(key, 0) for key, _, _ in items]]
        return super().try_incr(now_ms, items, ttl_ms)

    def _acquire(self, record: Record, request: Request, now_ms: int, items: list[Any], wait_ms: Any = 0) -> Any:
        if not record.named:
            return NO_SESSION
        answer = self.try_incr(now_ms, items)
        if isinstance(answer, Refused):
            return answer
        if answer[0]:
            return [*answer, self._hold(record, items)]
        sums = _sums(items)
        if wait_ms == 0 or any(sums[key] > limit for key, _, limit in items):
            return [*answer, None]
        return self._park(Waiter(record, request, wait_ms, now_ms), self.queues)

    def _wait_zero(self, record: Record, request: Request, now_ms: int, key: bytes, timeout_ms: int | None) -> Any:
        if key not in self.values:
            return True
        if timeout_ms == 0:
            return False
        return self._park(Waiter(record, request, timeout_ms, now_ms), self.awaited)

    def _park(self, waiter: Waiter, places: dict[bytes, list[Waiter]]) -> object:
        record = waiter.record
        if self._too_many_wait(record):
            return BUSY
        record.waiters[waiter.request.msgid] = waiter
        for key in waiter.keys:
            places.setdefault(key, []).append(waiter)
        return PARKED

    def _too_many_wait(self, record: Record) -> bool:
        # Without a session replies are neither kept nor acknowledged.
        over = record.unacknowledged(waits=True) if record.named else 0
        return len(record.waiters) + over >= self.parked_max

    def _hold(self, record: Record, items: list[Any]) -> int:
        number = self.numbers.next_number()
        self.holds[number] = Hold(record, {key: (by, self.generations[key]) for key, by in _sums(items).items()})
        return number

    def live(self, hold: Hold) -> dict[bytes, int]:
        """The amounts of a hold that are still held."""
        return {
            key: by
            for key, (by, generation) in hold.amounts.items()
            if key in self.values and self.generations[key] == generation
        }

    def _release(
        self, record: Record, request: Request, now_ms: int, number: int, items: list[Any] | None = None
    ) -> Any:
        if number == 0:
            return Refused("invalid")  # no hold has this number
        hold = self.holds.get(number)
        if hold is None or hold.record is not record:
            return NOT_HELD
        live = self.live(hold)
        if items is None:
            del self.holds[number]
            return [self._change(now_ms, key, -by, None) for key, by in live.items()] if live else NOT_HELD
        sums = _sums(items)
        if not live or any(live.get(key, 0) < by for key, by in sums.items()):
            return NOT_HELD
        after = {}
        for key, by in sums.items():
            held, generation = hold.amounts[key]
            if by < held:
                hold.amounts[key] = (held - by, generation)
            else:
                del hold.amounts[key]
            after[key] = self._change(now_ms, key, -by, None)
        return [after[key] for key, _ in items]

    def _held(self, record: Record, request: Request, now_ms: int, after: int = 0) -> Any:
        listed = []
        for number, hold in self.holds.items():
            live = self.live(hold)
            if number > after and hold.record is record and live:
                listed.append([number, [[key, by] for key, by in live.items()]])
        return listed

    def _cancel(self, record: Record, request: Request, now_ms: int, msgid: int) -> bool:
        waiter = record.waiters.get(msgid)
        if waiter is not None:
            waiter.cancelled = True
        return waiter is not None

    # ------------------------------------------------------------------------------------- checking the engine

    def check_ended_wait(self, record: Record, msgid: int, answer: Any, now_ms: int) -> None:
        """The engine has answered a request that waited. Raises AssertionError where that was wrong."""
        self.purge(now_ms)
        waiter = record.waiters.pop(msgid, None)
        assert waiter is not None, f"request {msgid} was answered and did not wait"
        if waiter.request.method == "wait_zero":
            if answer is True:
                assert waiter.woken, f"{waiter} was answered, and its counter was never absent"
            else:
                assert answer is False, f"{waiter} was answered {answer}"
                assert not waiter.woken, f"{waiter} was answered false, although its counter was absent"
                assert waiter.may_end(now_ms), f"{waiter} ended before its time"
        elif isinstance(answer, Refused):
            assert self._is_first(waiter), f"{waiter} was refused before it was the first"
            assert answer == FULL == self._add(waiter), f"{waiter} was refused with {answer}"
            self.grants += 1
        elif answer[0]:
            assert self._is_first(waiter), f"{waiter} has overtaken {self._before(waiter)}"
            right = self._add(waiter)
            assert right == answer, f"{waiter} was answered {answer}, must be {right}"
            self.grants += 1
        else:
            assert waiter.may_end(now_ms), f"{waiter} ended before its time"
            assert answer == [False, [self.values.get(key, 0) for key, _, _ in waiter.items], None]
        self._leave(waiter)

    def _add(self, waiter: Waiter) -> Any:
        answer = ModelCache.try_incr(self, 0, waiter.items)
        if isinstance(answer, Refused):
            return answer
        return [*answer, self._hold(waiter.record, waiter.items) if answer[0] else None]

    def _is_first(self, waiter: Waiter) -> bool:
        return not self._before(waiter)

    def _before(self, waiter: Waiter) -> list[Waiter]:
        return [self.queues[key][0] for key in waiter.keys if self.queues[key][0] is not waiter]

    def _leave(self, waiter: Waiter) -> None:
        if waiter.woken:
            self.woken.remove(waiter)
            return
        places = self.queues if waiter.request.method == "acquire" else self.awaited
        for key in waiter.keys:
            places[key].remove(waiter)
            if not places[key]:
                del places[key]

    def ended_session(self, record: Record) -> None:
        """The engine has ended a session: its waiting requests are dropped at once."""
        for waiter in record.waiters.values():
            self._leave(waiter)
        record.waiters.clear()

    def gave_back(self, record: Record, number: int, now_ms: int) -> None:
        """The engine has given back a hold of an ended session."""
        self.purge(now_ms)
        hold = self.holds.pop(number, None)
        assert hold is not None, f"hold {number} was given back twice"
        assert hold.record is record
        assert record.ended, f"hold {number} was given back before its session ended"
        for key, by in self.live(hold).items():
            self._change(now_ms, key, -by, None)

    def holders(self) -> dict[bytes, dict[Record, int]]:
        """By key: how much of it each session holds. Call `purge` before."""
        found: dict[bytes, dict[Record, int]] = {}
        for hold in self.holds.values():
            for key, by in self.live(hold).items():
                amounts = found.setdefault(key, {})
                amounts[hold.record] = amounts.get(hold.record, 0) + by
        return found

    def missed_waiters(self) -> list[Waiter]:
        """Waiting requests that should have been answered. Call `purge` before."""
        waiters = {id(queue[0]): queue[0] for queue in self.queues.values()}
        found = [waiter for waiter in waiters.values() if self._is_first(waiter) and self._fits(waiter)]
        return found + self.woken

    def _fits(self, waiter: Waiter) -> bool:
        sums = _sums(waiter.items)
        return all(self.values.get(key, 0) + sums[key] <= limit for key, _, limit in waiter.items)


def _sums(items: list[Any]) -> dict[bytes, int]:
    sums: dict[bytes, int] = {}
    for key, by, *_ in items:
        sums[key] = sums.get(key, 0) + by
    return sums
