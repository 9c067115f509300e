"""A ``Telemetry`` on a real SDK whose exporters keep what they are given, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    Metric,
    MetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tapescope_telemetry import Telemetry


@dataclass(frozen=True)
class Point:
    """One series of a metric: its labels, its value (a histogram's count) and exemplars."""

    labels: Mapping[str, Any]
    value: float
    point: Any

    def has(self, **labels: str) -> bool:
        """Whether the labels end in these names (``task_op`` for ``tapescope.task.op``)."""
        short = {
            key.removeprefix("tapescope.").replace(".", "_"): v for key, v in self.labels.items()
        }
        return all(short.get(key) == value for key, value in labels.items())


class CapturedTelemetry:
    """Reads back what its telemetry told."""

    def __init__(self, *readers: MetricReader) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader, *readers], shutdown_on_exit=False)
        self.telemetry = Telemetry(
            tracer_provider=self.tracer_provider, meter_provider=self.meter_provider
        )

    def close(self) -> None:
        """Shut both providers down."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    def spans(self) -> tuple[ReadableSpan, ...]:
        """The ended spans, in the order of their ends."""
        return self.exporter.get_finished_spans()

    def span(self) -> ReadableSpan:
        """The only ended span."""
        (span,) = self.spans()
        return span

    def metrics(self) -> dict[str, Metric]:
        """Every metric that has data, by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str, **labels: str) -> list[Point]:
        """The series of a metric that have these labels."""
        metric = self.metrics().get(name)
        found: list[Point] = []
        for point in metric.data.data_points if metric is not None else ():
            value = point.value if isinstance(point, NumberDataPoint) else point.count
            found.append(Point(dict(point.attributes or {}), value, point))
        return [point for point in found if point.has(**labels)]

    def value(self, name: str, **labels: str) -> float:
        """The value of the only series of a metric that has these labels."""
        (point,) = self.points(name, **labels)
        return point.value
