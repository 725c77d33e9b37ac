"""A static checker for Python source: it finds maps in which zeros pile up, and code that misreads such zeros.

A count that comes down to zero is usually meant to be gone. In a plain dict it is not: the key stays, with its memory
and its place in every listing. The rules (`RULES`; docs/lint.md explains each) find the ways in which that happens,
and the mistakes that the remaining zeros cause.

    naught lint PATH…                         prints text or JSON; exit status 0, 1 with findings, 2 for wrong usage
    naught.lint.main(["src"])                 the same from a program
    naught.lint.check_source(text, "m.py")    the findings in one source text

How it works, each module using those before it:

    names      the scopes of a module, and what each name in them refers to
    kinds      the kind of map that an expression makes
    places     the variables, attributes and entries that hold maps, and which of them hold the same map
    uses       everything that the module does with each map
    flow       questions about one expression: is its key one of a few, does a condition before it test the key
    countdown, emptied, misread, gauges      the rules
    arrivals   whether keys keep coming into a map: without a reason to expect that, a finding is not sure
    suppress   `# noqa` comments
    engine     takes one source text through all of these
    config, files, command, flake8_plugin    settings, reading files, the command line, the plugin
    finding    the table of rules, and one finding

The code it reads is never executed or imported, and it uses only the standard library. It checks one module at a
time, and knows only maps that this module makes itself. Where it is not sure, it is meant to report nothing: few
false alarms matter more than many findings. docs/lint.md says how often it is right.
"""

from __future__ import annotations

from naught.lint.command import main
from naught.lint.engine import check_source
from naught.lint.finding import RULES, Finding

__all__ = ["RULES", "Finding", "check_source", "main"]
