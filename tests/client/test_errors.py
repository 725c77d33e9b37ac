"""`naught.errors`: codes, and what a caller can tell from an error."""

from __future__ import annotations

import pytest

from naught import errors
from naught.errors import CommandError, NaughtError


def test_a_code_belongs_to_one_class() -> None:
    with pytest.raises(TypeError, match="the code 'busy' already belongs to Busy"):

        class Second(CommandError, code="busy"):
            """Has the code of another one."""

    assert type(errors.error_from_wire("busy", "so")) is errors.Busy


@pytest.mark.parametrize("code", ["busy", "invalid", "overflow", "a_code_of_a_later_version"])
def test_an_error_of_the_server_has_its_code_and_its_words(code: str) -> None:
    error = errors.error_from_wire(code, "so")
    assert (error.code, str(error)) == (code, "so")
    assert errors.is_outage(error) is isinstance(error, ConnectionError | TimeoutError)


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (errors.CallTimeout("late"), True),
        (errors.OutcomeUnknown("cut"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (errors.ClientClosed("closed"), False),
        (errors.NoPermit("none was free"), False),
        (errors.CacheFull("full"), False),
        (ValueError(), False),
    ],
)
def test_whether_the_server_could_be_asked(error: BaseException, outage: bool) -> None:
    assert errors.is_outage(error) is outage


@pytest.mark.parametrize(
    ("error", "args"),
    [
        (errors.CacheFull("full", 5), ("incr 'k': full", 5)),
        (errors.CacheFull(), ()),
        (ConnectionResetError("cut"), ("cut",)),
        (KeyboardInterrupt(), ()),
    ],
)
def test_what_was_asked_is_said_of_errors_of_naught_that_say_something(
    error: BaseException, args: tuple[object, ...]
) -> None:
    assert errors.with_subject(error, "incr 'k'") is error
    assert error.args == args
    assert isinstance(error, NaughtError) or args in {("cut",), ()}


@pytest.mark.parametrize(
    ("error", "misuse"),
    [
        (errors.InvalidRequest("a key of 600 bytes"), True),
        (errors.TooLarge("a batch of 5 000"), True),
        (errors.Busy("later"), False),
        (errors.CallTimeout("late"), False),
    ],
)
def test_whether_the_call_itself_is_at_fault(error: BaseException, misuse: bool) -> None:
    assert errors.is_misuse(error) is misuse


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (TimeoutError(), "nothing was answered in time"),
        (ConnectionResetError(), "the server closed the connection"),
        (ConnectionAbortedError(), "the server closed the connection"),
        (EOFError(), "EOFError"),
    ],
)
def test_an_error_without_words_is_said_in_some(error: BaseException, words: str) -> None:
    assert errors.reason_of(error) == words
