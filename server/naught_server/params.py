"""Checking the parameters of requests: each function returns a value of the wanted kind, or raises and says why.

The sentence of the error names the parameter, what is allowed and what was given. `InvalidRequest` is for a wrong
type or range, `TooLarge` for what is over a limit of the wire.
"""

from __future__ import annotations

from typing import Any, Final

from naught.errors import InvalidRequest, TooLarge
from naught.wire.codec import check_name
from naught.wire.limits import BATCH_ITEMS_MAX, ITEMS_AT_ONCE_MAX, KEY_BYTES_MAX, TTL_MS_MAX, VALUE_MAX, WAIT_MS_MAX
from naught.wire.traceparent import TRACEPARENT_BYTES, is_traceparent
from naught_server.decoder import Map

Params = tuple[Any, ...]
"""The parameters of a request, as they were decoded."""


def key_of(value: object) -> bytes:
    """A key."""
    if value.__class__ is not bytes:
        raise InvalidRequest(f"a key is a string or binary of 1 to {KEY_BYTES_MAX} bytes, not {kind_of(value)}")
    assert isinstance(value, bytes)
    if not value:
        raise InvalidRequest(f"a key is 1 to {KEY_BYTES_MAX} bytes, not 0")
    if len(value) > KEY_BYTES_MAX:
        raise TooLarge(f"a key is 1 to {KEY_BYTES_MAX} bytes, not {len(value)}")
    return value


def integer_of(value: object, name: str, low: int, high: int) -> int:
    """An integer within a range. A bool or a float is no integer."""
    if value.__class__ is not int:
        raise InvalidRequest(f"{name} is an integer from {low} to {high}, not {kind_of(value)}")
    assert isinstance(value, int)
    if not low <= value <= high:
        raise InvalidRequest(f"{name} is an integer from {low} to {high}, not {value}")
    return value


def ttl_of(value: object) -> int | None:
    """A time to live, or nil for none."""
    return None if value is None else integer_of(value, "ttl_ms", 1, TTL_MS_MAX)


def wait_of(value: object, name: str) -> int | None:
    """How long to wait, or nil for no limit."""
    return None if value is None else integer_of(value, name, 0, WAIT_MS_MAX)


def flag_of(value: object, name: str) -> bool:
    """True or false, and no other value that Python takes for one."""
    if value is not True and value is not False:
        raise InvalidRequest(f"{name} is true or false, not {kind_of(value)}")
    return value


def array_of(value: object, name: str, items_max: int = BATCH_ITEMS_MAX) -> tuple[Any, ...]:
    """An array of up to as many items as one call may have."""
    if value.__class__ is not tuple:
        raise InvalidRequest(f"{name} is an array, not {kind_of(value)}")
    assert isinstance(value, tuple)
    if len(value) > items_max:
        raise TooLarge(f"{name} has at most {items_max} items, not {len(value)}")
    return value


def keys_of(value: object) -> list[bytes]:
    """An array of keys."""
    return [key_of(key) for key in array_of(value, "keys")]


def prefix_of(value: object) -> bytes:
    """What keys begin with; empty for all keys."""
    if value.__class__ is not bytes or len(value) > KEY_BYTES_MAX:
        raise InvalidRequest(f"prefix is a string or binary of at most {KEY_BYTES_MAX} bytes")
    assert isinstance(value, bytes)
    return value


def word_of(value: object, name: str) -> str:
    """A short text that names something."""
    if value.__class__ is not bytes or not 0 < len(value) <= 64:
        raise InvalidRequest(f"{name} is a string of 1 to 64 bytes")
    assert isinstance(value, bytes)
    return value.decode("utf-8", "replace")


def name_of(value: object) -> str:
    """The name that a client gives itself."""
    if value.__class__ is not bytes:
        raise InvalidRequest(f"name is a string, not {kind_of(value)}")
    assert isinstance(value, bytes)
    try:
        name = value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("name is text, and this is no UTF-8") from None
    return check_name(name)


def traceparent_of(value: object) -> str | None:
    """The caller's trace in the form of W3C Trace Context, or nil for none."""
    if value is None:
        return None
    if value.__class__ is bytes:
        assert isinstance(value, bytes)
        text = value[: TRACEPARENT_BYTES + 1].decode("latin-1")
        if is_traceparent(text):
            return text
    raise InvalidRequest(f"traceparent is a string of {TRACEPARENT_BYTES} bytes in the form of W3C Trace Context")


def limited_of(value: object) -> list[tuple[bytes, int, int]]:
    """An array of [key, by, limit]."""
    items = array_of(value, "items", ITEMS_AT_ONCE_MAX)
    if not items:
        raise InvalidRequest("items has at least 1 item")
    checked = []
    for item in items:
        if item.__class__ is not tuple or len(item) != 3:
            raise InvalidRequest(f"an item is [key, by, limit], not {kind_of(item)}")
        key, by, limit = item
        checked.append((key_of(key), integer_of(by, "by", 1, VALUE_MAX), integer_of(limit, "limit", 0, VALUE_MAX)))
    return checked


def filled(params: Params, second: object, third: object) -> tuple[Any, Any, Any]:
    """One to three parameters as three."""
    given = len(params)
    return params[0], params[1] if given > 1 else second, params[2] if given > 2 else third


_KINDS: Final = {
    bool: "a bool",
    int: "an integer",
    float: "a float",
    bytes: "a string",
    tuple: "an array",
    Map: "a map",
}


def kind_of(value: object) -> str:
    """What a value is, for error messages."""
    return "nil" if value is None else _KINDS.get(type(value), "an extension type")
