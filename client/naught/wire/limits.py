"""Every limit of the wire, with its reason: what a request, a reply and a session may be at most.

Both sides enforce these numbers, so they are here and nowhere else. How they relate to each other is asserted at
import; `tests/server/test_limits.py` holds each by number, and PROTOCOL.md says them to clients in other
languages. Limits that only the server knows (connections, output buffers) are in `naught_server/config.py`.
"""

from __future__ import annotations

from typing import Final

KEY_BYTES_MAX: Final = 512
"""Long enough for any path or URL-shaped name; short enough that a table of keys stays a table of counters."""

VALUE_MAX: Final = 2**63 - 1
"""The largest signed 64-bit integer: what every language on the other end of the wire can hold."""

BATCH_ITEMS_MAX: Final = 4_096
"""Items of one call. A batch runs in one turn of the loop: about 2 ms of other people's time at most."""

MESSAGE_BYTES_MAX: Final = 1 << 20
"""A request. Four thousand keys of 250 bytes fit."""

REPLY_BYTES_MAX: Final = 256 << 10
"""A reply. What a client must be ready to buffer for one call; a scan ends its page early to stay below it."""

STRING_BYTES_MAX: Final = 64 << 10
"""No field of any request is longer. A longer string that is still arriving is refused before it has arrived,
so a message is buffered once and not twice."""

MSGID_MAX: Final = 2**32 - 1
"""Message ids are unsigned 32-bit integers, as the MessagePack-RPC specification has it."""

PARAMS_MAX: Final = 3
"""The most parameters any method takes."""

TTL_MS_MAX: Final = 10 * 365 * 24 * 3600 * 1000
"""Ten years. A time to live beyond that is a mistake in units."""

SESSION_ID_BYTES: Final = 16
"""128 bits from the system's random source: nobody guesses the session of somebody else."""

UNACKNOWLEDGED_MAX: Final = 1_024
"""Requests of a session whose replies the client has not acknowledged. Enough for a million calls a second over a
millisecond, with joining; a server that keeps replies for whoever may come back must stop somewhere."""

UNACKNOWLEDGED_BYTES_MAX: Final = 4 << 20
"""Bytes of such replies: sixteen of the largest. Those of single counters have 6 bytes each."""

PARKED_MAX: Final = 8_192
"""Requests of a session that wait, or whose wait has ended and is not acknowledged. Each costs the server about
700 bytes."""

WAIT_MS_MAX: Final = 24 * 3600 * 1000
"""A day. A wait beyond that is nil, for no limit, or a mistake in units."""

PEER_SILENT_S: Final = 5
PEER_PROBES: Final = 5
PEER_UNACKNOWLEDGED_MS: Final = 10_000
"""Whether a peer lives is asked of its kernel and not of its event loop: silent for 5 s, then five probes a second
apart; and written bytes may stay unacknowledged for 10 s. So a machine that is gone is noticed in ten seconds, and a
process that is merely busy, or stopped, is not taken for dead."""

KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", PEER_SILENT_S),
    ("TCP_KEEPALIVE", PEER_SILENT_S),  # the same on macOS
    ("TCP_KEEPINTVL", 1),
    ("TCP_KEEPCNT", PEER_PROBES),
    ("TCP_USER_TIMEOUT", PEER_UNACKNOWLEDGED_MS),
)
"""The socket options that say so, by name, where a system has them; both ends set them."""

DEFAULT_PORT: Final = 6480
DEFAULT_CACHE: Final = "default"

assert STRING_BYTES_MAX < MESSAGE_BYTES_MAX
assert KEY_BYTES_MAX * 64 < STRING_BYTES_MAX
assert BATCH_ITEMS_MAX * 9 < REPLY_BYTES_MAX, "the values of a whole batch must fit one reply"
assert REPLY_BYTES_MAX < MESSAGE_BYTES_MAX
assert REPLY_BYTES_MAX * 16 <= UNACKNOWLEDGED_BYTES_MAX
