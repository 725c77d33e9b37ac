"""Programs that use the client for threads, as processes of their own: how they end, and what they print. Some have
green threads.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from naught import blocking
from support.each import for_each
from support.seeds import slow
from support.server_process import ServerProcess, server_process, wait_until

GUARD_S = 30.0

LEASE = "lease=300"
"""What is back before that did not wait for the lease."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def direct(server: ServerProcess) -> Iterator[blocking.Client]:
    with blocking.Client(url_of(server), timeout=GUARD_S) as client:
        client.clear()
        yield client


def url_of(server: ServerProcess) -> str:
    return f"naught://127.0.0.1:{server.port}"


def start(program: str, url: str, folder: Path, *options: str) -> subprocess.Popen[str]:
    path = folder / "program.py"  # a file, because processes that are spawned import it
    path.write_text(textwrap.dedent(program))
    return subprocess.Popen(
        [sys.executable, *options, str(path), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(program: str, url: str, folder: Path, *options: str) -> list[str]:
    """The lines that a program prints. It must end well, and say nothing on stderr."""
    process = start(program, url, folder, *options)
    out, errors = process.communicate(timeout=GUARD_S)
    assert errors == ""
    assert process.returncode == 0
    return out.splitlines()


# ------------------------------------------------------------------------------------------------- the end


def test_a_client_that_is_not_closed_says_bye_at_the_end(
    server: ServerProcess, direct: blocking.Client, tmp_path: Path
) -> None:
    program = f"""
        import atexit, sys
        from naught import blocking

        client = blocking.Client(sys.argv[1], {LEASE})
        permit = client.semaphore("n", 1).acquire()
        atexit.register(lambda: print("still", client.get("n")))
        print(client.get("n"))
    """
    assert printed(program, url_of(server), tmp_path) == ["1", "still 1"]
    assert direct.get("n") == 0


def test_a_program_that_an_exception_ends_says_bye(
    server: ServerProcess, direct: blocking.Client, tmp_path: Path
) -> None:
    program = f"""
        import signal, sys
        from naught import blocking

        client = blocking.Client(sys.argv[1], {LEASE})
        client.incr("never")
        permit = client.semaphore("n", 1).acquire()
        print("holds", flush=True)
        client.wait_zero("never")
    """
    process = start(program, url_of(server), tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    wait_until(lambda: direct.info()["sessions"]["parked"] == 1, "it waits")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=GUARD_S)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert direct.get("n") == 0


def test_a_client_that_is_dropped_just_before_the_end_says_bye(
    server: ServerProcess, direct: blocking.Client, tmp_path: Path
) -> None:
    """So does one that a function has as a local variable, as the last function of the program."""
    program = f"""
        import sys
        from naught import blocking

        client = blocking.Client(sys.argv[1], {LEASE})
        permit = client.semaphore("n", 1).acquire()
        print(client.get("n"), flush=True)
        sys.setswitchinterval(60)  # the client's own thread runs only while this one waits
        del client, permit
    """
    assert printed(program, url_of(server), tmp_path) == ["1"]
    wait_until(lambda: direct.get("n") == 0, "the permit was given back")


@for_each(
    "line",
    [
        "atexit.register(count)",
        "threading.Thread(target=lambda: (threading.main_thread().join(), count())).start()",
        "client = blocking.Client(sys.argv[1], lazy=True); atexit.register(lambda: print(client.incr('late')))",
    ],
)
def test_a_client_that_is_first_used_while_the_process_ends(
    server: ServerProcess, direct: blocking.Client, tmp_path: Path, line: str
) -> None:
    """What it needs is imported by then: the standard library refuses to import some of it that late. From Python
    3.12 on there can be no new thread either, which is said."""
    program = f"""
        import atexit, sys, threading
        import naught
        from naught import blocking

        def count():
            try:
                with blocking.Client(sys.argv[1]) as counters:
                    print(counters.incr("late"))
            except naught.ConnectionFailed:
                print("no thread")

        {line}
    """
    direct.take(["late"])
    if sys.version_info < (3, 12):
        assert printed(program, url_of(server), tmp_path, "-W", "ignore::ResourceWarning") == ["1"]
    else:
        process = start(program, url_of(server), tmp_path)
        assert process.communicate(timeout=GUARD_S)


@for_each("number", [0, 1, 2])
def test_a_program_without_a_standard_stream_ends_well(
    server: ServerProcess, direct: blocking.Client, tmp_path: Path, number: int
) -> None:
    """uvloop aborts a process that closes a connection whose descriptor is 0 to 2."""
    program = """
        import sys
        from naught import blocking

        with blocking.Client(sys.argv[1]) as client:
            client.incr("closed")
    """
    direct.take(["closed"])
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program))
    line = f'exec "$@" {number}>&-'
    words = ["sh", "-c", line, "sh", sys.executable, str(path), url_of(server)]
    assert subprocess.run(words, timeout=GUARD_S, check=False).returncode == 0
    assert direct.get("closed") == 1


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_processes_of_multiprocessing_say_bye(
    server: ServerProcess, direct: blocking.Client, tmp_path: Path, method: str
) -> None:
    """Both with a client that came with the process and with one that it makes."""
    program = f"""
        import multiprocessing, sys, time
        from naught import blocking

        def work(client, url):
            global permits
            other = blocking.Client(url, {LEASE})
            permits = [client.semaphore("n", 9).acquire(), other.semaphore("n", 9).acquire()]
            print(client.get("n"), flush=True)

        if __name__ == "__main__":
            client = blocking.Client(sys.argv[1], {LEASE})
            process = multiprocessing.get_context("{method}").Process(target=work, args=(client, sys.argv[1]))
            process.start()
            process.join()
            for _ in range(100):  # the server may read this before what the child has sent
                if not client.get("n"):
                    break
                time.sleep(0.02)
            print(process.exitcode, client.get("n"))
            client.close()
    """
    assert printed(program, url_of(server), tmp_path) == ["2", "0 0"]


def test_daemon_threads_that_are_in_a_call_print_nothing(
    server: ServerProcess, direct: blocking.Client, tmp_path: Path
) -> None:
    program = f"""
        import logging, sys, threading
        from naught import blocking

        logging.getLogger("asyncio").setLevel("ERROR")  # -X dev tells of a busy machine
        client = blocking.Client(sys.argv[1], {LEASE})
        client.incr("never")

        def count():
            while True:
                client.incr("n")

        def hold():
            with client.semaphore("held", 9):
                client.wait_zero("never")

        for target in (count, hold, count, hold):
            threading.Thread(target=target, daemon=True).start()
        while client.get("n") < 100 or client.get("held") < 2:
            pass
    """
    for _ in range(3):
        direct.clear()
        assert printed(program, url_of(server), tmp_path, "-X", "dev", "-W", "ignore::ResourceWarning") == []
        assert direct.get("held") == 0


def test_an_end_does_not_wait_long_for_a_server_that_stands_still(tmp_path: Path) -> None:
    program = """
        import sys
        from naught import blocking

        client = blocking.Client(sys.argv[1])
        print(client.incr("n"), flush=True)
        sys.stdin.readline()
    """
    with server_process(tmp_path) as server:
        process = start(program, url_of(server), tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        server.process.send_signal(signal.SIGSTOP)
        try:
            _, errors = process.communicate("\n", timeout=GUARD_S)
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert (process.returncode, errors) == (0, "")


def test_a_thread_of_a_child_of_a_fork_that_comes_first_connects_for_all(
    server: ServerProcess, direct: blocking.Client, tmp_path: Path
) -> None:
    program = """
        import os, sys, threading
        from naught import blocking

        client = blocking.Client(sys.argv[1], timeout=30, name="forked")
        client.incr("n")
        child = os.fork()
        if not child:
            threads = [threading.Thread(target=client.incr, args=("n",)) for _ in range(20)]
            for each in threads: each.start()
            for each in threads: each.join()
            sessions = [each for each in client.sessions() if each["name"] == "forked"]
            print(client.get("n"), len(sessions), threading.active_count(), flush=True)
            client.close()
            os._exit(0)
        os.waitpid(child, 0)
        print(client.incr("n"))
        client.close()
    """
    lines = printed(program, url_of(server), tmp_path, "-X", "dev")
    assert lines == ["21 2 2", "22"], "the sessions of the parent and one of the child"


# ------------------------------------------------------------------------------------------------- green threads

GREEN = """
    import gevent.monkey
    gevent.monkey.patch_all({patch})
    import sys
    import gevent
    import naught
    from naught import blocking

    client = blocking.Client(sys.argv[1], timeout=30)
    ticks = [0]

    def tick():
        while True:
            ticks[0] += 1
            gevent.sleep(0.001)  # one that never pauses keeps the interpreter's lock from the client's own thread

    gevent.spawn(tick)

    def count(number):
        for _ in range(50):
            value = client.incr(f"own:{{number}}")
        return value

    jobs = [gevent.spawn(count, number) for number in range(40)]
    gevent.joinall(jobs, raise_error=True)
    print({{job.value for job in jobs}})

    gpu = client.semaphore("gpu", 1)
    order = []

    def work(number):
        with gpu as permit:
            order.append(number)
            gevent.sleep(0)
            assert not permit.lost
            assert order[-1] == number, "another greenlet was inside too"

    gevent.joinall([gevent.spawn(work, number) for number in range(8)], raise_error=True)
    print(sorted(order) == list(range(8)), client.get("gpu"))

    with gpu:
        killed = gevent.spawn(gpu.acquire)
        while not client.info()["sessions"]["parked"]:
            pass
        killed.kill()
        before = ticks[0]
        try:
            with gevent.Timeout(0.05):
                client.wait_zero("gpu")
        except gevent.Timeout:
            print("timed out", ticks[0] > before)
    print(client.get("gpu"), client.held())
    sys.stdout.flush()
    sys.stdin.readline()  # meanwhile the server is started anew
    assert client.incr("after") == 1
    print(client.connected)
    client.close()
"""


@pytest.mark.parametrize("patch", slow("", "thread=False"))
def test_a_program_with_greenlets(tmp_path: Path, own_port: int, patch: str) -> None:
    pytest.importorskip("gevent", reason="gevent is not installed")
    first = ServerProcess(tmp_path, "--port", str(own_port))
    servers = [first]
    try:
        process = start(GREEN.format(patch=patch), url_of(first), tmp_path)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        if process.poll() is not None or "" in lines:
            raise AssertionError(process.communicate()[1])
        assert lines == ["{50}\n", "True 0\n", "timed out True\n", "0 {}\n"]
        first.kill()
        (tmp_path / "ports.json").unlink()
        servers.append(ServerProcess(tmp_path, "--port", str(first.port)))
        out, errors = process.communicate("\n", timeout=GUARD_S)
        assert (process.returncode, out) == (0, "True\n")
        (logged,) = errors.splitlines()
        assert "connection lost" in logged
        servers[-1].stop()
    finally:
        for each in servers:
            each.kill()


def test_the_hub_of_gevent_is_there_before_the_client_starts_its_thread(
    server: ServerProcess, tmp_path: Path
) -> None:
    """Else both threads make their first hubs at one time, which import, and wait for each other's locks for ever."""
    pytest.importorskip("gevent", reason="gevent is not installed")
    program = """
        import gevent.monkey
        gevent.monkey.patch_all()
        import sys
        import naught
        from gevent._hub_local import get_hub_if_exists

        start_original = gevent.monkey.get_original

        def get_original(module, name):
            if name == "start_new_thread":
                print(get_hub_if_exists() is not None)
            return start_original(module, name)

        gevent.monkey.get_original = get_original
        naught.blocking.Client(sys.argv[1]).close()
    """
    assert printed(program, url_of(server), tmp_path) == ["True"]


@pytest.mark.parametrize("lazy", [False, True], ids=["at-once", "lazy"])
def test_gevent_may_patch_when_a_client_is_there(server: ServerProcess, tmp_path: Path, lazy: bool) -> None:
    """A greenlet that waits on a lock of the system stops all others, for ever where it waits for one of them."""
    pytest.importorskip("gevent", reason="gevent is not installed")
    program = f"""
        import sys
        import naught
        client = naught.blocking.Client(sys.argv[1], lazy={lazy}, timeout=30)
        if not {lazy}:
            client.ping()
        import gevent.monkey
        gevent.monkey.patch_all()
        import gevent
        gpu = client.semaphore("late", 1)

        def enter_and_leave():
            with gpu:
                gevent.sleep(0)

        with gpu:
            queue = [gevent.spawn(enter_and_leave) for _ in range(8)]
            while client.info()["sessions"]["parked"] < 8:
                gevent.sleep(0.001)
        gevent.joinall(queue, raise_error=True)
        print(client.get("late"))
        client.close()
    """
    process = start(program, url_of(server), tmp_path)
    try:
        out, errors = process.communicate(timeout=GUARD_S)
    finally:
        process.kill()
    assert out == "0\n", errors


def test_gevent_without_uvloop_is_refused_in_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("gevent", reason="gevent is not installed")
    program = """
        import gevent.monkey
        gevent.monkey.patch_all()
        import importlib.util
        find_spec = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "uvloop" else find_spec(name)
        import naught
        try:
            naught.blocking.Client("memory://")
        except naught.NaughtError as error:
            print(error)
    """
    (line,) = printed(program, "", tmp_path)
    assert "needs uvloop where gevent" in line


def test_eventlet_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Without eventlet: a stand-in that says what its module says."""
    program = """
        import sys, types
        patcher = types.ModuleType("eventlet.patcher")
        patcher.is_monkey_patched = lambda name: name in {"socket", "thread"}
        sys.modules["eventlet.patcher"] = patcher
        import naught
        try:
            naught.blocking.Client("memory://")
        except naught.NaughtError as error:
            print(error)
    """
    (line,) = printed(program, "", tmp_path)
    assert "does not work where eventlet has patched" in line
