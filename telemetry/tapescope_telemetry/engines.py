"""The metrics of engines: what they bring, and what they have not taken yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Observation

from tapescope_telemetry.instruments import NO_CONTEXT, counter, observe
from tapescope_telemetry.labels import LabelCaps, LabelSets
from tapescope_telemetry.names import ENGINE_BROUGHT, ENGINE_OVERDUE, ENGINE_RECONCILED, OTHER

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ["EngineMeter"]

STALE_AFTER: Final = 180.0
"""Seconds after which a number of overdue tasks is not told any more. A turn of a reconciler whose
engine answers slowly takes two minutes, and an alert is to outlast it."""


class EngineMeter:
    """What the workers of engines count. Made by ``Telemetry``."""

    def __init__(self, meter: Meter, caps: LabelCaps) -> None:
        self._caps = caps
        self._brought = counter(meter, ENGINE_BROUGHT)
        self._reconciled = counter(meter, ENGINE_RECONCILED)
        self._of_brought = LabelSets(ENGINE_BROUGHT)
        self._of_reconciled = LabelSets(ENGINE_RECONCILED)
        self._of_overdue = LabelSets(ENGINE_OVERDUE)
        self._overdue: dict[tuple[str, str], tuple[float, int]] = {}
        self.now: Callable[[], float] = time.monotonic
        observe(meter, ENGINE_OVERDUE, self._read_overdue)

    def brought(self, engine: str, op: str | None, result: str, held: str | None = None) -> None:
        """A task came to this; ``op`` is ``None`` where the store has no such task.

        ``result`` and ``held`` are of closed sets.
        """
        label = OTHER if op is None else self._caps.task_ops(op)
        labels = self._of_brought(self._caps.engines(engine), label, result, held)
        self._brought.add(1, labels, NO_CONTEXT)

    def reconciled(self, engine: str, result: str, n: int) -> None:
        """A reconciler came to this with ``n`` tasks; ``result`` is of the closed set."""
        if n:
            labels = self._of_reconciled(self._caps.engines(engine), result)
            self._reconciled.add(n, labels, NO_CONTEXT)

    def overdue_read(self, store: str, engine: str, tasks: int) -> None:
        """So many tasks of this store are overdue. Of two stores the numbers are added up."""
        self._overdue[store, self._caps.engines(engine)] = self.now(), tasks

    def overdue_left(self, store: str, engine: str) -> None:
        """The store is not read any more."""
        self._overdue.pop((store, self._caps.engines(engine)), None)

    def _read_overdue(self) -> list[Observation]:
        since = self.now() - STALE_AFTER
        found: dict[str, int] = {}
        for (_, engine), (read_at, tasks) in tuple(self._overdue.items()):
            if read_at >= since:
                found[engine] = found.get(engine, 0) + tasks
        return [Observation(n, self._of_overdue(engine)) for engine, n in found.items()]
