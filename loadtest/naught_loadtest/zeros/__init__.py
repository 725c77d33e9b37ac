"""`naught-loadtest zeros`: what zeros that stay in a map cost in Python, beside what is claimed of them elsewhere.

A dict whose zeros stay, a dict whose keys are deleted at zero, naught.SafeMap, and the server's engine in process
(memory://) do the same work on 10 000 to 10 000 000 keys, each in a process of its own, in interleaved rounds.
Measured are rates, allocations, memory, the collector's pauses, and the time to go over what lives. Beside the
figures stand the claims of the article this product grew from, each with a verdict.
"""

from naught_loadtest.zeros.command import configure, execute

__all__ = ["configure", "execute"]
