"""The command `naught` as a test runs it: in this process with streams of its own, or as a process."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any, Final

import pytest

from naught.cli import main as dispatch
from support.server_process import ServerProcess
from support.surroundings import without_settings

GUARD_S: Final = 30
NAUGHT: Final = [sys.executable, "-W", "error", "-m", "naught"]

# Tests that run in the background may ignore SIGINT, and child processes inherit that.
_OBEYING: Final = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "runpy.run_module('naught', run_name='__main__')"
)
OBEYING: Final = [sys.executable, "-W", "error", "-c", _OBEYING]
"""`naught`, obeying Ctrl-C."""


class Result:
    """Exit status and output of a command that has ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        assert "Traceback" not in err, err
        self.status = status
        self.out = out
        self.err = err

    @property
    def found(self) -> tuple[int, str]:
        return self.status, self.out


class Stream(io.TextIOWrapper):
    """A standard stream that is no file; the bytes in it."""

    def __init__(self, data: bytes = b"") -> None:
        self._bytes = io.BytesIO(data)
        super().__init__(self._bytes, encoding="utf-8", newline="\n")

    def text(self) -> str:
        """What was written."""
        self.flush()
        return self._bytes.getvalue().decode(errors="surrogateescape")


class Shell:
    """Runs commands against one server."""

    def __init__(self, server: ServerProcess) -> None:
        self.url = f"naught://127.0.0.1:{server.port}"
        self.environment = without_settings()
        self.environment["NAUGHT_URL"] = self.url

    def run(self, *words: str, given: str = "") -> Result:
        """Run a command here."""
        out, err = Stream(), Stream()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NAUGHT_URL", self.url)
            patch.setattr(sys, "stdin", Stream(given.encode(errors="surrogateescape")))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            try:
                status: Any = dispatch.main(words)
            except SystemExit as leaving:  # argparse has said what it does not understand
                status = leaving.code
        return Result(status, out.text(), err.text())

    def process(self, *words: str, given: str = "") -> Result:
        """Run a command in a process of its own."""
        done = subprocess.run(
            [*NAUGHT, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=GUARD_S,
            check=False,
            env=self.environment,
            errors="surrogateescape",
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str, **streams: Any) -> subprocess.Popen[bytes]:
        """A command in a process of its own, which Ctrl-C ends. The streams are pipes unless said."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*OBEYING, *words], env=self.environment, **{**pipes, **streams})
