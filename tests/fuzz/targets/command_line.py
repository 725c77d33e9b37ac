"""Any arguments are a configuration, a help or one sentence that says what is wrong.

Those of the server, and those of each command of `naught` that can be tried without one.
"""

from __future__ import annotations

import contextlib
import io

from naught.cli.arguments import parser_of
from naught.cli.main import COMMANDS
from naught_server.config import ConfigError
from naught_server.loading import load

_NAMES = [name for name in COMMANDS if name not in ("lint", "completion", "run")]


def one(data: bytes) -> None:
    """Try one input: arguments that are separated by zero bytes, and the command by the first byte."""
    words = [word.decode("utf-8", "surrogateescape") for word in data[1:].split(b"\0")]
    name = _NAMES[data[0] % len(_NAMES)] if data else _NAMES[0]
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            parser_of(name).parse_args(words)
        except SystemExit as leaving:
            assert leaving.code in (0, 2)
            assert leaving.code == 0 or errors.getvalue()
        try:
            load([word for word in words if word != "--config" and not word.startswith("--config=")], {})
        except ConfigError as error:
            assert str(error)
            assert "\n" not in str(error)
        except SystemExit as leaving:
            assert leaving.code == 0
