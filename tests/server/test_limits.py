"""The server's limits, each by number: users rely on them, so a change must be made here too."""

from __future__ import annotations

import gc
import sys

from naught_server import config, limits

LIMITS = {
    "ACCEPTS_PER_TURN_MAX": 32,
    "BUSY_AFTER_MS": 500,
    "BUSY_AFTER_MS_MAX": 60_000,
    "CACHES_MAX": 128,
    "CACHE_NAME_CHARACTERS_MAX": 64,
    "COMPACTION_BYTES_PER_ENTRY": 128,
    "COMPACTION_BYTES_PER_ENTRY_MAX": 4_096,
    "COMPACTION_BYTES_PER_ENTRY_MIN": 64,
    "CONNECTIONS_LIMIT": 1_000_000,
    "CONNECTIONS_MAX": 10_000,
    "DEALT_ENTRIES_MAX": 1_000,
    "DEFAULT_HTTP_PORT": 6_481,
    "DRAIN_TIMEOUT_MS_MAX": 3_600_000,
    "FILES_RESERVED": 32,
    "GC_THRESHOLD": gc.get_threshold()[0],
    "GC_THRESHOLD_MAX": 1_000_000,
    "GC_THRESHOLD_MIN": 100,
    "HANDSHAKE_MS_MAX": 2_000,
    "HELD_ITEMS_MAX": 65_536,
    "HTTP_CONNECTIONS_MAX": 32,
    "INPUT_AHEAD_BYTES_MAX": 65_536,
    "INPUT_BYTES_MAX": 1_114_112,
    "LAME_DUCK_MS": 100,
    "LEASE_MS_DEFAULT": 10_000,
    "LEASE_MS_MAX": 300_000,
    "LEASE_MS_MIN": 100,
    "LISTEN_BACKLOG": 4_096,
    "LOG_BYTES_QUEUED_MAX": 1_048_576,
    "LOG_LINES_ALIKE_MAX": 10,
    "LOG_LINES_QUEUED_MAX": 1_000,
    "MAX_COUNTERS_LIMIT": 1_099_511_627_776,
    "MESSAGE_MS_MAX": 30_000,
    "OUTPUT_BYTES_MAX": 1_048_576,
    "OUTPUT_PAUSED_MS_MAX": 10_000,
    "PARKED_BYTES_LIMIT": 1_099_511_627_776,
    "PARKED_BYTES_MAX": 268_435_456,
    "PARKED_BYTES_MIN": 1_048_576,
    "PEER_LOOK_MS": 2_000,
    "PROBE_INTERVAL_MS_MAX": 2_000,
    "RATE_LIMIT": 1_000_000_000,
    "RATE_MIN": 100,
    "SESSIONS_OF_ADDRESS": 10,
    "SESSIONS_OF_ADDRESS_MIN": 32,
    "SESSIONS_PER_CONNECTION": 2,
    "SHARDS_MAX": 65_536,
    "STALE_SHARE_MAX": 0.1,
    "SWEEP_BACKLOG_SHARE": 0.25,
    "SWEEP_BUDGET_MS_MAX": 10.0,
    "SWEEP_DUTIES_MS": 1.0,
    "SWEEP_BUDGET_MS_MIN": 0.1,
    "SWEEP_INTERVAL_MS_MAX": 1_000,
    "SWEEP_INTERVAL_MS_MIN": 4,
    "SWEEP_PERIOD_MS": 10,
    "SWEEP_SLICE_MS": 1.0,
    "TURN_ITEMS_MAX": 250,
    "UNIX_PATH_BYTES_MAX": 107 if sys.platform == "linux" else 103,
}


def test_each_limit_by_number() -> None:
    assert {name: value for name, value in vars(limits).items() if name.isupper()} == {
        **LIMITS,
        # Of the wire.
        "BATCH_ITEMS_MAX": 4_096,
        "DEFAULT_PORT": 6480,
        "MESSAGE_BYTES_MAX": 1_048_576,
        "REPLY_BYTES_MAX": 262_144,
    }


def test_defaults_by_number() -> None:
    defaults = config.ServerConfig()
    assert (defaults.host, defaults.port) == ("127.0.0.1", 6480)
    assert defaults.connections_max == 10_000
    assert defaults.connections_per_address_max is None
    assert defaults.sessions_max == 20_000
    assert defaults.sessions_of_address_max == 2_000
    assert config.ServerConfig(connections_max=10).sessions_of_address_max == 32
    assert config.ServerConfig(sessions_per_address_max=7).sessions_of_address_max == 7
    assert defaults.parked_bytes_max == 268_435_456
    assert defaults.drain_timeout_ms == 10_000
    assert defaults.sweep_budget_ms == 1.0
    assert defaults.sweep_interval_ms == 10
    assert defaults.compaction_bytes_per_entry == 128
    assert defaults.gc_threshold == gc.get_threshold()[0]
    assert defaults.tuner == "on"
    assert not defaults.watch_config
    assert defaults.caches == {"default": config.CachePolicy("default", 256, "eager", None)}
