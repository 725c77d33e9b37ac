"""`SafeMap[K, V]` at run time: a generic alias that checks the value type of the maps it makes."""

from __future__ import annotations

import types
from typing import Any, get_args, get_origin

from naught.safemap.numbers import KINDS


class Alias(types.GenericAlias):
    """`SafeMap[K, V]`. Calling it makes a map, or raises TypeError if the map would count another type than V."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        made = get_origin(self)(*arguments, **options)
        declared = get_args(self)[1]
        if declared in KINDS and made.value_type is not declared:
            name = declared.__name__
            made.close()
            raise TypeError(
                f"SafeMap[..., {name}] was made to count {made.value_type.__name__}: "
                f"give the type as the first argument too, SafeMap[..., {name}]({name})"
            )
        return made
