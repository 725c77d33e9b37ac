"""`SafeMap[K, V]` with types, and what it holds a map to."""

from __future__ import annotations

import types
from typing import Any, get_args, get_origin

from naught.safemap.numbers import KINDS


class Alias(types.GenericAlias):
    """`SafeMap[K, V]`. Calling it makes a map, and holds the map to the value type said."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        made = get_origin(self)(*arguments, **options)
        said = get_args(self)[1]
        if said in KINDS and made.value_type is not said:
            name = said.__name__
            made.close()
            raise TypeError(
                f"SafeMap[..., {name}] was made to count {made.value_type.__name__}: "
                f"give the type as the first argument too, SafeMap[..., {name}]({name})"
            )
        return made
