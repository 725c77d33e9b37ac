"""Put the findings of the checker before two judges, and count what they say.

    python tools/lint_judges.py ask --findings findings.json --root FOLDER --into QUESTIONS
    python tools/lint_judges.py count --asked QUESTIONS/asked.json A.json B.json

`ask` writes a file for each finding: what the checker claims, the source around it, every line of the file that has
the name of the map, and where the whole file is. It says nothing of the rules. README.md beside the files is the
question that a judge answers. Left out are findings in copies of other packages' files, files that Python cannot
parse, and what `naught lint` reports only with `--all`.

A judge writes a JSON object: the number of the finding -> {"verdict": "true" or "false", "reason": "…"}. The judges
do not see each other's file. `count` refuses files that are not whole, prints the figures for the table in
docs/appendix/lint-precision.md, and the verdicts in the form of docs/lint-verdicts.json. A finding is true where both
judges say so.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

AROUND = 40
"""Lines of the source shown before and after a finding: a screen each way. Judges read more where they need it."""

QUESTION = """# The question

Each file NNN.txt has a claim about one place in a program, with the source around it. Read the code there, and as
much of the whole file and of its package as you need. Then say whether the claim is true:

- **true**: zeros do pile up there (entries of the map that are 0, None or empty stay, under keys that nothing
  deletes), or are misread, as the claim says, whether or not it does harm.
- **false**: what the source does not show; and an entry under one of a few keys that the program itself names
  (constants, names of its own parts, values of its configuration, its host).

Judge each for itself. Read neither the other judge's file nor anything about how the claims were found.

Write one JSON object to the file you were given, with every number once:
{"001": {"verdict": "true", "reason": "one sentence"}, ...}
"""


def ask(findings: Path, root: Path, into: Path) -> int:
    """Write the questions. Returns how many there are."""
    into.mkdir(parents=True, exist_ok=True)
    asked: list[dict[str, Any]] = []
    seen: set[tuple[str, str, str]] = set()
    for found in json.loads(findings.read_text())["findings"]:
        path = Path(found["path"])
        if found["rule"] == "NZ100" and "does not parse" in found["message"]:
            continue
        if not found["sure"]:
            continue
        lines = path.read_text("utf-8", "replace").split("\n")
        line = int(found["line"])
        copy = (found["rule"], path.name, lines[line - 1].strip())
        if copy in seen:
            continue
        seen.add(copy)
        number = f"{len(asked) + 1:03}"
        (into / f"{number}.txt").write_text(question(found, path, lines))
        package, _, file = path.relative_to(root).as_posix().partition("/")
        place = {name: found[name] for name in ("line", "column", "rule", "message")}
        asked.append({"number": number, "package": package, "file": file, **place})
    (into / "asked.json").write_text(json.dumps(asked, indent=1) + "\n")
    (into / "README.md").write_text(QUESTION)
    return len(asked)


def question(found: dict[str, Any], path: Path, lines: list[str]) -> str:
    """Return the text of one question."""
    line = int(found["line"])
    first, last = max(line - AROUND, 1), min(line + AROUND, len(lines))
    shown = [
        f"{'>>' if number == line else '  '} {number:5} {lines[number - 1]}" for number in range(first, last + 1)
    ]
    named = re.search(r"(?:of|in|reading|setdefault leaves a zero in) (?:self\.)?(\w+)", found["message"])
    name = named.group(1) if named else ""
    mentions = [
        f"   {number:5} {text}" for number, text in enumerate(lines, 1) if name and re.search(rf"\b{name}\b", text)
    ]
    return "\n".join(
        [
            f"claim: {found['message']}",
            f"place: {path}, line {line}",
            "",
            *shown,
            "",
            f"every line of the file that has `{name}`:",
            *mentions,
            "",
        ]
    )


def count(asked: Path, judges: list[Path]) -> list[dict[str, Any]]:
    """Return the verdicts on every finding; SystemExit where a judge has not given one."""
    verdicts: list[dict[str, Any]] = []
    given = [json.loads(path.read_text()) for path in judges]
    findings = json.loads(asked.read_text())
    for path, said in zip(judges, given, strict=True):
        if set(said) != {each["number"] for each in findings}:
            raise SystemExit(f"{path} does not have a verdict on each of the {len(findings)} findings")
    for each in findings:
        of_each = [said[each["number"]]["verdict"] for said in given]
        if not set(of_each) <= {"true", "false"}:
            raise SystemExit(f"a verdict on {each['number']} is neither true nor false: {of_each}")
        reasons = [said[each["number"]]["reason"] for said in given]
        both = "true" if of_each == ["true", "true"] else "false"
        reason = next((text for one, text in zip(of_each, reasons, strict=True) if one == both), reasons[0])
        place = {name: each[name] for name in ("package", "file", "line", "column", "rule")}
        verdicts.append({**place, "judges": of_each, "verdict": both, "reason": reason})
    return verdicts


def figures(verdicts: list[dict[str, Any]]) -> list[str]:
    """Return the rows of the table: each judge, both, and each rule."""
    rows = []

    def row(name: str, right: int, of: int) -> None:
        rows.append(f"| {name} | {of} | {right} | {round(100 * right / of)} % |")

    for number, name in enumerate(("one judge", "the other")):
        row(name, sum(each["judges"][number] == "true" for each in verdicts), len(verdicts))
    true = Counter(each["rule"] for each in verdicts if each["verdict"] == "true")
    row("where both agree", sum(true.values()), len(verdicts))
    for rule, of in sorted(Counter(each["rule"] for each in verdicts).items()):
        row(rule, true[rule], of)
    return rows


def main() -> int:
    """Ask or count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("ask")
    asking.add_argument("--findings", type=Path, required=True, help="the JSON of `naught lint --output json`")
    asking.add_argument("--root", type=Path, required=True, help="the folder with a folder for each package")
    asking.add_argument("--into", type=Path, required=True)
    counting = commands.add_parser("count")
    counting.add_argument("--asked", type=Path, required=True)
    counting.add_argument("judges", type=Path, nargs=2)
    arguments = parser.parse_args()
    if arguments.command == "ask":
        print(ask(arguments.findings, arguments.root, arguments.into), "questions")
        return 0
    verdicts = count(arguments.asked, arguments.judges)
    print("\n".join(figures(verdicts)), file=sys.stderr)
    print(json.dumps(verdicts, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
