"""The one JSON codec: strict going out, fast both ways.

orjson writes NaN as ``null`` without a word, so a value whose text holds a ``null`` is looked
through for floats that JSON cannot carry; NUL is refused because PostgreSQL cannot store it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import orjson

from tapescope.errors import NotJson

__all__ = ["decode", "encode"]

_STRICT = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

decode = orjson.loads


def encode(value: Any, what: str) -> str:
    """The JSON text of ``value``; ``what`` names it in an error.

    Raises ``NotJson`` for anything that would not come back as it was: NaN and infinities, NUL
    characters, bytes, keys that are not strings, integers over 64 bits, lone surrogates.
    """
    try:
        text = orjson.dumps(value, option=_STRICT).decode()
    except TypeError as error:  # orjson.JSONEncodeError is a TypeError
        raise NotJson(what, str(error)) from error
    if "null" in text or "\\u0000" in text:
        _refuse_what_json_lacks(value, what)
    return text


def _refuse_what_json_lacks(value: Any, what: str) -> None:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, float):
            if not math.isfinite(part):
                raise NotJson(what, f"it holds {part!r}, which JSON has no way to write")
        elif isinstance(part, str):
            if "\0" in part:
                raise NotJson(what, "it holds a NUL character, which a store cannot keep")
        elif isinstance(part, Mapping):
            members = cast("Mapping[object, object]", part)
            waiting += members
            waiting += members.values()
        elif isinstance(part, list | tuple):
            waiting += cast("list[object]", part)
