"""Parameters that a store URL may have, whatever its scheme."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from tapescope.errors import BadSetting, BadStoreUrl
from tapescope.store import OpenMode

__all__ = ["COMMON_PARAMETERS", "CommonParameters", "pop_common"]

COMMON_PARAMETERS: Final = ("open_mode", "patience", "tape_events")


class CommonParameters(NamedTuple):
    """What the URL says of these; ``None`` where it says nothing."""

    patience: float | None
    """Seconds that a call waits for a store that is away."""
    open_mode: OpenMode | None
    tape_events: int | None
    """How many events a tape takes before ``TapeFull``."""


def pop_common(given: dict[str, str], shown: str) -> CommonParameters:
    """Take the common parameters out. Raises ``BadStoreUrl`` for the URL as it may be ``shown``."""
    return CommonParameters(
        _pop_patience(given, shown), _pop_open_mode(given, shown), _pop_tape_events(given, shown)
    )


def _pop_patience(given: dict[str, str], shown: str) -> float | None:
    text = given.pop("patience", None)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise BadStoreUrl(shown, f"patience is a number of seconds over 0, not {text!r}")
    return seconds


def _pop_open_mode(given: dict[str, str], shown: str) -> OpenMode | None:
    text = given.pop("open_mode", None)
    if text is None:
        return None
    try:
        return OpenMode.checked(text)
    except BadSetting as error:
        raise BadStoreUrl(shown, f"open_mode is {error.expected}, not {text!r}") from None


def _pop_tape_events(given: dict[str, str], shown: str) -> int | None:
    text = given.pop("tape_events", None)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise BadStoreUrl(shown, f"tape_events is a number of events over 0, not {text!r}")
    return int(text)
