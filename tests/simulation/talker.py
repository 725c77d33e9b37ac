"""One client of the simulation: sends requests to a `ServerProtocol`, and compares each reply with the model.

A turn is atomic: no request of another client runs during it. So after each turn the model executes the same requests
in the order of the replies, and must give the same answers. Replies must come in the order of the requests. Only
requests that work in slices are answered later; they read the tables at the end of a turn.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from naught.wire.codec import encode_notification, encode_request, reply_unpacker
from naught_server.engine import Engine
from naught_server.protocol import ServerProtocol
from naught_server.session import SLICES_MAX
from simulation.model import ModelCache
from support.cases_counters import INVALID, TOO_LARGE, Refused

BUSY = Refused("busy")

OVERLOADED = Refused("busy: more work than the server can do")
"""Four clients that each have sent more than a turn's work, and a jump of the time, look like an overload."""

OVERLOADED_TEXT = b"the server has more work than it can do; the request was not executed"

BAD_REQUESTS: list[tuple[str, tuple[Any, ...], Refused]] = [
    ("incr", (b"",), INVALID),
    ("incr", (b"k", 0), INVALID),
    ("decr", (b"k", True), INVALID),
    ("incr", (b"x" * 513,), TOO_LARGE),
    ("apply", ([b"k"], [1, 2]), INVALID),
    ("set", (b"k", -1), INVALID),
    ("try_incr", ([],), INVALID),
    ("scan", (b"", 5), INVALID),
    ("nothing", (), Refused("unknown_method")),
]


class Sliced:
    """A request that works in slices, and the counters at the end of each turn since it began."""

    def __init__(self, method: str, params: tuple[Any, ...], model: ModelCache) -> None:
        self.method = method
        self.params = params
        self.model = model
        self.seen: list[dict[bytes, int]] = []

    def look(self, now_ms: int) -> None:
        """The end of a turn of its session."""
        self.model.purge(now_ms)
        prefix = self.params[-1] if self.params and isinstance(self.params[-1], bytes) else b""
        self.seen.append(self.model.under(prefix))

    def check(self, result: Any) -> None:
        """Compare the result with the counters that were seen."""
        steady = all(seen == self.seen[0] for seen in self.seen)
        if self.method == "count":
            counts = [len(seen) for seen in self.seen]
            throughout = set(self.seen[0]).intersection(*self.seen[1:])
            ever = set(self.seen[0]).union(*self.seen[1:])
            assert len(throughout) <= result <= len(ever), f"count {result}, not in {counts}"
            return
        keys, values = result
        assert len(set(keys)) == len(keys) <= self.params[0]
        assert list(zip(keys, values, strict=True)) == sorted(
            zip(keys, values, strict=True), key=lambda item: (-item[1], item[0])
        ), f"top out of order: {result}"
        for key, value in zip(keys, values, strict=True):
            assert any(seen.get(key) == value for seen in self.seen), (
                f"top has {key!r}: {value}, a value it never had"
            )
        if steady:
            best = sorted(self.seen[0].items(), key=lambda item: (-item[1], item[0]))[: self.params[0]]
            assert [keys, values] == [[key for key, _ in best], [value for _, value in best]], "top is not the top"


class Scan:
    """A scan under way: the keys it has returned, and those it must return."""

    def __init__(self, prefix: bytes, count: int) -> None:
        self.prefix = prefix
        self.count = count
        self.cursor: Any = 0
        self.seen: set[bytes] = set()
        # Set with the first page: the cache it works on, and the keys that must be seen.
        self.model: ModelCache | None = None
        self.must_see: set[bytes] = set()

    def page(self, result: list[Any], model: ModelCache) -> bool:
        """Check a page; whether it was the last. The model is at the page's time."""
        cursor, keys, values = result
        if self.model is None:
            self.model = model
            self.must_see = set(model.under(self.prefix))
            model.scans.append(self.must_see)
        assert len(keys) <= self.count
        for key, value in zip(keys, values, strict=True):
            assert model.values.get(key) == value, f"scan gave {key!r}: {value}"
            assert key.startswith(self.prefix)
            assert key not in self.seen, f"scan gave {key!r} twice"
            self.seen.add(key)
        self.cursor = cursor
        if cursor == 0:
            missed = self.must_see - self.seen
            assert not missed, f"scan missed {sorted(missed)[:3]}"
            self.leave()
            return True
        return False

    def leave(self) -> None:
        """End the scan: the model need not follow its keys any more."""
        if self.model is not None:
            self.model.scans = [scan for scan in self.model.scans if scan is not self.must_see]


class Talker:
    """A session and its client's side. `models` are the caches by name."""

    def __init__(self, engine: Engine, models: dict[str, ModelCache], random: Random) -> None:
        self.protocol = ServerProtocol(engine, self._wake)
        self.woken = False  # the protocol asked for a turn
        self.stalls = 0  # turns after which it waited for a shard
        self.answered = 0
        self.overloaded = 0  # requests that were refused because of an overload
        self._models = models
        self._random = random
        self._model = models["default"]
        self._requests: dict[int, tuple[str, tuple[Any, ...], Refused | None]] = {}  # sent and not answered
        self._order: deque[int] = deque()  # their msgids as sent, without slices that have begun
        self._begun: dict[int, Sliced] = {}  # slices under way
        self._outbox = b""
        self._msgid = random.choice([0, 16_300, 2**32 - 100_000])
        self._unpacker = reply_unpacker()
        self._scan: Scan | None = None

    def _wake(self) -> None:
        self.woken = True

    # ------------------------------------------------------------------------------------- sending

    def ask(self, method: str, params: tuple[Any, ...], expected: Refused | None = None) -> None:
        """Put a request in the outbox."""
        self._msgid += 1
        self._requests[self._msgid] = (method, params, expected)
        self._order.append(self._msgid)
        if self._msgid % 7 == 0:  # it belongs to a trace of its own, or to none: its answer does not depend on that
            trace = f"00-{self._msgid + 1:032x}-{self._msgid + 1:016x}-01" if self._msgid % 2 else None
            self._outbox += encode_notification("trace", (trace,))
        self._outbox += encode_request(self._msgid, method, params)

    def ask_scan(self, prefix: bytes, count: int) -> None:
        """Ask for the next page of the scan under way, or begin one. Pages are asked for one at a time."""
        if any(method == "scan" for method, _, _ in self._requests.values()):
            return
        if self._scan is None:
            self._scan = Scan(prefix, count)
        self.ask("scan", (self._scan.cursor, self._scan.count, self._scan.prefix))

    def switch(self, name: str) -> None:
        """Ask for another cache. A scan under way belongs to the old one."""
        if self._scan is None and not any(method == "scan" for method, _, _ in self._requests.values()):
            self.ask("hello", ({b"cache": name.encode()},))

    @property
    def busy(self) -> bool:
        """Whether anything was asked and not answered."""
        return bool(self._requests)

    def push(self, now_ms: int, size: int | None = None) -> None:
        """Give the server the next bytes of the outbox, `size` of them or all."""
        size = len(self._outbox) if size is None else size
        piece, self._outbox = self._outbox[:size], self._outbox[size:]
        if self._random.random() < 0.5:
            self.protocol.feed(piece)
            self.turn(now_ms)
        else:
            self._take_replies(self.protocol.receive(piece, now_ms), now_ms)

    def turn(self, now_ms: int) -> None:
        """Run a turn of the protocol."""
        self.woken = False
        self._take_replies(self.protocol.turn(now_ms), now_ms)

    def close(self, now_ms: int) -> None:
        """Close the connection, with requests under way or not."""
        self.protocol.close(now_ms)
        if self._scan is not None:
            self._scan.leave()

    # ------------------------------------------------------------------------------------- replies

    def _take_replies(self, data: bytes, now_ms: int) -> None:
        assert not self.protocol.closing, "the server refused a good request as bad input"
        self.stalls += self.protocol._waiting
        self._unpacker.feed(data)
        ends: list[tuple[int, Any]] = []
        for kind, msgid, error, result in self._unpacker:
            assert kind == 1
            assert msgid in self._requests, f"a reply to {msgid}, which was not requested"
            answer = result if error is None else Refused(error[0].decode())
            if answer == BUSY and error[1] == OVERLOADED_TEXT:
                answer = OVERLOADED
                self.overloaded += 1
                assert self.overloaded <= self.protocol.engine.overload.refused, "refused, and not counted"
            self.answered += 1
            if self._sliced(msgid) and answer not in (BUSY, OVERLOADED):
                ends.append((msgid, answer))
            else:
                assert not ends, "a slice ended before the requests of its turn"
                self._begin_until(msgid)
                self._check(msgid, answer, now_ms)
        in_session = [sliced.msgid for sliced in self.protocol.session.slices]
        for msgid in [*in_session, *(msgid for msgid, _ in ends)]:
            if msgid not in self._begun:
                self._begin_until(msgid, inclusive=True)
        for sliced in self._begun.values():
            sliced.look(now_ms)
        for msgid, answer in ends:
            del self._requests[msgid]
            self._begun.pop(msgid).check(answer)
        assert sorted(self._begun) == sorted(in_session)

    def _sliced(self, msgid: int) -> bool:
        """Whether a request works in slices. A `count` without a prefix does when many counters have just expired."""
        if msgid in self._begun:
            return True
        method, params, expected = self._requests[msgid]
        return expected is None and (method == "top" or (method == "count" and bool(params)))

    def _begin_until(self, msgid: int, inclusive: bool = False) -> None:
        """The requests before this one that have no reply yet must be slices that have begun."""
        while self._order[0] != msgid or inclusive:
            first = self._order.popleft()
            assert self._sliced(first) or first in {sliced.msgid for sliced in self.protocol.session.slices}, (
                f"{self._requests[first]} has no reply, and a later request has one"
            )
            assert len(self._begun) < SLICES_MAX
            method, params, _ = self._requests[first]
            self._begun[first] = Sliced(method, params, self._model)
            if first == msgid:
                return
        assert self._order.popleft() == msgid

    def _check(self, msgid: int, answer: Any, now_ms: int) -> None:
        method, params, expected = self._requests.pop(msgid)
        if answer == OVERLOADED:
            pass  # it was not executed
        elif answer == BUSY:
            assert len(self._begun) == SLICES_MAX, "busy without reason"
        elif expected is not None:
            assert answer == expected, f"{method}{params} gave {answer}"
        elif method == "hello":
            name = params[0][b"cache"].decode()
            assert answer[b"cache"].decode() == name
            self._model = self._models[name]
        elif method == "scan":
            self._model.purge(now_ms)
            assert self._scan is not None
            if self._scan.page(answer, self._model):
                self._scan = None
        else:
            right = self._model.answer(method, params, now_ms)
            if method == "apply":
                answer = [Refused(item[0].decode()) if isinstance(item, list) else item for item in answer]
            assert type(answer) is type(right), f"{method}{params} gave {answer!r}, must be {right!r}"
            assert answer == right, f"{method}{params} gave {answer!r}, must be {right!r}"
