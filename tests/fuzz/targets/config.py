"""Any file is a configuration or one sentence that says what is wrong; printed and read again it is the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

from naught_server.config import ConfigError
from naught_server.loading import load, to_toml

_FOLDER = tempfile.TemporaryDirectory(prefix="naught-fuzz-")
_FILE = Path(_FOLDER.name) / "naught.toml"


def one(data: bytes) -> None:
    """Try one input."""
    _FILE.write_bytes(data)
    try:
        loaded = load(["--config", str(_FILE)], {})
    except ConfigError as error:
        assert str(error)
        assert "\n" not in str(error)
        return
    _FILE.write_text(to_toml(loaded.config, loaded.sources), encoding="utf-8", errors="backslashreplace")
    assert load(["--config", str(_FILE)], {}).config == loaded.config
