"""The ways in which Redis and Valkey delete a counter at zero: what is sent, how it is answered, what is refused."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path

import pytest

from naught_loadtest.__main__ import main
from naught_loadtest.commands import status
from naught_loadtest.commands.peer import add_peer_arguments, peer_of
from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import ReplyCycle, UnsupportedError
from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.drivers.redis import DECR_SHA, DECRBY_SHA
from naught_loadtest.drivers.servers import Peer
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.encoding import encode
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.replies import ReplyReader
from naught_loadtest.generate.runner import Run, RunError
from naught_loadtest.generate.workload import Script
from naught_loadtest.measure.cores import split_cores
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import EVICTING_WAYS, REDIS_WAYS, Contender, contender_of, started_all
from support.listening import listening
from support.scripted_redis import ScriptedRedis
from support.seeds import exhaustive, slow

EVERYTHING = frozenset({"DELIFEQ", "DELEX", "EVALSHA", "FCALL", "FUNCTION"})


def words_of(request: bytes) -> list[list[bytes]]:
    """The commands of a request, each as its words."""
    commands: list[list[bytes]] = []
    lines = iter(request.split(b"\r\n"))
    for line in lines:
        if not line:
            break
        commands.append([])
        for _ in range(int(line[1:])):
            length, word = next(lines), next(lines)
            assert int(length[1:]) == len(word)
            commands[-1].append(word)
    return commands


DECREMENTS = {
    "redis": ([b"DECR k"], [b"DECRBY k 5"]),
    "redis-lua": ([b"EVALSHA %s 1 k" % DECR_SHA], [b"EVALSHA %s 1 k 5" % DECRBY_SHA]),
    "redis-function": ([b"FCALL naught_decr 1 k"], [b"FCALL naught_decrby 1 k 5"]),
    "valkey-delifeq": ([b"DECR k", b"DELIFEQ k 0"], [b"DECRBY k 5", b"DELIFEQ k 0"]),
    "redis-delex": ([b"DECR k", b"DELEX k IFEQ 0"], [b"DECRBY k 5", b"DELEX k IFEQ 0"]),
}


@pytest.mark.parametrize("name", REDIS_WAYS)
def test_what_each_way_sends(name: str) -> None:
    driver = driver_for(name)
    one, five = DECREMENTS[name]
    assert words_of(driver.single(0, "k", 0)) == [[b"GET", b"k"]]
    assert words_of(driver.single(0, "k", 1)) == [[b"INCR", b"k"]], "an increment never reaches zero"
    assert words_of(driver.single(0, "k", 5)) == [[b"INCRBY", b"k", b"5"]]
    assert words_of(driver.single(0, "k", -1)) == [line.split() for line in one]
    assert words_of(driver.single(0, "k", -5)) == [line.split() for line in five]
    assert [driver.replies_to(delta) for delta in (1, 0, -1)] == [1, 1, len(one)]


def test_which_request_a_reply_belongs_to() -> None:
    source = random.Random(7)
    for _ in range(50):
        per_request = [source.choice((1, 2)) for _ in range(source.randrange(1, 9))]
        cycle = ReplyCycle(per_request)
        owners = [
            turn * len(per_request) + request
            for turn in range(3)
            for request, count in enumerate(per_request)
            for _ in range(count)
        ]
        assert [cycle.request_of(reply) for reply in range(len(owners))] == owners
        assert [cycle.first_reply(request) for request in range(owners[-1] + 1)] == [
            owners.index(request) for request in range(owners[-1] + 1)
        ]


def test_a_request_of_two_commands_is_answered_with_its_second_reply_however_the_bytes_are_cut() -> None:
    """A cycle of an increment, a decrement and a read, of which a part fails."""
    source = random.Random(19)
    for _ in range(200):
        driver = driver_for("valkey-delifeq")
        script = Script([0, 0, 0], [1, -1, 0], None, [1, 1, 1])
        counter = ReplyReader(driver, encode(driver, script, "p:", 3))
        stream, ends = b"", []
        failed: dict[int, str] = {}
        for number in range(30):
            for place in range(2 if number % 3 == 1 else 1):
                if source.random() < 0.1:
                    kind = source.choice(("OOM", "ERR"))
                    stream += b"-%s no\r\n" % kind.encode()
                    failed.setdefault(number, kind)
                else:
                    stream += b":%d\r\n" % place
            ends.append(len(stream))
        start, found = 0, []
        while start < len(stream):
            end = min(start + source.choice((1, 3, 4, 8, 50)), len(stream))
            counter.feed(stream[start:end], 30 - counter.counted)
            assert counter.counted == sum(each <= end for each in ends)
            found += counter.take_failures()
            assert all(number < counter.counted for number, _ in found), "no request fails before it is answered"
            start = end
        assert found == sorted(failed.items())


@pytest.fixture
def server() -> Iterator[ScriptedRedis]:
    with listening(ScriptedRedis(more=EVERYTHING)) as scripted:
        yield scripted


def url(server: ScriptedRedis, name: str = "redis") -> str:
    return f"{name}://127.0.0.1:{server.port}"


def run(server: ScriptedRedis, name: str, **changes: object) -> Result:
    plan = {"connections": 3, "keys": 30, "duration_s": 0.1, "warmup_s": 0.0, **changes}
    return Run(Plan.from_json({"target": url(server, name), "prefix": "a1b2c3d:", **plan})).execute()


@pytest.mark.parametrize(
    ("name", "scenario", "rate"),
    [
        *product(EVICTING_WAYS, ["inflight"], [None]),
        *slow(
            (EVICTING_WAYS[0], "inflight", 2000.0),
            *((name, "mixed", rate) for name, rate in zip(EVICTING_WAYS, cycle([None, 2000.0]), strict=False)),
        ),
        *exhaustive(
            *product(EVICTING_WAYS[1:], ["inflight"], [2000.0]),
            *((name, "mixed", rate) for name, rate in zip(EVICTING_WAYS, cycle([2000.0, None]), strict=False)),
        ),
    ],
)
def test_every_way_counts_right_and_leaves_no_zero(
    server: ScriptedRedis, name: str, scenario: str, rate: float | None
) -> None:
    result = run(server, name, scenario=scenario, pipeline=7, rate=rate)
    assert result.failed == {}
    assert result.requests > 0
    check = result.verification
    assert check is not None
    assert check.passed
    assert (check.left, check.unknown) == (0, 0)
    assert server.counters == {}


def test_a_wrong_reply_of_the_second_command_is_found(server: ScriptedRedis) -> None:
    """The server says that it has not deleted a zero that it has deleted."""

    def lie(words: list[bytes]) -> bytes | None:
        return b":0\r\n" if server.counters.pop(words[1], None) == 0 else None

    server.faults["DELIFEQ"] = lie
    assert run(server, "valkey-delifeq", scenario="churn").failed["wrong_value"] > 0


def test_a_refused_second_command_is_one_failed_request(server: ScriptedRedis) -> None:
    server.faults["DELIFEQ"] = lambda words: b"-OOM no room\r\n" if words[1].startswith(b"a1b2c3d:") else None
    result = run(server, "valkey-delifeq", scenario="churn")
    assert 0 < result.failed["OOM"] <= server.asked["DELIFEQ"]
    assert set(result.failed) == {"OOM"}


SENTENCES = {
    "redis-function": "Valkey 9.0.0 has no functions (FCALL); Redis 7.0 and later and Valkey have it",
    "valkey-delifeq": "Valkey 9.0.0 has no command DELIFEQ; Valkey 9.0 and later have it",
    "redis-delex": "Valkey 9.0.0 has no command DELEX; Redis 8.4 and later and Valkey 9.2 and later have it",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_server_without_the_command_is_refused_with_one_sentence(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(ScriptedRedis()) as server:
        probe, inspector = open_probe(parse_target(url(server, name)))
        with probe, pytest.raises(UnsupportedError) as refused:
            inspector.prepare()
        assert str(refused.value) == SENTENCES[name]
        assert main(["run", "--target", url(server, name), "--duration", "0.1"]) == status.FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(SENTENCES[name])


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.1\r\n", "Valkey 9.0.1"),
        ("redis_version:8.4.0\r\n", "Redis 8.4.0"),
        ("nothing", "Redis (unknown version)"),
    ],
)
def test_valkey_is_called_by_its_own_version(info: str, version: str) -> None:
    with listening(ScriptedRedis(info=info)) as server:
        probe, inspector = open_probe(parse_target(url(server)))
        with probe:
            assert inspector.version() == version


def test_all_ways_share_the_running_server_and_missing_commands_are_named() -> None:
    with listening(ScriptedRedis(more=frozenset({"DELIFEQ", "EVALSHA"}))) as server:
        names = list(REDIS_WAYS)
        with started_all(names, [], Peer(url=url(server))) as (contenders, missing):
            found = {each.name: each.url for each in contenders}
    assert found == {name: url(server, name) for name in ("redis", "redis-lua", "valkey-delifeq")}
    assert missing == [f"{name}: skipped, {SENTENCES[name]}" for name in ("redis-function", "redis-delex")]


def test_the_process_of_a_running_server_is_known_only_where_it_is_a_redis_here() -> None:
    """The test's own process is on this machine and is no Redis."""
    with (
        listening(ScriptedRedis(info=f"redis_version:7.0\r\nprocess_id:{os.getpid()}\r\n")) as server,
        started_all(["redis"], [], Peer(url=url(server))) as (contenders, _),
    ):
        assert [each.pid for each in contenders] == [None]


def test_a_contender_of_another_way_keeps_address_and_process(server: ScriptedRedis) -> None:
    shared = Contender("redis", url(server), 7, "Redis 9")
    assert contender_of(shared, "redis-lua") == Contender("redis-lua", url(server, "redis-lua"), 7, "Redis 9")


@pytest.mark.parametrize("banner", [b"HTTP/1.1 400 Bad Request\r\n", b"-NOAUTH Authentication required.\r\n"])
def test_a_peer_that_is_no_redis_is_one_sentence(banner: bytes) -> None:
    with (
        listening(ScriptedRedis(faults={"PING": lambda words: banner})) as server,
        pytest.raises(RunError, match=r"does not answer as Redis does"),
        started_all(["redis"], [], Peer(url=url(server))),
    ):
        pass


def peer(*words: str) -> Peer:
    parser = argparse.ArgumentParser()
    add_peer_arguments(parser)
    return peer_of(parser.parse_args(words))[0]


def test_the_arguments_that_name_the_peer(tmp_path: Path) -> None:
    assert peer() == Peer()
    assert str(peer()) == ""
    named = peer("--peer-binary", sys.executable, "--peer-args", "--io-threads 2 --save ''")
    assert named.binary == os.path.abspath(sys.executable)
    assert named.arguments == ("--io-threads", "2", "--save", "")
    assert str(named).endswith(" --io-threads 2 --save ''")
    running = peer("--peer-url", "redis://10.0.0.9:6390")
    assert running.url == "redis://10.0.0.9:6390"
    assert "10.0.0.9" in str(running)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peer-url", "redis://h", "--peer-binary", "/bin/sh"], "--peer-binary is about a server that is started"),
        (["--peer-url", "redis://h", "--peer-args", "--io-threads 2"], "--peer-args is about"),
        (["--peer-url", "redis://h", "--peer-cores", "2"], "--peer-cores is about"),
        (["--peer-url", "memcached://h"], "--peer-url must be redis://host:port"),
        (["--peer-url", "http://h"], "is not a target"),
        (["--peer-binary", "/no/such/program"], "'/no/such/program' is not a program"),
        (["--peer-binary", "/tmp"], "is not a program"),
        (["--peer-args", "'"], "--peer-args: No closing quotation"),
        (["--peer-cores", "0"], "a peer can have 1 to"),
        (["--peer-cores", "100000"], "a peer can have 1 to"),
    ],
)
def test_arguments_that_name_no_peer_are_wrong_usage(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not hasattr(os, "sched_setaffinity") and "--peer-cores" in words:
        said = "--peer-cores" if "--peer-url" in words else "cannot pin"
    for command in ("versus", "bars"):
        assert main([command, *words]) == status.USAGE
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("usable", [1, 2, 4])
def test_a_peer_of_several_cores_takes_them_from_the_generator(usable: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable)), raising=False)
    assert split_cores().peer == ()
    if usable < 4:
        with pytest.raises(ValueError, match=r"a peer can have 1 to 1 cores here"):
            split_cores(2)
        return
    cores = split_cores(3)
    assert (cores.server, cores.peer, cores.generator) == ([0], (0, 1, 2), [3])
