"""The servers that the harness can drive.

`target` reads the URLs that name them. `naught`, `redis`, `memcached` and `echo` are the protocols, each a `Driver`
as `base` defines it, without a socket. `probe` is a blocking connection that uses a driver, and `servers` starts
servers.
"""

from __future__ import annotations

from naught_loadtest.drivers.base import Driver
from naught_loadtest.drivers.echo import EchoDriver
from naught_loadtest.drivers.memcached import MemcachedDriver
from naught_loadtest.drivers.naught import NaughtDriver, NaughtSessionDriver
from naught_loadtest.drivers.naught_calls import SCENARIO_DRIVERS
from naught_loadtest.drivers.redis import (
    RedisDelexDriver,
    RedisDriver,
    RedisFunctionDriver,
    RedisLuaDriver,
    ValkeyDelifeqDriver,
)

# By the name that a target's URL begins with.
DRIVERS: dict[str, type[Driver]] = {
    driver.name: driver
    for driver in (
        NaughtDriver,
        NaughtSessionDriver,
        RedisDriver,
        RedisLuaDriver,
        RedisFunctionDriver,
        ValkeyDelifeqDriver,
        RedisDelexDriver,
        MemcachedDriver,
        EchoDriver,
    )
}


def driver_for(kind: str, scenario: str = "") -> Driver:
    """The driver with this name, with the calls of its own that a scenario may have. KeyError for an unknown name."""
    return SCENARIO_DRIVERS.get(scenario, DRIVERS)[kind]()
