"""The naught server: counters in memory, served over MessagePack-RPC (PROTOCOL.md). `engine.py` shows its parts.

Some of its modules run compiled where there was a compiler; see `naught._compiled`.
"""

from naught._compiled import watch

watch(__name__, __path__[0])
