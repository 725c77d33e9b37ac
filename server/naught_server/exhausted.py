"""What happens when there is no memory: the process ends.

An allocation can fail at any place of a command, after it has changed one counter and before it has changed the next.
Undoing would need memory too. So nothing is undone and nothing is answered: replies of that turn were not sent, the
process ends, and its clients learn that the outcome is unknown, as after any other end of it. A supervisor starts it
again. Redis does the same.

The limits of the configuration add up to what a server needs at most; `--print-config` says how much that is.
"""

from __future__ import annotations

import logging
import os
from typing import Final, NoReturn

from naught_server.logs import LOGGER_NAME, flush, lines_dropped

EXIT_STATUS: Final = 71
"""EX_OSERR of sysexits.h: the system could not give what was asked for."""

_LINE: Final = b"naught-server: out of memory: the process ends\n"
"""Made beforehand: there may be no memory for another."""


def end_process(fault: BaseException) -> NoReturn:
    """End it at once, whatever is under way. Says so in the log, or if there is no memory for that, in a line."""
    try:
        dropped = lines_dropped()
        logging.getLogger(LOGGER_NAME).critical("out of memory: the process ends", exc_info=fault)
        if not flush() or lines_dropped() > dropped:
            os.write(2, _LINE)
    except BaseException:
        try:  # noqa: SIM105 - contextlib.suppress needs memory
            os.write(2, _LINE)
        except OSError:
            pass
    finally:
        os._exit(EXIT_STATUS)
