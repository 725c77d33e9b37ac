"""Numbers, files and servers that make no sense: one sentence and an exit status, no traceback, no hang."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from naught_loadtest.__main__ import COMMANDS, main
from naught_loadtest.commands import status
from naught_loadtest.drivers import probe
from naught_loadtest.drivers.target import default_target
from support.listening import listening

NUMBERS = [
    ("run", "--rate", "inf"),
    ("run", "--rate", "nan"),
    ("run", "--rate", "0"),
    ("run", "--rate", "1e300"),
    ("run", "--duration", "inf"),
    ("run", "--duration", "-1"),
    ("run", "--warmup", "nan"),
    ("run", "--timeout", "inf"),
    ("run", "-c", "0"),
    ("run", "-c", "1000000000"),
    ("run", "-P", "0"),
    ("run", "-P", "10000", "-B", "4096"),
    ("run", "-B", "0"),
    ("run", "-B", "5000"),
    ("run", "--keys", "-1"),
    ("run", "--keys", "90000000"),
    ("run", "--processes", "51"),
    ("run", "--target", "mysql://h"),
    ("search", "--slo", "p99<1ms", "--start", "nan"),
    ("search", "--slo", "p99<1ms", "--most", "inf"),
    ("search", "--slo", "p99<1ms", "--within", "0"),
    ("search", "--slo", "p99<1ms", "--precision", "-1"),
    ("search", "--slo", "p99<1ms", "--confirm", "inf"),
    ("search", "--slo", "p99<1ms", "--duration", "nan"),
    ("ceiling", "--duration", "inf"),
    ("ceiling", "-c", "0"),
    ("versus", "--duration", "nan"),
    ("versus", "--rounds", "0"),
]


@pytest.mark.parametrize("words", NUMBERS, ids=" ".join)
def test_a_number_that_makes_no_sense_is_a_usage_error(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) == status.USAGE
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"naught-loadtest {words[0]}: ")


WRITING = (
    ("run",),
    ("search", "--slo", "p99<1ms"),
    ("versus",),
    ("bars",),
    ("zeros",),
    ("ceiling",),
    ("compare", "a", "b"),
)
"""Commands that write a report."""


@pytest.mark.parametrize("command", WRITING, ids=lambda words: words[0])
@pytest.mark.parametrize("where", ["missing/report.json", "."])
def test_a_report_that_cannot_be_written_is_refused_before_the_run(
    command: tuple[str, ...], where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json", str(tmp_path / where)]) == status.USAGE
    assert "--json" in capsys.readouterr().err


def test_a_distribution_that_cannot_be_written_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--hgrm", str(tmp_path)]) == status.USAGE
    assert "it is a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"), [(None, "there is no page"), ("# A page\n", "<!-- conditions -->")], ids=["missing", "no marks"]
)
def test_a_page_that_cannot_be_filled_is_refused_before_the_run(
    text: str | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text)
    assert main(["zeros", "--page", str(page)]) == status.USAGE
    assert says in capsys.readouterr().err


def test_a_number_of_keys_that_is_infinite(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["zeros", "--keys", "100,1e400"])
    assert ended.value.code == status.USAGE
    assert "100,1e400: no number of keys is infinite" in capsys.readouterr().err


class Other:
    """A server that speaks something else."""

    def __init__(self, says: bytes | None, *, at_once: bool = False, endless: bool = False) -> None:
        # What it says; None to hang up.
        self.says = says
        # Whether it speaks before it is asked, and whether it never stops.
        self.at_once = at_once
        self.endless = endless
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while self.at_once or await reader.read(1000):
                if self.says is None:
                    break
                writer.write(self.says)
                await writer.drain()
                await asyncio.sleep(0)
                if not self.endless:
                    await reader.read()
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


OTHERS = {
    "HTTP": Other(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
    "SSH": Other(b"SSH-2.0-OpenSSH_9.2\r\n", at_once=True),
    "hangs up": Other(None),
    "silent": Other(b""),
    "zeros": Other(b"\0" * 65536, endless=True),
    "one endless reply": Other(b"\xdb\x7f\xff\xff\xff" + b"x" * 65536, endless=True),
    "nested without end": Other(b"\x91" * 65536, endless=True),
    "a reply of another kind": Other(b"\x94\x01\xce\x00\x01\x00\x00\xc0\x07"),
    "an endless line": Other(b"VA" + b"9" * 65536, endless=True),
    "a negative length": Other(b"$-5\r\n*-1\r\nVA -7\r\n"),
}


@pytest.mark.parametrize("scheme", ["naught", "redis", "memcached"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_port_that_speaks_something_else_is_one_sentence(
    other: str, scheme: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "ANSWER_S_MAX", 0.2)
    with listening(OTHERS[other]) as server:
        code = main(["run", "--target", f"{scheme}://127.0.0.1:{server.port}", "--duration", "0.1"])
    captured = capsys.readouterr()
    assert code == status.FAILED, captured
    (sentence,) = captured.err.splitlines()
    assert sentence.startswith("naught-loadtest: ")
    assert f"{scheme}://127.0.0.1:{server.port}" in sentence
    assert len(sentence) < 300


def test_a_port_on_which_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as keeper:
        keeper.bind(("127.0.0.1", 0))
        url = f"naught://127.0.0.1:{keeper.getsockname()[1]}"
        assert main(["run", "--target", url]) == status.FAILED
    assert capsys.readouterr().err.startswith(f"naught-loadtest: cannot reach {url}: ")


@pytest.mark.parametrize(
    ("variable", "target"),
    [
        (None, "naught://localhost"),
        ("", "naught://localhost"),
        ("naught://h:1234/orders", "naught://h:1234/orders"),
        ("naught://h?timeout=2&lease=5", "naught://h"),
        ("naught+unix:///a.sock?cache=orders&timeout=2", "naught+unix:///a.sock?cache=orders"),
    ],
)
def test_the_environment_names_the_target(variable: str | None, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable is None:
        monkeypatch.delenv("NAUGHT_URL", raising=False)
    else:
        monkeypatch.setenv("NAUGHT_URL", variable)
    assert default_target() == target


def test_an_engine_in_another_process_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAUGHT_URL", "memory://shared")
    assert main(["run"]) == status.USAGE
    assert "memory://shared" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_wrap_at_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    # A list of names in braces cannot be broken.
    lines = [line for line in capsys.readouterr().out.splitlines() if "{" not in line]
    assert max(map(len, lines)) <= 80
