"""`python -m naught.lint PATH…`."""

from __future__ import annotations

import sys

from naught.lint.command import main

if __name__ == "__main__":
    sys.exit(main())
