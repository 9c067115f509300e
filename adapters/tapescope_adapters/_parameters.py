"""Parameters that a store URL may have, whatever its scheme."""

from __future__ import annotations

import math

from tapescope.errors import BadStoreUrl

__all__ = ["pop_patience"]


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
