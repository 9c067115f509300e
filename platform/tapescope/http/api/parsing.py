"""What a request says of times and places, from its text."""

from __future__ import annotations

from datetime import datetime

from tapescope.errors import BadSetting

__all__ = ["parse_seq", "parse_time"]


def parse_time(name: str, text: str | None) -> datetime | None:
    """An aware time from its RFC 3339 text. Raises ``BadSetting``."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadSetting(name, text, "a time with a time zone: 2026-01-31T12:00:00Z")
    return at


def parse_seq(text: str) -> int:
    """A seq from the header of a reader that comes back. Raises ``BadSetting``."""
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise BadSetting("Last-Event-ID", text, "the seq of an event: a whole number")
    return int(text)
