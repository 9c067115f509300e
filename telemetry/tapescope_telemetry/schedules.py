"""The metrics of schedules: what became of their firing times, and how late their tasks came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapescope_telemetry.instruments import NO_CONTEXT, counter, histogram
from tapescope_telemetry.labels import LabelCaps, LabelSets
from tapescope_telemetry.names import FIRINGS, LATENESS

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ["ScheduleMeter"]


class ScheduleMeter:
    """What the one worker counts that fires. Made by ``Telemetry``.

    A schedule's name is on no metric: users make as many as they like.
    """

    def __init__(self, meter: Meter, caps: LabelCaps) -> None:
        self._caps = caps
        self._firings = counter(meter, FIRINGS)
        self._lateness = histogram(meter, LATENESS)
        self._of_firing = LabelSets(FIRINGS)
        self._of_lateness = LabelSets(LATENESS)

    def fired(self, op: str, outcome: str, seconds: float) -> None:
        """A task was made for a firing time, so many seconds after it."""
        label = self._caps.task_ops(op)
        self._firings.add(1, self._of_firing(label, outcome), NO_CONTEXT)
        self._lateness.record(max(0.0, seconds), self._of_lateness(label), NO_CONTEXT)

    def skipped(self, op: str, outcome: str, n: int) -> None:
        """No task was made for ``n`` firing times; ``outcome`` is of the closed set."""
        if n:
            self._firings.add(n, self._of_firing(self._caps.task_ops(op), outcome), NO_CONTEXT)
