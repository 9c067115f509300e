"""The one clock: wall time for what is stored, a steady one for what is measured."""

from __future__ import annotations

import asyncio
import math
import random
import time

__all__ = ["Backoff", "Clock"]


class Clock:
    """Reads the time; a test hands in one of its own."""

    def now(self) -> int:
        """Microseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()


class Backoff:
    """Waits that double, by default from 20 ms to a second, with jitter so that callers do not fall
    in step."""

    def __init__(self, first: float = 0.02, most: float = 1.0) -> None:
        self._next, self._most = first, most

    def choose(self) -> float:
        """How long to wait this time, in seconds."""
        jitter = random.uniform(0.5, 1)  # spreads load, hides nothing
        pause, self._next = self._next * jitter, min(self._next * 2, self._most)
        return pause

    async def wait(self, at_most: float = math.inf) -> None:
        """Wait for the next while, or for ``at_most`` seconds if that is less."""
        await asyncio.sleep(min(at_most, self.choose()))
