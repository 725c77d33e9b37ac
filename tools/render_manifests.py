"""Writes what `deploy/` has twice: `make manifests`. With `--check` it only says what it would change.

    deploy/helm/naught/files/naught.rules.yml   a copy of deploy/prometheus/naught.rules.yml: helm reads no file
                                                outside of its chart, and would report a link at each use
    deploy/kustomize/base/                      what `helm template` prints of the chart with its own values, a file
                                                for each template
    deploy/kustomize/components/monitoring/     the same for the Prometheus Operator, which not every cluster has

Of what helm prints, only the labels `helm.sh/chart` and `app.kubernetes.io/managed-by: Helm` are left out: they would
not be true of what kustomize applies. The files `kustomization.yaml` are written by hand.

Exit status 1 when `--check` finds a difference, or a program is missing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))
import kubernetes_tools

ROOT: Final = Path(__file__).resolve().parents[1]
CHART: Final = ROOT / "deploy" / "helm" / "naught"
BASE: Final = ROOT / "deploy" / "kustomize" / "base"
MONITORING: Final = ROOT / "deploy" / "kustomize" / "components" / "monitoring"
RULES: Final = ROOT / "deploy" / "prometheus" / "naught.rules.yml"
RULES_COPY: Final = CHART / "files" / "naught.rules.yml"

RELEASE: Final = "naught"
VALUES: Final = ("monitoring.serviceMonitor.enabled=true", "monitoring.prometheusRule.enabled=true")
OF_OPERATOR: Final = frozenset({"servicemonitor.yaml", "prometheusrule.yaml"})
"""The templates that need the Prometheus Operator."""
HEAD: Final = "# Rendered from deploy/helm/naught by `make manifests`. Change it there.\n"

_DOCUMENT: Final = re.compile(r"^---\n# Source: naught/templates/(\S+)\n", re.MULTILINE)
_LABEL_OF_HELM: Final = re.compile(r"^ *(?:helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)
_BLANKS_AT_END: Final = re.compile(r"[ \t]+$", re.MULTILINE)


def helm_template(*values: str) -> str:
    """What helm prints of the chart. Raises ToolsError."""
    helm = kubernetes_tools.folder() / "helm"
    if not helm.is_file():
        raise kubernetes_tools.ToolsError("helm is missing: python tools/kubernetes_tools.py brings it")
    settings = [argument for value in values for argument in ("--set", value)]
    done = subprocess.run(
        [helm, "template", RELEASE, CHART, *settings], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise kubernetes_tools.ToolsError(done.stderr.strip())
    return done.stdout


def base_of(printed: str) -> dict[Path, str]:
    """The files of the base and of its component, from what helm prints."""
    _, *pieces = _DOCUMENT.split(printed)
    files = {}
    for name, text in zip(pieces[::2], pieces[1::2], strict=True):
        body = _BLANKS_AT_END.sub("", _LABEL_OF_HELM.sub("", text)).strip()
        files[(MONITORING if name in OF_OPERATOR else BASE) / name] = f"{HEAD}{body}\n"
    return files


def differences(files: dict[Path, str]) -> list[str]:
    """What is not on the disk as it should be, one line each."""
    found = [
        f"{path.relative_to(ROOT)} is {'old' if path.exists() else 'missing'}"
        for path, text in files.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    there = {path for place in (BASE, MONITORING) for path in place.glob("*.yaml")}
    extra = {path for path in there if path.name != "kustomization.yaml"} - set(files)
    return found + [f"{path.relative_to(ROOT)} comes from no template" for path in sorted(extra)]


def main() -> int:
    """Write them, or compare."""
    parser = argparse.ArgumentParser(description="Write the kustomize base and the chart's copy of the rules.")
    parser.add_argument("--check", action="store_true", help="write nothing; say what would change")
    check = parser.parse_args().check
    rules = {RULES_COPY: RULES.read_text("utf-8")}
    try:
        if not check:
            RULES_COPY.write_text(rules[RULES_COPY], "utf-8")  # first, as helm reads it
        files = {**rules, **base_of(helm_template(*VALUES))}
    except kubernetes_tools.ToolsError as error:
        print(f"render_manifests.py: {error}", file=sys.stderr)
        return 1
    if not check:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    wrong = differences(files)
    for line in wrong:
        print(f"{line}: run `make manifests`" if check else line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
