"""``RateLimit``: how many attempts of an op's tasks begin in a while, over the whole store."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Final

from tapescope.errors import BadSetting
from tapescope.store.validation import check_seconds, check_whole

__all__ = ["RateLimit"]

_MOST: Final = 10_000
"""Each attempt in a window is a row of the store, and a claim counts those of the key."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """``RateLimit(100, per=60)``: at most 100 attempts begin in any window of 60 seconds.

    It is given to an op, and holds over the whole store for its tasks with one concurrency key, and
    for those without a key together. The window slides: no burst of twice as many at its edge. Each
    attempt counts, so a retry counts again; it counts from when a claim begins it, by the store's
    clock, however long it runs (docs/decisions/0107).
    """

    times: int
    """How many attempts begin in a window: from 1 to 10,000."""
    _: KW_ONLY
    per: float
    """The length of the window in seconds, over 0; it is kept in whole microseconds."""

    def __post_init__(self) -> None:
        """Raises ``BadSetting``."""
        expected = f"a whole number from 1 to {_MOST:,}"
        times = check_whole("rate_limit.times", self.times, expected, 1, _MOST)
        per = check_seconds("rate_limit.per", self.per, over_zero=True)
        if round(per * 1_000_000) < 1:
            raise BadSetting("rate_limit.per", self.per, "at least a microsecond")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "per", per)

    @property
    def per_us(self) -> int:
        """The length of the window in microseconds."""
        return round(self.per * 1_000_000)
