"""The manifests that the operator makes its objects from: `deploy/kustomize/base`, rendered from the Helm chart.

They say everything that a resource does not: probes, security, grace period, which pods may connect. So a server that
the operator runs is the one that the chart runs. The wheel has a copy of them in the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

KINDS: Final = ("ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "StatefulSet")
"""The kinds that are made for each resource. The ServiceAccount of the manifests is left out: the server's pod gets
no token anyway, and so the operator needs no right to make service accounts."""

CONFIG_FILE: Final = "naught.toml"
"""The key of the ConfigMap."""

_PACKAGED = Path(__file__).with_name("base")
_IN_REPOSITORY = Path(__file__).parents[2] / "kustomize" / "base"


class BaseError(Exception):
    """The manifests are not there, or not as they are expected. One sentence."""


@dataclass(frozen=True)
class Base:
    """The manifests of one server."""

    name: str
    """The name of the StatefulSet, from which other names are made."""
    objects: tuple[Mapping[str, Any], ...]

    def one(self, kind: str) -> Mapping[str, Any]:
        """The only object of a kind."""
        (found,) = (each for each in self.objects if each["kind"] == kind)
        return found


def load(folder: Path | None = None) -> Base:
    """Read the manifests: from this folder, or those the operator came with. Raises BaseError."""
    folder = folder or (_PACKAGED if _PACKAGED.is_dir() else _IN_REPOSITORY)
    objects: list[Mapping[str, Any]] = []
    try:
        for path in sorted(folder.glob("*.yaml")):
            objects += [
                each for each in yaml.safe_load_all(path.read_text("utf-8")) if each and each["kind"] in KINDS
            ]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise BaseError(f"{folder}: cannot read the manifests: {error}") from None
    counts = {kind: sum(each["kind"] == kind for each in objects) for kind in KINDS}
    if not all(counts[kind] == 1 for kind in KINDS if kind != "Service") or not counts["Service"]:
        raise BaseError(f"{folder}: there must be one manifest of each kind, and Services: {counts}")
    return Base(next(each["metadata"]["name"] for each in objects if each["kind"] == "StatefulSet"), tuple(objects))
