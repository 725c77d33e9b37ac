"""The client for asyncio: `connect` and `Client` (`client.py`), over one connection that is replaced when it breaks
(`connection.py`)."""
