"""The names that a cluster and its users see: the resource, its annotations, the types of its conditions."""

from __future__ import annotations

from typing import Final

GROUP: Final = "naught.dev"
VERSION: Final = "v1alpha1"
PLURAL: Final = "countercaches"
KIND: Final = "CounterCache"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# Annotations that users set on a resource.
ALLOW_LOSS: Final = f"{GROUP}/allow-loss"
"""The generation of the resource that may restart the server though counters are lost. A number, and not `true`, so
that it cannot stay behind and allow the next loss too."""

# Annotations of the operator: of a resource, and of the template of the pod and so of the pod.
RAISED_UNTIL: Final = f"{GROUP}/raised-until"
"""Until when alerts have the budget raised."""
TEMPLATE: Final = f"{GROUP}/template"
"""A digest of the pod's template, which tells whether a pod was made from the template as it is now."""
STARTED_WITH: Final = f"{GROUP}/started-with"
"""The settings that the pod was started with, as JSON. What is live may have changed since."""
OBJECT: Final = f"{GROUP}/object"
"""A digest of an object as the operator wrote it."""

OWNER_LABEL: Final = f"{GROUP}/counter-cache"
"""The label with the resource's name that each of its objects has."""

# Types of conditions.
READY: Final = "Ready"
LIVE: Final = "LiveSettingsApplied"
ROLLED: Final = "RolledOut"
