"""The checker as a flake8 plugin: flake8 finds it by its entry point and hands it the tree and the lines.

flake8 itself is not imported; what it needs of a plugin is a class with a name, a version and `run`.
Selecting rules and `# noqa` are flake8's own there, and so is reporting a file that does not parse.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, ClassVar

from naught._version import __version__
from naught.lint.engine import check_tree
from naught.lint.finding import ON_REQUEST, UNREADABLE


class Plugin:
    """One file's check. flake8 fills the parameters of the constructor by their names."""

    name: ClassVar[str] = "naught-lint"
    version: ClassVar[str] = __version__

    @staticmethod
    def add_options(options: Any) -> None:
        """Told to flake8 before it reads its configuration: what it leaves out unless it is asked for."""
        options.extend_default_ignore(sorted(ON_REQUEST))

    def __init__(self, tree: ast.Module, lines: list[str], filename: str = "") -> None:
        # The module as flake8 parsed it, its text, and the name that findings would carry.
        self._tree = tree
        self._text = "".join(lines)
        self._filename = filename

    def run(self) -> Iterator[tuple[int, int, str, type]]:
        """Line (from 1), column (from 0), text and class of every finding."""
        try:
            for found in check_tree(self._tree, self._text, self._filename):
                yield found.line, found.column - 1, f"{found.rule} {found.message}", type(self)
        except RecursionError:
            yield 1, 0, f"{UNREADABLE} nested too deeply to be read", type(self)
