"""The naught server: counters in memory, served over MessagePack-RPC (PROTOCOL.md). `engine.py` shows its parts.

Some of its modules run compiled where there was a compiler; see `naught._compiled`.
"""

from pathlib import Path

from naught._compiled import watch

watch("naught_server", Path(__file__).parent)
