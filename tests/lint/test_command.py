"""The command line of the checker: arguments, exit statuses, configuration, output, `# noqa`, broken files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import FrameType
from typing import Any

import pytest

from naught.lint import RULES, check_source, files, main
from support.paths import CLIENT

LEAK = dedent(
    """\
    from collections import Counter

    ACTIVE = Counter()


    def start(user):
        ACTIVE[user] += 1


    def stop(user):
        ACTIVE[user] -= 1{comment}
    """
)
CLEAN = "print('nothing here')\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, with the working directory in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(project: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def leak(comment: str = "") -> str:
    return LEAK.format(comment=comment)


# -- exit statuses and text --------------------------------------------------------------------------------


def test_findings_exit_1(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {"pool.py": leak()})
    assert main(["pool.py"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("pool.py:11:5: NZ101 an entry of ACTIVE is counted down")
    assert "1 finding in 1 file" in err


def test_nothing_found_exits_0(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {"a.py": CLEAN, "b.py": CLEAN})
    assert main(["."]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["missing.py"],
        ["--no-such-option", "a.py"],
        ["--select", "NZ999", "a.py"],
        ["--ignore", "E501", "a.py"],
        ["--output", "xml", "a.py"],
        ["--config", "missing.toml", "a.py"],
        ["--jobs", "0", "a.py"],
    ],
)
def test_usage_errors_exit_2(project: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {"a.py": CLEAN})
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err


def test_help_and_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "naught lint" in capsys.readouterr().out
    assert main(["--rules"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(RULES)


ASKING = """\
from collections import defaultdict

FAILURES = defaultdict(int)

def failed(host):
    FAILURES[host] += 1

def is_bad(host):
    return FAILURES[host] > 3
"""


def test_what_is_followed_on_request(project: Path) -> None:
    write(project, {"asking.py": ASKING})
    assert main(["."]) == 0
    assert main(["--select", "NZ103", "."]) == 1
    assert main(["--select", "NZ", "."]) == 1
    write(project, {"pyproject.toml": "[tool.naught.lint]\nselect = ['NZ1']\n"})
    assert main(["."]) == 1


def test_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {"pool.py": leak(), "clean.py": CLEAN})
    assert main(["--output", "json", "."]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["version"] == 1
    assert report["files"] == 2
    (finding,) = report["findings"]
    assert finding == {
        "path": "pool.py",
        "line": 11,
        "column": 5,
        "end_line": 11,
        "rule": "NZ101",
        "message": finding["message"],
        "sure": True,
    }


def test_standard_input(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from io import BytesIO, TextIOWrapper

    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(leak().encode())))
    assert main(["-"]) == 1
    assert capsys.readouterr().out.startswith("-:11:5: NZ101")


def test_columns_are_characters() -> None:
    source = leak().replace("    ACTIVE[user] -= 1", "    é = 'ü'; ACTIVE[user] -= 1")
    (finding,) = check_source(source, "pool.py")
    assert finding.column == 14


def test_as_a_module(project: Path) -> None:
    write(project, {"pool.py": leak()})
    environment = {**os.environ, "PYTHONPATH": str(CLIENT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "naught.lint", "pool.py"],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.startswith("pool.py:11:5: NZ101")


def test_a_closed_pipe_is_no_traceback(project: Path) -> None:
    write(project, {f"pool{n}.py": leak() for n in range(2000 // 5)})
    environment = {**os.environ, "PYTHONPATH": str(CLIENT)}
    command = f"{sys.executable} -m naught.lint --jobs 1 . | head -n 1"
    done = subprocess.run(
        command, shell=True, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("output", ["text", "json", "jsonl", "sarif", "github"])
def test_streams_that_are_closed(
    output: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program may be started without standard streams."""
    write(project, {"pool.py": leak(), "more.py": leak()})
    monkeypatch.setattr("sys.stdin", None)
    assert main(["--output", output, "-"]) == 1
    assert "standard input is closed" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert main(["--output", output, "--jobs", "1", "."]) == 1


# -- which files -------------------------------------------------------------------------------------------


def test_files_found_in_folders(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        project,
        {
            "src/pool.py": leak(),
            "src/stub.pyi": leak(),
            "src/notes.txt": leak(),
            ".venv/lib/pool.py": leak(),
            "node_modules/pool.py": leak(),
            "src/__pycache__/pool.py": leak(),
        },
    )
    assert main(["."]) == 1
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [os.path.join("src", "pool.py")]


def test_a_file_that_is_named_is_read_whatever_its_name(project: Path) -> None:
    write(project, {"script": leak(), "pyproject.toml": "[tool.naught.lint]\nexclude = ['script']\n"})
    assert main(["script"]) == 1


def test_a_notebook_is_not_taken_for_a_script(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {"pool.ipynb": '{"cells": [{"source": ["x = 1"]}]}'})
    assert main(["."]) == 0
    assert main(["pool.ipynb"]) == 1
    assert "NZ100 cannot be read: it is a notebook" in capsys.readouterr().out


def test_a_file_named_twice_is_read_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {"pool.py": leak()})
    assert main(["pool.py", "."]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_links_that_go_round(project: Path) -> None:
    write(project, {"src/pool.py": CLEAN})
    (project / "src" / "again").symlink_to(project / "src")
    (project / "src" / "dangling.py").symlink_to(project / "nowhere.py")
    assert main(["."]) == 0


def test_a_pipe_is_not_waited_for(project: Path) -> None:
    os.mkfifo(project / "pipe.py")
    assert main(["."]) == 0


def test_several_processes_find_the_same(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {f"pool{n}.py": leak() for n in range(60)})
    assert main(["--jobs", "1", "."]) == 1
    alone = capsys.readouterr().out
    assert main(["--jobs", "2", "."]) == 1
    assert capsys.readouterr().out == alone


# -- configuration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ("select = ['NZ101']", 1),
        ("select = ['NZ1']", 1),
        ("select = ['NZ102']", 0),
        ("ignore = ['NZ101']", 0),
        ("select = ['NZ101']\nignore = ['NZ1']", 0),
        ("exclude = ['src']", 0),
        ("exclude = ['src/*.py']", 0),
        ("exclude = ['pool.py']", 0),
        ("exclude = ['other']", 1),
        ("[tool.naught.lint.per-file-ignores]\n'src/*' = ['NZ101']", 0),
        ("[tool.naught.lint.per-file-ignores]\n'pool.py' = ['NZ101']", 0),
        ("[tool.naught.lint.per-file-ignores]\n'tests/*' = ['NZ101']", 1),
    ],
)
def test_configuration(project: Path, settings: str, found: int) -> None:
    write(project, {"src/pool.py": leak(), "pyproject.toml": f"[tool.naught.lint]\n{settings}\n"})
    assert main(["."]) == found
    assert main(["src"]) == found
    os.chdir(project / "src")
    assert main(["."]) == found


def test_the_command_line_wins(project: Path) -> None:
    write(project, {"pool.py": leak(), "pyproject.toml": "[tool.naught.lint]\nselect = ['NZ102']\n"})
    assert main(["--select", "NZ101", "."]) == 1
    assert main(["--isolated", "."]) == 1
    assert main(["--isolated", "--ignore", "NZ101", "."]) == 0
    assert main(["--isolated", "--exclude", "pool.py", "."]) == 0


def test_local_maps_are_looked_at_when_asked(project: Path) -> None:
    """By the option, by the configuration, and with several processes as with one."""
    source = "def left(tasks):\n    open = {}\n    for t in tasks:\n        open[t] = 1\n    for t in tasks:\n"
    write(project, {f"plan{n}.py": source + "        open[t] -= 1\n" for n in range(60)})
    assert main(["--isolated", "."]) == 0
    assert main(["--isolated", "--locals", "--jobs", "1", "."]) == 1
    assert main(["--isolated", "--locals", "--jobs", "2", "."]) == 1
    write(project, {"pyproject.toml": "[tool.naught.lint]\nlocals = true\n"})
    assert main(["plan1.py"]) == 1


def test_all_findings_are_there_when_asked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the option, by the configuration, and with several processes as with one. The output says which are sure."""
    unsure = leak().replace("[user]", "[place_of(user)]")
    write(project, {f"plan{n}.py": unsure for n in range(60)})
    assert main(["--isolated", "."]) == 0
    for jobs in ("1", "2"):
        assert main(["--isolated", "--all", "--jobs", jobs, "--output", "jsonl", "."]) == 1
        assert [json.loads(line)["sure"] for line in capsys.readouterr().out.splitlines()] == [False] * 60
    write(project, {"pyproject.toml": "[tool.naught.lint]\nall = true\n"})
    assert main(["plan1.py"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[tool.naught.lint]\nall = 1\n",
        "[tool.naught.lint]\nlocals = 'yes'\n",
        "[tool.naught.lint]\nselect = ['NZ777']\n",
        "[tool.naught.lint]\nselect = 'NZ101'\n",
        "[tool.naught.lint]\nselekt = ['NZ101']\n",
        "[tool.naught.lint]\nexclude = [1]\n",
        "[tool.naught.lint]\nper-file-ignores = ['NZ101']\n",
        "[tool.naught.lint]\nper-file-ignores = {'a.py' = 'NZ101'}\n",
        "[tool.naught]\nlint = 3\n",
        "[tool.naught.lint\n",
    ],
)
def test_bad_configuration_exits_2(project: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {"pool.py": leak(), "pyproject.toml": text})
    assert main(["."]) == 2
    assert "pyproject.toml" in capsys.readouterr().err


def test_configuration_of_other_tools_is_theirs(project: Path) -> None:
    write(project, {"pool.py": leak(), "pyproject.toml": "[tool.black]\nline-length = 3\n"})
    assert main(["."]) == 1


# -- noqa --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("  # noqa", 0),
        ("  # NOQA", 0),
        ("  # noqa: NZ101", 0),
        ("  # noqa:NZ101", 0),
        ("  # noqa: E501, NZ101", 0),
        ("  # noqa: E501 NZ101", 0),
        ("  # noqa: NZ1", 0),
        ("  # noqa: nz101 -- the keys are few", 0),
        ("  # the keys are few  # noqa: NZ101", 0),
        ("  # noqa: NZ102", 1),
        ("  # noqa: E501", 1),
        ("  # a noqa by name only", 1),
        ("; x = '# noqa'", 1),
    ],
)
def test_noqa(comment: str, found: int) -> None:
    assert len(check_source(leak(comment), "pool.py")) == found


def test_noqa_on_any_line_of_what_was_found() -> None:
    source = leak().replace("ACTIVE[user] -= 1", "ACTIVE[  # noqa: NZ101\n        user\n    ] -= 1")
    assert check_source(source, "pool.py") == []


# -- files that do not parse -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"def (:\n", "does not parse"),
        (b"print 'python 2'\n", "does not parse"),
        (b"x = '\xff'\n", "does not parse"),
        (b"# coding: latin-1\nx = '\xff'\n", ""),
        (b"# coding: no-such-encoding\n", "does not parse"),
        (b"# coding: hex\nx = 1\n", "does not parse"),
        (b"\xef\xbb\xbfx = 1\n", ""),
        (b"\xef\xbb\xbf# coding: latin-1\nx = 1\n", "does not parse"),
        (b"x = 1\x00\n", "does not parse"),
        (b"", ""),
        (b"\x0c\r\nx = 1\rcount = {}\r", ""),
        (b"x = " + b"(" * 150 + b")" * 150 + b"\n", ""),
        (b"x = " + b"(" * 5000 + b")" * 5000, "does not parse|nested too deeply"),
        (b"x = " + b"-" * 100_000 + b"1", "nested too deeply"),
        (b"x = " + b".".join([b"a"] * 100_000) + b"\n", "nested too deeply"),
        (b"x = 1 if x == '\\d' is 1 else 2\n", ""),
    ],
)
def test_whatever_a_file_holds(source: bytes, message: str) -> None:
    import re

    found = check_source(source, "broken.py")
    assert [finding.rule for finding in found] == (["NZ100"] if message else [])
    if message:
        assert re.search(message, found[0].message)
        assert found[0].line >= 1
        assert found[0].column >= 1


def class_with_counts(number: int) -> str:
    return (
        f"class Counts{number}:\n"
        "    def __init__(self):\n        self.open = defaultdict(int)\n"
        "    def add(self, user):\n        self.open[user] += 1\n"
        "    def drop(self, user):\n        self.open[user] -= 1\n"
    )


def pair_with_records(number: int) -> str:
    return (
        f"def add{number}(user):\n    entry = RECORDS.setdefault(user, {{'n': 0}})\n    entry['n'] += 1\n"
        f"def drop{number}(user):\n    entry = RECORDS[user]\n    entry['n'] -= 1\n"
    )


@pytest.mark.parametrize("part", [class_with_counts, pair_with_records])
def test_a_long_file_takes_time_in_proportion_to_its_length(part: Callable[[int], str]) -> None:
    """In steps of the interpreter. When each name was compared with all others, 6 000 lines took 20 seconds."""

    def steps(parts: int) -> int:
        source = "from collections import defaultdict\nRECORDS = {}\n" + "".join(map(part, range(parts)))
        count = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal count
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
            count += event == "opcode"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            found = check_source(source, "long.py")
        finally:
            sys.settrace(before)
        assert len(found) == parts
        return count

    assert steps(80) < 2.8 * steps(40)


def test_deep_but_readable() -> None:
    """The checker reads everything that Python can read: a thousand `elif`s, a long sum of strings."""
    branches = "if x == 0:\n    pass\n" + "".join(f"elif x == {n}:\n    pass\n" for n in range(900))
    concatenated = "x = " + " + ".join(["'a'"] * 900) + "\n"
    source = leak() + concatenated + branches
    assert [finding.rule for finding in check_source(source, "deep.py")] == ["NZ101"]


def test_a_file_without_permission_to_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, {"secret.py": CLEAN})

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert main(["--jobs", "1", "secret.py"]) == 1


def test_a_name_that_is_no_text(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"pool\xff.py")
    try:
        write(project, {name: leak()})
    except OSError:
        pytest.skip("this file system has only names that are text")
    assert main(["."]) == 1
    assert "NZ101" in capsys.readouterr().out
    assert main(["--output", "json", "."]) == 1
    assert json.loads(capsys.readouterr().out)["findings"]


def test_unparsable_is_ignored_when_told_so(project: Path) -> None:
    write(project, {"broken.py": "def (:\n"})
    assert main(["."]) == 1
    assert main(["--ignore", "NZ100", "."]) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name)
def test_no_process_is_left_when_it_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    """A reader of its output would wait for the end of those that have inherited it."""
    pipe = tmp_path / "pipe.py"
    os.mkfifo(pipe)
    names = [tmp_path / f"{place}.py" for place in range(files.WORTH_PROCESSES)]
    for name in names:
        name.write_text("")
    command = [sys.executable, "-m", "naught.lint", "--jobs", "2", pipe, *names]
    environment = {**os.environ, "PYTHONPATH": str(CLIENT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with pipe.open("wb"):  # which waits until a process reads it
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (-number, "")
