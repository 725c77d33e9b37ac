"""Compiles the modules that run hot into the wheel. Hatch calls it, by its name, when it builds one.

`tools/compile.py` says which modules, and does the work. The tag of a compiled wheel names the interpreter and the
platform. Without a C compiler or Python's headers, with `NAUGHT_PURE=1` in the environment, or when compiling fails,
the wheel has the sources alone and serves every interpreter. An editable installation is never compiled here: `make
compile` does that in place.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from types import ModuleType


def _tool(root: str) -> ModuleType:
    """`tools/compile.py`, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("naught_compile", Path(root) / "tools" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


class CompileHook(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
    """See the module."""

    PLUGIN_NAME = "custom"

    _build: tempfile.TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """What has to be installed to build: the compiler of Python, where it can be used."""
        tool = _tool(self.root)
        requirements: list[str] = [] if tool.why_not() else tool.requirements()
        return requirements

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have the wheel include what was made."""
        if version == "editable":
            return
        tool = _tool(self.root)
        why = tool.why_not()
        if why is None:
            self._build = tempfile.TemporaryDirectory(prefix="naught-wheel-")
            target = Path(self._build.name)
            try:
                tool.compile_into(target)
            except tool.CompileError as error:
                why = str(error)
        if why is not None:
            self.app.display_warning(f"naught will run interpreted: {why}")
            return
        for group in tool.GROUPS:
            folder = group.folder(target)
            for file in folder.rglob("*"):
                if file.is_file():
                    build_data["force_include"][str(file)] = f"{group.package}/{file.relative_to(folder)}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is built."""
        if self._build is not None:
            self._build.cleanup()
