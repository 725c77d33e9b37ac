"""What an expression of Prometheus reads: its selectors, and the labels that it groups by.

This is no parser: `promtool` is that. It walks over the tokens of an expression that promtool has accepted, and tells
names of metrics from functions, keywords and labels by what stands beside them.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_AGGREGATORS: Final = {
    *("sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values")
}
_LABEL_LISTS: Final = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_KEYWORDS: Final = {"and", "or", "unless", "bool", "offset", "start", "end", "inf", "nan", "atan2"}
_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | (?P<number>\d[\w.]*)
    | (?P<name>[a-zA-Z_:][\w:]*)
    | (?P<range>\[[^\]]*\])
    | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^=<>(){},@])
    """,
    re.VERBOSE,
)
_MATCHER: Final = re.compile(r"""\s*(\w+)\s*(=~|!~|!=|=)\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')\s*(?:,|$)""")


class Matcher(NamedTuple):
    """One condition of a selector, such as `outcome!="ok"`."""

    label: str
    operator: str
    value: str


class Selector(NamedTuple):
    """A metric that an expression reads, and under which conditions."""

    metric: str
    matchers: tuple[Matcher, ...]


def selectors(expression: str) -> list[Selector]:
    """The selectors of an expression, in their order."""
    return _walk(expression)[0]


def metrics(expression: str) -> set[str]:
    """The names of the metrics that an expression reads."""
    return {found.metric for found in selectors(expression)}


def labels(expression: str) -> set[str]:
    """The labels in the conditions and lists (`by (...)` and its like) of an expression."""
    found, listed = _walk(expression)
    return listed | {matcher.label for selector in found for matcher in selector.matchers}


def _walk(expression: str) -> tuple[list[Selector], set[str]]:
    tokens = _tokens(expression)
    found: list[Selector] = []
    listed: set[str] = set()
    index = 0
    while index < len(tokens):
        kind, text = tokens[index]
        following = tokens[index + 1][1] if index + 1 < len(tokens) else ""
        index += 1
        if kind != "name" or text.lower() in _KEYWORDS:
            continue
        if text in _LABEL_LISTS and following == "(":
            index += 1
            while tokens[index][1] != ")":
                if tokens[index][0] == "name":
                    listed.add(tokens[index][1])
                index += 1
        elif following == "(" or text in _AGGREGATORS:
            continue
        elif following == "{":
            close = tokens.index(("sign", "}"), index)
            found.append(Selector(text, _matchers("".join(part for _, part in tokens[index + 1 : close]))))
            index = close + 1
        else:
            found.append(Selector(text, ()))
    return found, listed


def _tokens(expression: str) -> list[tuple[str, str]]:
    """Kind and text of each token, without blanks."""
    tokens = []
    at = 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        assert found is not None, f"not understood: {expression[at:]!r}"
        at = found.end()
        assert found.lastgroup is not None
        if found.lastgroup != "space":
            tokens.append((found.lastgroup, found[0]))
    return tokens


def _matchers(text: str) -> tuple[Matcher, ...]:
    matchers = []
    at = 0
    while at < len(text):
        found = _MATCHER.match(text, at)
        assert found is not None, f"not understood: {text!r}"
        matchers.append(Matcher(found[1], found[2], found[3][1:-1]))
        at = found.end()
    return tuple(matchers)
