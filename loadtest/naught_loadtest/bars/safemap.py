"""What evicting at zero costs `naught.SafeMap`: 97 % of the rate of its own methods without that branch.

`naught_loadtest.bars_safemap` measures it and says how; no server takes part. Counters that stay above zero, a
mix, and counters of which every decrement evicts are bars of their own, with both policies.
"""

from __future__ import annotations

from naught_loadtest import bars_safemap
from naught_loadtest.bars.bar import Bar, Bench, at_least

GROUP = "safemap"
# Pairs of rounds of a millisecond each: enough that a median of them stands while other programs work.
PAIRS = 301
PAIRS_QUICK = 21


def measure(bench: Bench) -> list[Bar]:
    """Both policies, each workload, `incr` and `decr`. Takes about six seconds."""
    return [
        Bar(
            GROUP,
            f"SafeMap, {found.policy}, {found.workload}: {found.method}",
            f"at least {bars_safemap.BAR:.0%}",
            f"{found.ratio_median:.1%} ({found.ratio_lower_quartile:.1%}-{found.ratio_upper_quartile:.1%})",
            at_least(found.ratio_median, bars_safemap.BAR),
            figures={
                "policy": found.policy,
                "workload": found.workload,
                "method": found.method,
                "ratio": [found.ratio_median, found.ratio_lower_quartile, found.ratio_upper_quartile],
                "guarded_ns": found.guarded_ns,
            },
        )
        for found in bars_safemap.measure(PAIRS_QUICK if bench.quick else PAIRS)
        if found.method != "both"
    ]
