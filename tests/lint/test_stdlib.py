"""The linter over the standard library's own files: nothing they hold makes it raise.

A sample, because the whole takes longer than a test may; tools/lint_corpus.py does the whole.
"""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path

from naught.lint import RULES, check_source
from naught.lint.config import Config
from naught.lint.files import python_files

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
SAMPLE = 80
LARGEST = 50_000
"""Bytes; a few generated tables would take a second each and show nothing the others do not."""


def test_no_file_of_the_standard_library_makes_it_raise() -> None:
    found_files = map(Path, python_files([str(STANDARD_LIBRARY)], Config(root=STANDARD_LIBRARY)))
    files = [path for path in found_files if path.stat().st_size <= LARGEST]
    for path in random.Random(0).sample(files, min(SAMPLE, len(files))):
        for found in check_source(path.read_bytes(), str(path)):
            assert found.rule in RULES
            assert 1 <= found.line <= found.end_line
            assert found.column >= 1


def test_damaged_source_is_a_list_of_findings() -> None:
    """Pieces cut out of and into real files: most no longer parse, and some parse into something new."""
    source = (STANDARD_LIBRARY / "collections" / "__init__.py").read_bytes()
    chance = random.Random(0)
    for _ in range(30):
        begin, end = sorted(chance.sample(range(len(source)), 2))
        damaged = source[:begin] + bytes(chance.choices(b"()[]{}:\"'\\\n\t \x00\xff=-", k=3)) + source[end:]
        assert all(found.rule in RULES for found in check_source(damaged, "damaged.py"))
        assert all(found.rule in RULES for found in check_source(source[:begin], "cut.py"))
