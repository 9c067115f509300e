"""The SDK's exporters for each signal, as the settings name them. Imported by ``setup`` alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter
from opentelemetry.sdk.environment_variables import OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from tapescope_telemetry.delivery import LogDelivery, MetricDelivery, SpanDelivery
from tapescope_telemetry.errors import MissingTelemetryExtra

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

    from tapescope_telemetry.settings import Protocol, SignalSettings

__all__ = [
    "make_log_deliveries",
    "make_metric_deliveries",
    "make_span_deliveries",
    "self_metrics",
    "self_metrics_wanted",
]

T = TypeVar("T")

_KINDS: Final = {"grpc": "otlp_grpc", "http/protobuf": "otlp_http"}


def self_metrics_wanted() -> bool:
    """Whether the user leaves ``otel.sdk.*`` on."""
    return os.environ.get(OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED, "").strip().lower() != "false"


@contextmanager
def self_metrics(switch: bool) -> Generator[None]:
    """Have what the SDK makes meanwhile count itself (``otel.sdk.*``), or not.

    The SDK has no argument for it, only a variable. It is put back, for it is not ours to hand down
    to the children of this process. A user's own ``false`` stands.
    """
    name = OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED
    before = os.environ.get(name)
    if not self_metrics_wanted():
        yield
        return
    os.environ[name] = "true" if switch else "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def make_span_deliveries(wanted: SignalSettings) -> list[SpanDelivery]:
    """One for each exporter. Raises ``MissingTelemetryExtra``, and what the SDK raises."""
    return [
        SpanDelivery(f"{kind}_span_exporter", exporter)
        for kind, exporter in _make_each(wanted, ConsoleSpanExporter, _make_span_exporter)
    ]


def make_metric_deliveries(wanted: SignalSettings) -> list[MetricDelivery]:
    """One for each exporter. Raises ``MissingTelemetryExtra``, and what the SDK raises."""
    return [
        MetricDelivery(f"{kind}_metric_exporter", exporter)
        for kind, exporter in _make_each(wanted, ConsoleMetricExporter, _make_metric_exporter)
    ]


def make_log_deliveries(wanted: SignalSettings) -> list[LogDelivery]:
    """One for each exporter. Raises ``MissingTelemetryExtra``, and what the SDK raises."""
    return [
        LogDelivery(f"{kind}_log_exporter", exporter)
        for kind, exporter in _make_each(wanted, ConsoleLogRecordExporter, _make_log_exporter)
    ]


def _make_each(
    wanted: SignalSettings, console: Callable[..., T], otlp: Callable[[Protocol], T]
) -> Generator[tuple[str, T]]:
    """The kind and the exporter of each that is wanted; the console's writes on stderr."""
    for name in wanted.exporters:
        if name == "console":
            yield "console", console(out=sys.stderr)
        else:
            yield _KINDS[wanted.protocol], _load(otlp, wanted.protocol)


def _load(make: Callable[[Protocol], T], protocol: Protocol) -> T:
    try:
        return make(protocol)
    except ModuleNotFoundError as error:
        raise MissingTelemetryExtra("OTLP", "otlp") from error


def _make_span_exporter(protocol: Protocol) -> SpanExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

        return grpc.OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

    return http.OTLPSpanExporter()


def _make_metric_exporter(protocol: Protocol) -> MetricExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc

        return grpc.OTLPMetricExporter()
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as http

    return http.OTLPMetricExporter()


def _make_log_exporter(protocol: Protocol) -> LogRecordExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc

        return grpc.OTLPLogExporter()
    from opentelemetry.exporter.otlp.proto.http import _log_exporter as http

    return http.OTLPLogExporter()
