"""The entry point of the command `naught`, and of `python -m naught`. The commands are in `naught/cli`."""

from __future__ import annotations

import sys

from naught.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
