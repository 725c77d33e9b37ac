"""The client without its input and output: what calls mean, and what a session sends, keeps and answers. Sans-IO.

No module here imports asyncio, socket, threading or a clock: bytes and the time go in, bytes and results come out.
`naught.aio` and `naught.blocking` put a connection under it.
"""
