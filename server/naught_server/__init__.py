"""The naught server: counters in memory, served over MessagePack-RPC (PROTOCOL.md). `engine.py` shows its parts."""
