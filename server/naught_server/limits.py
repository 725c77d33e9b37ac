"""The server's limits and the defaults of its settings, each with its reason.

Relations between them are asserted at import, and `tests/server/test_limits.py` tests each by number. Limits
of the wire, which both sides enforce, are in `naught/wire/limits.py`. What can be configured, and how, is in
`config.py`.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

from naught.wire.limits import BATCH_ITEMS_MAX, DEFAULT_PORT, MESSAGE_BYTES_MAX, REPLY_BYTES_MAX

CONNECTIONS_MAX: Final = 10_000
"""The default of the setting. A connection may have a message, a slice of input and its output buffered: at worst
about 2 MiB, in practice a few KiB."""

CONNECTIONS_LIMIT: Final = 1_000_000
"""The most that can be configured. One process with one event loop cannot serve more usefully."""

FILES_RESERVED: Final = 32
"""Descriptors that connections may not use: for the standard streams, listeners, the loop, and files opened for a
moment."""

HTTP_CONNECTIONS_MAX: Final = 32
"""Connections to the HTTP port: browsers open up to six, scrapers and probes one each. They do not count against
`connections_max`, so clients of counters cannot keep an operator from looking; their descriptors are reserved."""

DEFAULT_HTTP_PORT: Final = DEFAULT_PORT + 1
"""Beside the port of the counters."""

LISTEN_BACKLOG: Final = 4_096
"""Connections the kernel may queue: enough for a fleet of clients that reconnects at once. The kernel reduces it to
its own limit."""

ACCEPTS_PER_TURN_MAX: Final = 32
"""Connections accepted in one turn of the loop. Measured at 1.2 ms together: requests of open connections wait that
long when many clients connect at once."""

OUTPUT_BYTES_MAX: Final = 1 << 20
"""Unsent output of one peer above which its requests are no longer read: a few replies of the largest size."""

OUTPUT_PAUSED_MS_MAX: Final = 10_000
"""How long a peer may leave its output unread before its connection is aborted: as long as a silent peer is not taken
for dead (`PEER_UNACKNOWLEDGED_MS`)."""

MESSAGE_MS_MAX: Final = 30_000
"""How long a message may be unfinished: 1 MiB arrives in this time at 280 kbit/s. Without it, connections that
send half a message each would keep its bytes in memory until they close."""

INPUT_AHEAD_BYTES_MAX: Final = 64 << 10
"""Input that may wait for a turn before reading is paused. uvloop hands over up to 256 000 bytes at once, and several
such pieces in one turn of the loop."""

INPUT_BYTES_MAX: Final = MESSAGE_BYTES_MAX + INPUT_AHEAD_BYTES_MAX
"""Undecoded input that a connection keeps: an unfinished message, or what waits for a turn and one more piece."""

PEER_LOOK_MS: Final = 2_000
"""How often the kernel is asked about a peer while replies are on their way to it. Two looks that find it silent, the
second one `PEER_UNACKNOWLEDGED_MS` after its last answer or later, end its connection."""

PROBE_INTERVAL_MS_MAX: Final = 2_000
"""How far apart the kernel may send what the peer must answer: retransmissions, and probes of a closed window. Less
than `PEER_UNACKNOWLEDGED_MS`, so that a peer that is there has answered one by then. Linux allows 1 000 and more."""

HANDSHAKE_MS_MAX: Final = 2_000
"""How long a client may take to say who it is, on a server with users, and for the handshake of TLS: a few round
trips around the world, and little enough that connections that say nothing do not pile up."""

LAME_DUCK_MS: Final = 100
"""How long a stopping server still reads from a connection, to answer `shutting_down`. A client with that answer
knows that its request was not executed and can ask another server; after a closed connection it could not know."""

TURN_ITEMS_MAX: Final = 250
"""Work for one peer in one turn of the loop, in counters touched, in which all other connections wait: a tenth of a
millisecond, compiled. With 1 000, the p99 of a steady load beside a drain by `apply` is 2.6 to 4.1 times what it is
without the drain, with 500 2.6 to 3.3 times, with 250 1.0 to 1.7 times. Longer turns do up to a tenth more
counters by `apply` of 1 000, and a sixth more requests in pipelines of 1 000.
(`naught-loadtest bars --only drain --rounds 4`, one machine in one hour.)"""

DEALT_ENTRIES_MAX: Final = 4 * TURN_ITEMS_MAX
"""Work of connections that had more than one turn, in one iteration of the loop: about half a millisecond, or one
step that cannot be parted."""

SWEEP_PERIOD_MS: Final = 10
"""The default of the setting `sweep_interval_ms`, which the budget is given for."""

SWEEP_INTERVAL_MS_MIN: Final = 4
"""With less, a budget would be a large part of the interval, whatever it is."""

SWEEP_INTERVAL_MS_MAX: Final = 1_000
"""With more, zeros and expired counters would be seen for seconds in the sizes of tables."""

SWEEP_SLICE_MS: Final = 1.0
"""The longest step of the sweeper, in which every request waits. A larger share of the time is more steps and no
longer ones."""

SWEEP_BUDGET_MS_MIN: Final = 0.1
"""Below this, starting a step costs more than the work in it. 0 is no budget of this range: it turns the sweeper
off."""

SWEEP_BUDGET_MS_MAX: Final = 10.0
"""A whole `SWEEP_PERIOD_MS`: with it the sweeper has all the time that requests leave."""

SWEEP_DUTIES_MS: Final = 1.0
"""The budget of the jobs that go on while the sweeper is off: the default of the setting."""

SWEEP_BACKLOG_SHARE: Final = 0.25
"""The part of the time that a backlog earns the sweeper, where `sweep_budget_ms` is less: 2.5 ms in 10. Requests
have three quarters."""

COMPACTION_BYTES_PER_ENTRY: Final = 128
"""The default of the setting: a table with more bytes than this per entry is mostly empty and is rebuilt. A rebuilt
one has 27 to 54."""

COMPACTION_BYTES_PER_ENTRY_MIN: Final = 64
"""With less, a table that was just rebuilt could be rebuilt again."""

COMPACTION_BYTES_PER_ENTRY_MAX: Final = 4_096
"""With more, a table would hardly ever be rebuilt."""

GC_THRESHOLD_MIN: Final = 100
"""With less, the garbage collector would run all the time."""

GC_THRESHOLD_MAX: Final = 1_000_000
"""With more, cycles of a million objects would wait for it."""

GC_THRESHOLD: Final = min(max(GC_THRESHOLD_MIN, gc.get_threshold()[0]), GC_THRESHOLD_MAX)
"""The default of the setting: Python's own. A program that uses `memory://` may have set it to anything, 0 included,
and keeps what it has set."""

STALE_SHARE_MAX: Final = 0.1
"""More than this part stale is a backlog: expired counters and lazy zeros of a cache's raw entries, entries of
cleared tables, ended sessions of all sessions."""

DRAIN_TIMEOUT_MS_MAX: Final = 3_600_000
"""An hour. Supervisors kill a process long before; a larger number is a mistake in units."""

LEASE_MS_DEFAULT: Final = 10_000
"""How long a session outlives its connection unless its client asks for another lease. Long enough for a short
failure of the network, and short enough for clients that wait for the holds of a dead process."""

LEASE_MS_MIN: Final = 100
"""With less, a session would end before a client that reconnects at once has resumed it."""

LEASE_MS_MAX: Final = 300_000
"""Five minutes. That long, the holds of a dead process are kept from other clients."""

SESSIONS_PER_CONNECTION: Final = 2
"""Sessions allowed for each allowed connection: when all clients restart, their old sessions stay until the leases
end."""

SESSIONS_OF_ADDRESS: Final = 10
"""One in ten of all sessions may be opened from one address, unless configured otherwise. So a single peer cannot
take all of them: a session outlives its connection, and opening one costs its client a few bytes."""

SESSIONS_OF_ADDRESS_MIN: Final = 32
"""Sessions that an address may have in any case: a tenth of a small server would be too few for a single host."""

HELD_ITEMS_MAX: Final = 65_536
"""Amounts a session may hold, in all its holds together: 20 MiB of the server's memory."""

LOG_LINES_QUEUED_MAX: Final = 1_000
"""Log lines that wait to be written. More are dropped and counted: logging must not stop the server."""

LOG_BYTES_QUEUED_MAX: Final = 1 << 20
"""Characters of these lines; a traceback may have some thousands."""

LOG_LINES_ALIKE_MAX: Final = 10
"""Log lines of the same event in a second. The others are left out, and one line says how many."""

PARKED_BYTES_MAX: Final = 256 << 20
"""The default of the setting: memory for requests that wait, of all clients together."""

PARKED_BYTES_MIN: Final = 1 << 20
"""Less would refuse waits that an ordinary client makes."""

PARKED_BYTES_LIMIT: Final = 1 << 40
"""More does not fit into any memory."""

RATE_MIN: Final = 100
"""Less would refuse a client that does next to nothing."""

RATE_LIMIT: Final = 1_000_000_000
"""More than a server can do is no limit."""

BUSY_AFTER_MS: Final = 500
"""The default of the setting: half of what clients wait for an answer unless told otherwise. What is answered later
would often be answered to nobody."""

BUSY_AFTER_MS_MAX: Final = 60_000
"""A minute. No caller waits longer for an answer; 0 is for ever."""

SHARDS_MAX: Final = 65_536
"""Each shard costs a table, a lock and visits of the sweeper; more shards than this have no use."""

CACHES_MAX: Final = 128
"""Each cache has its own tables, metrics and rows in `info`. A cache is for a kind of counter, not for a customer."""

CACHE_NAME_CHARACTERS_MAX: Final = 64
"""A cache's name is part of URLs and a label of metrics."""

MAX_COUNTERS_LIMIT: Final = 2**40
"""More do not fit into any memory; a larger bound is a mistake."""

UNIX_PATH_BYTES_MAX: Final = 107 if sys.platform == "linux" else 103
"""The size of the path in the kernel's `sockaddr_un`, without its final zero byte."""

assert TURN_ITEMS_MAX <= BATCH_ITEMS_MAX, "only a batch may be more work than one turn allows"
assert INPUT_AHEAD_BYTES_MAX + 256_000 <= INPUT_BYTES_MAX
assert REPLY_BYTES_MAX < OUTPUT_BYTES_MAX, "a single reply must not be enough to pause a peer"
assert SWEEP_BUDGET_MS_MIN < SWEEP_BUDGET_MS_MAX <= SWEEP_PERIOD_MS
assert SWEEP_BUDGET_MS_MIN <= SWEEP_DUTIES_MS <= SWEEP_BUDGET_MS_MAX
assert SWEEP_INTERVAL_MS_MIN <= SWEEP_PERIOD_MS <= SWEEP_INTERVAL_MS_MAX
assert COMPACTION_BYTES_PER_ENTRY_MIN <= COMPACTION_BYTES_PER_ENTRY <= COMPACTION_BYTES_PER_ENTRY_MAX
assert CONNECTIONS_MAX <= CONNECTIONS_LIMIT
assert ACCEPTS_PER_TURN_MAX < LISTEN_BACKLOG
assert LEASE_MS_MIN < LEASE_MS_DEFAULT < LEASE_MS_MAX
