"""When a failed attempt is made again."""

from __future__ import annotations

import random
from typing import Final as Constant

__all__ = ["wait_before_retry"]

_MOST: Constant = 300.0
"""Seconds between two attempts, however many failed."""


def wait_before_retry(first: float, spent: int) -> float:
    """Seconds to wait after an attempt when ``spent`` retries were used before.

    ``first`` seconds, doubled each time up to five minutes, less up to a half by chance, so that
    tasks that failed together do not come back together.
    """
    return min(_MOST, first * 2.0 ** min(spent, 60)) * random.uniform(0.5, 1)
