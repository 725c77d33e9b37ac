"""What both sides of a connection must agree on: the limits (`limits`) and the encoding (`codec`).

The server imports these two modules and `naught.errors` of this package, and nothing else of it.
"""
