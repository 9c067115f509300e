"""Instruments made from the rows of the contract, and the tallies behind the observable ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, TypeVar
from weakref import WeakMethod

from opentelemetry.context import Context
from opentelemetry.metrics import (
    CallbackOptions,
    Counter,
    Histogram,
    Meter,
    MeterProvider,
    NoOpMeter,
    Observation,
)
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from tapescope_telemetry._version import __version__
from tapescope_telemetry.guard import METRICS_OF_OTHERS
from tapescope_telemetry.labels import LabelSets
from tapescope_telemetry.names import SCHEMA_URL, SCOPE_NAME, MetricRow

__all__ = [
    "NO_CONTEXT",
    "GuardedCounter",
    "GuardedHistogram",
    "Tally",
    "Watched",
    "counter",
    "histogram",
    "make_meter",
    "observe",
]

T = TypeVar("T")

_SILENT: Final = NoOpMeter(SCOPE_NAME)

NO_CONTEXT: Final = set_span_in_context(INVALID_SPAN, Context())
"""No span at all: a zero must not become an exemplar, which would point at the first caller.

Not an empty context: the SDK takes that one for none given, and looks at the caller's.
"""


class GuardedCounter:
    """A counter that raises nothing, whatever its provider, its views or an exemplar do."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Counter) -> None:
        self._inner = inner

    def is_heard(self) -> bool:
        """See ``GuardedHistogram.is_heard``."""
        return getattr(self._inner, "_real_instrument", self._inner) is not None

    def add(self, n: int, labels: Mapping[str, str], context: Context | None = None) -> None:
        """Count ``n`` under these labels."""
        try:
            self._inner.add(n, labels, context)
        except Exception as error:  # noqa: BLE001  # guarded; a with block would cost twice as much here
            METRICS_OF_OTHERS.note(type(error))


class GuardedHistogram:
    """A histogram that raises nothing, as ``GuardedCounter``."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Histogram) -> None:
        self._inner = inner

    def is_heard(self) -> bool:
        """Whether what is told may reach anybody; until a provider is set there is nobody.

        To be asked before labels are looked up, or an exemplar: most tasks are run without an SDK.
        """
        # An instrument of the API stands for the real one that it has once a provider is set. Where
        # it calls that by another name, it is told what it throws away.
        return getattr(self._inner, "_real_instrument", self._inner) is not None

    def record(
        self, value: float, labels: Mapping[str, str], context: Context | None = None
    ) -> None:
        """Record a value under these labels."""
        try:
            self._inner.record(value, labels, context)
        except Exception as error:  # noqa: BLE001  # guarded; a with block would cost twice as much here
            METRICS_OF_OTHERS.note(type(error))


def make_meter(provider: MeterProvider) -> Meter:
    """The platform's meter of this provider; a silent one where it raises."""
    with METRICS_OF_OTHERS:
        return provider.get_meter(SCOPE_NAME, __version__, SCHEMA_URL)
    return _SILENT


def counter(meter: Meter, row: MetricRow) -> GuardedCounter:
    """A synchronous counter: for facts that deserve an exemplar."""
    inner = _SILENT.create_counter(row.name)
    with METRICS_OF_OTHERS:
        inner = meter.create_counter(row.name, row.unit, row.description)
    return GuardedCounter(inner)


def histogram(meter: Meter, row: MetricRow) -> GuardedHistogram:
    """A histogram with the row's bucket boundaries as advice, which a view may overrule."""
    inner = _SILENT.create_histogram(row.name)
    with METRICS_OF_OTHERS:
        inner = meter.create_histogram(
            row.name,
            row.unit,
            row.description,
            explicit_bucket_boundaries_advisory=row.boundaries,
        )
    return GuardedHistogram(inner)


def observe(meter: Meter, row: MetricRow, read: Callable[[], Iterable[Observation]]) -> None:
    """Make the row's observable instrument; ``read`` is called at each collection."""

    def callback(_: CallbackOptions) -> Iterable[Observation]:
        return read()

    with METRICS_OF_OTHERS:
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

    def move(self, first: str, left: str | None, entered: str | None) -> None:
        """Count one more beside ``first`` under ``entered``, and one less under ``left``."""
        counts = self._counts
        with self._lock:
            if left is not None:
                counts[first, left] = counts.get((first, left), 0) - 1
            if entered is not None:
                counts[first, entered] = counts.get((first, entered), 0) + 1

    def read(self) -> list[Observation]:
        """What to report now, one observation a label set."""
        with self._lock:
            counts = list(self._counts.items())
        return [Observation(count, self._labels(*values)) for values, count in counts]


class Watched(Generic[T]):
    """Bound methods that are asked at each collection, from any thread.

    Telemetry outlives managers and stores: one that was never closed is not to be kept by it.
    """

    def __init__(self) -> None:
        self._methods: list[WeakMethod[Callable[[], T]]] = []

    def add(self, method: Callable[[], T]) -> None:
        """Ask this method, until ``remove``, or until its object is gone."""
        self._methods.append(WeakMethod(method))

    def remove(self, method: Callable[[], T]) -> None:
        """Undo ``add``; a method that is not watched is not an error."""
        self._methods = [kept for kept in self._methods if kept() not in (None, method)]

    def ask(self) -> list[T]:
        """What each of them gives now."""
        return [method() for kept in tuple(self._methods) if (method := kept()) is not None]
