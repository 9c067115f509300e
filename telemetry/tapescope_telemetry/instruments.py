"""Instruments made from the rows of the contract, and the tallies behind the observable ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from tapescope_telemetry.labels import LabelSets
from tapescope_telemetry.names import MetricRow

__all__ = ["NO_CONTEXT", "Tally", "counter", "histogram", "observe"]

NO_CONTEXT: Final = set_span_in_context(INVALID_SPAN, Context())
"""No span at all: a zero must not become the exemplar that points at the span that came first.

Not an empty context: the SDK takes that one for none given, and looks at the caller's.
"""


def counter(meter: Meter, row: MetricRow) -> Counter:
    """A synchronous counter: for facts that deserve an exemplar."""
    return meter.create_counter(row.name, row.unit, row.description)


def histogram(meter: Meter, row: MetricRow) -> Histogram:
    """A histogram with the row's bucket boundaries as advice, which a view may overrule."""
    return meter.create_histogram(
        row.name,
        row.unit,
        row.description,
        explicit_bucket_boundaries_advisory=row.boundaries,
    )


def observe(meter: Meter, row: MetricRow, read: Callable[[], Iterable[Observation]]) -> None:
    """Make the row's observable instrument; ``read`` is called at each collection."""

    def callback(_: CallbackOptions) -> Iterable[Observation]:
        return read()

    create = {
        "counter": meter.create_observable_counter,
        "updowncounter": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }[row.kind]
    create(row.name, [callback], row.unit, row.description)


class Tally:
    """A metric's integers by label set, read by its observable instrument.

    Counting costs a lock and a dictionary entry, with or without an SDK, and what was counted
    before a provider was set is not lost. Any thread may count.
    """

    __slots__ = ("_counts", "_labels", "_lock")

    def __init__(self, meter: Meter, row: MetricRow) -> None:
        self._labels = LabelSets(row)
        self._counts: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()
        observe(meter, row, self.read)

    def add(self, n: int, *values: str) -> None:
        """Count ``n`` under these label values, in the row's order; 0 makes the series exist."""
        with self._lock:
            self._counts[values] = self._counts.get(values, 0) + n

    def read(self) -> list[Observation]:
        """What to report now, one observation a label set."""
        with self._lock:
            counts = list(self._counts.items())
        return [Observation(count, self._labels(*values)) for values, count in counts]
