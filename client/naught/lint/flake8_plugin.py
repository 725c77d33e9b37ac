"""The checker as a flake8 plugin. flake8 finds the class by its entry point, and gives it the tree and the lines.

flake8 is not imported: a plugin is a class with a name, a version and `run`. flake8 itself selects the rules, applies
`# noqa`, and reports files that do not parse.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, ClassVar

from naught._version import __version__
from naught.lint.engine import check_tree
from naught.lint.finding import ON_REQUEST, UNREADABLE


class Plugin:
    """The check of one file. flake8 passes the arguments of the constructor by name."""

    name: ClassVar[str] = "naught-lint"
    version: ClassVar[str] = __version__

    @staticmethod
    def add_options(options: Any) -> None:
        """Add the rules that apply only on request to those that flake8 ignores by default."""
        options.extend_default_ignore(sorted(ON_REQUEST))

    def __init__(self, tree: ast.Module, lines: list[str], filename: str = "") -> None:
        # The module as flake8 parsed it.
        self._tree = tree
        # Its source text.
        self._text = "".join(lines)
        # The path in the findings, which flake8 does not ask for.
        self._filename = filename

    def run(self) -> Iterator[tuple[int, int, str, type]]:
        """Return the line (from 1), the column (from 0), the text and the plugin's class for every finding."""
        try:
            for found in check_tree(self._tree, self._text, self._filename):
                yield found.line, found.column - 1, f"{found.rule} {found.message}", type(self)
        except RecursionError:
            yield 1, 0, f"{UNREADABLE} nested too deeply to be read", type(self)
