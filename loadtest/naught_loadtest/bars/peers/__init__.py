"""Programs that call one client library as often as it allows, for the bars that compare libraries.

Each is run as a process of its own: `python -m naught_loadtest.bars.peers.NAME URL CALLERS SECONDS`. `callers` has
what they share. The other libraries are no dependencies of naught, so no module of naught imports these programs,
and a program whose library is missing ends with `NOT_INSTALLED_STATUS`.
"""

# The exit status of a program whose client library is not installed.
NOT_INSTALLED_STATUS = 77


def key_of(number: int) -> str:
    """The counter of one caller."""
    return f"calls:{number:010d}"
