"""The tuner: figures and the time come in, at most one change of a setting comes out. Sans-IO and deterministic.

    Figures -> Watch (one for each rule and cache: is it met, since when) -> Tuner.step -> Decision -> Settings

The owner calls `step` about every `LOOK_EVERY_MS` and carries out the decision. A change passes through these states:

    a rule is met -> changed: on trial -> it helped: held -> the rule is over for a while -> put back
                                       `-> no effect in `check_ms`: undone, and the rule rests

What keeps it from doing harm:

- **One change at a time.** While a change is on trial, there is no other one.
- **A change is not put back and made again.** When its rule is over and another rule, or another cache, is met that
  would set the same, the change is kept for that one, and is on trial for it.
- **A change that does not help is undone.** It has helped when the figure has come at least a tenth below the worst
  value since the change, or when the rule is over. The rule then rests for a minute, the next time for two, up to
  an hour; a rule of caches for that cache only, because its figure says nothing about the others.
- **Hysteresis.** A rule is over only at its `until`. When it is met again soon after its change was put back, the
  next change stays twice as long, up to an hour: so a load that comes in waves is not followed wave by wave.
- **Bounds.** The value of a rule is checked by its setting, and there are at most `CHANGES_PER_HOUR_MAX` changes.
- **An operator wins.** A setting that `config_set` has set is left alone.

**What is kept lies in memory that was taken at the start.** The tuner notes new figures all the time, also while
millions of counters come and go. A number, text or tuple that is made then holds back a mebibyte of the allocator's
memory from the system: together they held more than 15 % of what 800 000 counters had taken. So numbers are in
arrays, and the rest are objects that are there anyway.

In a dry run all of this happens but the change itself; nothing can then be said about its effect, so it is held.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import isnan, nan
from typing import Any, Final, Literal, get_args

from naught_server.rules import METRICS, Rule, effective

LOOK_EVERY_MS: Final = 100
"""How often the figures are looked at: a burst of a million zeros takes about a second."""

CHANGES_PER_HOUR_MAX: Final = 60
"""More changes than this are no tuning any more."""

HOUR_MS: Final = 3_600_000

LOOKS_KEPT: Final = 10
"""Requests per second are measured over this number of looks, about a second: in a tenth of a second, ten are many
where fifty a second come at random."""

HELPED_SHARE: Final = 0.1
"""A change has helped when the figure is this part better than the worst since."""

REST_MS: Final = 60_000
"""How long a rule rests whose change had no effect; twice as long each time it happens again, up to an hour."""

SOON_MS: Final = 60_000
"""A rule that is met again within this time, or within `SOON_FACTOR` times what its last change stayed, has a change
that stays longer."""

SOON_FACTOR: Final = 4

DECISIONS_KEPT: Final = 32
"""The last decisions, for `info` and the page."""

What = Literal["changed", "kept", "undone: no effect", "put back", "paused"]


@dataclass(slots=True)
class Figures:
    """The metrics of one moment: of the server, and of each cache by its name."""

    server: dict[str, float]
    caches: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that the tuner did, or in a dry run would have done, with the figure it was decided on."""

    at_ms: int
    what: What
    rule: str
    setting: str
    before: Any
    after: Any
    metric: str
    figure: float
    threshold: float
    cache: str | None
    dry_run: bool

    def as_dict(self, now_ms: int) -> dict[str, Any]:
        """For `info` and the page."""
        words = {name: getattr(self, name) for name in self.__slots__ if name != "at_ms"}
        return {"age_ms": now_ms - self.at_ms, **words}


_WORDS: Final = ("what", "rule", "setting", "before", "after", "metric", "cache", "dry_run")
"""What a decision says beside its numbers."""


class DecisionLog:
    """The last decisions, in memory that was taken at the start; see the module."""

    def __init__(self) -> None:
        self._numbers = array("d", [0.0]) * (3 * DECISIONS_KEPT)  # of each: at_ms, figure, threshold
        # Of each, what has a name or is a value of a rule or a setting: objects that are there anyway.
        self._words: list[Any] = [None] * (len(_WORDS) * DECISIONS_KEPT)
        self._count = 0  # decisions since the start

    def append(self, decision: Decision) -> None:
        """Keep it, and forget the oldest if there are too many."""
        place = self._count % DECISIONS_KEPT
        self._count += 1
        self._numbers[3 * place : 3 * place + 3] = array("d", (decision.at_ms, decision.figure, decision.threshold))
        first = place * len(_WORDS)
        self._words[first : first + len(_WORDS)] = [getattr(decision, name) for name in _WORDS]

    def __len__(self) -> int:
        return min(self._count, DECISIONS_KEPT)

    def __iter__(self) -> Iterator[Decision]:
        """From the oldest to the newest."""
        for number in range(self._count - len(self), self._count):
            place = number % DECISIONS_KEPT
            words = self._words[place * len(_WORDS) : (place + 1) * len(_WORDS)]
            at_ms, figure, threshold = self._numbers[3 * place : 3 * place + 3]
            yield Decision(
                at_ms=int(at_ms), figure=figure, threshold=threshold, **dict(zip(_WORDS, words, strict=True))
            )


class _History:
    """What the changes for a watch have come to."""

    __slots__ = ("_numbers", "failures")

    def __init__(self, rule: Rule) -> None:
        self.failures = 0  # changes without effect, one after the other
        # Until when the rule rests; how long its next change stays; when a change was last put back, NaN for never.
        self._numbers = array("d", (0, rule.undo_after_ms, nan))

    def rest(self, now_ms: int) -> None:
        """A change had no effect: for a while there is no other one."""
        self._numbers[0] = now_ms + min(HOUR_MS, REST_MS << min(self.failures, 10))
        self.failures += 1

    def is_resting(self, now_ms: int) -> bool:
        """Whether the last change had no effect a moment ago."""
        return now_ms < self._numbers[0]

    def put_back(self, now_ms: int) -> None:
        """A change was put back, because its rule is over."""
        self._numbers[2] = now_ms

    def stay_ms(self, rule: Rule, now_ms: int) -> int:
        """How long the next change is to stay: longer when the last one was put back a moment ago."""
        _, stays_ms, put_back_ms = self._numbers
        soon = now_ms - put_back_ms < max(SOON_MS, SOON_FACTOR * stays_ms)  # False for NaN
        self._numbers[1] = min(HOUR_MS, 2 * stays_ms) if soon else rule.undo_after_ms
        return int(self._numbers[1])


class Watch:
    """A rule and one thing it watches: the server or a cache."""

    __slots__ = ("_numbers", "cache", "history", "metric", "rule", "setting")

    def __init__(self, rule: Rule, cache: str | None) -> None:
        self.rule = rule
        self.cache = cache
        self.history: Final = _History(rule)
        self.setting: Final = f"caches.{cache}.eviction" if rule.set == "eviction" else rule.set  # its full name
        self.metric: Final = f"{rule.metric}/s" if rule.rate_ms else rule.metric  # as decisions name it
        # What is compared (the metric, or its growth per second); since when it is met, and over; and for a rate the
        # metric at the beginning of the window, and when that was. NaN is none. See the module.
        self._numbers = array("d", [nan]) * 5

    def _number(self, place: int) -> float | None:
        number = self._numbers[place]
        return None if isnan(number) else number

    @property
    def figure(self) -> float | None:
        """What is compared: the metric, or its growth per second. None before the first look."""
        return self._number(0)

    @property
    def met_since_ms(self) -> float | None:
        """None while the rule is not met."""
        return self._number(1)

    @property
    def over_since_ms(self) -> float | None:
        """None while the rule is not over."""
        return self._number(2)

    def look(self, figures: Figures, requests_per_s: float, now_ms: int) -> None:
        """Take in new figures."""
        rule = self.rule
        numbers = self._numbers
        value = (figures.server if self.cache is None else figures.caches[self.cache])[rule.metric]
        if not rule.rate_ms:
            numbers[0] = value
        elif isnan(numbers[4]):
            numbers[3], numbers[4] = value, now_ms
        elif now_ms - numbers[4] >= rule.rate_ms:
            numbers[0] = (value - numbers[3]) * 1000 / (now_ms - numbers[4])
            numbers[3], numbers[4] = value, now_ms
        if isnan(numbers[0]):
            return
        busy = rule.requests_below is not None and requests_per_s >= rule.requests_below
        met = rule.is_met(numbers[0]) and not busy
        over = rule.is_over(numbers[0]) or busy
        for place, holds in ((1, met), (2, over)):
            if not holds:
                numbers[place] = nan
            elif isnan(numbers[place]):
                numbers[place] = now_ms

    def is_due(self, now_ms: int) -> bool:
        """Whether the rule has been met long enough to act."""
        return self.met_since_ms is not None and now_ms - self.met_since_ms >= self.rule.for_ms


class Change:
    """A setting that the tuner has changed and has not put back."""

    __slots__ = ("at_ms", "before", "on_trial", "stays_ms", "value", "watch", "worst")

    def __init__(self, watch: Watch, before: Any, value: Any, stays_ms: int, now_ms: int, *, on_trial: bool) -> None:
        self.watch = watch
        self.before = before  # the value there was before the tuner's first step
        self.value = value
        self.stays_ms = stays_ms  # how long it stays after the rule is over
        self.at_ms = now_ms  # of the last step
        self.on_trial = on_trial  # it has not been seen to help yet
        assert watch.figure is not None
        self.worst = watch.figure  # since the change

    def helps(self) -> bool:
        """Whether the figure has become better since the change. Takes in the newest one."""
        watch = self.watch
        figure = watch.figure
        assert figure is not None
        if watch.over_since_ms is not None:
            return True
        if watch.rule.above is not None:
            self.worst = max(self.worst, figure)
            return figure <= self.worst - HELPED_SHARE * abs(self.worst)
        self.worst = min(self.worst, figure)
        return figure >= self.worst + HELPED_SHARE * abs(self.worst)


class Tuner:
    """Decides for one engine. The engine owns it and the settings."""

    def __init__(self, rules: Mapping[str, Rule], caches: list[str]) -> None:
        """`rules` are all that hold; `caches` the names of the caches there are."""
        self.rules = dict(rules)
        self.changes: dict[str, Change] = {}  # by setting
        self.decisions: Final = DecisionLog()
        self.counts: Final[dict[tuple[str, What], int]] = {}  # decisions since the start, by rule
        self._caches = caches
        self._watches: list[Watch] = []
        self._changed_ms = array("d", [nan]) * CHANGES_PER_HOUR_MAX  # a ring: when the last changes were made
        self._changes_made = 0  # since the start; the place in that ring
        self._paused = False  # there were too many changes, and it was said
        # When it last looked; then a ring of the last looks: requests so far, and when that was. NaN is none.
        self._looks = array("d", [nan]) * (1 + 2 * LOOKS_KEPT)
        self._look_number = 0  # the place in the ring
        self.take(rules)

    def take(self, rules: Mapping[str, Rule]) -> None:
        """These rules hold from now on. The owner has put back what the tuner had changed."""
        self.rules = dict(rules)
        self.changes.clear()
        self.counts.update(dict.fromkeys(product(rules, get_args(What)), 0) | self.counts)
        self._watches = [watch for rule in rules.values() for watch in self._watches_of(rule)]

    def differences(self, rules: Mapping[str, Rule]) -> list[str]:
        """The names of the rules that would come, go or change with these."""
        new = effective(rules)
        return [name for name in {**self.rules, **new} if self.rules.get(name) != new.get(name)]

    def _watches_of(self, rule: Rule) -> Iterator[Watch]:
        if not METRICS[rule.metric].of_cache:
            yield Watch(rule, None)
            return
        yield from (Watch(rule, cache) for cache in self._caches if rule.cache in (None, cache))

    def is_due(self, now_ms: int) -> bool:
        """Whether it is time for the next look."""
        return not now_ms - self._looks[0] < LOOK_EVERY_MS  # also before the first look

    def forget(self, setting: str) -> None:
        """An operator has set this: what the tuner did to it is over."""
        self.changes.pop(setting, None)

    def step(
        self,
        figures: Figures,
        value_of: Callable[[str], Any],
        pinned: Mapping[str, Any],
        now_ms: int,
        *,
        dry_run: bool,
    ) -> Decision | None:
        """Look at the figures; what to do, if anything. `value_of` gives the value of a setting; `pinned` are those
        that an operator has set. O(rules x caches)."""
        self._looks[0] = now_ms
        self._look(figures, now_ms)
        decision = self._judge(now_ms, dry_run) or self._change(value_of, pinned, now_ms, dry_run)
        if decision is not None:
            self.decisions.append(decision)
            self.counts[decision.rule, decision.what] += 1
        return decision

    def _look(self, figures: Figures, now_ms: int) -> None:
        requests = figures.server["requests"]
        looks, place = self._looks, 1 + 2 * self._look_number
        self._look_number = (self._look_number + 1) % LOOKS_KEPT
        # The oldest look is the one that is replaced; the first one, until LOOKS_KEPT were taken.
        oldest = 1 if isnan(looks[place]) else place
        before, before_ms = (requests, now_ms - 1) if isnan(looks[oldest]) else (looks[oldest], looks[oldest + 1])
        looks[place], looks[place + 1] = requests, now_ms
        per_s = (requests - before) * 1000 / max(1, now_ms - before_ms)
        for watch in self._watches:
            watch.look(figures, per_s, now_ms)

    # -- what was changed

    def _judge(self, now_ms: int, dry_run: bool) -> Decision | None:
        """Take back a change that had no effect, or one whose reason is over."""
        for setting, change in self.changes.items():
            watch = change.watch
            history = watch.history
            if change.on_trial:
                if change.helps():
                    change.on_trial = False
                    history.failures = 0
                elif now_ms - change.at_ms >= watch.rule.check_ms:
                    history.rest(now_ms)
                    return self._take_back(setting, "undone: no effect", now_ms, dry_run)
            elif watch.over_since_ms is not None and now_ms - watch.over_since_ms >= change.stays_ms:
                heir = self._heir(setting, change, now_ms)
                if heir is not None:
                    if self._is_trying:
                        continue  # it is asked again when that trial is over
                    return self._keep(setting, heir, now_ms, dry_run)
                history.put_back(now_ms)
                return self._take_back(setting, "put back", now_ms, dry_run)
        return None

    def _take_back(self, setting: str, what: What, now_ms: int, dry_run: bool) -> Decision:
        change = self.changes.pop(setting)
        return self._decision(
            what, change.watch, setting, change.value, change.before, now_ms=now_ms, dry_run=dry_run
        )

    def _heir(self, setting: str, change: Change, now_ms: int) -> Watch | None:
        """Another watch that is met and would make this change as soon as it was put back."""
        for watch in self._watches:
            if (
                watch is not change.watch
                and watch.setting == setting
                and watch.is_due(now_ms)
                and not watch.history.is_resting(now_ms)
                and watch.rule.wants(change.before, change.value)
            ):
                return watch
        return None

    def _keep(self, setting: str, heir: Watch, now_ms: int, dry_run: bool) -> Decision:
        change = self.changes[setting]
        stays_ms = heir.history.stay_ms(heir.rule, now_ms)
        self.changes[setting] = Change(heir, change.before, change.value, stays_ms, now_ms, on_trial=not dry_run)
        return self._decision("kept", heir, setting, change.value, change.value, now_ms=now_ms, dry_run=dry_run)

    @property
    def _is_trying(self) -> bool:
        return any(change.on_trial for change in self.changes.values())

    # -- what to change

    def _change(
        self, value_of: Callable[[str], Any], pinned: Mapping[str, Any], now_ms: int, dry_run: bool
    ) -> Decision | None:
        if self._is_trying:
            return None
        for watch in self._watches:
            if not watch.is_due(now_ms) or watch.history.is_resting(now_ms):
                continue
            setting = watch.setting
            if setting in pinned:
                continue
            earlier = self.changes.get(setting)
            if earlier is not None and earlier.watch is not watch:
                continue  # another rule's, which puts it back first
            current = value_of(setting) if earlier is None else earlier.value
            if setting == "sweep_budget_ms" and not current:
                continue  # an operator has turned the sweeper off
            value = watch.rule.next_value(current)
            if value == current:
                continue
            if self._has_changed_enough(now_ms):
                return self._pause(watch, setting, current, now_ms, dry_run)
            return self._begin(watch, setting, current, value, now_ms=now_ms, dry_run=dry_run)
        return None

    def _begin(self, watch: Watch, setting: str, current: Any, value: Any, *, now_ms: int, dry_run: bool) -> Decision:
        earlier = self.changes.get(setting)
        before = current if earlier is None else earlier.before
        stays_ms = watch.history.stay_ms(watch.rule, now_ms) if earlier is None else earlier.stays_ms
        self.changes[setting] = Change(watch, before, value, stays_ms, now_ms, on_trial=not dry_run)
        self._changed_ms[self._changes_made % CHANGES_PER_HOUR_MAX] = now_ms
        self._changes_made += 1
        self._paused = False
        return self._decision("changed", watch, setting, current, value, now_ms=now_ms, dry_run=dry_run)

    def _has_changed_enough(self, now_ms: int) -> bool:
        oldest_ms = self._changed_ms[self._changes_made % CHANGES_PER_HOUR_MAX]
        return now_ms - oldest_ms < HOUR_MS  # False for NaN

    def _pause(self, watch: Watch, setting: str, current: Any, now_ms: int, dry_run: bool) -> Decision | None:
        if self._paused:
            return None
        self._paused = True
        return self._decision("paused", watch, setting, current, current, now_ms=now_ms, dry_run=dry_run)

    @staticmethod
    def _decision(
        what: What, watch: Watch, setting: str, before: Any, after: Any, *, now_ms: int, dry_run: bool
    ) -> Decision:
        assert watch.figure is not None
        rule = watch.rule
        return Decision(
            at_ms=now_ms,
            what=what,
            rule=rule.name,
            setting=setting,
            before=before,
            after=after,
            metric=watch.metric,
            figure=watch.figure,
            threshold=rule.threshold,
            cache=watch.cache,
            dry_run=dry_run,
        )

    def as_dict(self, now_ms: int) -> dict[str, Any]:
        """For `info` and the page."""
        return {
            "rules": list(self.rules),
            "changes": {
                setting: {
                    "rule": change.watch.rule.name,
                    "value": change.value,
                    "before": change.before,
                    "age_ms": now_ms - change.at_ms,
                    "on_trial": change.on_trial,
                }
                for setting, change in self.changes.items()
            },
            "decisions": [decision.as_dict(now_ms) for decision in self.decisions],
        }
