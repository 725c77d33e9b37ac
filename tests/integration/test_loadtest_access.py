"""The harness logs in: at a server with users, over TCP, TLS and a Unix socket; and no report has a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from naught_loadtest.__main__ import main
from naught_loadtest.commands import status
from naught_server.secret_hash import hash_of
from support.certificates import Authority
from support.seeds import slow
from support.server_process import ServerProcess, server_process

USER, SECRET = "lo.ad", "correct horse/@:"
QUOTED = "lo.ad:correct%20horse%2F%40%3A"
LOAD = ("-c", "6", "--keys", "60", "--seed", "1", "--duration", "0.1", "--warmup", "0.02")


class Served:
    """A server with users, and its addresses as they stand in URLs."""

    def __init__(self, server: ServerProcess, folder: Path, authority: Authority | None) -> None:
        self.socket = folder / "naught.sock"
        self.tail = f"localhost:{server.port}" + (f"?ca={authority.file}" if authority else "")


@pytest.fixture(scope="module", params=["naught", "naughts"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Served]]:
    folder = tmp_path_factory.mktemp("served")
    config = folder / "naught.toml"
    config.write_text(f'[users."{USER}"]\nrole = "write"\nsecret = "{hash_of(SECRET.encode(), b"salt" * 4)}"\n')
    words = ["--config", str(config), "--unix-socket", str(folder / "naught.sock")]
    authority = None
    if request.param == "naughts":
        authority = Authority(folder)
        words += ["--tls-certificate", str(authority.write("server.pem", "localhost"))]
    with server_process(folder, *words) as server:
        yield request.param, Served(server, folder, authority)


def load(target: str, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """(exit status, report, all that was printed) of a run."""
    code = main(["run", "--target", target, *LOAD, "--no-ceiling", "--json", "-", *words])
    printed = capsys.readouterr()
    return code, json.loads(printed.out or "{}"), printed.out + printed.err


@pytest.mark.parametrize(
    ("given", "session"),
    [("url", "-session"), *slow(("environment", ""), ("url", ""), ("environment", "-session"))],
    ids=["url-session", "environment-plain", "url-plain", "environment-session"],
)
def test_a_load_logs_in_and_shows_no_secret(
    served: tuple[str, Served],
    given: str,
    session: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheme, addresses = served
    # Both are put back behind the test, whatever the run does to them.
    monkeypatch.setenv("NAUGHT_SECRET", "another" if given == "url" else SECRET)
    monkeypatch.setenv("NAUGHT_USER", "nobody" if given == "url" else USER)
    login = f"{QUOTED}@" if given == "url" else ""
    code, report, printed = load(f"{scheme}{session}://{login}{addresses.tail}", capsys)
    assert code in (status.OK, status.INVALID), printed
    assert report["requests"] > 0
    assert report["failed"] == {}
    assert report["verification"]["compared"] > 0
    assert report["verification"]["passed"]
    assert SECRET not in printed
    assert QUOTED not in printed


def test_a_load_logs_in_over_a_unix_socket(
    served: tuple[str, Served], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme, addresses = served
    if scheme == "naughts":
        pytest.skip("a Unix socket has no TLS")
    monkeypatch.setenv("NAUGHT_SECRET", "another")
    code, report, printed = load(f"naught+unix://{QUOTED}@{addresses.socket}", capsys, "--rate", "200")
    assert code in (status.OK, status.INVALID), printed
    assert report["requests"] > 0


@pytest.mark.parametrize(
    ("login", "said"),
    [("lo.ad:wrong-one@", "unauthenticated"), ("", "unauthenticated"), ("me@", "has no secret")],
    ids=["wrong", "nobody", "no secret"],
)
def test_who_cannot_log_in_is_told(
    served: tuple[str, Served],
    login: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAUGHT_SECRET", "")
    scheme, addresses = served
    code, _, printed = load(f"{scheme}://{login}{addresses.tail}", capsys)
    assert code not in (status.OK, status.INVALID)
    assert said in printed
    assert "wrong-one" not in printed
