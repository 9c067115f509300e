"""Ages and times as a user types them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import click

__all__ = ["parse_age", "parse_time"]

_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_age(text: str, option: str) -> float:
    """Seconds from ``90s``, ``45m``, ``12h``, ``30d`` or ``2w``. Raises a usage error."""
    seconds = _read_age(text)
    if seconds is None:
        raise click.BadParameter(
            f"{text!r} is not an age: write 90s, 45m, 12h, 30d or 2w", param_hint=option
        )
    return seconds


def parse_time(text: str, option: str) -> datetime:
    """An aware time from an age ago or an RFC 3339 text; without a zone it is the local one's.

    Raises a usage error.
    """
    seconds = _read_age(text)
    try:
        if seconds is not None:
            return datetime.now(UTC) - timedelta(seconds=seconds)
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is not a time: write 2h for two hours ago, 2026-01-31 or "
            "2026-01-31T12:00:00Z",
            param_hint=option,
        ) from error


def _read_age(text: str) -> float | None:
    match = _AGE.fullmatch(text.strip().lower())
    return None if match is None else float(match[1]) * _SECONDS[match[2]]
