"""naught's protocol with the calls of the scenarios `ttl`, `quota` and `semaphore`.

They are drivers of their own, so the loops, the encoding and the check of every reply stay as they are:

- *ttl* gives every counter that it creates a time to live.
- *quota* counts by `try_incr` within `QUOTA_LIMIT`. A step that adds nothing is a call that must be refused. A reply
  is a number for the harness: the value, and `REFUSED` more where nothing was granted. So a grant that should have
  been a refusal is a wrong value.
- *semaphore* needs sessions. Its calls depend on earlier replies, see `generate.semaphore`.
"""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]

from naught_loadtest.drivers.base import Driver, Reply
from naught_loadtest.drivers.naught import NaughtDriver, NaughtSessionDriver, message_id, request

# A day: no counter expires while a run measures what times to live cost.
TIME_TO_LIVE_MS = 86_400_000
QUOTA_LIMIT = 3
# More than any value of a run.
REFUSED = 1 << 40


class TtlDriver(NaughtDriver):
    """Increments by `incr` with a time to live."""

    name = "naught-ttl"

    def single(self, number: int, key: str, delta: int) -> bytes:
        if delta <= 0:
            return super().single(number, key, delta)
        return request("incr", key, delta, TIME_TO_LIVE_MS, msgid=message_id(number))


class TtlSessionDriver(TtlDriver, NaughtSessionDriver):
    """`TtlDriver` in sessions."""

    name = "naught-session-ttl"


class QuotaDriver(NaughtDriver):
    """Increments by `try_incr`."""

    name = "naught-quota"

    def single(self, number: int, key: str, delta: int) -> bytes:
        if delta < 0:
            return super().single(number, key, delta)
        return request("try_incr", [[key, max(1, delta), QUOTA_LIMIT]], msgid=message_id(number))

    def single_reply(self, number: int, delta: int, value: int) -> bytes | None:
        if delta < 0:
            return super().single_reply(number, delta, value)
        reply: bytes = msgpack.packb([1, message_id(number), None, [delta > 0, [value % REFUSED]]])
        return reply

    def parse_with_ids(self, data: bytes) -> tuple[list[tuple[int | None, Reply]], int]:
        replies, used = super().parse_with_ids(data)
        return [(msgid, _number_of(reply)) for msgid, reply in replies], used


class QuotaSessionDriver(QuotaDriver, NaughtSessionDriver):
    """`QuotaDriver` in sessions."""

    name = "naught-session-quota"


class SemaphoreDriver(NaughtSessionDriver):
    """Sessions, whatever the URL says: without one nothing can be held."""

    name = "naught-semaphore"


def _number_of(reply: Any) -> Reply:
    """A reply of `try_incr` as a number; any other reply as it is."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], bool):
        granted, values = reply
        if isinstance(values, list) and len(values) == 1 and type(values[0]) is int:
            return values[0] if granted else values[0] + REFUSED
    return reply


# By scenario, and by the name that a target's URL begins with.
SCENARIO_DRIVERS: dict[str, dict[str, type[Driver]]] = {
    "ttl": {"naught": TtlDriver, "naught-session": TtlSessionDriver},
    "quota": {"naught": QuotaDriver, "naught-session": QuotaSessionDriver},
    "semaphore": {"naught": SemaphoreDriver, "naught-session": SemaphoreDriver},
}
