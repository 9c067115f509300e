"""What a process tells of itself: its spans and its metrics, kept in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tapescope_telemetry import Telemetry

__all__ = ["Told", "Witness"]

_ENDED: Final = "tapescope.task.duration"
_DROPPED: Final = "tapescope.tape.event.dropped"


@dataclass(frozen=True)
class Told:
    """All that a process has told by its end."""

    spans: Sequence[ReadableSpan]
    dropped: int
    """Events that it counted as dropped."""
    ended: Mapping[str, int]
    """Tasks that it counted as ended, by outcome."""


class Witness:
    """A ``Telemetry`` of its own, and what it was told."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        nothing = Resource.get_empty()
        tracers = TracerProvider(resource=nothing, shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        meters = MeterProvider([self._reader], resource=nothing, shutdown_on_exit=False)
        self.telemetry = Telemetry(tracer_provider=tracers, meter_provider=_Chosen(meters))

    def read(self) -> Told:
        """What it was told until now."""
        ended: Counter[str] = Counter()
        dropped = 0
        for name, point in self._points():
            if name == _ENDED:
                ended[point.attributes["tapescope.task.outcome"]] += point.count
            else:
                dropped += point.value
        return Told(self._exporter.get_finished_spans(), dropped, ended)

    def _points(self) -> Iterator[tuple[str, Any]]:
        data = self._reader.get_metrics_data()
        for resource in () if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        yield metric.name, point


class _Chosen(metrics.MeterProvider):
    """The two metrics that are read, by the SDK: to keep the others is half of all the work."""

    def __init__(self, inner: metrics.MeterProvider) -> None:
        self._inner = inner

    def get_meter(self, name: str, *about: Any, **more: Any) -> metrics.Meter:
        """Give a meter that keeps nothing else."""
        return _ChosenMeter(name, self._inner.get_meter(name, *about, **more))


class _ChosenMeter(metrics.NoOpMeter):
    def __init__(self, name: str, inner: metrics.Meter) -> None:
        super().__init__(name)
        self._inner = inner

    def create_counter(self, name: str, *about: Any, **more: Any) -> metrics.Counter:
        if name != _DROPPED:
            return super().create_counter(name, *about, **more)
        return _Counted(name, self._inner.create_counter(name, *about, **more))

    def create_histogram(self, name: str, *about: Any, **more: Any) -> metrics.Histogram:
        if name != _ENDED:
            return super().create_histogram(name, *about, **more)
        return self._inner.create_histogram(name, *about, **more)


class _Counted(metrics.NoOpCounter):
    """A counter whose many series of nothing yet are left out."""

    def __init__(self, name: str, inner: metrics.Counter) -> None:
        super().__init__(name)
        self._inner = inner

    def add(self, amount: float, *about: Any, **more: Any) -> None:
        if amount:
            self._inner.add(amount, *about, **more)
