"""What both sides of a connection must agree on: the limits (`limits.py`) and the encoding (`codec.py`).

Of `naught`, the server imports only these two modules, `naught.errors` and the version.
"""
