"""One call that sends spans, metrics and logs out of this process.

    with tapescope_telemetry.setup() as telemetry_setup:
        manager = TaskManager(url, telemetry=telemetry_setup.telemetry)

What goes where is said by the standard ``OTEL_*`` variables. Nothing happens at import, and nothing
global is touched unless it is asked for. The SDK is imported by the call, when there is a use.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING

from tapescope.errors import TapescopeError
from tapescope_telemetry.chosen import find_chosen, set_aside
from tapescope_telemetry.errors import (
    BadTelemetrySetting,
    MissingTelemetryExtra,
    ProvidersTaken,
    SdkRefused,
)
from tapescope_telemetry.lifetime import Made, TelemetrySetup
from tapescope_telemetry.names import SCOPE_NAME
from tapescope_telemetry.settings import (
    OnProblem,
    OtelSettings,
    Signal,
    SignalSettings,
    find_bad_limits,
    hidden,
    raise_problem,
    read_settings,
)
from tapescope_telemetry.telemetry import (
    Baggage,
    CancelStatus,
    ExceptionTexts,
    MessagingAttributes,
    Telemetry,
    TraceMode,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import ExemplarFilter
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

    from tapescope_telemetry.delivery import Delivery

__all__ = ["setup"]


def setup(
    *,
    service_name: str = "tapescope",
    resource: Mapping[str, str | int | bool] | None = None,
    metric_readers: Sequence[MetricReader] = (),
    trace_mode: TraceMode = "link",
    cancel_status: CancelStatus = "unset",
    exception_texts: ExceptionTexts = "told",
    messaging_attributes: MessagingAttributes = "off",
    baggage: Baggage = "off",
    as_global: bool = False,
    on_problem: OnProblem = raise_problem,
) -> TelemetrySetup:
    """Make OpenTelemetry providers as the ``OTEL_*`` variables ask for, and a telemetry on them.

    A signal leaves the process when its exporter or an endpoint is named (``read_settings``).
    Metrics may also be read where they are: ``metric_readers``, such as the scrape's. Choose one of
    the two for a deployment, or each number is there twice. What is read here has exemplars: spans
    are made for them even where none are sent. Where neither is asked for nothing is made, and the
    SDK is not imported.

    ``service_name`` and ``resource`` stand back behind ``OTEL_SERVICE_NAME`` and
    ``OTEL_RESOURCE_ATTRIBUTES``. ``trace_mode``, ``cancel_status``, ``exception_texts``,
    ``messaging_attributes`` and ``baggage`` are ``Telemetry``'s.

    With ``as_global`` the providers also become the process's, for the
    instrumentations of others, and the telemetry the one that managers and stores use where none is
    handed to them. A signal whose global provider ``OTEL_PYTHON_*_PROVIDER`` names keeps that one;
    the SDK's is made here.

    What is wrong with a setting of one signal is raised, or told to ``on_problem``: that signal
    stays in the process then, and the others go where they are to go.

    To be called after a fork, once in each process. Raises ``BadTelemetrySetting``,
    ``MissingTelemetryExtra``, ``SdkRefused`` and ``ProvidersTaken``.
    """
    settings = read_settings(on_problem=on_problem)
    made = Made()
    if not (settings.wanted or metric_readers):
        telemetry = Telemetry(
            trace_mode=trace_mode,
            cancel_status=cancel_status,
            exception_texts=exception_texts,
            messaging_attributes=messaging_attributes,
            baggage=baggage,
        )
        return TelemetrySetup(made, telemetry)
    chosen = find_chosen(on_problem) if as_global else frozenset[Signal]()
    with (
        hidden(find_bad_limits(on_problem)),
        set_aside(chosen) if as_global else nullcontext(),
        ExitStack() as undo,
    ):
        try:
            from tapescope_telemetry.exporters import self_metrics
        except ModuleNotFoundError as error:
            extra = "otlp" if settings.wanted else "prometheus"
            raise MissingTelemetryExtra("Sending telemetry", extra) from error
        if as_global and "traces" not in chosen:
            _check_free()
        _Maker(made, undo, service_name, dict(resource or {}), on_problem).make(
            settings, metric_readers, chosen
        )
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
                exception_texts=exception_texts,
                messaging_attributes=messaging_attributes,
                baggage=baggage,
            )
        undo.pop_all()
    if as_global:
        Telemetry.share(telemetry)
    if made.log_handler is not None:
        logging.getLogger(SCOPE_NAME).addHandler(made.log_handler)
    return TelemetrySetup(made, telemetry)


class _Maker:
    """Makes the providers of the signals, each whatever becomes of the others.

    ``undo`` ends what was begun, should the rest fail.
    """

    def __init__(
        self,
        made: Made,
        undo: ExitStack,
        service_name: str,
        attributes: dict[str, str | int | bool],
        on_problem: OnProblem,
    ) -> None:
        self._made, self._undo, self._on_problem = made, undo, on_problem
        self._names = service_name, attributes

    def make(
        self, settings: OtelSettings, readers: Sequence[MetricReader], chosen: Collection[Signal]
    ) -> None:
        """Fill ``made``, but for the signals whose provider the user has ``chosen``."""
        if "metrics" not in chosen:
            self._attempt(settings.metrics, partial(self._make_meters, readers))
        if "traces" not in chosen:  # without a span there is no trace for an exemplar to point to
            self._attempt(settings.traces, partial(self._make_tracers, bool(readers)))
        if "logs" not in chosen:
            self._attempt(settings.logs, self._make_loggers)

    def _attempt(
        self, wanted: SignalSettings, make: Callable[[SignalSettings, ExitStack], None]
    ) -> None:
        """Have a signal sent or, where its settings keep it from being, kept in the process."""
        try:
            with ExitStack() as undo:
                make(wanted, undo)
                self._undo.push(undo.pop_all())
            return
        except TapescopeError as error:
            problem = error
        except Exception as error:  # noqa: BLE001  # the SDK raises what it likes for a setting
            problem = SdkRefused(str(error))
            problem.__cause__ = error
        self._on_problem(problem)
        with ExitStack() as undo:
            try:
                make(SignalSettings(), undo)
            except Exception as error:  # the SDK raises what it likes, without settings too
                raise SdkRefused(str(error)) from error
            self._undo.push(undo.pop_all())

    @cached_property
    def _resource(self) -> Resource:
        from tapescope_telemetry.identity import make_resource

        return make_resource(*self._names)

    def _begin(self, signal: Signal, ways: Sequence[Delivery], undo: ExitStack) -> None:
        self._made.deliveries[signal] = list(ways)
        for way in ways:
            undo.callback(way.close)

    def _count(self, ways: Sequence[Delivery]) -> None:
        """Have what a delivery loses counted, where there are metrics to count it with."""
        from tapescope_telemetry import exporters

        if self._made.meter_provider is not None and exporters.self_metrics_wanted():
            for way in ways:
                way.count_on(self._made.meter_provider)

    def _make_meters(
        self, readers: Sequence[MetricReader], wanted: SignalSettings, undo: ExitStack
    ) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        from tapescope_telemetry import exporters

        exemplar_filter = self._read_exemplar_filter()  # may raise: no reader is left without one
        with exporters.self_metrics(False):  # the deliveries count instead, by what arrived
            points = exporters.make_metric_deliveries(wanted)
        ways = [delivery.way for delivery in points]
        self._begin("metrics", ways, undo)
        with exporters.self_metrics(True):
            pushing = [PeriodicExportingMetricReader(delivery) for delivery in points]
            for reader in pushing:
                undo.callback(reader.shutdown)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # the SDK's **kwargs
            if pushing or readers:
                self._made.meter_provider = MeterProvider(
                    [*pushing, *readers],
                    self._resource,
                    exemplar_filter=exemplar_filter,
                    shutdown_on_exit=False,
                )
                self._count(ways)

    def _read_exemplar_filter(self) -> ExemplarFilter:
        """As the SDK would, which raises for a name that it does not know."""
        from opentelemetry.sdk.environment_variables import OTEL_METRICS_EXEMPLAR_FILTER
        from opentelemetry.sdk.metrics import (
            AlwaysOffExemplarFilter,
            AlwaysOnExemplarFilter,
            TraceBasedExemplarFilter,
        )

        filters: Mapping[str, type[ExemplarFilter]] = {
            "": TraceBasedExemplarFilter,
            "trace_based": TraceBasedExemplarFilter,
            "always_on": AlwaysOnExemplarFilter,
            "always_off": AlwaysOffExemplarFilter,
        }
        name = os.environ.get(OTEL_METRICS_EXEMPLAR_FILTER, "").strip()
        if name.lower() not in filters:
            wanted = "'trace_based', 'always_on' or 'always_off'"
            self._on_problem(BadTelemetrySetting(OTEL_METRICS_EXEMPLAR_FILTER, name, wanted))
        return filters.get(name.lower(), TraceBasedExemplarFilter)()

    def _make_tracers(self, kept_here: bool, wanted: SignalSettings, undo: ExitStack) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased

        from tapescope_telemetry import exporters
        from tapescope_telemetry.sampling import LinkSampler

        with exporters.self_metrics(False):
            spans = exporters.make_span_deliveries(wanted)
        self._begin("traces", [delivery.way for delivery in spans], undo)
        if not (spans or kept_here):
            return
        meters = self._made.meter_provider
        with exporters.self_metrics(True):
            tracers = TracerProvider(
                resource=self._resource, shutdown_on_exit=False, meter_provider=meters
            )
            undo.callback(tracers.shutdown)
            if isinstance(tracers.sampler, ParentBased):
                tracers.sampler = LinkSampler(tracers.sampler)
            for delivery in spans:
                tracers.add_span_processor(BatchSpanProcessor(delivery, meter_provider=meters))
        self._count([delivery.way for delivery in spans])
        self._made.tracer_provider = tracers

    def _make_loggers(self, wanted: SignalSettings, undo: ExitStack) -> None:
        from tapescope_telemetry import exporters

        with exporters.self_metrics(False):
            records = exporters.make_log_deliveries(wanted)
        self._begin("logs", [delivery.way for delivery in records], undo)
        if not records:
            return
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        from tapescope_telemetry.logs import OtelHandler

        meters = self._made.meter_provider
        with exporters.self_metrics(True):
            loggers = LoggerProvider(
                resource=self._resource, shutdown_on_exit=False, meter_provider=meters
            )
            undo.callback(loggers.shutdown)
            for delivery in records:
                loggers.add_log_record_processor(
                    BatchLogRecordProcessor(delivery, meter_provider=meters)
                )
        self._count([delivery.way for delivery in records])
        self._made.logger_provider = loggers
        self._made.log_handler = OtelHandler(loggers)


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
