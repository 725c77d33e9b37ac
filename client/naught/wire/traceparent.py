"""The `traceparent` of W3C Trace Context: which trace of the caller a request belongs to. Sans-IO.

    00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    |  |                                |                `-- flags: 01 if the trace is recorded
    |  |                                `-- the parent: the id of the caller's span
    |  `-- the id of the trace
    `-- the version of the form

Clients send it as the parameter of `trace`, and the server shows it in its slow log. Both sides check its form here,
so that no other text gets into the log.
"""

from __future__ import annotations

import re
from typing import Final

TRACEPARENT_BYTES: Final = 55

_FORM: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_traceparent(text: str) -> bool:
    """Whether the text has the form: lowercase digits, any version but ff, and neither id only zeros.

    >>> is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    True
    """
    return _FORM.fullmatch(text) is not None
