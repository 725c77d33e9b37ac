"""Everything naught raises, in one tree, and the codes that stand for it on the wire.

    NaughtError
    |-- CommandError                 the server answered [code, message]; the connection stays usable
    |   |-- InvalidRequest           invalid          also a ValueError
    |   |-- TooLarge                 too_large        also a ValueError
    |   |-- UnknownMethod            unknown_method
    |   |-- CounterOverflow          overflow         also an OverflowError; nothing changed
    |   |-- CounterUnderflow         underflow        also an ArithmeticError; nothing changed
    |   |-- CacheFull                full             nothing was created, nothing thrown away
    |   |-- NotHeld                  not_held
    |   |-- NoSession                no_session
    |   |-- Unauthenticated          unauthenticated  also a PermissionError
    |   |-- Denied                   denied           also a PermissionError
    |   |-- Busy                     busy             not executed; ask again later
    |   |-- ServerTimeout            timeout          also a TimeoutError
    |   |-- ShuttingDown             shutting_down    also a ConnectionError; not executed
    |   `-- Unavailable              unavailable      also a ConnectionError
    |-- CallTimeout                  no answer within the call's deadline; also a TimeoutError
    |-- ConnectionFailed             no connection could be made in time; also a ConnectionError
    |-- OutcomeUnknown               the connection broke after a change was sent and before its reply
    |                                came: it may or may not have happened; also a ConnectionError
    |-- ClientClosed                 the client was closed before the call ended; also a ConnectionError
    `-- ProtocolError                a peer sent what is no MessagePack-RPC; also a ConnectionError

A code belongs to one class and a class to one code: a second claim on a code fails when its class is defined.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "Busy",
    "CacheFull",
    "CallTimeout",
    "ClientClosed",
    "CommandError",
    "ConnectionFailed",
    "CounterOverflow",
    "CounterUnderflow",
    "Denied",
    "InvalidRequest",
    "NaughtError",
    "NoSession",
    "NotHeld",
    "OutcomeUnknown",
    "ProtocolError",
    "ServerTimeout",
    "ShuttingDown",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnknownMethod",
    "error_from_wire",
]


class NaughtError(Exception):
    """The root: `except NaughtError` catches whatever this library raises on purpose."""


class CommandError(NaughtError):
    """The server's own answer that it did not do what was asked.

    `code` is the stable word for programs (one of the codes of PROTOCOL.md); `str(error)` is the sentence for
    people. A code this version does not know arrives as a plain `CommandError` with that code.
    """

    code: str = "unknown"
    _class_of_code: ClassVar[dict[str, type[CommandError]]] = {}

    def __init_subclass__(cls, *, code: str) -> None:
        super().__init_subclass__()
        taken_by = CommandError._class_of_code.setdefault(code, cls)
        if taken_by is not cls:
            raise TypeError(f"the code {code!r} belongs to {taken_by.__name__} already")
        cls.code = code


class InvalidRequest(CommandError, ValueError, code="invalid"):
    """An argument is of the wrong type or outside its range; the message names it and what is allowed."""


class TooLarge(CommandError, ValueError, code="too_large"):
    """A key, batch, message or reply is over its limit."""


class UnknownMethod(CommandError, code="unknown_method"):
    """The server has no such method."""


class CounterOverflow(CommandError, OverflowError, code="overflow"):
    """The value would pass 2^63 - 1. Nothing changed."""


class CounterUnderflow(CommandError, ArithmeticError, code="underflow"):
    """A strict decrement asked for more than there is. Nothing changed."""


class CacheFull(CommandError, code="full"):
    """The cache holds `max_counters` already. Nothing was created and nothing thrown away."""


class NotHeld(CommandError, code="not_held"):
    """The hold is not there, or holds less than was to be released. Nothing changed."""


class NoSession(CommandError, code="no_session"):
    """The method needs a session, or the server no longer knows the one that was named."""


class Unauthenticated(CommandError, PermissionError, code="unauthenticated"):
    """The server wants to know who asks first."""


class Denied(CommandError, PermissionError, code="denied"):
    """This role may not do that."""


class Busy(CommandError, code="busy"):
    """The server did not execute this because too much of this client's work is unfinished."""


class ServerTimeout(CommandError, TimeoutError, code="timeout"):
    """The server gave up on a request of its own accord."""


class ShuttingDown(CommandError, ConnectionError, code="shutting_down"):
    """The server is going away and did not execute this."""


class Unavailable(CommandError, ConnectionError, code="unavailable"):
    """The server cannot serve this now: too many connections, or a fault of its own (its log says which)."""


class CallTimeout(NaughtError, TimeoutError):
    """No answer came within the call's deadline. This says nothing about whether the call took effect."""


class ConnectionFailed(NaughtError, ConnectionError):
    """No connection could be made within the time there was."""


class OutcomeUnknown(NaughtError, ConnectionError):
    """The connection broke after a change was sent and before its reply came.

    It happened once or not at all, and nobody can tell which; it is never sent again by the library.
    """


class ClientClosed(NaughtError, ConnectionError):
    """The client is closed, or was closed before this call ended."""


class ProtocolError(NaughtError, ConnectionError):
    """Bytes that are no MessagePack-RPC, or none within the limits; the connection cannot go on."""


def error_from_wire(code: str, message: str) -> CommandError:
    """The exception for an error reply `[code, message]`. Costs a dictionary look-up; never raises itself."""
    found = CommandError._class_of_code.get(code)
    if found is not None:
        return found(message)
    unknown = CommandError(message)
    unknown.code = code
    return unknown


def is_refusal(error: BaseException) -> bool:
    """Whether a failed attempt to connect is the server's last word (it knows no such cache), not a matter of
    time."""
    return isinstance(error, CommandError) and not isinstance(error, Busy | ConnectionError | TimeoutError)


def refused(error: BaseException) -> NaughtError:
    """The same refusal for one more caller: an error of its own."""
    assert isinstance(error, CommandError)
    return caused(error_from_wire(error.code, str(error)), error)


def caused(error: NaughtError, cause: BaseException | None) -> NaughtError:
    """`error`, with what it comes from."""
    error.__cause__ = cause
    return error
