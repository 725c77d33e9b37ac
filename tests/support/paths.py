"""Where things are in the checkout, for tests that read files of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
SUPPORT: Final = ROOT / "tests" / "support"
CLIENT: Final = ROOT / "client"
