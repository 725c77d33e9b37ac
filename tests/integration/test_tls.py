"""TLS as real processes have it, under uvloop and asyncio: clients, certificates as users, silent handshakes, files
that are replaced; and who may see what on the HTTP port."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import naught
from naught.blocking import Client as BlockingClient
from naught.cli.main import main as naught_command
from naught.wire.codec import encode_request
from naught_server.secret_hash import hash_of
from support.certificates import Authority
from support.conversation import decoded
from support.seeds import exhaustive, slow
from support.server_process import DEADLINE_S, SERVER, SERVER_WITHOUT_UVLOOP, ServerProcess, wait_until
from support.users import SECRET

HASH = hash_of(SECRET.encode(), b"salt" * 4)
TOKEN = "a token of sixteen and more"
CONFIG = f"""
unix_socket = "FOLDER/naught.sock"
unix_socket_mode = "0640"
tls_certificate = "FOLDER/server.pem"
tls_client_ca = "FOLDER/clients.pem"
http_host = "127.0.0.1"
http_tls = true
http_token_file = "FOLDER/token"
[users.secret]
role = "admin"
secret = "{HASH}"
[users.machine]
role = "read"
certificates = ["machine.example", "spiffe://example/machine"]
[users.root]
role = "admin"
uids = [{os.getuid()}]
"""


class World(NamedTuple):
    """A server, and who certifies whom."""

    server: ServerProcess
    folder: Path
    servers: Authority
    clients: Authority

    def url(
        self, *, cert: Path | None = None, userinfo: str = "secret:correct%20horse@", host: str = "localhost"
    ) -> str:
        own = "" if cert is None else f"&cert={cert}"
        return f"naughts://{userinfo}{host}:{self.server.port}?ca={self.servers.file}{own}"

    def handshakes(self) -> dict[str, int]:
        """What the server has counted, without a handshake of its own."""
        with self.unix() as peer:
            peer.sendall(encode_request(1, "info", ()))
            data = b""
            while True:
                data += peer.recv(1 << 16)
                with contextlib.suppress(AssertionError):
                    ((_, _, error, found),) = decoded(data)
                    assert error is None
                    return {key.decode(): value for key, value in found[b"handshakes"].items()}

    def unix(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(DEADLINE_S)
        peer.connect(str(self.folder / "naught.sock"))
        return peer


def started(folder: Path, command: list[str]) -> World:
    servers, clients = Authority(folder), Authority(folder)
    servers.write("server.pem", "localhost")
    clients.write("machine.pem", "machine.example")
    clients.write("stranger.pem", "stranger.example", common_name="stranger")
    clients.write("named.pem", "host.example", common_name="machine.example")
    (folder / "clients.pem").write_bytes(clients.file.read_bytes())
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "naught.toml").write_text(CONFIG.replace("FOLDER", str(folder)))
    return World(
        ServerProcess(folder, "--config", str(folder / "naught.toml"), "--http-port", "0", command=command),
        folder,
        servers,
        clients,
    )


@pytest.fixture(scope="module", params=["uvloop", *slow("asyncio")])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    command = SERVER if request.param == "uvloop" else SERVER_WITHOUT_UVLOOP
    made = started(tmp_path_factory.mktemp("tls"), command)
    try:
        yield made
        made.server.stop()
    finally:
        made.server.kill()


# ------------------------------------------------------------------------------------------- clients


async def test_a_client_counts_holds_and_says_bye(world: World) -> None:
    async with naught.connect(world.url()) as counters:
        assert await counters.incr("a", 3) == 3
        keys = [f"key {number:0400}" for number in range(600)]
        assert await counters.apply(keys, 1) == [1] * 600
        assert len(await counters.get_many(keys)) == 600
        async with counters.semaphore("gpu", limit=1):
            assert [each["user"] for each in await counters.sessions()].count("secret") >= 1
            before = (await counters.info())["sessions"]["ended"]
    async with naught.connect(world.url()) as counters:
        after = (await counters.info())["sessions"]["ended"]
        assert after["bye"] == before["bye"] + 1, "its last words have arrived"
        assert await counters.get("gpu") == 0
        await counters.clear()


async def test_a_session_is_resumed_over_tls(world: World) -> None:
    async with naught.connect(world.url()) as counters:
        hold = (await counters.acquire([("gpu", 1, 1)])).hold
        protocol = counters._connection._protocol
        assert protocol is not None
        assert protocol.transport is not None
        assert protocol.transport.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
        assert protocol.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "naught/1"
        protocol.transport.abort()
        assert await counters.get("gpu") == 1
        assert hold is not None
        assert not hold.lost
        assert await counters.release(hold) == [0]


def test_threads(world: World) -> None:
    asked = []

    async def token() -> str:
        asked.append(1)
        await asyncio.sleep(0)
        return SECRET

    with BlockingClient(world.url()) as counters:
        assert counters.incr("t") == 1
    with BlockingClient(world.url(userinfo=""), user="secret", secret=token) as counters:
        assert counters.take(["t"]) == [1]
    assert asked == [1]
    with pytest.raises(naught.Unauthenticated):
        BlockingClient(world.url(userinfo=""), user="secret", secret=lambda: "a wrong one")


def test_the_command(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    url = world.url(userinfo="")
    assert naught_command(["ping", "--check", "--url", url]) == 0, "it answers, and does not know who asks"
    who = ["--url", url, "--user", "secret", "--secret-file", str(file)]
    assert naught_command(["ping", "--check", *who]) == 0
    assert naught_command(["incr", "c", *who]) == 0
    assert naught_command(["take", "c", *who]) == 0
    file.write_text("a wrong secret")
    assert naught_command(["get", "c", *who]) == 1
    out, err = capsys.readouterr()
    assert "the user or the secret is wrong" in err
    assert SECRET not in out + err
    assert "a wrong secret" not in out + err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_that_is_not_trusted(world: World, host: str, tmp_path: Path) -> None:
    """Another authority, or another name: that is said at once, and the secret is not sent."""
    ca = world.servers.file if host == "127.0.0.1" else Authority(tmp_path).file
    with pytest.raises(naught.ConnectionFailed, match=r"(?i)certificate"):
        await naught.connect(f"naughts://me:hunter2hunter2@{host}:{world.server.port}?ca={ca}", connect_timeout=60)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?ca=/nowhere/x", "ca: cannot use '/nowhere/x': No such file"),
        ("?ca=FOLDER/token", "ca: cannot use"),
        ("?cert=/nowhere/x", "cert, key: cannot use '/nowhere/x': No such file"),
    ],
)
async def test_files_that_a_client_cannot_use(world: World, query: str, message: str) -> None:
    url = f"naughts://localhost:{world.server.port}{query.replace('FOLDER', str(world.folder))}"
    with pytest.raises(naught.InvalidRequest, match=message):
        await naught.connect(url)


async def test_a_client_without_tls_is_told(world: World) -> None:
    """The server closes, with or without an alert of TLS before."""
    with pytest.raises(
        naught.ConnectionFailed, match=r"does not speak naught, but TLS|the server closed the connection"
    ):
        await naught.connect(f"naught://127.0.0.1:{world.server.port}", connect_timeout=0.2)


def test_only_tls_of_1_2_and_later(world: World) -> None:
    context = world.servers.client_context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    for version, taken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.maximum_version = version
        with socket.create_connection(("127.0.0.1", world.server.port), DEADLINE_S) as plain:
            try:
                with context.wrap_socket(plain, server_hostname="localhost") as connection:
                    assert connection.version() == "TLSv1.2"
                    assert taken
            except (ssl.SSLError, ConnectionError):
                assert not taken


# ------------------------------------------------------------------------------------------- certificates as users


@pytest.mark.parametrize(("name", "user"), [("machine.pem", "machine"), ("named.pem", "machine")])
async def test_a_certificate_is_a_user(world: World, name: str, user: str) -> None:
    async with naught.connect(world.url(cert=world.folder / name, userinfo="")) as counters:
        assert await counters.get("a") == 0
        with pytest.raises(naught.Denied, match=f"the user {user} has the role read, and incr takes write"):
            await counters.incr("a")


async def test_a_certificate_of_nobody_must_log_in(world: World) -> None:
    stranger = world.folder / "stranger.pem"
    with pytest.raises(naught.Unauthenticated):
        await naught.connect(world.url(cert=stranger, userinfo=""))
    async with naught.connect(world.url(cert=stranger)) as counters:
        assert await counters.get("a") == 0


async def test_a_certificate_of_another_authority_is_refused(world: World, tmp_path: Path) -> None:
    forged = Authority(tmp_path).write("forged.pem", "machine.example")
    with pytest.raises(naught.ConnectionFailed):
        await naught.connect(world.url(cert=forged, userinfo=""), connect_timeout=0.3)


async def test_a_secret_is_another_user_than_the_certificate(world: World) -> None:
    async with naught.connect(world.url(cert=world.folder / "machine.pem")) as counters:
        assert await counters.incr("b") == 1
        assert await counters.take(["b"]) == [1]


# ------------------------------------------------------------------------------------------- Unix sockets


async def test_a_process_of_this_user_is_a_user(world: World) -> None:
    path = world.folder / "naught.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    async with naught.connect(f"naught+unix://{path}") as counters:
        assert await counters.incr("u") == 1
        assert await counters.take(["u"]) == [1]
        assert "root" in [each["user"] for each in await counters.sessions()]


# ------------------------------------------------------------------------------------------- handshakes


@pytest.mark.parametrize("count", [*slow(50), *exhaustive(200)])
async def test_silent_handshakes_do_not_delay_the_others(world: World, count: int) -> None:
    before = world.handshakes()
    silent = [socket.create_connection(("127.0.0.1", world.server.port), DEADLINE_S) for _ in range(count)]
    halves = silent[: count // 2]
    for each in halves:
        each.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # the beginning of a ClientHello
    try:
        # Here they are all open: their time is two seconds, which this is not waited for.
        async with naught.connect(world.url()) as counters:
            for number in range(50):
                assert await counters.incr("h") == number + 1
            assert await counters.take(["h"]) == [50]
        assert world.handshakes()["timeout"] == before["timeout"], "none of them has ended meanwhile"
        for each in silent:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.to_thread(each.recv, 1) == b"", "the server ends them by itself"
    finally:
        for each in silent:
            each.close()
    after = world.handshakes()
    assert after["timeout"] == before["timeout"] + count
    assert after["done"] > before["done"]


def test_what_is_no_handshake_is_counted(world: World) -> None:
    before = world.handshakes()
    with socket.create_connection(("127.0.0.1", world.server.port), DEADLINE_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while plain.recv(100):
                pass
    wait_until(lambda: world.handshakes()["failed"] == before["failed"] + 1, "it was counted")


# ------------------------------------------------------------------------------------------- the HTTP port


def get(world: World, path: str, **headers: str) -> tuple[int, str]:
    url = f"https://localhost:{world.server.ports['http']['port']}{path}"
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S, context=world.servers.client_context()) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_http_with_tls_and_a_token(world: World) -> None:
    assert get(world, "/livez") == (200, "alive\n")
    assert get(world, "/readyz")[0] == 200
    for path in ("/", "/page.js", "/status.json", "/metrics", "/nothing"):
        assert get(world, path)[0] == 401, path
        assert get(world, path, Authorization="Bearer wrong token of it")[0] == 401
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    for says in (f"Bearer {TOKEN}", f"Basic {basic}"):
        assert get(world, "/", Authorization=says)[0] == 200
        status, text = get(world, "/metrics", Authorization=says)
        assert status == 200
        assert "naught_tls_handshakes_total" in text
        status, text = get(world, "/status.json", Authorization=says)
        assert status == 200
        assert json.loads(text)
        for secret in (SECRET, TOKEN, HASH):
            assert secret not in text


# ------------------------------------------------------------------------------------------- rereading


@pytest.mark.parametrize("command", [SERVER, *slow(SERVER_WITHOUT_UVLOOP)])
async def test_files_are_replaced_while_it_runs(tmp_path: Path, command: list[str]) -> None:
    world = started(tmp_path, command)
    server = world.server

    def reread(expected: str) -> None:
        before = len(server.log())
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: expected in server.log()[before:], expected)

    try:
        early = await naught.connect(world.url())
        assert await early.incr("r") == 1
        protocol = early._connection._protocol
        (tmp_path / "server.pem").write_text("no PEM")
        reread("not reread")
        assert "tls_certificate, tls_key: cannot use" in server.log()
        async with naught.connect(world.url()) as counters:
            assert await counters.get("r") == 1, "a fault changes nothing"
        others = Authority(tmp_path)
        others.write("server.pem", "localhost")
        (tmp_path / "token").write_text("another token of sixteen")
        reread("configuration reread")
        assert await early.incr("r") == 2
        assert early._connection._protocol is protocol, "no connection was lost"
        with pytest.raises(naught.ConnectionFailed, match=r"(?i)certificate"):
            await naught.connect(world.url(), connect_timeout=60)
        renewed = world._replace(servers=others)
        async with naught.connect(renewed.url()) as counters:
            assert await counters.get("r") == 2
        assert get(renewed, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 401
        assert get(renewed, "/metrics", Authorization="Bearer another token of sixteen")[0] == 200
        await early.close()
    finally:
        server.kill()


# ------------------------------------------------------------------------------------------- configurations


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tls_key = "x"', "tls_key is of no use without tls_certificate"),
        ('tls_client_ca = "x"', "tls_client_ca is of no use without tls_certificate"),
        ("http_tls = true", "http_tls is of no use without tls_certificate"),
        ("tls_client_required = true", "tls_client_required is of no use without tls_client_ca"),
        ('unix_socket_mode = "0600"', "unix_socket_mode is of no use without unix_socket"),
        ('unix_socket = "/x"\nunix_socket_mode = "0888"', "unix_socket_mode must be three or four octal digits"),
        ('tls_certificate = "/nowhere/x"', "tls_certificate: cannot read '/nowhere/x': No such file"),
        ('http_token_file = "/nowhere/x"', "http_token_file: cannot read '/nowhere/x': No such file"),
    ],
)
def test_a_configuration_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    from naught_server.__main__ import main

    for name in [name for name in os.environ if name.startswith("NAUGHT_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "naught.toml"
    path.write_text(text)
    assert main(["--config", str(path), "--check-config"]) == 2
    assert message in capsys.readouterr().err
