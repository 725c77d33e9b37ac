"""The Dockerfile, read: by hadolint, and for what it has to have. No container engine runs where these tests run."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser  # type: ignore[import-untyped]

from support.alerting import DEPLOY
from support.alerting import parsed as parsed_yaml
from support.manifests import BASE
from support.paths import ROOT

FILE = DEPLOY / "container" / "Dockerfile"
TEXT = FILE.read_text("utf-8")
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions(stage: str = "") -> list[tuple[str, str]]:
    """The instructions of a stage, or of all."""
    parser = DockerfileParser(path=str(FILE))
    found: list[dict[str, Any]] = parser.structure
    pairs = [(each["instruction"], each["value"]) for each in found if each["instruction"] != "COMMENT"]
    if not stage:
        return pairs
    starts = [number for number, (name, _) in enumerate(pairs) if name == "FROM"]
    (start,) = [number for number in starts if pairs[number][1].endswith(f" AS {stage}")]
    end = min((number for number in starts if number > start), default=len(pairs))
    return pairs[start:end]


def values(name: str, stage: str = "server") -> list[str]:
    return [value for each, value in instructions(stage) if each == name]


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([HADOLINT, FILE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(TEXT.replace("${PYTHON}-slim-bookworm", "latest").replace('["naught-server"]', "naught-server"))
    done = subprocess.run([HADOLINT, wrong], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert {"DL3007", "DL3025"} <= set(re.findall(r"DL\d{4}", done.stdout))


@pytest.mark.parametrize("stage", ["server", "operator"])
def test_it_does_not_run_as_root(stage: str) -> None:
    (user,) = values("USER", stage)
    uid, _, gid = user.partition(":")
    assert int(uid) > 0
    assert int(gid) > 0
    pod = parsed_yaml(BASE / "statefulset.yaml")["spec"]["template"]["spec"]["securityContext"]
    assert (pod["runAsUser"], pod["runAsGroup"]) == (int(uid), int(gid))
    names = [name for name, _ in instructions(stage)]
    assert not {"RUN", "ADD", "VOLUME"} & set(names), "the last stage only has what it copies"


def test_its_images_have_a_version() -> None:
    defaults = dict(value.split("=") for name, value in instructions() if name == "ARG")
    froms = [value.split() for name, value in instructions() if name == "FROM"]
    stages = {words[-1] for words in froms}
    for word in (words[0] for words in froms if words[0] not in stages):
        image = re.sub(r"\$\{(\w+)\}", lambda found: defaults[found[1]], word)
        assert re.fullmatch(r"python:3\.\d+(-slim)?-bookworm", image)
    floor = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert tuple(map(int, defaults["PYTHON"].split("."))) >= tuple(map(int, floor.split(".")))


@pytest.mark.parametrize(
    ("stage", "program"), [("server", ["naught-server"]), ("operator", ["python", "-m", "naught_operator"])]
)
def test_what_it_runs_gets_signals_itself(stage: str, program: list[str]) -> None:
    assert json.loads(values("ENTRYPOINT", stage)[0]) == program, "in the exec form: no shell between"
    assert values("STOPSIGNAL", stage) == ["SIGTERM"]
    assert values("CMD", stage) == []


def test_its_health_check_is_naught_ping() -> None:
    (check,) = values("HEALTHCHECK")
    assert json.loads(check[check.index("[") :]) == ["naught", "ping", "--check"]


def test_it_has_no_secrets() -> None:
    for name, value in instructions():
        if name in ("ENV", "ARG"):
            assert not re.search(r"(?i)secret|token|password|key", value)
    assert "--insecure" not in " ".join(value for _, value in instructions()), "listening is the caller's decision"


def test_it_refuses_a_wheel_that_is_not_compiled() -> None:
    (build,) = values("RUN", "build")
    assert "naught-server --version | grep -F '(compiled'" in build


def test_the_build_gets_what_it_copies_and_nothing_else() -> None:
    copies = [value.split() for name, value in instructions() if name == "COPY"]
    copied = [word for words in copies if not words[0].startswith("--from=") for word in words[:-1]]
    lines = FILE.with_name("Dockerfile.dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert sorted(line[1:] for line in patterns if line.startswith("!")) == sorted(copied)
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    for path in [*wheel["packages"], *wheel["force-include"]]:
        assert {path, path.split("/")[0]} & set(copied)
    assert {project["project"]["readme"], *project["project"]["license-files"], "hatch_build.py"} <= set(copied)
    left_out = [line for line in patterns if line.startswith("**/")]
    assert any(fnmatch.fnmatch("server/naught_server/hot.so", line.replace("**/", "*")) for line in left_out)


@pytest.mark.parametrize("port", ["6480", "6481"])
def test_its_ports_are_the_servers(port: str) -> None:
    assert port in values("EXPOSE")[0].split()
