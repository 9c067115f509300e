"""The signs of life of the managers of a process: of several, the worst is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation

from tapescope.model import ManagerSigns
from tapescope_telemetry.instruments import Watched, observe
from tapescope_telemetry.names import (
    HEARTBEAT_AGE,
    LEASE_DURATION,
    LEASE_MARGIN,
    LOOP_LAG,
    MetricRow,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ["ManagerMeter"]


class ManagerMeter:
    """What the open managers of a process are asked at each collection, from any thread."""

    def __init__(self, meter: Meter) -> None:
        self._signs = Watched[ManagerSigns]()
        self._observe(meter, LOOP_LAG, lambda one: one.loop_lag, max)
        self._observe(meter, HEARTBEAT_AGE, lambda one: one.heartbeat_age, max)
        self._observe(meter, LEASE_DURATION, lambda one: one.lease, min)
        self._observe(meter, LEASE_MARGIN, lambda one: one.lease_margin, min)

    def watch(self, read: Callable[[], ManagerSigns]) -> None:
        """A manager was opened: ask this method of it until ``unwatch``, or until it is gone."""
        self._signs.add(read)

    def unwatch(self, read: Callable[[], ManagerSigns]) -> None:
        """The manager was closed."""
        self._signs.remove(read)

    def _observe(
        self,
        meter: Meter,
        row: MetricRow,
        measure: Callable[[ManagerSigns], float],
        worst: Callable[[list[float]], float],
    ) -> None:
        def read() -> list[Observation]:
            values = [measure(one) for one in self._signs.ask()]
            return [Observation(worst(values))] if values else []

        observe(meter, row, read)
