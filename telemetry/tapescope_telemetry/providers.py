"""One call that sends spans, metrics and logs out of this process.

    with tapescope_telemetry.setup() as telemetry_setup:
        manager = TaskManager(url, telemetry=telemetry_setup.telemetry)

What goes where is said by the standard ``OTEL_*`` variables. Nothing happens at import, and nothing
global is touched unless it is asked for. The SDK is imported by the call, when there is a use.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tapescope.errors import TapescopeError
from tapescope_telemetry.errors import (
    MissingTelemetryExtra,
    ProvidersTaken,
    SdkRefused,
)
from tapescope_telemetry.lifetime import Made, TelemetrySetup
from tapescope_telemetry.names import SCOPE_NAME
from tapescope_telemetry.settings import OtelSettings, read_settings
from tapescope_telemetry.telemetry import CancelStatus, Telemetry, TraceMode

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader

__all__ = ["setup"]


def setup(
    *,
    service_name: str = "tapescope",
    resource: Mapping[str, str | int | bool] | None = None,
    metric_readers: Sequence[MetricReader] = (),
    trace_mode: TraceMode = "link",
    cancel_status: CancelStatus = "unset",
    as_global: bool = False,
) -> TelemetrySetup:
    """Make OpenTelemetry providers as the ``OTEL_*`` variables ask for, and a telemetry on them.

    A signal leaves the process when its exporter or an endpoint is named (``read_settings``).
    Metrics may also be read where they are: ``metric_readers``, such as the scrape's. Choose one of
    the two for a deployment, or each number is there twice. What is read here has exemplars: spans
    are made for them even where none are sent. Where neither is asked for nothing is made, and the
    SDK is not imported.

    ``service_name`` and ``resource`` stand back behind ``OTEL_SERVICE_NAME`` and
    ``OTEL_RESOURCE_ATTRIBUTES``. ``trace_mode`` and ``cancel_status`` are ``Telemetry``'s. With
    ``as_global`` the providers also become the process's, for the instrumentations of others, and
    the telemetry the one that managers and stores use where none is handed to them.

    To be called after a fork, once in each process. Raises ``BadTelemetrySetting``,
    ``MissingTelemetryExtra``, ``SdkRefused`` and ``ProvidersTaken``.
    """
    settings = read_settings()
    made = Made()
    if not (settings.wanted or metric_readers):
        telemetry = Telemetry(trace_mode=trace_mode, cancel_status=cancel_status)
        return TelemetrySetup(made, telemetry)
    try:
        from tapescope_telemetry.exporters import self_metrics
    except ModuleNotFoundError as error:
        extra = "otlp" if settings.wanted else "prometheus"
        raise MissingTelemetryExtra("Sending telemetry", extra) from error

    if as_global:
        _check_free()
    with ExitStack() as undo:
        try:
            _make_providers(
                made, settings, metric_readers, service_name, dict(resource or {}), undo
            )
        except TapescopeError:
            raise
        except Exception as error:
            raise SdkRefused(str(error)) from error
        with self_metrics(True):  # the tracer counts itself, and is made here
            if as_global:
                _set_global(made)
            telemetry = Telemetry(
                tracer_provider=made.tracer_provider,
                # None is the global one: what was counted on it before it was set counts, too.
                meter_provider=None if as_global else made.meter_provider,
                logger_provider=made.logger_provider,
                trace_mode=trace_mode,
                cancel_status=cancel_status,
            )
        undo.pop_all()
    if as_global:
        Telemetry.share(telemetry)
    if made.log_handler is not None:
        logging.getLogger(SCOPE_NAME).addHandler(made.log_handler)
    return TelemetrySetup(made, telemetry)


def _make_providers(
    made: Made,
    settings: OtelSettings,
    readers: Sequence[MetricReader],
    service_name: str,
    attributes: dict[str, str | int | bool],
    undo: ExitStack,
) -> None:
    """Fill ``made``; ``undo`` ends what was begun, should the rest fail."""
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from tapescope_telemetry import exporters
    from tapescope_telemetry.identity import make_resource
    from tapescope_telemetry.logs import OtelHandler

    with exporters.self_metrics(False):  # the deliveries count instead, by what arrived
        spans = exporters.make_span_deliveries(settings.traces)
        points = exporters.make_metric_deliveries(settings.metrics)
        records = exporters.make_log_deliveries(settings.logs)
    made.deliveries = {
        "traces": [delivery.way for delivery in spans],
        "metrics": [delivery.way for delivery in points],
        "logs": [delivery.way for delivery in records],
    }
    for way in (way for ways in made.deliveries.values() for way in ways):
        undo.callback(way.close)
    made_of = make_resource(service_name, attributes)
    with exporters.self_metrics(True):
        pushing = [PeriodicExportingMetricReader(delivery) for delivery in points]
        for reader in pushing:
            undo.callback(reader.shutdown)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # the SDK's **kwargs
        meters: MeterProvider | None = None
        if pushing or readers:
            meters = MeterProvider([*pushing, *readers], made_of, shutdown_on_exit=False)
            made.meter_provider = meters
        if meters is not None and exporters.self_metrics_wanted():
            for way in (way for ways in made.deliveries.values() for way in ways):
                way.count_on(meters)
        if spans or readers:  # without a span there is no trace for an exemplar to point to
            tracers = TracerProvider(
                resource=made_of, shutdown_on_exit=False, meter_provider=meters
            )
            made.tracer_provider = tracers
            undo.callback(tracers.shutdown)
            for delivery in spans:
                tracers.add_span_processor(BatchSpanProcessor(delivery, meter_provider=meters))
        if records:
            loggers = LoggerProvider(
                resource=made_of, shutdown_on_exit=False, meter_provider=meters
            )
            made.logger_provider = loggers
            undo.callback(loggers.shutdown)
            for log_delivery in records:
                loggers.add_log_record_processor(
                    BatchLogRecordProcessor(log_delivery, meter_provider=meters)
                )
            made.log_handler = OtelHandler(loggers)


def _check_free() -> None:
    from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

    if not isinstance(get_tracer_provider(), ProxyTracerProvider):
        raise ProvidersTaken


def _set_global(made: Made) -> None:
    from opentelemetry import _logs, metrics, trace

    if made.tracer_provider is not None:
        trace.set_tracer_provider(made.tracer_provider)
    if made.meter_provider is not None:
        metrics.set_meter_provider(made.meter_provider)
        if metrics.get_meter_provider() is not made.meter_provider:
            raise ProvidersTaken  # the API only warns
    if made.logger_provider is not None:
        _logs.set_logger_provider(made.logger_provider)
