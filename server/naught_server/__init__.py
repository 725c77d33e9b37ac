"""The network service: counters in memory behind a socket. `python -m naught_server` or `naught-server` starts it.

Some of its modules run compiled where there was a compiler; see `naught._compiled`.
"""

from pathlib import Path

from naught._compiled import watch

watch("naught_server", Path(__file__).parent)
