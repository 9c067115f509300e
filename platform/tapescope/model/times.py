"""Times: integer microseconds inside, aware UTC datetimes in Python, RFC 3339 in JSON.

A store keeps a time as integer microseconds since the Unix epoch, and so does every value on its
way to or from one. What users read is made of these here, and nowhere else. PostgreSQL writes the
same text with its function ``time_text``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = [
    "FIRST_TIME",
    "LAST_TIME",
    "as_microseconds",
    "format_optional_time",
    "format_time",
    "moment",
    "parse_time",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
FIRST_TIME: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""Of the year 1: what is before it cannot be a time."""
LAST_TIME: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""Of the year 9999."""


def moment(microseconds: int) -> datetime:
    """The aware UTC time of integer microseconds since the Unix epoch."""
    return _EPOCH + timedelta(microseconds=microseconds)


def as_microseconds(time: datetime) -> int:
    """Integer microseconds since the Unix epoch of an aware time, of any zone."""
    return (time - _EPOCH) // _MICROSECOND


def format_time(microseconds: int) -> str:
    """``2026-01-31T12:00:00.000000Z`` from microseconds since the Unix epoch: RFC 3339, UTC."""
    text = moment(microseconds).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"{text}Z"


def format_optional_time(microseconds: int | None) -> str | None:
    """``format_time``, and ``None`` for a time that there is not."""
    return None if microseconds is None else format_time(microseconds)


def parse_time(text: str) -> int:
    """Microseconds since the Unix epoch from what ``format_time`` wrote.

    Raises ``ValueError`` for a text that is not a time.
    """
    return as_microseconds(datetime.fromisoformat(text))
