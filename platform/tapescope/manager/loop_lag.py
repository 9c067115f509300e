"""How late an event loop is: a timer of its own says so, for any thread."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Final

__all__ = ["LoopLag"]

_EVERY: Final = 0.5
"""Seconds between two looks. A shorter block may fall between them; none that hurts is shorter."""
_REMEMBERED: Final = 60.0
"""Seconds for which the worst is kept, at least: as long as between two pushes of the metrics."""


class LoopLag:
    """Set to go off each half second; what it is late by, the loop was kept from everything else.

    ``monotonic`` is the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._worst = self._worst_before = 0.0
        self._turned_at = 0.0

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._turned_at = self._monotonic()
        self._set()

    def stop(self) -> None:
        """End; a second call does nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def read(self) -> float:
        """The longest that the loop was late in the last minute or two, in seconds; any thread."""
        now_late = self._monotonic() - self._due if self._timer is not None else 0.0
        return max(self._worst, self._worst_before, now_late, 0.0)

    def _set(self) -> None:
        self._due = self._monotonic() + _EVERY
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_EVERY, self._look, context=contextvars.Context())

    def _look(self) -> None:
        now = self._monotonic()
        if now - self._turned_at >= _REMEMBERED:
            self._worst_before, self._worst, self._turned_at = self._worst, 0.0, now
        self._worst = max(self._worst, now - self._due)
        self._set()
