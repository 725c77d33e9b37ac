"""`naught` as a process in surroundings that it does not choose: locales, encodings, streams that are closed or
full. What cannot be done is a sentence and a status, and never a traceback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from support.seeds import exhaustive, slow
from support.server_process import ServerProcess, server_process
from support.shell import GUARD_S, NAUGHT, Shell

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")

LOCALES = {
    "C": {"LC_ALL": "C", "LANG": "C"},
    "C, and nothing else": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "ascii, strictly": {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "unbuffered": {"PYTHONUNBUFFERED": "1", "LC_ALL": "C"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        for key in (b"caf\xc3\xa9", b"\xff", b"my key", "\u202e".encode(), b"plain"):
            server.call("incr", key)
        yield server


@pytest.fixture
def shell(server: ServerProcess) -> Shell:
    return Shell(server)


def in_shell(shell: Shell, line: str, variables: dict[str, str] | None = None) -> tuple[int, bytes, str]:
    """Status, output and errors of a line of shell, in which "$@" is naught."""
    done = subprocess.run(
        ["bash", "-c", line, "bash", *NAUGHT],
        env=shell.environment | (variables or {}),
        capture_output=True,
        timeout=GUARD_S,
        check=False,
    )
    err = done.stderr.decode(errors="replace")
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    return done.returncode, done.stdout, err


def test_without_utf8_the_output_is_ascii(shell: Shell) -> None:
    """Whatever the locale is. What is printed can be read back."""
    variables = LOCALES["C, and nothing else"]
    status, out, err = in_shell(shell, '"$@" scan; "$@" decr --strict n\xe9', variables)
    assert status == 1
    assert set(out.splitlines()) >= {b'"caf\\u00e9"\t1', b'"\\xff"\t1', b'"my key"\t1', b'"\\u202e"\t1', b"plain\t1"}
    assert err == "naught: decr 'n\\xe9': the counter has less than that\n"


@pytest.mark.parametrize(
    "name",
    [
        *slow("C, and nothing else", "ascii", "unbuffered"),
        *exhaustive(*(name for name in LOCALES if name not in ("C, and nothing else", "ascii", "unbuffered"))),
    ],
)
def test_any_locale(shell: Shell, name: str) -> None:
    lines = (
        "scan",
        "scan --json",
        "info",
        "get caf\xe9 \xff \u202e",
        "sessions",
        "get a --url n\xe9",
        "get --h\xe9lp",
        "--help",
    )
    for line in (*lines, "h\xe9lp", "lint n\xe9", "completion bash", "set \xe9 \xe9"):
        status, out, err = in_shell(shell, f'"$@" {line}', LOCALES[name])
        assert status in (0, 1, 2), line
        assert bool(out) is (status == 0), line
        assert bool(err) is (status > 0), line
        assert out.isascii() or name in ("C", "unbuffered"), "these make Python use UTF-8"


@needs_full
@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("scan", 1),
        *slow(
            ("incr full", 1),
            ("--version", 1),
            ("get --help", 1),
            ("get a --json", 1),
            ("completion zsh", 1),
            ("lint --rules", 1),
            ("stat --lines 1", 1),
        ),
    ],
)
@pytest.mark.parametrize("buffered", ["", *exhaustive("1")])
def test_a_full_disk(shell: Shell, words: str, status: int, buffered: str) -> None:
    found, _, err = in_shell(shell, f'"$@" {words} >/dev/full', {"PYTHONUNBUFFERED": buffered})
    assert found == status
    assert "No space left on device" in err
    assert err.startswith("naught: ")
    assert err.count("\n") == 1


@needs_full
def test_a_full_disk_while_lines_are_counted(shell: Shell, server: ServerProcess) -> None:
    status, _, err = in_shell(shell, 'seq 3 | sed s/.*/disk/ | "$@" incr - >/dev/full')
    assert status == 1
    assert err.endswith("No space left on device; 3 lines were counted, up to line 3\n")
    assert server.call("get", "disk") == 3


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ('"$@" incr closed >&-', 1, "naught: standard output is closed\n"),
        ('"$@" incr - <&-', 2, "naught: standard input is closed\n"),
        ('"$@" get a >&- 2>&- <&-', 1, ""),
        *slow(
            ('"$@" ping --check >&- 2>&- <&-', 0, ""),
            ('"$@" get a --url bogus 2>&-', 2, ""),
            ('"$@" get a --url bogus 2>/dev/full', 2, ""),
            ('"$@" wait-zero a <&- >&- 2>&-', 0, ""),
            ('"$@" incr - >&- <&-', 1, "naught: standard output is closed\n"),
            ('"$@" run --semaphore s --limit 1 -- sh -c "echo; exit 3" <&- >&- 2>&-', 3, ""),
            ('"$@" --version >&-', 1, "naught: standard output is closed\n"),
            ('"$@" get --help >&-', 1, "naught: standard output is closed\n"),
            ('"$@" clear --url memory:// <&-', 2, "naught: clear would evict 0 counters; confirm with --yes\n"),
            ('"$@" watch --lines 1 <&- | wc -l', 0, ""),
            ('"$@" scan 1</dev/null', 1, "naught: standard output cannot be written: Bad file descriptor\n"),
        ),
    ],
)
def test_closed_streams(shell: Shell, server: ServerProcess, line: str, status: int, said: str) -> None:
    found, _, err = in_shell(shell, line)
    assert (found, err) == (status, said)
    assert server.call("get", "closed") == 0, "nothing is done whose result would be lost"
