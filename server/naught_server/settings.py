"""The settings that change while the server runs, and who has set each: the configuration, an operator, or the tuner.

Three hands can move a setting, and the order says who wins:

    the configuration    flags, environment, file: at the start, and when they are reread
    the tuner            changes on top of that, and takes its change back; see `tuner.py`
    an operator          `config_set`: the value stays, and the tuner leaves the setting alone, until `config_set`
                         with nil gives it back, or the configuration is reread

The settings of a cache have dotted names: `caches.NAME.eviction`, `caches.NAME.max_counters`. What a change brings
about elsewhere (a cache's policy, the collector) is the business of the callback that the owner gives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from naught.errors import InvalidRequest
from naught_server.config import LIVE_OF_CACHE, LIVE_SETTINGS, ServerConfig, accepted_live

log = logging.getLogger("naught.server")

SWEEPER_OFF: Final = (
    "the sweeper is off (sweep_budget_ms = 0): the memory of zeros, cleared and emptied tables is not given back"
)


def live_values(config: ServerConfig) -> dict[str, Any]:
    """The settings that can change while the server runs, as a configuration has them."""
    values = {name: getattr(config, name) for name in LIVE_SETTINGS}
    values["gc_freeze"] = False
    for cache, policy in config.caches.items():
        values |= {f"caches.{cache}.{key}": getattr(policy, key) for key in LIVE_OF_CACHE}
    return values


class Settings:
    """The live settings of one engine."""

    def __init__(self, config: ServerConfig, changed: Callable[[str, Any], None]) -> None:
        """`changed` is called with the name and the new value of each setting that has changed."""
        self._changed = changed
        self._configured = live_values(config)  # what flags, environment and file say
        self._pinned: dict[str, Any] = {}  # what operators have set
        self._tuned: dict[str, Any] = {}  # what the tuner has changed; never a pinned one
        self._values = dict(self._configured)  # what holds

    # -- reading

    @property
    def sweep_budget_ms(self) -> float:
        """The sweeper's work in any interval; 0: it is off."""
        value: float = self._values["sweep_budget_ms"]
        return value

    @property
    def sweep_interval_ms(self) -> int:
        """The interval of the budget."""
        value: int = self._values["sweep_interval_ms"]
        return value

    @property
    def sweep_share(self) -> float:
        """The part of the time that the budget is, from 0 to 1."""
        return min(1.0, self.sweep_budget_ms / self.sweep_interval_ms)

    @property
    def compaction_bytes_per_entry(self) -> int:
        """Above this a table is rebuilt."""
        value: int = self._values["compaction_bytes_per_entry"]
        return value

    @property
    def drain_timeout_ms(self) -> int:
        """How long a stop waits for connections to finish."""
        value: int = self._values["drain_timeout_ms"]
        return value

    @property
    def tuner(self) -> str:
        """off, dry-run or on."""
        value: str = self._values["tuner"]
        return value

    @property
    def sweeper_off(self) -> bool:
        """Whether the sweeper does only what clients would miss; see `sweep.py`."""
        return not self.sweep_budget_ms

    def as_dict(self) -> dict[str, Any]:
        """All settings by name."""
        return dict(self._values)

    def value(self, name: str) -> Any:
        """One setting. Raises InvalidRequest, which says which there are."""
        if name not in self._values:
            names = ", ".join(name for name in self._values if not name.startswith("caches."))
            of_cache = ", ".join(f"caches.NAME.{key}" for key in LIVE_OF_CACHE)
            raise InvalidRequest(f"there is no setting named {name[:64]!r}; there are: {names}, {of_cache}")
        return self._values[name]

    @property
    def pinned(self) -> dict[str, Any]:
        """What operators have set, by name."""
        return dict(self._pinned)

    @property
    def tuned(self) -> dict[str, Any]:
        """What the tuner has changed, by name."""
        return dict(self._tuned)

    # -- an operator

    def change(self, name: str, value: object) -> Any:
        """Set one, and keep the tuner away from it; nil gives it back. Returns what holds. Raises InvalidRequest,
        which says what is allowed."""
        self.value(name)
        if value is None:
            self._pinned.pop(name, None)
        else:
            self._pinned[name] = accepted_live(name, value, InvalidRequest)
        was_tuned = self._tuned.pop(name, None) is not None
        self._hold(name)
        if was_tuned:
            log.info("config_set of %s ends the tuner's change of it: it is %s now", name, self._values[name])
        return self._values[name]

    # -- the tuner

    def tune(self, name: str, value: Any) -> None:
        """The tuner changes a setting that no operator has set. Its rule has checked the value."""
        assert name in self._values, name
        assert name not in self._pinned, name
        self._tuned[name] = value
        self._hold(name)

    def untune(self, name: str) -> None:
        """The tuner takes its change back."""
        if self._tuned.pop(name, None) is not None:
            self._hold(name)

    # -- the configuration

    def changes(self, config: ServerConfig) -> dict[str, Any]:
        """The settings that would change if this configuration were taken, with their new values."""
        new = live_values(config)
        return {name: new[name] for name, value in self._values.items() if name in new and new[name] != value}

    def take_from(self, config: ServerConfig) -> None:
        """Set all to the values of this configuration, which has checked them. What the tuner and
        operators had set is gone."""
        new = live_values(config)
        self._pinned.clear()
        self._tuned.clear()
        for name in self._values:
            if name in new:  # a cache that the file no longer has stays until a restart
                self._configured[name] = new[name]
            self._hold(name)

    def _hold(self, name: str) -> None:
        """Find out what holds now, and have it take effect."""
        value = self._pinned.get(name, self._tuned.get(name, self._configured[name]))
        before = self._values[name]
        if value == before and type(value) is type(before):
            return
        self._values[name] = value
        if name == "log_level":
            logging.getLogger("naught").setLevel(value.upper())
        elif name == "sweep_budget_ms":
            if not value:
                log.warning(SWEEPER_OFF)
            elif not before:
                log.info("the sweeper is on again")
        self._changed(name, value)
