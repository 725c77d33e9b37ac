"""The client for asyncio: `connect` and `Client`, over one connection that is replaced when it breaks."""
