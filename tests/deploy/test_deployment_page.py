"""docs/deployment.md: its commands run where they can run here, and name what there is where they cannot."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from naught_server import loading
from support.alerting import DEPLOY
from support.manifests import faults, parsed_manifests, program, refused, server_config
from support.paths import DOCS, ROOT
from support.programs import need

PAGE = (DOCS / "deployment.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


COMMANDS = [
    shlex.split(line, comments=True)
    for block in blocks("sh")
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]


def commands_of(*words: str) -> list[list[str]]:
    """The commands that begin so, with what follows."""
    return [each[len(words) :] for each in COMMANDS if each[: len(words)] == list(words)]


@pytest.fixture
def as_the_page_says(tmp_path: Path) -> Path:
    """A folder in which the page's commands can run: the checkout's files, and the page's values."""
    (tmp_path / "deploy").symlink_to(DEPLOY)
    (values,) = blocks("yaml")
    (tmp_path / "values.yaml").write_text(values)
    return tmp_path


@pytest.mark.parametrize("verb", ["install", pytest.param("upgrade", marks=pytest.mark.slow)])
def test_its_commands_for_helm_render_what_is_valid(verb: str, as_the_page_says: Path) -> None:
    found = commands_of("helm", verb)
    assert found
    for words in found:
        release, chart, *options = [word for word in words if word != "--create-namespace"]
        assert release == "naught"
        done = subprocess.run(
            [program("helm"), "template", release, chart, *options],
            cwd=as_the_page_says,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        manifests = parsed_manifests(done.stdout)
        assert faults(manifests) == []
        assert refused([each for each in manifests if "monitoring" not in each["apiVersion"]]) == []
        monitored = "monitoring.serviceMonitor.enabled=true" in options
        assert ("ServiceMonitor" in {each["kind"] for each in manifests}) is monitored


def test_the_values_of_the_page_arrive(as_the_page_says: Path) -> None:
    command = [program("helm"), "template", "naught", "deploy/helm/naught", "--values", "values.yaml"]
    printed = subprocess.run(command, cwd=as_the_page_says, capture_output=True, text=True, check=True, timeout=60)
    given = server_config(parsed_manifests(printed.stdout))
    written = yaml.safe_load((as_the_page_says / "values.yaml").read_text())
    assert {name: getattr(given, name) for name in written["settings"]} == written["settings"]
    assert given.caches["orders"].max_counters == written["caches"]["orders"]["max_counters"]


@pytest.mark.slow
def test_its_commands_for_kubectl_exist(as_the_page_says: Path) -> None:
    kubectl = program("kubectl")
    for words in commands_of("kubectl"):
        rest = words[2:] if words[0] == "--namespace" else words
        verb, options = (
            rest[: 3 if rest[0] == "create" else 1],
            {word.partition("=")[0] for word in rest if word.startswith("--") and word != "--"},
        )
        done = subprocess.run([kubectl, *verb, "--help"], capture_output=True, text=True, check=True, timeout=60)
        missing = [option for option in options if f"{option}=" not in done.stdout]
        assert missing == [], words
    (folder,) = commands_of("kubectl", "kustomize")[0]
    assert commands_of("kubectl", "apply") == [["--kustomize", folder]]
    made = subprocess.run([kubectl, "kustomize", folder], cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert (made.returncode, made.stderr) == (0, b"")


def test_what_containers_are_started_with_is_what_the_server_accepts() -> None:
    runs = commands_of("docker", "run")
    assert len(runs) == 2
    for words in runs:
        image = words.index("naught:0.1.0")
        assert {"--read-only", "--cap-drop", "no-new-privileges"} <= set(words[:image])
        timeout_s = int(words[words.index("--stop-timeout") + 1])
        arguments = [word.replace("/etc/naught", str(DEPLOY / "systemd")) for word in words[image + 1 :]]
        loaded = loading.load([*arguments, "--check-config"], {}).config
        assert (loaded.host, loaded.http_host, loaded.insecure) == ("0.0.0.0", "0.0.0.0", True)
        assert timeout_s >= loaded.drain_timeout_ms / 1_000 + 5
        published = [word for number, word in enumerate(words) if words[number - 1] == "--publish"]
        assert all(each.startswith("127.0.0.1:") for each in published)


def test_images_are_built_from_the_dockerfile_that_is_there() -> None:
    builds = commands_of("docker", "build")
    assert builds
    for words in builds:
        assert words[-1] == "."
        text = (ROOT / words[words.index("--file") + 1]).read_text("utf-8")
        assert f" AS {words[words.index('--target') + 1]}\n" in text


def test_what_is_installed_on_a_machine_is_there_and_is_where_the_unit_looks() -> None:
    installed = {words[-1]: ROOT / words[-2] for words in commands_of("sudo", "install")}
    assert all(path.is_file() for path in installed.values())
    unit = installed["/etc/systemd/system/naught.service"].read_text("utf-8")
    (venv,) = [words[-1] for words in commands_of("sudo", "python3", "-m", "venv")]
    assert f"ExecStart={venv}/bin/naught-server --config /etc/naught/naught.toml\n" in unit
    assert "/etc/naught/naught.toml" in installed


@pytest.mark.peer
def test_the_user_of_the_unit_is_made(tmp_path: Path) -> None:
    need("systemd-sysusers")
    for words in commands_of("sudo", "install"):
        if "sysusers" in words[-1]:
            target = tmp_path / words[-1].lstrip("/")
            target.parent.mkdir(parents=True)
            shutil.copy(ROOT / words[-2], target)
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^naught:", (tmp_path / "etc" / "passwd").read_text(), re.MULTILINE)


def test_the_example_for_a_machine_passes_the_check_of_the_page() -> None:
    (words,) = commands_of("/opt/naught/bin/naught-server")
    arguments = [word.replace("/etc/naught", str(DEPLOY / "systemd")) for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "naught_server", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "the configuration is good\n")


def test_the_page_says_what_a_restart_costs_before_anything_else() -> None:
    first = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1]
    assert first.startswith("What a restart costs\n\n**Every counter and every hold.**")
