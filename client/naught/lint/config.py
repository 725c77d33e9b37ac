"""The configuration of the checker: `[tool.naught.lint]` in pyproject.toml, changed by the command line.

    [tool.naught.lint]
    select = ["NZ1"]                # only these rules; a prefix names all rules that begin with it
    ignore = ["NZ107"]              # but not these
    exclude = ["vendored", "gen/*.py"]    # not these files, besides the folders that are always left out
    locals = true                   # also maps that end with the call that makes them
    all = true                      # also findings for which the source gives less reason
    [tool.naught.lint.per-file-ignores]
    "tests/*" = ["NZ105"]

Patterns are those of `fnmatch`. They are matched against the path relative to the folder of the pyproject.toml, and
against each part of it, so `vendored` matches every folder of that name. An unknown setting or rule is an error: a
misspelt rule that silently selects nothing would look like a clean project.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any

from naught.lint.finding import ON_REQUEST, RULES, Finding

ALWAYS_EXCLUDED = (
    *(".*", "__pycache__", "node_modules", "site-packages", "venv", "env"),
    *("build", "dist", "*.egg-info", "_build"),
)
"""Folders whose code is generated or of other projects. One that is given on the command line is checked."""


class ConfigError(ValueError):
    """A wrong setting; the message says where it is and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Config:
    """Which rules to apply, and to which files."""

    root: Path = field(default_factory=Path.cwd)
    """The folder that patterns are relative to."""
    select: tuple[str, ...] = tuple(rule for rule in RULES if rule not in ON_REQUEST)
    """Prefixes of the rules to report."""
    ignore: tuple[str, ...] = ()
    """Prefixes of the rules not to report; they win over `select`."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders to leave out."""
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Patterns of files, each with prefixes of the rules not to report there."""
    with_locals: bool = False
    """Whether to check maps that end with the call that makes them, like those that last."""
    with_all: bool = False
    """Whether to report the findings that are not sure as well."""

    def is_excluded(self, path: str) -> bool:
        """Whether a file or folder below a given path is left out."""
        return self._matches(path, self.exclude)

    def wanted(self, findings: Iterable[Finding]) -> list[Finding]:
        """Return the findings whose rules are to be reported in their files."""
        return [
            found
            for found in findings
            if found.rule.startswith(self.select)
            and not found.rule.startswith(self.ignore)
            and not any(
                found.rule.startswith(rules) and self._matches(found.path, (pattern,))
                for pattern, rules in self.per_file_ignores
            )
        ]

    def _matches(self, path: str, patterns: tuple[str, ...]) -> bool:
        if not patterns:
            return False
        relative = PurePath(os.path.relpath(path, self.root))
        return any(
            fnmatch(name, pattern.rstrip("/"))
            for pattern in patterns
            for name in (relative.as_posix(), *relative.parts)
        )

    def with_arguments(self, select: str | None, ignore: str | None, exclude: str | None) -> Config:
        """Return this configuration with the command line's `select`, and with its `ignore` and `exclude` added."""
        changed = self
        if select is not None:
            changed = replace(changed, select=rules(select.split(","), "--select"))
        if ignore is not None:
            changed = replace(changed, ignore=changed.ignore + rules(ignore.split(","), "--ignore"))
        if exclude is not None:
            changed = replace(changed, exclude=changed.exclude + tuple(exclude.split(",")))
        return changed


def rules(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Check prefixes of rules, and return them in capitals; ConfigError for a prefix that no rule has."""
    wanted = tuple(name.strip().upper() for name in names)
    for name in wanted:
        if not name or not any(rule.startswith(name) for rule in RULES):
            raise ConfigError(f"{where}: there is no rule {name!r}; the rules are {', '.join(RULES)}")
    return wanted


def find(paths: Iterable[str]) -> Config:
    """Return the configuration for these paths.

    It is in the nearest pyproject.toml that has a table for the checker, upwards from the paths' common folder.
    """
    absolute = [os.path.abspath(path) for path in paths if path != "-"]
    try:
        shared = Path(os.path.commonpath(absolute)) if absolute else Path.cwd()
    except ValueError:  # paths on different drives share no folder
        return Config()
    for folder in [shared, *shared.parents] if shared.is_dir() else shared.parents:
        file = folder / "pyproject.toml"
        if file.is_file():
            found = load(file)
            if found is not None:
                return found
    return Config()


def load(file: Path) -> Config | None:
    """Return the configuration in one file, None if it has no table for the checker; ConfigError if wrong."""
    try:
        with file.open("rb") as stream:
            whole = tomllib.load(stream)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from None
    table: Any = whole
    for name in ("tool", "naught", "lint"):
        table = table.get(name) if isinstance(table, dict) else None
        if table is None:
            return None
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: tool.naught.lint is not a table")
    return _from_table(table, file)


def _from_table(table: dict[str, Any], file: Path) -> Config:
    unknown = set(table) - {"select", "ignore", "exclude", "per-file-ignores", "locals", "all"}
    if unknown:
        raise ConfigError(f"{file}: tool.naught.lint has no setting {sorted(unknown)[0]!r}")
    per_file = table.get("per-file-ignores", {})
    if not isinstance(per_file, dict):
        raise ConfigError(f"{file}: tool.naught.lint.per-file-ignores is not a table of patterns and rules")
    switches = {name: table.get(name, False) for name in ("locals", "all")}
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ConfigError(f"{file}: tool.naught.lint: {name} is not true or false")
    config = Config(root=file.parent.resolve(), with_locals=switches["locals"], with_all=switches["all"])
    if "select" in table:
        config = replace(config, select=rules(_texts(table["select"], "select", file), f"{file}: select"))
    return replace(
        config,
        ignore=rules(_texts(table.get("ignore", []), "ignore", file), f"{file}: ignore"),
        exclude=tuple(_texts(table.get("exclude", []), "exclude", file)),
        per_file_ignores=tuple(
            (pattern, rules(_texts(names, "per-file-ignores", file), f"{file}: per-file-ignores"))
            for pattern, names in per_file.items()
        ),
    )


def _texts(value: object, name: str, file: Path) -> list[str]:
    """Check a setting that is a list of strings."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{file}: tool.naught.lint: {name} is not a list of strings")
    return value
