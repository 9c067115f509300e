"""Seeded delays: they are the input of a stress run, and this is the one place that sleeps."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict

__all__ = ["Delays", "pause", "pause_thread"]


async def pause(seconds: float) -> None:
    """Let this much time pass; a delay of 0 gives the loop one turn."""
    await asyncio.sleep(seconds)


def pause_thread(seconds: float) -> None:
    """The same in a thread."""
    time.sleep(seconds)


class Delays:
    """Draws delays from one seed, and remembers what was drawn under each name."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._drawn: defaultdict[str, list[float]] = defaultdict(list)

    def draw(self, name: str, low: float, high: float) -> float:
        """A delay between ``low`` and ``high`` milliseconds, given in seconds."""
        milliseconds = self.random.uniform(low, high)
        self._drawn[name].append(milliseconds)
        return milliseconds / 1_000

    def describe(self) -> list[str]:
        """A line for each name: how many were drawn, and their quantiles in milliseconds."""
        lines: list[str] = []
        for name, drawn in sorted(self._drawn.items()):
            values = sorted(drawn)
            marks = [values[round(q * (len(values) - 1))] for q in (0, 0.1, 0.5, 0.9, 1)]
            quantiles = " ".join(f"{mark:6.2f}" for mark in marks)
            lines.append(f"{name:<24} n={len(values):<6} min p10 p50 p90 max ms: {quantiles}")
        return lines
