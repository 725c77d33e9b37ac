"""For each method of the wire: check the arguments, build the params, convert the result. Sans-IO.

A function here has the name of a method and returns a `Call`: method, params, the function that converts the result,
and what a session must know about it (whether it may be repeated, may wait, how large its reply may be). It checks
its arguments first. So a bad argument raises immediately, costs no round trip and does not affect other calls of the
same batch.

Of `incr` and `decr` only the strict form is here. The others travel joined (`messages.JoinedChanges`), and
`Commands.incr` and `Commands.decr` check their arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import ceil, inf
from sys import float_info
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias

from naught.core.holds import Hold
from naught.errors import CommandError, InvalidRequest, ProtocolError, TooLarge, error_from_wire
from naught.wire.codec import decode_key, encode, encode_key
from naught.wire.limits import (
    BATCH_ITEMS_MAX,
    ITEMS_AT_ONCE_MAX,
    KEY_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    REPLY_BYTES_MAX,
    SLOW_TURNS_MAX,
    TTL_MS_MAX,
    VALUE_MAX,
    WAIT_MS_MAX,
)

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # For type checkers, which know this module even where it is not installed: plain `Client` means `Client[str]`.
    KeyT = TypeVar("KeyT", str, bytes, default=str)
else:
    from typing import TypeVar

    KeyT = TypeVar("KeyT", str, bytes)

ResultT = TypeVar("ResultT")

Key: TypeAlias = str | bytes
"""The name of a counter. Text is sent as UTF-8; keys with the same bytes are the same counter."""

Cursor: TypeAlias = int | bytes
"""The position of a scan: 0 at its start and at its end, opaque bytes in between."""

SCAN_COUNT: Final = 1_000
"""Default number of counters in a page of a scan: about 30 KiB, well below the limit of a reply."""

SMALL_REPLY_BYTES: Final = 512
"""Upper bound of the reply to any call about a few counters, errors included."""

ANSWER_S: Final = 1.0
"""Seconds that the answer to a wait may take after the wait has ended at the server. Only the server says that a wait
has run out; a client that gave up at the same moment would not know whether it was that, or an outage."""

WAIT_REPLY_BYTES: Final = 128
"""Upper bound of the reply to a call that may wait, without its values. Smaller than SMALL_REPLY_BYTES, as thousands
of such calls may be in flight, and each of them reserves room for its reply."""


class Grant(NamedTuple):
    """The result of `try_incr`."""

    granted: bool
    """True if every item was added, False if none was."""
    values: list[int]
    """The values after the call, in the order of its items."""


class Acquired(NamedTuple):
    """The result of `acquire`."""

    granted: bool
    """True if every item was added and is held, False if none was."""
    values: list[int]
    """The values after the call, in the order of its items."""
    hold: Hold | None
    """The hold; None if not granted."""


class Throttled(NamedTuple):
    """The result of `throttle`. It is true where it was granted: `if await counters.throttle(...)`."""

    granted: bool
    """Whether the uses were granted."""
    remaining: int
    """Uses that could be granted now, after this call."""
    retry_after_ms: int
    """Milliseconds until the same call can be granted; 0 if it was, -1 for never."""
    reset_after_ms: int
    """Milliseconds until nothing is used any more, and the counter is gone; -1 for never."""

    def __bool__(self) -> bool:
        return self.granted

    @property
    def retry_after(self) -> float:
        """`retry_after_ms` in seconds, infinity for never."""
        return self.retry_after_ms / 1000 if self.retry_after_ms >= 0 else inf

    @property
    def reset_after(self) -> float:
        """`reset_after_ms` in seconds, infinity for never."""
        return self.reset_after_ms / 1000 if self.reset_after_ms >= 0 else inf


class Holder(NamedTuple):
    """A session that holds some of a counter: one of the results of `holders`."""

    session: int
    """Its number, the argument of `end_session`."""
    name: str
    """What its client calls itself; empty if it has not said."""
    amount: int
    """How much of the counter it holds, in all its holds together."""
    address: str
    """Where its latest connection came from, without the port; `unix` for a Unix socket."""


class ScanPage(NamedTuple, Generic[KeyT]):
    """One page of a scan."""

    cursor: Cursor
    """The argument of the next call; 0 if this was the last page."""
    counters: list[tuple[KeyT, int]]
    """Keys with their values. A page that is not the last may be empty too."""


class Call(Generic[ResultT]):
    """A request whose arguments are checked, before it is sent."""

    __slots__ = (
        "answer_s",
        "convert",
        "hold",
        "holds",
        "method",
        "params",
        "parks",
        "persistent",
        "repeatable",
        "reply_bytes",
    )

    def __init__(
        self,
        method: str,
        params: tuple[Any, ...],
        convert: Callable[[Any], ResultT],
        *,
        repeatable: bool,
        reply_bytes: int = SMALL_REPLY_BYTES,
        parks: bool = False,
        persistent: bool = False,
        holds: bool = False,
        hold: Hold | None = None,
    ) -> None:
        self.method: Final = method
        self.params: Final = params
        # What it releases, whole or in part. The number that this has when the session takes the call comes before
        # `params`: a thread may make the call while the hold is acquired again.
        self.hold: Final = hold
        # Makes the decoded msgpack value into the result for the caller. Raises ProtocolError for a value that this
        # method cannot return.
        self.convert: Final = convert
        # It may be sent again when the server may have executed it already: it changes nothing, or only something
        # that has ended with the session.
        self.repeatable: Final = repeatable
        self.reply_bytes: Final = reply_bytes  # approximate upper bound of the reply
        self.parks: Final = parks  # it may wait at the server
        self.persistent: Final = persistent  # it gives something back, so it is sent even if its caller has gone
        self.holds: Final = holds  # its result is an `Acquired`
        # Seconds beyond its timeout that the answer may take, once the request is at the server: for a call whose
        # timeout is the time that it waits there. `Commands` sets it.
        self.answer_s = 0.0

    def __str__(self) -> str:
        """The method and its counters, for messages: `decr 'seats:42'`."""
        first = self.params[0] if self.params else None
        if self.method not in _ON_COUNTERS or not isinstance(first, bytes | list):
            return self.method
        keys = (
            [first] if isinstance(first, bytes) else [item if isinstance(item, bytes) else item[0] for item in first]
        )
        return describe(self.method, keys)


_ON_COUNTERS: Final = frozenset(
    {
        *("incr", "decr", "apply", "get", "get_many", "set", "take", "expire", "ttl", "holders"),
        *("try_incr", "throttle", "acquire", "wait_zero"),
    }
)
"""Methods whose first parameter is a counter, or several."""

_KEYS_NAMED_MAX: Final = 3
"""Counters that a message names; of more it says how many."""


def describe(method: str, keys: Sequence[bytes]) -> str:
    """A method and its counters, for messages. Long names are cut."""
    named = ", ".join(repr(decode_key(key[:64])) + ("..." if len(key) > 64 else "") for key in keys[:_KEYS_NAMED_MAX])
    more = len(keys) - _KEYS_NAMED_MAX
    return f"{method} {named}" + (f" and {more} more" if more > 0 else "")


# ------------------------------------------------------------------------------------------------- arguments


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """Check for an int in a range. A bool is refused, and so is a float with an integral value."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest(f"{name} is an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise InvalidRequest(f"{name} is from {low} to {high}, not {value}")
    return int(value)


def check_amount(by: object) -> int:
    """Check the amount of an `incr` or `decr`."""
    return check_integer("by", by, 1, VALUE_MAX)


def check_ttl(ttl_ms: object) -> int | None:
    """Check a time to live in milliseconds; None for no limit."""
    return None if ttl_ms is None else check_integer("ttl_ms", ttl_ms, 1, TTL_MS_MAX)


FLOAT_MAX: Final = float_info.max
"""A larger int has no float."""


def check_timeout(timeout: object, name: str = "timeout") -> float | None:
    """Check a number of seconds from 0, or None for no limit. A timeout of 0 has expired already."""
    if timeout is None or (isinstance(timeout, float) and 0.0 <= timeout < inf):
        return timeout  # the usual case first, at half the cost
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 <= timeout <= FLOAT_MAX:
        raise InvalidRequest(f"{name} is a number of seconds from 0, or None for no limit, not {timeout!r}")
    return float(timeout)


def check_lease(lease: object) -> int | None:
    """The lease of a session: seconds in, milliseconds out; None for the server's default."""
    if lease is None:
        return None
    if not isinstance(lease, int | float) or isinstance(lease, bool) or not 0.1 <= lease <= 300:
        raise InvalidRequest(f"lease is from 0.1 to 300 seconds, or None, not {lease!r}")
    return round(lease * 1000)


def check_wait(wait: object, name: str = "timeout") -> int | None:
    """The time to wait at the server: seconds in, milliseconds out; None for no limit. 0 does not wait."""
    seconds = check_timeout(wait, name)
    if seconds is None:
        return None
    if seconds * 1000 > WAIT_MS_MAX:
        raise InvalidRequest(f"{name} is up to {WAIT_MS_MAX // 1000} seconds, or None for no limit, not {wait}")
    return ceil(seconds * 1000)


def _iterable(name: str, items: Iterable[Any], of: str) -> Iterable[Any]:
    if not isinstance(items, Iterable) or isinstance(items, str | bytes):
        raise InvalidRequest(f"{name} is an iterable of {of}, not {type(items).__name__}")
    return items


def _item(item: Any, size: int, form: str) -> tuple[Any, ...]:
    if not isinstance(item, tuple | list) or len(item) != size:
        raise InvalidRequest(f"each of items is {form}, not {item!r:.80}")
    return tuple(item)


def _encode_prefix(prefix: Key) -> bytes:
    return encode_key(prefix) if prefix or not isinstance(prefix, str | bytes) else b""


def _encode_keys(keys: Iterable[Key]) -> list[bytes]:
    if isinstance(keys, str | bytes):
        raise InvalidRequest("keys is an iterable of keys, not one key")
    encoded = [encode_key(key) for key in _iterable("keys", keys, "keys")]
    _check_batch(encoded)
    return encoded


def _check_batch(keys: list[bytes], items_max: int = BATCH_ITEMS_MAX) -> None:
    if len(keys) > items_max:
        raise TooLarge(f"a call has at most {items_max} items, not {len(keys)}")
    # 32 bytes an item cover the headers of a key, two integers of 9 bytes and the item itself.
    if sum(map(len, keys)) + 32 * len(keys) + 64 > MESSAGE_BYTES_MAX:
        raise TooLarge(f"a message has at most {MESSAGE_BYTES_MAX} bytes; use fewer items or shorter keys")


# --------------------------------------------------------------------------------------------------- results


def integer(result: Any) -> int:
    """Check that the result is an integer."""
    if result.__class__ is not int:
        raise ProtocolError(f"an integer was expected, not {result!r:.80}")
    return int(result)


def _integers(count: int, result: Any) -> list[int]:
    if result.__class__ is not list or len(result) != count:
        raise ProtocolError(f"{count} integers were expected, not {result!r:.80}")
    return [integer(value) for value in result]


def _boolean(result: Any) -> bool:
    if result.__class__ is not bool:
        raise ProtocolError(f"true or false was expected, not {result!r:.80}")
    return bool(result)


def _integer_or_none(result: Any) -> int | None:
    return None if result is None else integer(result)


def _nothing(result: Any) -> None:
    """Ignore the result: any reply is a success."""


def item_error(item: Any) -> CommandError:
    """The exception for a failed item of a batch, or for an error reply: `[code, message]`."""
    if item.__class__ is not list or len(item) != 2 or item[0].__class__ is not bytes:
        raise ProtocolError(f"an integer or [code, message] was expected, not {item!r:.80}")
    return error_from_wire(item[0].decode("utf-8", "replace"), str(text(item[1])))


def _items(count: int, result: Any) -> list[int | CommandError]:
    if result.__class__ is not list or len(result) != count:
        raise ProtocolError(f"{count} items were expected, not {result!r:.80}")
    return [item if item.__class__ is int else item_error(item) for item in result]


def _grant(count: int, result: Any) -> Grant:
    if result.__class__ is not list or len(result) != 2:
        raise ProtocolError(f"[granted, values] was expected, not {result!r:.80}")
    return Grant(_boolean(result[0]), _integers(count, result[1]))


def _throttled(result: Any) -> Throttled:
    if result.__class__ is not list or len(result) != 4:
        raise ProtocolError(f"[granted, remaining, retry_after_ms, reset_after_ms] was expected, not {result!r:.80}")
    return Throttled(_boolean(result[0]), *_integers(3, result[1:]))


def _pairs(decode: Callable[[bytes], KeyT], keys: Any, values: Any) -> list[tuple[KeyT, int]]:
    if keys.__class__ is not list or values.__class__ is not list or len(keys) != len(values):
        raise ProtocolError("two arrays of the same length were expected, keys and values")
    if not all(key.__class__ is bytes for key in keys):
        raise ProtocolError("a key is not a binary")
    return [(decode(key), integer(value)) for key, value in zip(keys, values, strict=True)]


def _page(decode: Callable[[bytes], KeyT], result: Any) -> ScanPage[KeyT]:
    if result.__class__ is not list or len(result) != 3:
        raise ProtocolError(f"[cursor, keys, values] was expected, not {result!r:.80}")
    cursor, keys, values = result
    if cursor != 0 and cursor.__class__ is not bytes:
        raise ProtocolError(f"a cursor is 0 or bytes, not {cursor!r:.80}")
    return ScanPage(cursor, _pairs(decode, keys, values))


def _ranking(decode: Callable[[bytes], KeyT], result: Any) -> list[tuple[KeyT, int]]:
    if result.__class__ is not list or len(result) != 2:
        raise ProtocolError(f"[keys, values] was expected, not {result!r:.80}")
    return _pairs(decode, *result)


def text(result: Any) -> Any:
    """Make bytes into str, also inside lists and maps. Strings arrive as bytes, as keys do."""
    if isinstance(result, bytes):
        return decode_key(result)
    if isinstance(result, list):
        return [text(item) for item in result]
    if isinstance(result, dict):
        return {text(word): text(value) for word, value in result.items()}
    return result


def _mapping(result: Any) -> dict[str, Any]:
    if result.__class__ is not dict:
        raise ProtocolError(f"a map was expected, not {result!r:.80}")
    mapping: dict[str, Any] = text(result)
    return mapping


def _acquired(count: int, again: list[tuple[bytes, int, int]] | None, result: Any) -> Acquired:
    if result.__class__ is not list or len(result) != 3:
        raise ProtocolError(f"[granted, values, hold] was expected, not {result!r:.80}")
    granted = _boolean(result[0])
    if granted is (result[2] is None):
        raise ProtocolError(f"a hold if granted, otherwise nil, was expected, not {result!r:.80}")
    values = _integers(count, result[1])
    return Acquired(granted, values, Hold(integer(result[2]), count, again) if granted else None)


def _values(result: Any) -> list[int]:
    if result.__class__ is not list:
        raise ProtocolError(f"integers were expected, not {result!r:.80}")
    return [integer(value) for value in result]


def _held(decode: Callable[[bytes], KeyT], result: Any) -> list[tuple[int, dict[KeyT, int]]]:
    try:
        return [(integer(hold), {decode(key): integer(by) for key, by in items}) for hold, items in result]
    except (TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"holds were expected, not {result!r:.80}") from error


def _sessions(decode: Callable[[bytes], KeyT], result: Any) -> list[dict[str, Any]]:
    if result.__class__ is not list:
        raise ProtocolError(f"maps were expected, not {result!r:.80}")
    return [_session(decode, each) for each in result]


def _session(decode: Callable[[bytes], KeyT], result: Any) -> dict[str, Any]:
    """A row of `sessions`: text, except for the keys in it."""
    found = _mapping(result)
    try:
        found["held"] = [(decode(key), integer(by)) for key, by in result[b"held"]]
        found["waits"] = [(decode_key(what), [decode(key) for key in keys]) for what, keys in result[b"waits"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"a session was expected, not {result!r:.80}") from error
    return found


def _holders(result: Any) -> list[Holder]:
    try:
        return [
            Holder(integer(session), decode_key(name), integer(amount), decode_key(address))
            for session, name, amount, address in result
        ]
    except (TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"sessions with amounts were expected, not {result!r:.80}") from error


def _mappings(result: Any) -> list[dict[str, Any]]:
    if result.__class__ is not list:
        raise ProtocolError(f"maps were expected, not {result!r:.80}")
    return [_mapping(each) for each in result]


def _batch_reply_bytes(items: int) -> int:
    """Upper bound of the reply to a batch: each value takes at most 9 bytes."""
    return SMALL_REPLY_BYTES + 9 * items


# --------------------------------------------------------------------------------------------------- methods


def decr_strict(key: Key, by: int) -> Call[int]:
    return Call("decr", (encode_key(key), check_amount(by), True), integer, repeatable=False)


def apply(keys: Iterable[Key], deltas: Iterable[int] | int, ttl_ms: int | None) -> Call[list[int | CommandError]]:
    encoded = _encode_keys(keys)
    amounts: int | list[int]
    if isinstance(deltas, Iterable):
        amounts = [_check_delta(delta) for delta in deltas]
        if len(amounts) != len(encoded):
            raise InvalidRequest(f"deltas are as many as keys, not {len(amounts)} for {len(encoded)} keys")
    else:
        amounts = _check_delta(deltas)
    convert = partial(_items, len(encoded))
    # If so many items fail that the reply would pass the limit, the server answers `too_large` instead.
    return Call(
        "apply",
        _params(encoded, amounts, check_ttl(ttl_ms)),
        convert,
        repeatable=False,
        reply_bytes=min(REPLY_BYTES_MAX, SMALL_REPLY_BYTES + 64 * len(encoded)),
    )


def _check_delta(delta: object) -> int:
    checked = check_integer("a delta", delta, -VALUE_MAX, VALUE_MAX)
    if not checked:
        raise InvalidRequest("a delta is a non-zero int, not 0")
    return checked


def _params(first: object, second: object, ttl_ms: int | None) -> tuple[Any, ...]:
    return (first, second) if ttl_ms is None else (first, second, ttl_ms)


def get(key: Key) -> Call[int]:
    return Call("get", (encode_key(key),), integer, repeatable=True)


def get_many(keys: Iterable[Key]) -> Call[list[int]]:
    encoded = _encode_keys(keys)
    convert = partial(_integers, len(encoded))
    return Call("get_many", (encoded,), convert, repeatable=True, reply_bytes=_batch_reply_bytes(len(encoded)))


def set(key: Key, value: int, ttl_ms: int | None) -> Call[int]:
    params = _params(encode_key(key), check_integer("value", value, 0, VALUE_MAX), check_ttl(ttl_ms))
    return Call("set", params, integer, repeatable=False)


def take(keys: Iterable[Key]) -> Call[list[int]]:
    encoded = _encode_keys(keys)
    convert = partial(_integers, len(encoded))
    return Call("take", (encoded,), convert, repeatable=False, reply_bytes=_batch_reply_bytes(len(encoded)))


def _encode_limited(items: Iterable[tuple[Key, int, int]]) -> list[tuple[bytes, int, int]]:
    form = "(key, by, limit)"
    encoded = [
        (encode_key(key), check_amount(by), check_integer("a limit", limit, 0, VALUE_MAX))
        for key, by, limit in (_item(item, 3, form) for item in _iterable("items", items, form))
    ]
    if not encoded:
        raise InvalidRequest("items has at least 1 item")
    _check_batch([key for key, _, _ in encoded], ITEMS_AT_ONCE_MAX)
    return encoded


def try_incr(items: Iterable[tuple[Key, int, int]], ttl_ms: int | None) -> Call[Grant]:
    encoded = _encode_limited(items)
    params: tuple[Any, ...] = (encoded,) if ttl_ms is None else (encoded, check_ttl(ttl_ms))
    convert = partial(_grant, len(encoded))
    return Call("try_incr", params, convert, repeatable=False, reply_bytes=_batch_reply_bytes(len(encoded)))


def acquire(items: Iterable[tuple[Key, int, int]], wait: float | None, *, again: bool = False) -> Call[Acquired]:
    return _acquire(_encode_limited(items), check_wait(wait, "wait"), again)


def acquire_again(hold: Hold) -> Call[Acquired]:
    """Ask once more for what a lost hold had. Only what has no limit waits for it."""
    assert hold.again is not None
    return _acquire(hold.again, None if hold.unlimited else 0, True)


def _acquire(encoded: list[tuple[bytes, int, int]], wait_ms: int | None, again: bool) -> Call[Acquired]:
    # Repeatable: if the session was lost, anything that the first request was granted went back with that session.
    return Call(
        "acquire",
        (encoded,) if wait_ms == 0 else (encoded, wait_ms),
        partial(_acquired, len(encoded), encoded if again else None),
        repeatable=True,
        reply_bytes=WAIT_REPLY_BYTES + 9 * len(encoded),
        parks=wait_ms != 0,
        holds=True,
    )


def release(hold: Hold | int, items: Iterable[tuple[Key, int]] | None) -> Call[list[int]]:
    known = hold if isinstance(hold, Hold) else None
    number = () if isinstance(hold, Hold) else (check_integer("a hold", hold, 0, VALUE_MAX),)
    if items is None:
        size = _batch_reply_bytes(ITEMS_AT_ONCE_MAX if known is None else known.counters)
        return Call("release", number, _values, repeatable=False, reply_bytes=size, persistent=True, hold=known)
    form = "(key, by)"
    encoded = [
        (encode_key(key), check_amount(by))
        for key, by in (_item(item, 2, form) for item in _iterable("items", items, form))
    ]
    _check_batch([key for key, _ in encoded], ITEMS_AT_ONCE_MAX)
    return Call(
        "release",
        (*number, encoded),
        partial(_integers, len(encoded)),
        repeatable=False,
        reply_bytes=_batch_reply_bytes(len(encoded)),
        persistent=True,
        hold=known,
    )


def held(after: int, decode: Callable[[bytes], KeyT]) -> Call[list[tuple[int, dict[KeyT, int]]]]:
    params = (check_integer("after", after, 0, VALUE_MAX),) if after else ()
    return Call("held", params, partial(_held, decode), repeatable=True, reply_bytes=REPLY_BYTES_MAX)


def wait_zero(key: Key, timeout: float | None) -> Call[bool]:
    timeout_ms = check_wait(timeout)
    return Call(
        "wait_zero",
        (encode_key(key), timeout_ms),
        _boolean,
        repeatable=True,
        reply_bytes=WAIT_REPLY_BYTES,
        parks=timeout_ms != 0,
    )


def sessions(after: int, decode: Callable[[bytes], KeyT]) -> Call[list[dict[str, Any]]]:
    params = (check_integer("after", after, 0, VALUE_MAX),) if after else ()
    return Call("sessions", params, partial(_sessions, decode), repeatable=True, reply_bytes=REPLY_BYTES_MAX)


def holders(key: Key, after: int) -> Call[list[Holder]]:
    encoded = encode_key(key)
    params = (encoded, check_integer("after", after, 0, VALUE_MAX)) if after else (encoded,)
    return Call("holders", params, _holders, repeatable=True, reply_bytes=REPLY_BYTES_MAX)


def end_session(number: int) -> Call[bool]:
    params = (check_integer("a session's number", number, 1, VALUE_MAX),)
    return Call("end_session", params, _boolean, repeatable=False)


def throttle(key: Key, limit: int, per_ms: int, burst: int | None, by: int) -> Call[Throttled]:
    encoded = encode_key(key)
    check_integer("limit", limit, 1, VALUE_MAX)
    check_integer("per_ms", per_ms, 1, TTL_MS_MAX)
    size = limit if burst is None else check_integer("burst", burst, 1, VALUE_MAX)
    # Relations between them are checked by the server, which says the same to every client.
    check_integer("by", by, 0, VALUE_MAX)
    params = (encoded, limit, per_ms) if size == limit and by == 1 else (encoded, limit, per_ms, size, by)
    return Call("throttle", params, _throttled, repeatable=by == 0)


def expire(key: Key, ttl_ms: int | None) -> Call[bool]:
    return Call("expire", (encode_key(key), check_ttl(ttl_ms)), _boolean, repeatable=False)


def ttl(key: Key) -> Call[int | None]:
    return Call("ttl", (encode_key(key),), _integer_or_none, repeatable=True)


def scan(cursor: Cursor, count: int, prefix: Key, decode: Callable[[bytes], KeyT]) -> Call[ScanPage[KeyT]]:
    if cursor.__class__ is not bytes and (cursor.__class__ is not int or cursor != 0):
        raise InvalidRequest("a cursor is 0, or the cursor of the page before")
    params = (cursor, check_integer("count", count, 1, BATCH_ITEMS_MAX), _encode_prefix(prefix))
    return Call("scan", params, partial(_page, decode), repeatable=True, reply_bytes=REPLY_BYTES_MAX)


def top(n: int, prefix: Key, decode: Callable[[bytes], KeyT]) -> Call[list[tuple[KeyT, int]]]:
    params = (check_integer("n", n, 1, BATCH_ITEMS_MAX), _encode_prefix(prefix))
    return Call("top", params, partial(_ranking, decode), repeatable=True, reply_bytes=REPLY_BYTES_MAX)


def count(prefix: Key) -> Call[int]:
    encoded = _encode_prefix(prefix)
    return Call("count", (encoded,) if encoded else (), integer, repeatable=True)


def clear() -> Call[int]:
    return Call("clear", (), integer, repeatable=False)


def ping() -> Call[None]:
    return Call("ping", (), _nothing, repeatable=True)


def probe() -> Call[None]:
    """A ping that the session sends itself, so it is sent although no caller waits for it."""
    return Call("ping", (), _nothing, repeatable=True, persistent=True)


def info() -> Call[dict[str, Any]]:
    return Call("info", (), _mapping, repeatable=True, reply_bytes=REPLY_BYTES_MAX)


def config_get(name: str | None) -> Call[Any]:
    return Call("config_get", () if name is None else (_check_name(name),), text, repeatable=True)


def config_set(name: str, value: Any) -> Call[Any]:
    try:
        encode(value)
    except Exception as error:
        raise InvalidRequest(f"a setting cannot be {value!r:.80}") from error
    return Call("config_set", (_check_name(name), value), text, repeatable=False)


def _check_name(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidRequest(f"the name of a setting is a str, not {type(name).__name__}")
    try:
        name.encode()
    except UnicodeEncodeError:  # found here, as the calls of the same turn would go down with it
        raise InvalidRequest(
            "the name of a setting has a surrogate that stands alone, which is no character"
        ) from None
    return name


def sweep() -> Call[int]:
    return Call("sweep", (), integer, repeatable=False)


def slowlog(n: int) -> Call[list[dict[str, Any]]]:
    # A turn takes less than 512 bytes of the reply.
    params = (check_integer("n", n, 1, SLOW_TURNS_MAX),)
    return Call("slowlog", params, _mappings, repeatable=True, reply_bytes=SMALL_REPLY_BYTES + 512 * n)


def slowlog_reset() -> Call[int]:
    return Call("slowlog_reset", (), integer, repeatable=False)


assert KEY_BYTES_MAX + 32 < MESSAGE_BYTES_MAX // 64
