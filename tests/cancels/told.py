"""What a process tells of itself: its spans and its metrics, kept in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tapescope_telemetry import Telemetry

__all__ = ["Told", "Witness"]

_UNREAD: Final = [
    View(instrument_name=f"tapescope.{name}", aggregation=DropAggregation())
    for name in ("[!t]*", "task.[!d]*", "tape.[!e]*", "tape.event.[!d]*")
]
"""All but the two that are read here: to keep them costs a scenario a third of its time."""


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
        meters = MeterProvider(
            [self._reader], resource=nothing, shutdown_on_exit=False, views=_UNREAD
        )
        self.telemetry = Telemetry(tracer_provider=tracers, meter_provider=meters)

    def read(self) -> Told:
        """What it was told until now."""
        ended: Counter[str] = Counter()
        dropped = 0
        for name, point in self._points():
            if name == "tapescope.task.duration":
                ended[point.attributes["tapescope.task.outcome"]] += point.count
            elif name == "tapescope.tape.event.dropped":
                dropped += point.value
        return Told(self._exporter.get_finished_spans(), dropped, ended)

    def _points(self) -> Iterator[tuple[str, Any]]:
        data = self._reader.get_metrics_data()
        for resource in () if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        yield metric.name, point
