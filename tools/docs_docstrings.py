"""An extension of Griffe: makes the plain text of the docstrings good Markdown for the reference.

Three things need it. Indented code has no language. Lines that explain one parameter each would run together in one
paragraph. And the methods of `naught.blocking` are made when the module is imported, so only an import shows their
signatures.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from typing import Any

import griffe

# Code that is indented, between blank lines or at an end of the text.
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n|\n(?= {4}))* {4}.*(?=\n\n|\n?\Z)")
# A line that explains a parameter: "`timeout`: seconds ..." or "policy: "eager" ...".
PARAMETER = re.compile(r"^(?:`(?P<quoted>\w+)`|(?P<bare>[a-z_]+)): (?=\S)", re.MULTILINE)
MADE_BY = re.compile(r"(?:waiting|making)\(")


class PlainDocstrings(griffe.Extension):
    """Rewrites every docstring of the package, and looks up what is made at import."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Once all modules are read."""
        _inspect_made(pkg, pkg)
        _rewrite(pkg)


def _rewrite(of: griffe.Object) -> None:
    if of.docstring:
        of.docstring.value = markdown_of(of.docstring.value)
    for member in of.members.values():
        if isinstance(member, griffe.Object):
            _rewrite(member)


def markdown_of(text: str) -> str:
    """The docstring as Markdown."""
    return INDENTED.sub(_fenced, "\n\n".join(map(_listed, text.split("\n\n"))))


def _fenced(found: re.Match[str]) -> str:
    code = textwrap.dedent(found[0]).rstrip()
    try:
        compile(code, "docstring", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        language = "python"
    except SyntaxError:
        language = "text"
    return f"```{language}\n{code}\n```"


def _listed(paragraph: str) -> str:
    """A paragraph of which several lines explain a parameter each becomes a list of them."""
    starts = [found.start() for found in PARAMETER.finditer(paragraph)]
    if len(starts) < 2:
        return paragraph
    items = [paragraph[start:end].rstrip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    lines = [
        PARAMETER.sub(lambda found: f"- `{found['quoted'] or found['bare']}`: ", item, count=1) for item in items
    ]
    return "\n\n".join(filter(None, [paragraph[: starts[0]].strip(), "\n".join(lines)]))


def _inspect_made(of: griffe.Object, package: griffe.Module) -> None:
    """Put functions in the place of attributes such as `incr = waiting(Commands.incr)`.

    Parameters and docstring are those of `Commands.incr`; the result is what the call returns and not what would be
    awaited, which only the imported function tells."""
    for name, member in list(of.members.items()):
        if isinstance(member, griffe.Attribute) and of.is_class and MADE_BY.match(str(member.value)):
            called = getattr(getattr(importlib.import_module(of.module.path), of.name), name)
            source = inspect.unwrap(called)
            made = package[f"{source.__module__}.{source.__qualname__}".removeprefix(f"{package.path}.")]
            assert isinstance(made, griffe.Function)
            returns = str(inspect.signature(called).return_annotation)
            function = griffe.Function(name, lineno=member.lineno, parameters=made.parameters, returns=returns)
            function.docstring = griffe.Docstring(inspect.getdoc(called) or "", parent=function)
            of.set_member(name, function)
        elif isinstance(member, griffe.Module | griffe.Class):
            _inspect_made(member, package)
