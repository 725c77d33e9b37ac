"""A checker for Python source: where zeros pile up, and where they are misread.

A count that comes down to zero is usually meant to be gone. In a plain dict it is not: the key stays, and
its memory, and its place in every listing. The rules (`RULES`; docs/lint.md explains each) find the ways in
which that happens, and the ways in which code is led astray by it.

    naught lint PATH…                    text or JSON; exit status 0, 1 with findings, 2 for wrong usage
    naught.lint.main(["src"])            the same from a program
    naught.lint.check_source(text, "m.py")      the findings in one source text

How it works, from the bottom: `names` says whose each name is, `kinds` what an expression makes, `places`
where maps live and which places are the same map, `uses` what the module does with each map; `flow` answers
questions about one place (is the key fixed, was it asked for before); `countdown`, `emptied`, `misread` and
`gauges` are the rules. `engine` takes one source through all of it. Nothing is executed or imported of the code it
reads, and only the standard library is used.

It looks at one module at a time and knows only maps that are made in sight. Where it is not sure it says
nothing: few false alarms come before many finds.
"""

from __future__ import annotations

from naught.lint.command import main
from naught.lint.engine import check_source
from naught.lint.finding import RULES, Finding

__all__ = ["RULES", "Finding", "check_source", "main"]
