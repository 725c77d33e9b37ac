"""The servers the harness can drive, by the name in the target's URL."""

from __future__ import annotations

from naught_loadtest.drivers.base import Driver
from naught_loadtest.drivers.echo import EchoDriver
from naught_loadtest.drivers.memcached import MemcachedDriver
from naught_loadtest.drivers.naught import NaughtDriver
from naught_loadtest.drivers.redis import RedisDriver, RedisLuaDriver

DRIVERS: dict[str, type[Driver]] = {
    driver.name: driver for driver in (NaughtDriver, RedisDriver, RedisLuaDriver, MemcachedDriver, EchoDriver)
}


def driver_for(kind: str) -> Driver:
    """A driver by name; KeyError for an unknown one."""
    return DRIVERS[kind]()
