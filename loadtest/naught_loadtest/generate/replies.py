"""Reads the replies of one connection, and compares each with what it must be.

A reply is right when it has the id of its request, is no error, and has the value that the counter must have. The
values are known where one connection owns the keys (`Workload.owned`). Elsewhere a reply must at least be a value:
a whole number, or as many of them as the request has items.

There are three ways to read, from fast to slow:

- *Exact*: the right reply is known as bytes, and the bytes that arrive are the same.
- *Matched*: values are not known. The driver's regular expression matches all successful replies of a chunk at once,
  and their ids are compared together.
- *Parsed*: what the first two do not take. Here the requests that were refused or answered wrongly are found. After a
  refusal the values of a connection's script are no longer right, so a model of the connection's own counters says
  which values must come. When the model agrees with the script again, replies are compared as bytes again.

Where several connections change the same counters, the values are added up (`ValueSums`) and judged after the run.

Sans-IO: bytes go in, numbers of requests come out.
"""

from __future__ import annotations

from typing import Any

from naught_loadtest.drivers.base import Driver, Failure, ProtocolFaultError, Reply, failure_in
from naught_loadtest.generate.encoding import EncodedScript
from naught_loadtest.generate.value_sums import ValueSums

# The classes of failures that the harness itself finds in a reply.
WRONG_VALUE = "wrong_value"
WRONG_ID = "wrong_id"
# The server acknowledged these requests, although not as it should have.
ACKNOWLEDGED = (WRONG_VALUE, WRONG_ID)
# More bytes than this without one whole reply among them are no reply. The longest reply, to an `apply` of 4 096
# counters, has 40 KiB.
REPLY_BYTES_MAX = 1 << 18


class ReplyReader:
    """The replies to one connection's script, from its first request on."""

    def __init__(self, driver: Driver, script: EncodedScript, sums: ValueSums | None = None) -> None:
        self._driver = driver
        self._script = script
        # Where values that nobody knows are added up; None where nobody asks.
        self._sums = sums
        self._fast = driver.fast.match
        # The beginning of a reply whose end has not arrived.
        self._rest = b""
        # Requests answered so far, and so the number of the next one. A request is answered with its last reply.
        self.counted = 0
        # Replies so far, and so the number of the next one.
        self._replies = 0
        # The replies to the request with the number `counted` that were parsed, where it gets several.
        self._parsed: list[Reply] = []
        # The first failure among them.
        self._failed = ""
        # What the counters of this connection must be; None while they are what the script says.
        self._model: dict[int, int] | None = None
        # The answered requests that failed and were not taken yet: (number, class).
        self.failures: list[tuple[int, str]] = []
        # Whether a reply came that no request waits for.
        self.unasked = False

    @property
    def exact(self) -> bool:
        """Whether the next replies are to be compared as bytes, and none of them has begun to arrive."""
        return self._script.replies is not None and self._model is None and not self._rest and not self._parsed

    def skip(self, requests: int) -> None:
        """The next replies were compared with what they must be, and are right."""
        self.counted += requests
        cycle = self._script.cycle
        self._replies = self.counted if cycle is None else cycle.first_reply(self.counted)

    def take_failures(self) -> list[tuple[int, str]]:
        """The failures found since the last call. No request fails before it is answered."""
        failures, self.failures = self.failures, []
        return failures

    def feed(self, data: bytes, waiting: int) -> int:
        """Read the next bytes. `waiting` requests wait for replies. Returns how many of them are answered now.

        ProtocolFaultError when the bytes cannot be replies.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        before = self.counted
        limit = before + waiting
        position = self._take_exact(data, limit) if self.exact else 0
        if position < len(data) and not self.exact and position == 0:
            position = self._take_matched(data, limit)
        if position < len(data):
            position += self._take_parsed(data[position:] if position else data, limit)
        self._rest = data[position:]
        if self._rest and self.counted >= limit:
            self.unasked = True
            self._rest = b""
        if len(self._rest) > REPLY_BYTES_MAX:
            raise ProtocolFaultError(f"no reply ends within {REPLY_BYTES_MAX} bytes: {self._rest[:40]!r}")
        return self.counted - before

    def _take_exact(self, data: bytes, limit: int) -> int:
        """Take the replies at the start of `data` that are right. Returns where they end."""
        replies = self._script.replies
        assert replies is not None
        position, taken = 0, 0
        index = self.counted % len(replies)
        while position < len(data) and self.counted + taken < limit:
            expected = replies[index]
            if expected is None or not data.startswith(expected, position):
                break
            position += len(expected)
            taken += 1
            index = index + 1 if index + 1 < len(replies) else 0
        if taken:
            self.skip(taken)
        return position

    def _take_matched(self, data: bytes, limit: int) -> int:
        """Take the successful replies at the start of `data` if their ids are right. Returns where they end."""
        if self._script.known or self._parsed:
            return 0
        driver, cycle = self._driver, self._script.cycle
        match = self._fast(data)
        end = match.end() if match else 0
        count = 0
        for mark in driver.marks:
            count += data.count(mark, 0, end)
        requests = count if cycle is None else cycle.request_of(self._replies + count) - self.counted
        if self.counted + requests > limit or not driver.ids_are(data, end, self._script.ids_of(self.counted, count)):
            return 0
        if self._sums is not None:
            values = driver.values_in(data, end, count)
            if values is None or cycle is not None:
                self._sums.spoil()
            else:
                self._sums.add(self.counted, values)
        self._replies += count
        self.counted += requests
        return end

    def _take_parsed(self, data: bytes, limit: int) -> int:
        """Parse replies one by one. Returns where the last whole one ends, or the last one that is waited for."""
        expected = self._script.replies
        if expected is not None and self._model is None and not self._parsed and self.counted < limit:
            reply = expected[self.counted % len(expected)]
            if reply is not None and len(data) < len(reply) and reply.startswith(data):
                return 0
        messages, used = self._driver.parse_with_ids(data)
        for msgid, reply in messages:
            if self.counted >= limit:
                self.unasked = True
                break
            self._take(msgid, reply)
        return used

    def _take(self, msgid: int | None, reply: Reply) -> None:
        """One reply has arrived."""
        request = self.counted
        right_id = self._driver.id_of(request % self._script.length)
        self._parsed.append(reply)
        self._replies += 1
        if msgid != right_id:
            self._failed = self._failed or WRONG_ID
        cycle = self._script.cycle
        answered = self._replies if cycle is None else cycle.request_of(self._replies)
        if answered == request:
            return
        kind = self._judge(request, self._parsed)
        failed, self._failed, self._parsed = self._failed or kind, "", []
        self.counted += 1
        if failed:
            self.failures.append((request, failed))

    def _judge(self, request: int, replies: list[Reply]) -> str:
        """The class of a request's failure, empty for none. The model learns what was executed."""
        script = self._script
        steps = script.steps(request)
        items = replies[0] if len(steps) > 1 and isinstance(replies[0], list) else [replies[0]]
        refused = next((failure.kind for reply in replies if (failure := failure_in(reply)) is not None), "")
        if self._model is None and script.known:
            if not refused and self._script_says(request, steps, replies, items):
                return ""
            self._model = script.remaining(request)
        if self._model is None:
            if not refused and not _are_values(items, len(steps), self._driver.absent):
                refused = WRONG_VALUE
            if self._sums is not None:
                if refused or None in items:
                    self._sums.spoil()
                else:
                    self._sums.add_steps(request, items)
            return refused
        right = len(items) == len(steps)
        if not right:
            items = [replies[0]] * len(steps)
        for (key, delta), item in zip(steps, items, strict=True):
            if isinstance(item, Failure):
                continue
            value = self._model.get(key, 0) + delta
            if value < 0 and self._driver.stops_at_zero:
                value = 0
            self._model[key] = value
            right = right and (_same(item, value) or (delta == value == 0 and item is self._driver.absent))
        if len(steps) == 1 and not refused:
            delta = steps[0][1]
            wanted_replies = self._driver.right_replies(delta, self._model.get(steps[0][0], 0))
            right = right and len(replies) == len(wanted_replies) and all(map(_same, replies[1:], wanted_replies[1:]))
        self._compare_with_script(request + 1)
        return refused or ("" if right else WRONG_VALUE)

    def _script_says(
        self, request: int, steps: list[tuple[int, int]], replies: list[Reply], items: list[Any]
    ) -> bool:
        """Whether these are the right replies as long as nothing was refused."""
        values = self._script.values(request)
        if values is None or len(items) != len(steps) or not all(map(_same, items, values)):
            return False
        if len(steps) > 1:
            return True
        wanted = self._driver.right_replies(steps[0][1], values[0])
        return len(wanted) == len(replies) and all(map(_same, replies, wanted))

    def _compare_with_script(self, request: int) -> None:
        """At the end of a cycle: go back to the script if the counters are what it says."""
        if request % self._script.script_length == 0 and self._script.values(request) is not None:
            assert self._model is not None
            if not any(self._model.values()):
                self._model = None


def _same(reply: Any, wanted: Any) -> bool:
    """Whether a reply is this whole number, or both are None. True and 1.0 are no whole numbers."""
    return type(reply) is type(wanted) and bool(reply == wanted)


def _are_values(items: list[Any], count: int, absent: int | None) -> bool:
    """Whether these are as many values of counters."""
    return len(items) == count and all(type(item) is int or (item is None and absent is None) for item in items)
