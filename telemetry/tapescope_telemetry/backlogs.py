"""What the stores of a process hold: the numbers that each of them was last read to say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Observation

from tapescope.model import Backlog, OpBacklog, Outcome, WaitState
from tapescope_telemetry.instruments import observe
from tapescope_telemetry.labels import LabelCaps, LabelSets
from tapescope_telemetry.names import (
    BACKLOG,
    OLDEST_DUE,
    OP_PAUSED,
    OP_TIMEOUT,
    OP_WORKERS,
    RUNNING_AGE,
    STORE_FINISHED,
    STORE_SUBMITTED,
    MetricRow,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ["Backlogs"]

STALE_AFTER: Final = 60.0
"""Seconds after which numbers are not told any more: none is better than one that is not so."""


class Backlogs:
    """The last reading of each store that is open in this process; a collection reads no store.

    Any thread may use it. Of two stores the counts are added up, and of ages the higher is told.
    """

    def __init__(self, meter: Meter, caps: LabelCaps) -> None:
        self._meter = meter
        self._caps = caps
        self._totals = False
        self._kept: dict[str, tuple[float, Backlog]] = {}
        self.now: Callable[[], float] = time.monotonic
        self._waiting_labels = LabelSets(BACKLOG)
        observe(meter, BACKLOG, self._read_waiting)
        self._observe(meter, OLDEST_DUE, lambda one: one.oldest_due or 0.0, max)
        self._observe(meter, OP_WORKERS, _count_workers, lambda a, b: a + b)
        self._observe(meter, OP_PAUSED, lambda one: float(one.paused is not None), max)
        self._observe(meter, RUNNING_AGE, lambda one: one.oldest_running or 0.0, max)
        self._observe(meter, OP_TIMEOUT, lambda one: one.timeout, max)

    def tell_totals(self) -> None:
        """Tell the totals of the stores as well: for an exporter. A second call does nothing."""
        if self._totals:
            return
        self._totals = True
        self._observe(self._meter, STORE_SUBMITTED, lambda one: one.submitted, lambda a, b: a + b)
        self._finished_labels = LabelSets(STORE_FINISHED)
        observe(self._meter, STORE_FINISHED, self._read_finished)

    def keep(self, store: str, backlog: Backlog) -> None:
        """The store of this name was read."""
        self._kept[store] = self.now() - backlog.age, backlog

    def forget(self, store: str) -> None:
        """The store is not read any more."""
        self._kept.pop(store, None)

    def _observe(
        self,
        meter: Meter,
        row: MetricRow,
        measure: Callable[[OpBacklog], float | None],
        merge: Callable[[float, float], float],
    ) -> None:
        labels = LabelSets(row)

        def read() -> list[Observation]:
            found: dict[str, float] = {}
            for op, one in self._list_ops():
                if (value := measure(one)) is not None:
                    found[op] = merge(found[op], value) if op in found else value
            return [Observation(value, labels(op)) for op, value in found.items()]

        observe(meter, row, read)

    def _read_waiting(self) -> list[Observation]:
        found: dict[tuple[str, str], int] = {}
        for op, one in self._list_ops():
            for state, n in (
                (WaitState.DUE, one.due),
                (WaitState.SCHEDULED, one.scheduled),
                (WaitState.RETRYING, one.retrying),
            ):
                found[op, state.value] = found.get((op, state.value), 0) + n
        return [Observation(n, self._waiting_labels(*key)) for key, n in found.items()]

    def _read_finished(self) -> list[Observation]:
        found: dict[tuple[str, str], int] = {}
        for op, one in self._list_ops():
            for outcome, n in (
                (Outcome.SUCCEEDED, one.succeeded),
                (Outcome.FAILED, one.failed),
                (Outcome.CANCELLED, one.cancelled),
            ):
                found[op, outcome.value] = found.get((op, outcome.value), 0) + n
        return [Observation(n, self._finished_labels(*key)) for key, n in found.items()]

    def _list_ops(self) -> Iterable[tuple[str, OpBacklog]]:
        since = self.now() - STALE_AFTER
        for read_at, backlog in list(self._kept.values()):
            if read_at >= since:
                for one in backlog.ops:
                    yield self._caps.task_ops(one.op), one


def _count_workers(one: OpBacklog) -> int:
    if one.unserved:
        return 0  # none that takes what is due there
    return max(one.workers, int(0 < one.due <= one.held))
