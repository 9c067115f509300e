"""The one JSON codec: strict going out, fast both ways.

What is encoded comes back equal, but for a tuple, which comes back as a list. orjson alone does not
see to that: it writes NaN as ``null``, an ``Enum`` as its value, a ``UUID`` as text and a
``Fragment`` as it is, and a ``value`` of an ``Enum`` that raises ends the process. So it is given
values of Python's own JSON types alone. ``marshal`` knows these and hardly any others, and looks
through a value without a line of Python; what it does not take is copied into them, or refused.
"""

from __future__ import annotations

import marshal
import math
from collections.abc import Mapping
from typing import Any, Final, cast

import orjson

from tapescope.errors import NotJson

__all__ = ["canonical", "decode", "encode"]

_STRICT: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_NO_REFERENCES: Final = 2
"""The newest form of ``marshal`` that does not look for equal parts, which takes time."""
_DEEPEST: Final = 254
"""Levels of lists and objects that orjson writes and reads."""

decode = orjson.loads


def encode(value: Any, what: str) -> str:
    """The JSON text of ``value``; ``what`` names it in an error.

    Raises ``NotJson`` for anything that would not come back as it was: NaN and infinities, NUL
    characters, bytes, keys that are not strings, integers over 64 bits, lone surrogates; a
    ``UUID``, a time, a member of an ``Enum`` that is not text or a number itself.
    """
    try:
        marshal.dumps(value, _NO_REFERENCES)
    except ValueError:
        value = _as_plain(value, what, 0)
    try:
        text = orjson.dumps(value, option=_STRICT).decode()
    except TypeError as error:  # orjson.JSONEncodeError is a TypeError
        raise NotJson(what, str(error)) from error
    if ("null" in text and decode(text) != value) or "\\u0000" in text:
        _refuse_what_json_lacks(value, what)  # or a tuple, or "null" in a text of its own
    return text


def canonical(value: Any) -> bytes:
    """The one JSON text of a value that was decoded: keys sorted; 1, 1.0 and true are three."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _as_plain(part: Any, what: str, depth: int) -> Any:
    """A copy of ``part`` of plain types; an object of a class derived from one is what it equals.

    Raises ``NotJson`` for what is none of them.
    """
    if depth > _DEEPEST:
        raise NotJson(what, f"it is nested more than {_DEEPEST} deep")
    if part is None or type(part) is bool:
        return part
    # The classes' own methods: those of a derived class may do anything.
    if isinstance(part, str):
        return str.__str__(part)
    if isinstance(part, int):
        return int.__int__(part)
    if isinstance(part, float):
        return float.__float__(part)
    if isinstance(part, dict):
        members = cast("dict[object, object]", part)
        copy: dict[str, Any] = {}
        for key, member in dict[object, object].items(members):
            if not isinstance(key, str):
                raise NotJson(what, f"a key of it is of the type {type(key).__name__!r}")
            copy[str.__str__(key)] = _as_plain(member, what, depth + 1)
        if len(copy) != len(members):
            raise NotJson(what, "two keys of it are the same text")
        return copy
    if isinstance(part, list):
        many = cast("list[object]", part)
        return [_as_plain(one, what, depth + 1) for one in list[object].__iter__(many)]
    if type(part) is tuple:
        these = cast("tuple[object, ...]", part)
        return [_as_plain(one, what, depth + 1) for one in these]
    raise NotJson(what, f"it holds a value of the type {type(part).__name__!r}")


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
