"""Parameters that a store URL may have, whatever its scheme."""

from __future__ import annotations

import math

from tapescope.errors import BadStoreUrl

__all__ = ["pop_patience", "pop_tape_events"]


def pop_patience(given: dict[str, str], shown: str) -> float | None:
    """Take ``patience`` out: how many seconds a call waits for a store that is away.

    ``None`` where the URL does not say. Raises ``BadStoreUrl`` for the URL as it may be ``shown``.
    """
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


def pop_tape_events(given: dict[str, str], shown: str) -> int | None:
    """Take ``tape_events`` out: how many events a tape takes before ``TapeFull``.

    ``None`` where the URL does not say. Raises ``BadStoreUrl`` for the URL as it may be ``shown``.
    """
    text = given.pop("tape_events", None)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise BadStoreUrl(shown, f"tape_events is a number of events over 0, not {text!r}")
    return int(text)
