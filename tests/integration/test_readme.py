"""The examples of the README and of the guides run, and print what their comments say."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import naught
import naught.asgi
import naught.lint
import naught_loadtest.__main__ as naught_loadtest
from naught.cli import arguments, run
from naught.testing import MemoryServer
from support.client_helpers import ScriptedServer, connected
from support.paths import DOCS, ROOT
from support.server_process import server_process
from support.surroundings import without_settings

# Their examples have tests of their own.
ELSEWHERE = {"lint.md", "safemap.md", "zeros.md"}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if page.name not in ELSEWHERE or page.parent != DOCS),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in PAGES}

# How the blocks of Python are found that the tests below run: each has one of these texts.
PROGRAMS = ("asyncio.run(main())", "naught.blocking.Client(")
FUNCTIONS = (
    "async def arrive",
    "async def drain",
    "async def book",
    "async def within_quota",
    "async def render(",
    "async def copy",
    "async def publish",
    "async def import_all",
    "async def let_go",
    "async def upload",
    "async def call",
    "async def finished",
    "async def place",
    "def limited(app)",
    "def limited_in_json",
    "def limited_with_threads",
    "async def render_or_say",
    "async def within_rate",
    "async def test_the_quota_comes_back",
    "async def slowest",
    "def with_trace",
    "def count_down",
    "def tidy",
    "def within_limit",
    "def release_file",
    "def nightly_report",
    "def render_frame",
    "def call_service",
    "def finish_batch",
)
CHECKED = ("class Connections",)
COUNTED = "server = Conversation()"


def pages_with(language: str) -> list[tuple[str, str]]:
    """All blocks of a language, each with the page that it is in."""
    found = [
        (page, each)
        for page, text in TEXTS.items()
        for each in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    ]
    return [(page, block) for page, (name, block) in found if name == language]


def blocks(language: str) -> list[str]:
    return [block for _, block in pages_with(language)]


def block_with(language: str, text: str) -> str:
    (found,) = [block for block in blocks(language) if text in block]
    return found


def namespace_of(*texts: str) -> dict[str, Any]:
    assert set(texts) <= set(FUNCTIONS)
    space: dict[str, Any] = {"asyncio": asyncio, "naught": naught}
    for text in texts:
        exec(compile(block_with("python", text), "README.md", "exec"), space)
    return space


def test_every_block_of_python_is_run_or_checked() -> None:
    known = (*PROGRAMS, *FUNCTIONS, *CHECKED, COUNTED)
    for page, block in pages_with("python"):
        assert [text for text in known if text in block], f"no test runs this block of {page}:\n{block}"
    ran = Path(__file__).read_text("utf-8").partition("def test_every_block")[2]
    assert [text for text in FUNCTIONS if f'"{text}"' not in ran] == []


@pytest.mark.parametrize(
    ("page", "program"),
    [each for each in pages_with("python") if any(text in each[1] for text in PROGRAMS)],
    ids=lambda each: each if each in TEXTS else "",
)
def test_a_program_prints_what_it_says(page: str, program: str) -> None:
    expected = re.findall(r"print\(.*\)  # ([^:;\n]+)", program)
    assert len(expected) == program.count("print(") >= 4
    assert "naught://localhost:6480" in program
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.replace("naught://localhost:6480", "memory://")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.splitlines() == expected
    assert result.stderr == ""


def test_the_program_whose_instructions_are_counted_runs() -> None:
    program = block_with("python", COUNTED)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path.append('tests')\n{program}", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_limits_and_quotas() -> None:
    space = namespace_of("async def book", "async def within_quota")
    async with naught.connect("memory://") as counters:
        assert await space["book"](counters, "LH1", 179) is True
        assert await space["book"](counters, "LH1", 2) is False
        assert await space["book"](counters, "LH1", 1) is True
        answers = [await space["within_quota"](counters, "ann") for _ in range(101)]
        assert answers == [True] * 100 + [False]


async def test_many_at_once_and_draining() -> None:
    space = namespace_of("async def arrive", "async def drain")
    async with naught.connect("memory://") as counters:
        assert await space["arrive"](counters, ["views:a", "views:b", "views:a"]) == [1, 1, 2]
        saved: dict[str, int] = {}
        await space["drain"](counters, saved.update)
        assert saved == {"views:a": 2, "views:b": 1}
        assert await counters.count() == 0


async def test_semaphores() -> None:
    space = namespace_of("async def render(", "async def copy", "async def publish", "async def finished")
    async with naught.connect("memory://") as counters:
        inside: list[int] = []

        async def job() -> None:
            inside.append(await counters.get("gpu"))
            await counters.ping()

        await asyncio.gather(*(space["render"](counters, job) for _ in range(12)))
        assert len(inside) == 12
        assert 1 <= max(inside) <= 4

        async def work() -> list[int]:
            return await counters.get_many(["disk:a", "disk:b"])

        assert await space["copy"](counters, "a", "b", work) == [1, 1]
        fences: list[int] = []

        def save(report: str, fence: int) -> bool:
            fences.append(fence)
            return True

        async def make() -> str:
            return "report"

        assert await space["publish"](counters, make, save)
        assert await space["publish"](counters, make, save)
        assert fences == sorted(set(fences))
        assert await counters.count() == 0

        await counters.incr("jobs:7")
        waiting = asyncio.ensure_future(space["finished"](counters, 7))
        await counters.decr("jobs:7")
        assert await waiting is True


async def test_more_patterns() -> None:
    space = namespace_of(
        "async def import_all", "async def let_go", "async def upload", "async def call", "def limited(app)"
    )
    async with naught.connect("memory://") as counters:

        async def hand_out(files: list[str]) -> None:
            for _ in files:
                await counters.wait_group("import-7").done()

        assert await space["import_all"](counters, ["a", "b"], hand_out) is True
        deleted: list[str] = []

        async def delete(blob: str) -> None:
            deleted.append(blob)

        for _ in range(2):
            await counters.reference("blob:x").retain()
        for _ in range(2):
            await space["let_go"](counters, "x", delete)
        assert deleted == ["x"]

        async def send() -> int:
            return await counters.in_flight("uploads").value()

        assert await space["upload"](counters, send) == 1
        assert await counters.count() == 0

        async def do() -> str:
            return "done"

        answers = [await space["call"](counters, "ann", do) for _ in range(101)]
        assert answers == ["done"] * 100 + ["come back in 3600 s"]
    assert callable(space["limited"](lambda scope, receive, send: None))


async def test_refusals_and_rates() -> None:
    space = namespace_of(
        "async def render_or_say", "async def within_rate", "def limited_in_json", "def limited_with_threads"
    )
    async with naught.connect("memory://") as counters:

        async def job() -> str:
            return "rendered"

        assert await space["render_or_say"](counters, job) == "rendered"
        answers = [await space["within_rate"](counters, "ann") for _ in range(101)]
        assert answers[0] == "99 left, all of them in 1 s"
        # Time passes meanwhile: 0.6 s, less what the hundred calls took.
        assert re.fullmatch(r"come back in 0\.[0-6] s|\d+ left, .*", answers[100])
    server = MemoryServer()
    try:
        await namespace_of("async def test_the_quota_comes_back")["test_the_quota_comes_back"](server)
    finally:
        server.close()
    assert callable(space["limited_in_json"](lambda scope, receive, send: None))
    assert callable(space["limited_with_threads"](lambda environ, start_response: []))


async def test_what_a_lost_connection_means() -> None:
    space = namespace_of("async def place")
    async with ScriptedServer() as server:
        counters, peer = await connected(naught.connect(server.url), server)
        placed = asyncio.ensure_future(space["place"](counters, 1))
        _, msgid, method, params = await peer.request()
        assert (method, params) == ("incr", [b"orders:1"])
        peer.reply(msgid, 1)
        assert await placed == 1
        placed = asyncio.ensure_future(space["place"](counters, 2))
        await peer.request()
        peer.abort()
        peer = await server.peer()  # which knows no session
        assert await placed is None
        closing = asyncio.ensure_future(counters.close())
        await peer.ended()
        peer.close()
        await closing


async def test_slow_calls_and_traces(tmp_path: Path) -> None:
    space = namespace_of("async def slowest", "def with_trace")
    trace = contextvars.ContextVar[str | None]("trace", default=None)
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    seen: list[str | None] = []

    def on_call_start(call: naught.ObservedCall) -> None:
        space["with_trace"](trace)(call)
        seen.append(call.traceparent)

    with server_process(tmp_path) as server:
        url = f"naught://127.0.0.1:{server.port}"
        async with naught.connect(url, timeout=30, on_call_start=on_call_start) as counters:
            await counters.ping()
            trace.set(traceparent)
            found = []
            for _ in range(1_000):  # until one took more than a millisecond
                await counters.take([f"{number}:{'x' * 200}" for number in range(4_096)])
                found = await space["slowest"](counters)
                if found:
                    break
            assert found
            assert all(" us, " in turn and turn.endswith(" entries") for turn in found)
    assert set(seen) == {None, traceparent}
    assert seen[0] is None


def test_without_a_server() -> None:
    space = namespace_of("def count_down", "def tidy")
    assert space["count_down"]() == ((0, True), 0)
    clean, where = space["tidy"]({"anna": {"reads": 3, "writes": 0}, "ben": 0})
    assert clean == {"anna": {"reads": 3}}
    assert sorted(where) == ["['anna']['writes']", "['ben']"]


def test_from_redis() -> None:
    """The side of naught. That of Redis is Python too."""
    space = namespace_of(
        "def within_limit", "def release_file", "def nightly_report", "def render_frame", "def call_service",
        "def finish_batch",
    )  # fmt: skip
    with naught.blocking.Client("memory://") as counters:
        assert [space["within_limit"](counters, "ann") for _ in range(101)] == [True] * 100 + [False]
        deleted: list[str] = []
        counters.reference("file:a").retain()
        counters.reference("file:a").retain()
        for _ in range(2):
            space["release_file"](counters, "a", deleted.append)
        assert deleted == ["a"]
        fences: list[int] = []
        for _ in range(2):
            space["nightly_report"](counters, fences.append)
        assert fences == sorted(set(fences))
        assert space["render_frame"](counters, lambda: counters.get("gpu")) == 1
        counters.clear()
        answers = [space["call_service"](counters, "ann", lambda: "done") for _ in range(101)]
        assert answers == ["done"] * 100 + ["come back in 3600 s"]
        done: list[int] = []
        assert space["finish_batch"](counters, 7, [1, 2, 3], done.append) is True
        assert done == [1, 2, 3]
        assert counters.get("batch:7") == 0
    for page, block in pages_with("py"):
        compile(block, page, "exec")


def test_all_methods_are_on_the_page() -> None:
    page = (DOCS / "reference" / "methods.md").read_text("utf-8")
    listed = re.findall(r"^\| `(\w+)", page, re.MULTILINE)
    assert len(listed) == len(set(listed))
    methods = {name for name in dir(naught.Client) if not name.startswith("_")}
    assert set(listed) == methods - {"aclose"}, "aclose stands beside close"
    for name, parameters in re.findall(r"^\| `(\w+)\(([^)]*)\)`", page, re.MULTILINE):
        known = inspect.signature(getattr(naught.Client, name)).parameters
        named = [each.partition("=")[0].strip() for each in parameters.split(",") if each]
        assert set(named) <= set(known), name


def test_the_first_commands_of_the_readme(own_port: int, tmp_path: Path) -> None:
    """As printed, but for the lines that install: they need a network."""
    (block,) = [
        block for block in re.findall(r"^```sh\n(.*?)^```$", TEXTS["README.md"], re.M | re.S) if "incr" in block
    ]
    lines = [line for line in block.splitlines() if not re.match("python3 -m venv|pip install", line)]
    assert len(lines) == len(block.splitlines()) - 2 >= 5
    done = subprocess.run(
        ["bash", "-ec", "\n".join([*lines, "kill %1", "wait"])],
        env={
            **without_settings(),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NAUGHT_PORT": str(own_port),
            "NAUGHT_HTTP_PORT": "off",
            "NAUGHT_URL": f"naught://127.0.0.1:{own_port}",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    expected = re.findall(r"^naught .*  # ([^:\n]+)", block, re.MULTILINE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected
    assert len(expected) == 4


def test_the_checker_finds_what_the_example_says() -> None:
    """On the lines whose comments say so, and nowhere else in the pages' Python."""
    for page, block in pages_with("python"):
        said = [
            (line, rule) for line, text in enumerate(block.split("\n"), 1) for rule in re.findall(r"# (NZ\d+):", text)
        ]
        assert [(found.line, found.rule) for found in naught.lint.check_source(block, page)] == said
    for text in CHECKED:
        assert "# NZ101:" in block_with("python", text)


@pytest.mark.parametrize("toml", blocks("toml"))
def test_the_configuration_is_good(toml: str, tmp_path: Path) -> None:
    file = tmp_path / "naught.toml"
    file.write_text(toml)
    assert tomllib.loads(toml)
    command = [sys.executable, "-m", "naught_server", "--config", str(file), "--check-config"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


# -- commands -----------------------------------------------------------------------------------------------

TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
MODULES = {"naught": "naught", "naught-server": "naught_server", "naught-loadtest": "naught_loadtest"}
# Both of command lines and of what stands between backticks in a sentence.
COMMANDS = sorted(
    {
        line.removeprefix(".venv/bin/").strip()
        for text in TEXTS.values()
        for block in [*re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S), *re.findall(r"`([^`\n]+)`", text)]
        for line in block.splitlines()
        if re.match(rf"(\.venv/bin/)?({'|'.join(MODULES)}) ", line)
    }
)


@cache
def help_of(program: str, *words: str) -> str:
    """What a command prints for `--help`; in this process, as there are some fifty of them."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        sys.exit(importlib.import_module(f"{program}.__main__").main([*words, "--help"]))
    assert not ended.value.code, f"{program} {words}"
    return printed.getvalue()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_that_is_named_exists_and_has_the_options(line: str) -> None:
    program, *words = shlex.split(re.split(r" <| \\?\| ", line)[0], comments=True)
    if words[:1] == ["run"] and "--" in words:  # behind it stands another program
        run.parser().parse_args(words[1:])
        words = words[: words.index("--")]
    names = [word for word in words[:1] if not word.startswith("-") and program != "naught-server"]
    given = words[: words.index("--")] if "--" in words else words
    options = {word.partition("=")[0] for word in given if re.match(r"-{1,2}[a-zA-Z]", word)} - {
        "--help",
        "--version",
    }
    text = help_of(MODULES[program], *names)
    assert [option for option in options if not re.search(rf"{option}\b", text)] == []
    if program == "naught-loadtest":
        naught_loadtest.parser().parse_args(words)
    elif program == "naught" and words[0] in arguments.COMMANDS and len(words) > 1:
        parser = arguments.parser_of(words[0])
        (parser.parse_args if "--" in words else parser.parse_intermixed_args)(words[1:])


def test_commands_of_every_program_are_found() -> None:
    assert {line.split()[0] for line in COMMANDS} == set(MODULES)
    assert len(COMMANDS) > 12


def test_every_file_that_is_named_exists() -> None:
    named = {
        path
        for text in TEXTS.values()
        for path in re.findall(r"`((?:client|server|loadtest|tests|docs|tools|deploy)/[\w./-]*)`", text)
    }
    # A drawing of a folder begins with its path, and the files of a line stand before what they are for.
    for _, block in pages_with("text"):
        folder, _, lines = block.partition("\n")
        if folder.endswith("/"):
            named |= {
                folder + name for name in re.findall(r"(?:(?<=\n {4})|(?<=  ))[a-z]\w*(?:/|\.py)(?=\s)", f"\n{lines}")
            }
    assert len(named) > 40
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_every_target_of_make_that_is_named_exists() -> None:
    named = {name for text in TEXTS.values() for name in re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE)}
    assert named >= {"demo", "test", "bench", "docs"}
    assert named - TARGETS == set()
