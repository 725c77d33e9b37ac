"""Every limit of the wire, each with its reason: sizes of requests and replies, and limits of a session.

Both sides enforce these numbers, so they are defined only here. Relations between them are asserted at import.
`tests/server/test_wire_limits.py` tests each by number, and PROTOCOL.md states them for clients in other languages.
Limits of the server alone (connections, output buffers) are in `naught_server/limits.py`.
"""

from __future__ import annotations

from typing import Final

KEY_BYTES_MAX: Final = 512
"""Long enough for any path or URL. Short enough that keys do not make a counter expensive to store."""

VALUE_MAX: Final = 2**63 - 1
"""The largest signed 64-bit integer, which clients in every language can represent."""

BATCH_ITEMS_MAX: Final = 4_096
"""Items of one call. Those of `apply` are done in portions, so that a long batch does not delay other clients."""

ITEMS_AT_ONCE_MAX: Final = 1_024
"""Items of a call that does all of them or none (`try_incr`, `acquire`, `release`). It is one step of the server,
which delays other clients by about 3 ms at most."""

MESSAGE_BYTES_MAX: Final = 1 << 20
"""Size of a request. Four thousand keys of 250 bytes fit."""

REPLY_BYTES_MAX: Final = 256 << 10
"""Size of a reply. A client must be able to buffer one per call. A scan ends its page early to stay below it."""

CURSOR_BYTES_MAX: Final = KEY_BYTES_MAX + 4
"""The cursor of a scan: where it stopped, by shard and key. No other string of a request is longer."""

MSGID_MAX: Final = 2**32 - 1
"""Message ids are unsigned 32-bit integers, as the MessagePack-RPC specification says."""

PARAMS_MAX: Final = 5
"""The most parameters any method takes: `throttle`."""

TTL_MS_MAX: Final = 10 * 365 * 24 * 3600 * 1000
"""Ten years. A longer time to live is probably a mistake in units."""

SESSION_ID_BYTES: Final = 16
"""So many that no client can guess the session of another client: all but the first few are from the system's random
source, for each session anew."""

SERVER_TAG_BYTES: Final = 4
"""The first bytes of the ids of all sessions of one server process, random too. A client whose session is unknown
sees by the id of the next one whether the server was restarted or has ended the session. The other 96 bits are drawn
for each session."""

USER_BYTES_MAX: Final = 64
"""The name of a user: as long as that of a cache."""

SECRET_BYTES_MAX: Final = 4_096
"""The secret of a user. Passwords have some tens of bytes, tokens that others have signed up to some thousand; with
the other words of `hello` it fits a small message, which has 8 KiB."""

ALPN_PROTOCOL: Final = "naught/1"
"""What both sides name in the handshake of TLS (ALPN), so that a connection that is meant for another service is not
taken for one of clients."""

UNKNOWN_BYTES_MAX: Final = 16 << 10
"""What a peer may send before the server knows which user it is: a `hello`, and some requests behind it."""

NAME_BYTES_MAX: Final = 128
"""The name that a client gives itself: a host and a process id, or a word or two. It is shown in tables."""

UNACKNOWLEDGED_MAX: Final = 1_024
"""Requests of a session whose replies the client has not acknowledged. With joined calls, enough for a million calls
per second at a round trip of 1 ms. The limit exists because the server keeps these replies in memory."""

UNACKNOWLEDGED_BYTES_MAX: Final = 4 << 20
"""Bytes of unacknowledged replies of a session: sixteen of the largest. The reply to an `incr` has about 6 bytes."""

PARKED_MAX: Final = 8_192
"""Requests of a session that wait at the server, or whose wait has ended without its reply being acknowledged. Each
costs the server about 700 bytes."""

PARKED_ITEMS_MAX: Final = 65_536
"""Keys that the waiting requests of a session wait for, all together: as many as a session may hold amounts."""

WAIT_MS_MAX: Final = 24 * 3600 * 1000
"""A day. A longer wait is probably a mistake in units; nil stands for no limit."""

SLOW_TURNS_MAX: Final = 128
"""Turns in the slow log of a server: more than anybody reads, and their list fits one reply four times."""

PEER_SILENT_S: Final = 5
PEER_PROBES: Final = 5
PEER_UNACKNOWLEDGED_MS: Final = 10_000
"""TCP keepalive: after 5 s without a packet from the peer, five probes follow, one per second. Written bytes may stay
unacknowledged (in TCP) for 10 s. The peer's kernel answers both, not its event loop. So a machine that is gone is
detected about ten seconds later, and a process that is busy or stopped is not mistaken for a dead one."""

KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", PEER_SILENT_S),
    ("TCP_KEEPALIVE", PEER_SILENT_S),  # the same on macOS
    ("TCP_KEEPINTVL", 1),
    ("TCP_KEEPCNT", PEER_PROBES),
)
"""The socket options of keepalive, by name. Both ends set those that their system has."""

DEFAULT_PORT: Final = 6480
DEFAULT_CACHE: Final = "default"

assert SESSION_ID_BYTES - SERVER_TAG_BYTES >= 12
assert BATCH_ITEMS_MAX * 9 < REPLY_BYTES_MAX, "the values of a whole batch must fit one reply"
assert ITEMS_AT_ONCE_MAX <= BATCH_ITEMS_MAX
assert REPLY_BYTES_MAX < MESSAGE_BYTES_MAX
assert REPLY_BYTES_MAX * 16 <= UNACKNOWLEDGED_BYTES_MAX
