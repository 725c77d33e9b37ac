"""The environment for processes that a test starts: of this process, without settings of naught.

Whether modules run compiled is no setting: a started process runs them as this one does.
"""

from __future__ import annotations

import os

from naught import _compiled


def without_settings(*prefixes: str) -> dict[str, str]:
    """The variables of this process but those that begin with NAUGHT_ or one of these."""
    left_out = ("NAUGHT_", *prefixes)
    return {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(left_out) or name == _compiled.PURE_VARIABLE
    }
