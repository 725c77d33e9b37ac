"""The naught server."""
