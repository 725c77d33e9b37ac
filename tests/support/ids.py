"""Whether the ids of tests are the same in each run.

pytest-xdist needs that, for its workers collect apart from each other, and so does a person who runs a failed test
again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


def unstable(ids: Iterable[str]) -> list[str]:
    """Those with the address of an object, which stands in the default text of most."""
    return [each for each in ids if ADDRESS.search(each)]
