"""The inside of the stores of a process: what is under way in them, and how large they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation

from tapescope.model import ConnectionState, StoreLoad, StoreSize
from tapescope_telemetry.instruments import Watched, observe
from tapescope_telemetry.labels import LabelSets
from tapescope_telemetry.names import (
    CONNECTION_WAITERS,
    CONNECTIONS,
    DISK_FREE,
    DISK_SIZE,
    FILE_FREE,
    FILE_SIZE,
    LOG_SIZE,
    QUARANTINE_SIZE,
    QUEUE_DEPTH,
    MetricRow,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ["StoreInternals"]


class StoreInternals:
    """Asked at each collection, from any thread; a collection reads no store.

    Of two stores of one adapter what is under way is added up, and of sizes the one nearer to its
    end is told: the larger file, the disk with less room.
    """

    def __init__(self, meter: Meter) -> None:
        self._loads: dict[str, Watched[StoreLoad]] = {}
        self._sizes: dict[tuple[str, str], StoreSize] = {}
        self._connection_labels = LabelSets(CONNECTIONS)
        self._observe_load(meter, QUEUE_DEPTH, lambda one: one.queued)
        self._observe_load(
            meter, CONNECTION_WAITERS, lambda one: None if one.used is None else one.waiting
        )
        observe(meter, CONNECTIONS, self._read_connections)
        self._observe_size(meter, LOG_SIZE, lambda one: one.log, max)
        self._observe_size(meter, FILE_SIZE, lambda one: one.file, max)
        self._observe_size(meter, FILE_FREE, lambda one: one.free, max)
        self._observe_size(meter, DISK_FREE, lambda one: one.disk_free, min)
        self._observe_size(meter, DISK_SIZE, lambda one: one.disk, min)
        self._observe_size(meter, QUARANTINE_SIZE, lambda one: one.quarantine, max)

    def watch(self, adapter: str, read: Callable[[], StoreLoad]) -> None:
        """A store was opened: ask this method of it until ``unwatch``, or until it is gone."""
        self._loads.setdefault(adapter, Watched()).add(read)

    def unwatch(self, adapter: str, read: Callable[[], StoreLoad]) -> None:
        """The store was closed."""
        self._loads.setdefault(adapter, Watched()).remove(read)

    def keep(self, adapter: str, store: str, size: StoreSize) -> None:
        """The store of this name was found to be so large."""
        self._sizes[adapter, store] = size

    def forget(self, adapter: str, store: str) -> None:
        """The store of this name is not measured any more."""
        self._sizes.pop((adapter, store), None)

    def _list_loads(self) -> list[tuple[str, list[StoreLoad]]]:
        return [(adapter, watched.ask()) for adapter, watched in list(self._loads.items())]

    def _observe_load(
        self, meter: Meter, row: MetricRow, measure: Callable[[StoreLoad], int | None]
    ) -> None:
        labels = LabelSets(row)

        def read() -> list[Observation]:
            told: list[Observation] = []
            for adapter, loads in self._list_loads():
                values = [value for one in loads if (value := measure(one)) is not None]
                if values:
                    told.append(Observation(sum(values), labels(adapter)))
            return told

        observe(meter, row, read)

    def _read_connections(self) -> list[Observation]:
        told: list[Observation] = []
        for adapter, loads in self._list_loads():
            shared = [one for one in loads if one.used is not None]
            if shared:
                used, idle = sum(one.used or 0 for one in shared), sum(one.idle for one in shared)
                for state, n in ((ConnectionState.USED, used), (ConnectionState.IDLE, idle)):
                    told.append(Observation(n, self._connection_labels(state, adapter)))
        return told

    def _observe_size(
        self,
        meter: Meter,
        row: MetricRow,
        measure: Callable[[StoreSize], int | None],
        nearer: Callable[[int, int], int],
    ) -> None:
        labels = LabelSets(row)

        def read() -> list[Observation]:
            found: dict[str, int] = {}
            for (adapter, _), size in list(self._sizes.items()):
                if (value := measure(size)) is not None:
                    found[adapter] = nearer(found.get(adapter, value), value)
            return [Observation(value, labels(adapter)) for adapter, value in found.items()]

        observe(meter, row, read)
