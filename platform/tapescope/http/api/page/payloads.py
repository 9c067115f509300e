"""What runners and callers wrote, as text that a page may show: harmless, and bounded.

The templates escape what means something in HTML. Here is what would do harm as text: characters
that cannot be seen, turn the line around or move it, and more of them than a browser can show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from tapescope.model.showing import make_printable

__all__ = ["LINE", "PAYLOAD", "Shown", "as_object", "show_line", "show_text", "show_value"]

LINE: Final = 300
"""Characters of what stands in one line."""
PAYLOAD: Final = 8_000
"""Characters of a payload, a message or a traceback."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Text as it is shown."""

    text: str
    left_out: int = 0
    """Characters that are not shown."""


def as_object(value: Any) -> dict[str, Any]:
    """A JSON value as an object; an empty one for what is none: a body may be anything."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def show_line(text: str, most: int = LINE) -> str:
    """One line, with an ellipsis where it is cut."""
    shown = make_printable(text[:most])[:most]
    return shown if len(text) <= most else f"{shown} …"


def show_text(text: str, most: int = PAYLOAD, *, tail: bool = False) -> Shown:
    """Text of any number of lines; ``tail`` shows its end, as that of a traceback says most."""
    left_out = max(0, len(text) - most)
    kept = text[left_out:] if tail else text[:most]
    lines = (make_printable(line.rstrip("\r").expandtabs(4)) for line in kept.split("\n"))
    return Shown("\n".join(lines), left_out)


def show_value(value: Any, most: int = PAYLOAD) -> Shown:
    """A JSON value, indented."""
    return show_text(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode(), most)
