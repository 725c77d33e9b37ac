"""A naught server, asked and changed through its client. An adapter.

The operator connects to the address of the pod and not to the service: the server that it asks must be the one in the
pod that it may delete.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

import naught
from naught.errors import (
    CommandError,
    Denied,
    NaughtError,
    ServerTimeout,
    ShuttingDown,
    Unauthenticated,
    Unavailable,
)
from naught_operator.access import Login
from naught_operator.errors import Refused, Unreachable

CALL_S_MAX: Final = 2.0
"""A call takes less than a millisecond. A server that needs longer has other cares, and is asked again later."""


NAME: Final = "naught-operator"
"""What the server's log and `sessions` call the operator."""


class Server:
    """One connection to a server. Its methods raise Unreachable and Refused."""

    def __init__(self, client: naught.Client) -> None:
        self._client: Final = client

    async def config(self) -> Mapping[str, Any]:
        """The settings that can be changed while it runs, with their values."""
        with _translated():
            found: Mapping[str, Any] = await self._client.config_get()
        return found

    async def set(self, name: str, value: Any) -> None:
        """Change one of them."""
        with _translated():
            await self._client.config_set(name, value)

    async def info(self) -> Mapping[str, Any]:
        """What it says about itself."""
        with _translated():
            found: Mapping[str, Any] = await self._client.info()
        return found


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Tell a server that does not answer from one that answers with an error."""
    try:
        yield
    except (ServerTimeout, ShuttingDown, Unavailable) as error:  # answers, which say that there is none now
        raise Unreachable(str(error)) from None
    except CommandError as error:
        raise Refused(str(error)) from None
    except (NaughtError, OSError) as error:
        raise Unreachable(str(error) or type(error).__name__) from None


@contextlib.asynccontextmanager
async def connected(address: str, port: int, login: Login | None = None) -> AsyncIterator[Server]:
    """A connection to a server, logged in where it has users. Raises Unreachable and Refused."""
    host = f"[{address}]" if ":" in address else address
    try:
        # Nothing is held, so nothing has to outlive a broken connection.
        client = await naught.connect(
            f"naught://{host}:{port}",
            timeout=CALL_S_MAX,
            connect_timeout=CALL_S_MAX,
            session=False,
            name=NAME,
            # None, and not what the environment of the operator says.
            user=None if login is None else login.user,
            secret=None if login is None else login.secret,
        )
    except (Unauthenticated, Denied) as error:
        raise Refused(f"{host}:{port}: {error}") from None
    except (NaughtError, OSError) as error:
        raise Unreachable(f"{host}:{port}: {str(error) or type(error).__name__}") from None
    try:
        yield Server(client)
    finally:
        with contextlib.suppress(NaughtError, OSError):
            await client.close()
