"""`waiting`: makes a blocking method of a method that returns an awaitable.

    class Reference:
        retain = waiting(patterns.Reference.retain)

The class stores the asyncio object as `_inner`. So `reference.retain()` runs, to its end, the coroutine of
`patterns.Reference.retain(reference._inner)`. Parameters, docstring and result type are those of the original method,
also for type checkers.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from naught.blocking.future import Future, run

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


@overload
def waiting(method: Callable[Concatenate[Any, P], Awaitable[T]]) -> Callable[Concatenate[Any, P], T]: ...


@overload
def waiting(
    method: Callable[Concatenate[Any, P], Awaitable[U]], convert: Callable[[U], T]
) -> Callable[Concatenate[Any, P], T]: ...


def waiting(method: Callable[..., Awaitable[Any]], convert: Callable[[Any], Any] | None = None) -> Callable[..., Any]:
    """The method that waits; `convert` makes its result what threads can use."""

    @wraps(method)
    def waits(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = method(self._inner, *args, **kwargs)
        try:
            return answer.wait() if answer.__class__ is Future else run(answer)
        finally:
            del answer  # which an error would keep

    @wraps(method)
    def waits_and_converts(self: Any, *args: Any, **kwargs: Any) -> Any:
        return convert(waits(self, *args, **kwargs))  # type: ignore[misc]

    return _with_result(waits if convert is None else waits_and_converts)


def making(method: Callable[Concatenate[Any, P], U], convert: Callable[[U], T]) -> Callable[Concatenate[Any, P], T]:
    """The same for a method that answers at once."""

    @wraps(method)
    def makes(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        return convert(method(self._inner, *args, **kwargs))

    return cast("Callable[Concatenate[Any, P], T]", makes)


def _with_result(method: Callable[..., Any]) -> Callable[..., Any]:
    """With a signature that tells what is returned, and not what would be awaited."""
    signature = inspect.signature(method)
    told = signature.return_annotation
    if isinstance(told, str) and told.startswith("Future[") and told.endswith("]"):
        method.__signature__ = signature.replace(return_annotation=told[7:-1])  # type: ignore[attr-defined]
    return method
