"""The exceptions of naught, as one tree, and the error codes of the wire that they stand for.

    NaughtError
    |-- CommandError                 the server replied [code, message]; the connection stays usable
    |   |-- InvalidRequest           invalid          also a ValueError
    |   |-- TooLarge                 too_large        also a ValueError
    |   |-- UnknownMethod            unknown_method
    |   |-- CounterOverflow          overflow         also an OverflowError; nothing changed
    |   |-- CounterUnderflow         underflow        also an Underflow; nothing changed
    |   |-- CacheFull                full             nothing was created and nothing evicted
    |   |-- NotHeld                  not_held
    |   |-- NoSession                no_session
    |   |-- Unauthenticated          unauthenticated  also a PermissionError
    |   |-- Denied                   denied           also a PermissionError
    |   |-- Busy                     busy             not executed; ask again later
    |   |-- ServerTimeout            timeout          also a TimeoutError
    |   |-- ShuttingDown             shutting_down    also a ConnectionError; not executed
    |   `-- Unavailable              unavailable      also a ConnectionError
    |-- CallTimeout                  no reply within the call's timeout; also a TimeoutError
    |   `-- NoPermit                 the server has answered: no permit was free in time
    |-- ConnectionFailed             no connection within the connect timeout; also a ConnectionError
    |-- OutcomeUnknown               the connection broke after a change was sent and before its reply came:
    |                                it may have taken effect or not; also a ConnectionError
    |-- ClientClosed                 the client was closed before the call ended; also a ConnectionError
    |   `-- WrongLoop                the call was not made in the client's event loop; also a RuntimeError
    |-- ProtocolError                the peer sent bytes that are not MessagePack-RPC; also a ConnectionError
    `-- Underflow                    a strict decrement by more than the counter has, of a SafeMap or of a server;
                                     also an ArithmeticError; nothing changed

Each code has one class and each class one code: defining a second class for a code raises TypeError.
"""

from __future__ import annotations

from typing import ClassVar, Final

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
    "NoPermit",
    "NoSession",
    "NotHeld",
    "OutcomeUnknown",
    "ProtocolError",
    "ServerTimeout",
    "ShuttingDown",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Underflow",
    "UnknownMethod",
    "WrongLoop",
    "error_from_wire",
]


class NaughtError(Exception):
    """The root: `except NaughtError` catches every exception that this library defines."""


class Underflow(NaughtError, ArithmeticError):
    """A strict decrement would have taken a counter below zero, and nothing changed.

    `SafeMap` raises it. What a server's counter raises is a `CounterUnderflow`, which is an `Underflow` too.
    """


class CommandError(NaughtError):
    """An error reply of the server: it did not do what was asked.

    `code` is for programs and stable (one of the codes in PROTOCOL.md); `str(error)` is a sentence for people. A code
    that this version does not know becomes a plain `CommandError` with that code. For requests that the client can
    check itself, it raises the same exceptions without asking the server.
    """

    code: str = "unknown"
    _class_of_code: ClassVar[dict[str, type[CommandError]]] = {}

    def __init_subclass__(cls, *, code: str) -> None:
        super().__init_subclass__()
        taken_by = CommandError._class_of_code.setdefault(code, cls)
        if taken_by is not cls:
            raise TypeError(f"the code {code!r} already belongs to {taken_by.__name__}")
        cls.code = code


class InvalidRequest(CommandError, ValueError, code="invalid"):
    """An argument is of the wrong type or outside its range; the message names it and what is allowed."""


class TooLarge(CommandError, ValueError, code="too_large"):
    """A key, batch, message or reply is over its limit."""


class UnknownMethod(CommandError, code="unknown_method"):
    """The server has no such method."""


class CounterOverflow(CommandError, OverflowError, code="overflow"):
    """The value would pass 2^63 - 1. Nothing changed."""


class CounterUnderflow(CommandError, Underflow, code="underflow"):
    """A strict decrement by more than the value. Nothing changed."""


class CacheFull(CommandError, code="full"):
    """The cache has `max_counters` counters already. Nothing was created and nothing evicted."""


class NotHeld(CommandError, code="not_held"):
    """There is no such hold, or it holds less than was to be released. Nothing changed."""


class NoSession(CommandError, code="no_session"):
    """The method needs a session, or the server no longer knows the session that `hello` named."""


class Unauthenticated(CommandError, PermissionError, code="unauthenticated"):
    """The server has users, and the client has not said which one it is, or the user or secret is wrong. Not
    retried."""


class Denied(CommandError, PermissionError, code="denied"):
    """The user may not do this: its role, its caches or its prefixes say otherwise. Not retried."""


class Busy(CommandError, code="busy"):
    """The server did not execute this, because too much work of this client is unfinished."""


class ServerTimeout(CommandError, TimeoutError, code="timeout"):
    """The server's own time limit for this request has expired."""


class ShuttingDown(CommandError, ConnectionError, code="shutting_down"):
    """The server is shutting down and did not execute this."""


class Unavailable(CommandError, ConnectionError, code="unavailable"):
    """The server cannot serve this now: too many connections, or an internal error (see its log)."""


class CallTimeout(NaughtError, TimeoutError):
    """No reply came within the call's timeout. The call may have taken effect or not.

    Where there was no connection the message says so, and `__cause__` is the reason.
    """


class NoPermit(CallTimeout):
    """The server's answer: no permit was free within the time. Nothing is held.

    Where the server did not answer, the error is a `CallTimeout` of no further class.
    """


class ConnectionFailed(NaughtError, ConnectionError):
    """No connection could be made within the connect timeout."""


class OutcomeUnknown(NaughtError, ConnectionError):
    """The connection broke after a change was sent and before its reply came.

    It took effect once or not at all, which the client cannot know. The library never sends it again.
    """


class ClientClosed(NaughtError, ConnectionError):
    """The client is closed, or was closed before this call ended."""


class WrongLoop(ClientClosed, RuntimeError):
    """A client for asyncio was called outside of its event loop. Nothing was sent."""


class ProtocolError(NaughtError, ConnectionError):
    """The peer sent bytes that are not MessagePack-RPC, or exceed its limits. The connection is closed."""


def error_from_wire(code: str, message: str) -> CommandError:
    """The exception for an error reply `[code, message]`, for any code. Costs a dictionary look-up."""
    found = CommandError._class_of_code.get(code)
    if found is not None:
        return found(message)
    unknown = CommandError(message)
    unknown.code = code
    return unknown


def is_refusal(error: BaseException) -> bool:
    """Whether an attempt to connect failed because the server has refused the client, so that retrying is useless.

    For example, the server has no such cache. A server that is busy or shutting down has not refused.
    """
    return isinstance(error, CommandError) and not isinstance(error, Busy | ConnectionError | TimeoutError)


def is_no_access(error: BaseException) -> bool:
    """Whether the server has refused the user of the client: asking again would not help, and look like guessing."""
    return isinstance(error, Unauthenticated | Denied)


def is_outage(error: BaseException) -> bool:
    """Whether the server could not be asked, or has not answered. What the server answers is no outage."""
    return isinstance(error, ConnectionError | TimeoutError) and not isinstance(error, ClientClosed | NoPermit)


def is_misuse(error: BaseException) -> bool:
    """Whether the call itself is at fault, as with a key that is too long: asking the server would not help."""
    return isinstance(error, InvalidRequest | TooLarge | WrongLoop)


def copy_of_refusal(error: BaseException) -> NaughtError:
    """A copy of a refusal (see `is_refusal`) for one more caller, with the original as its `__cause__`."""
    assert isinstance(error, CommandError)
    return with_cause(error_from_wire(error.code, str(error)), error)


UNANSWERED: Final = "nothing was answered in time"
"""Why there is no connection where something accepts it and is silent."""


def reason_of(error: BaseException) -> str:
    """The error in words. Some of the standard library have none."""
    if str(error):
        return str(error)
    if isinstance(error, TimeoutError):
        return UNANSWERED
    if isinstance(error, ConnectionResetError | ConnectionAbortedError):
        return "the server closed the connection"
    return type(error).__name__


def with_subject(error: BaseException, subject: str) -> BaseException:
    """`error`, whose message begins with what was asked: the method and its counters."""
    if isinstance(error, NaughtError) and error.args:
        error.args = (f"{subject}: {error.args[0]}", *error.args[1:])
    return error


def with_cause(error: NaughtError, cause: BaseException | None) -> NaughtError:
    """`error`, with its `__cause__` set."""
    error.__cause__ = cause
    return error
