"""Keys of which there is reason to expect more: only under such keys is a finding sure.

Each program counts up and down in a map that nothing deletes from. The rest is found with `with_all`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from naught.lint import check_source

COUNTS = """
from collections import Counter
import uuid

class Counts:
    def __init__(self, other):
        self.of = Counter()
        self.other = other
        self.part = other

    def up(self, user, thing, message, jobs, packet, place):
        {before}
        self.of[{key}] += 1

    def down(self, user, thing, message, jobs, packet, place):
        {before}
        self.of[{key}] -= 1
"""
# What runs before, the key, and whether the finding is sure in a module of a package.
KEYS = [
    ("", "user", True),
    ("", "thing.user_id", True),
    ("", "thing.userId", True),
    ("", "thing['session']", True),
    ("", "thing.get('session')", True),
    ("", "thing.domain_name", True),
    ("", "thing.guild.name", True),
    ("", "thing.pool.name", False),
    ("", "str(thing.id)", True),
    ("", "thing.id.lower()", True),
    ("", "f'x-{thing.id}'", True),
    ("", "(thing, user)", True),
    ("x = thing.user", "x", True),
    ("x, y = thing.address", "x", False),
    ("host, port = thing.bound", "host", True),
    ("for job in jobs: pass", "job", True),
    ("x = uuid.uuid4()", "x", True),
    ("x = id(thing)", "x", True),
    ("x = thing.sock.getpeername()", "x", True),
    ("x = self.make_key(user)", "x", True),
    ("x = self.shard_of(user)", "x", False),
    ("x = self.other.get(user)", "x", False),
    ("", "self.other[user]", False),
    ("", "message.place", True),
    ("x = message['place']", "x", True),
    ("x = packet.body.topic", "x", True),
    ("del self.other[place]", "place", True),
    ("self.other.pop(thing.place, None)", "thing.place", True),
    ("", "place", False),
    ("", "thing.place", False),
    ("", "self.part.place", False),
    ("", "thing.job_name", False),
    ("if user == 'root': return", "user", False),
    ("getattr(thing, user)", "user", False),
]


@pytest.mark.parametrize(("before", "key", "sure"), KEYS, ids=[f"{before}: {key}" for before, key, _ in KEYS])
def test_key(before: str, key: str, sure: bool, tmp_path: Path) -> None:
    (tmp_path / "__init__.py").touch()
    source = COUNTS.format(before=before or "pass", key=key)
    path = str(tmp_path / "counts.py")
    (tmp_path / "counts.py").touch()
    assert [found.rule for found in check_source(source, path)] == (["NZ101"] if sure else [])
    (found,) = check_source(source, path, with_all=True)
    assert found.sure == sure


@pytest.mark.parametrize(
    ("key", "sure"),
    [
        ("place", True),
        ("(place, thing)", True),
        ("thing.place", True),
        ("self.part.place", False),
        ("self.part[place]", False),
    ],
)
def test_arguments_are_chosen_by_other_programs_where_there_is_no_package(key: str, sure: bool) -> None:
    source = COUNTS.format(before="pass", key=key)
    assert [found.sure for found in check_source(source, "counts.py", with_all=True)] == [sure]


@pytest.mark.parametrize(
    ("others", "sure"),
    [
        ({}, True),
        ({"__init__.py": ""}, False),
        ({"main.py": "import counts\n"}, False),
        ({"main.py": "if True:\n    from counts import Counts\n"}, False),
        ({"../main.py": "from parts import counts\n"}, False),
        ({"main.py": "print('no import of counts')\n", "notes.txt": "import counts\n"}, True),
    ],
)
def test_whether_other_modules_choose_the_arguments(others: dict[str, str], sure: bool, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    source = COUNTS.format(before="pass", key="place")
    for name, text in {**others, "counts.py": source}.items():
        (folder / name).write_text(text)
    assert [found.sure for found in check_source(source, str(folder / "counts.py"), with_all=True)] == [sure]


def test_an_argument_of_a_private_function_says_nothing() -> None:
    source = COUNTS.format(before="pass", key="place").replace("def ", "def _").replace("def ___", "def __")
    assert [found.sure for found in check_source(source, "counts.py", with_all=True)] == [False]


def test_an_argument_that_the_module_passes_literals_for_is_a_name_of_its_parts() -> None:
    source = COUNTS.format(before="pass", key="place")
    called = (
        source + "\ndef run(counts):\n    counts.up(1, 2, 3, 4, 5, 6)\n    Counts.up(counts, 1, 2, 3, 4, 5, 'x')\n"
    )
    assert check_source(called, "counts.py") == []


WINDOW = """
import time
from collections import defaultdict

class Limits:
    def __init__(self):
        self.times = defaultdict(list)
    def _prune(self, user):
        now = time.time()
        self.times[user] = [each for each in self.times[user] if each > now - 60]
    def allow(self, user):
        self._prune(user)
        if len(self.times[user]) > 9:
            return False
        self.times[user].append(time.time())
        return True
"""


def test_a_window_that_every_caller_fills_again() -> None:
    assert check_source(WINDOW, "limits.py") == []
    (found,) = check_source(WINDOW, "limits.py", with_all=True)
    assert not found.sure


def test_a_window_that_one_caller_only_looks_at() -> None:
    looks = "    def left(self, user):\n        self._prune(user)\n        return 9 - len(self.times[user])\n"
    assert [found.rule for found in check_source(WINDOW + looks, "limits.py")] == ["NZ108"]
