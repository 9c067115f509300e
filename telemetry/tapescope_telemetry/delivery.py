"""The way out of one signal: bounded, and counted by what really arrived.

The SDK's exporters retry for ten seconds and cannot be interrupted, and what the SDK counts as
exported is not always so: a batch that the collector refused with a 503 over HTTP, or that a
shutdown cut short, has no error in its count. So each exporter is wrapped: a batch is sent in a
thread that may be left behind, and ``otel.sdk.exporter.*`` is counted here, by the result.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Delivery", "LogDelivery", "MetricDelivery", "SpanDelivery"]

_log = Logger(__name__)

_FAILED: Final = "export_failed"
"""The exporter gave up: it logs why."""
_GIVEN_UP: Final = "shutdown"
"""There was no more time."""
_FORKED: Final = "forked"
"""The process is a child of the one that has the connections."""

_numbers: Counter[str] = Counter()
"""Of the exporters of each kind in this process, as the conventions number them."""


class _Sending:
    """One batch under way; the first thread that settles it counts it."""

    __slots__ = ("delivered", "settled")

    def __init__(self) -> None:
        self.delivered = False
        self.settled = threading.Event()


class Delivery:
    """Sends the batches of one exporter, and knows how many items arrived."""

    def __init__(self, kind: str, noun: str, unit: str, close: Callable[[], object]) -> None:
        self.kind: Final = kind
        """What it is, in the words of ``otel.component.type``."""
        self._noun, self._unit = noun, unit
        self._close = close
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._under_way: set[_Sending] = set()
        self._given_up = False
        self._closed = False
        self._count: Callable[[int, float, str | None], None] | None = None
        self._move: Callable[[int], None] | None = None
        self.delivered = 0
        """Items that arrived."""
        self.lost = 0
        """Items that did not."""

    def count_on(self, meter_provider: MeterProvider) -> None:
        """Count what is sent on this provider, under the conventions' names."""
        meter = meter_provider.get_meter("opentelemetry-sdk")
        name = f"otel.sdk.exporter.{self._noun}"
        exported = meter.create_counter(
            f"{name}.exported",
            self._unit,
            "Items whose export ended, with an error.type if they failed.",
        )
        in_flight = meter.create_up_down_counter(
            f"{name}.inflight",
            self._unit,
            "Items that were passed to the exporter and are under way.",
        )
        duration = meter.create_histogram(
            "otel.sdk.exporter.operation.duration", "s", "The time of exporting a batch."
        )
        own: dict[str, str] = {
            "otel.component.type": self.kind,
            "otel.component.name": f"{self.kind}/{_numbers[self.kind]}",
        }
        _numbers[self.kind] += 1

        def count(items: int, seconds: float, error: str | None) -> None:
            labels = own if error is None else {**own, "error.type": error}
            exported.add(items, labels)
            duration.record(seconds, labels)

        self._count = count
        self._move = lambda items: in_flight.add(items, own)

    def send(self, items: int, export: Callable[[], object], success: object) -> bool:
        """Send a batch and say whether it arrived; returns at once after ``give_up``."""
        began = perf_counter()
        if os.getpid() != self._pid:
            return self._settle(items, began, _FORKED)  # its connections are its parent's
        sending = _Sending()
        with self._lock:
            refused = self._given_up or self._closed
            if not refused:
                self._under_way.add(sending)
        if refused:
            return self._settle(items, began, _GIVEN_UP)
        if self._move is not None:
            self._move(items)

        def work() -> None:
            try:
                sending.delivered = export() is success
            except Exception:  # noqa: BLE001  # whatever an exporter raises, its batch is lost and counted
                _log.exception("The %s raised an exception.", self.kind)
            finally:
                sending.settled.set()

        # The context says that what an exporter does is not to be traced itself.
        run = contextvars.copy_context().run
        threading.Thread(
            target=run, args=(work,), name=f"tapescope-{self.kind}", daemon=True
        ).start()
        sending.settled.wait()
        with self._lock:
            self._under_way.discard(sending)
            given_up = self._given_up
        if self._move is not None:
            self._move(-items)
        if sending.delivered:
            return self._settle(items, began, None)
        return self._settle(items, began, _GIVEN_UP if given_up else _FAILED)

    def give_up(self) -> None:
        """Wait for nothing any more: what is under way and what still comes counts as lost."""
        with self._lock:
            self._given_up = True
            waiting = tuple(self._under_way)
        for sending in waiting:
            sending.settled.set()

    def close(self) -> None:
        """Close the exporter; a second call does nothing."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed and os.getpid() == self._pid:
            self._close()

    def _settle(self, items: int, began: float, error: str | None) -> bool:
        with self._lock:
            if error is None:
                self.delivered += items
            else:
                self.lost += items
        if self._count is not None:
            self._count(items, perf_counter() - began, error)
        return error is None


class SpanDelivery(SpanExporter):
    """A span exporter by way of a ``Delivery``."""

    def __init__(self, kind: str, inner: SpanExporter) -> None:
        self._inner = inner
        self.way: Final = Delivery(kind, "span", "{span}", inner.shutdown)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send these spans."""
        sent = self.way.send(
            len(spans), lambda: self._inner.export(spans), SpanExportResult.SUCCESS
        )
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Close the exporter."""
        self.way.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return True


class LogDelivery(LogRecordExporter):
    """A log exporter by way of a ``Delivery``."""

    def __init__(self, kind: str, inner: LogRecordExporter) -> None:
        self._inner = inner
        self.way: Final = Delivery(kind, "log", "{log_record}", inner.shutdown)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send these records."""
        sent = self.way.send(
            len(batch), lambda: self._inner.export(batch), LogRecordExportResult.SUCCESS
        )
        return LogRecordExportResult.SUCCESS if sent else LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        """Close the exporter."""
        self.way.close()

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Nothing is kept here."""
        return True


class MetricDelivery(MetricExporter):
    """A metric exporter by way of a ``Delivery``."""

    def __init__(self, kind: str, inner: MetricExporter) -> None:
        # The reader asks the exporter that it is given; the SDK has no public name for these.
        super().__init__(
            preferred_temporality=inner._preferred_temporality,  # pyright: ignore[reportPrivateUsage]  # see above
            preferred_aggregation=inner._preferred_aggregation,  # pyright: ignore[reportPrivateUsage]  # see above
        )
        self._inner = inner
        self.way: Final = Delivery(
            kind,
            "metric_data_point",
            "{data_point}",
            inner.shutdown,  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # the SDK's **kwargs
        )

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Send these metrics."""
        points = sum(
            len(metric.data.data_points)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        sent = self.way.send(
            points,
            lambda: self._inner.export(metrics_data, timeout_millis, **kwargs),  # pyright: ignore[reportUnknownMemberType]  # the SDK's **kwargs
            MetricExportResult.SUCCESS,
        )
        return MetricExportResult.SUCCESS if sent else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is kept here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the exporter."""
        self.way.close()
