"""Providers, processors, instruments, views and log handlers that fail, or are slow, at each hook.

They are real: an SDK's, with a fault before each call that the platform, or the SDK for it, makes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, Final

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk import metrics as sdk_metrics
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import Aggregation, DefaultAggregation, View
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from tapescope_telemetry import Telemetry

__all__ = ["Fault", "FaultyTelemetry", "HookFailed"]


class HookFailed(RuntimeError):
    """What a hook of these raises."""


class Fault:
    """What happens at a hook: it raises, every time or by chance, or it takes some seconds."""

    def __init__(self, *, chance: float = 1.0, seconds: float | None = None, seed: int = 7) -> None:
        self._chance: Final = chance
        self._seconds: Final = seconds
        self._random: Final = Random(seed)
        self._lock: Final = threading.Lock()
        self.hooks: Final[Counter[str]] = Counter()
        """How often each hook had its fault."""
        self.slow: Final = seconds is not None
        """Whether it takes time, and raises nothing."""
        self.armed = True
        """Whether there are faults now."""

    def at(self, hook: str) -> None:
        """Have the fault of this hook."""
        with self._lock:
            if not self.armed or self._random.random() >= self._chance:
                return
            self.hooks[hook] += 1
        if self._seconds is None:
            raise HookFailed(hook)
        time.sleep(self._seconds)  # the fault itself: a hook that takes its time


class _Processor(SpanProcessor):
    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._fault.at("processor.on_start")

    def on_end(self, span: ReadableSpan) -> None:
        self._fault.at("processor.on_end")

    def shutdown(self) -> None:
        self._fault.at("processor.shutdown")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self._fault.at("processor.force_flush")
        return True


class _Exporter(SpanExporter):
    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._fault.at("exporter.export")
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._fault.at("exporter.shutdown")


class _View(View):
    def __init__(self, fault: Fault) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # the SDK's
            instrument_name="tapescope.cancel.*", aggregation=_Aggregation(fault)
        )


class _Aggregation(Aggregation):
    """The SDK asks for it at the first measurement of each label set."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._inner: Any = DefaultAggregation()

    def _create_aggregation(self, *args: Any, **kwargs: Any) -> Any:
        self._fault.at("view.aggregation")
        return self._inner._create_aggregation(*args, **kwargs)


class _Propagator(TextMapPropagator):
    """The process's own, for the instrumentations of others: the platform has one of its own."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def extract(self, carrier: Any, context: Context | None = None, getter: Any = None) -> Context:
        self._fault.at("propagator.extract")
        return Context() if context is None else context

    def inject(self, carrier: Any, context: Context | None = None, setter: Any = None) -> None:
        self._fault.at("propagator.inject")

    @property
    def fields(self) -> set[str]:
        self._fault.at("propagator.fields")
        return set()


class _Faulty:
    """Any object of an SDK, with a fault before each call of these methods."""

    def __init__(self, inner: Any, fault: Fault, name: str, methods: Mapping[str, str]) -> None:
        self._inner, self._fault, self._name, self._methods = inner, fault, name, methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._methods:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._fault.at(f"{self._name}.{name}")
            made = found(*args, **kwargs)
            inner = self._methods[name]
            return _Faulty(made, self._fault, inner, _METHODS.get(inner, {})) if inner else made

        return call


_METHODS: Final[Mapping[str, Mapping[str, str]]] = {
    "provider": {"get_meter": "meter"},
    "meter": {
        "create_counter": "counter",
        "create_histogram": "histogram",
        "create_observable_counter": "",
        "create_observable_up_down_counter": "",
        "create_observable_gauge": "",
    },
    "counter": {"add": ""},
    "histogram": {"record": ""},
}
"""By kind of object: the methods that have faults, and the kind of what each gives."""


class _MeterProvider(MeterProvider):
    def __init__(self, inner: MeterProvider, fault: Fault) -> None:
        self._faulty = _Faulty(inner, fault, "provider", _METHODS["provider"])

    def get_meter(self, *args: Any, **kwargs: Any) -> Meter:
        meter: Meter = self._faulty.get_meter(*args, **kwargs)
        return meter


class _LogHandler(logging.Handler):
    """One that catches nothing, as many do: Python's own handlers catch what ``emit`` raises."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault = fault

    def handle(self, record: logging.LogRecord) -> bool:
        self._fault.at("handler.handle")
        return bool(super().handle(record))

    def filter(self, record: logging.LogRecord) -> bool:
        self._fault.at("handler.filter")
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self._fault.at("handler.emit")
        self.format(record)

    def format(self, record: logging.LogRecord) -> str:
        self._fault.at("handler.format")
        return super().format(record)


class FaultyTelemetry:
    """A ``Telemetry`` whose providers have a fault at each hook; the log has with ``installed``."""

    def __init__(self, fault: Fault, *, made: bool = False) -> None:
        """``made``: the instruments are made without a fault, so that all of them are there."""
        self.fault: Final = fault
        fault.armed = not made
        self._sdk = sdk_metrics.MeterProvider(
            [InMemoryMetricReader()], views=[_View(fault)], shutdown_on_exit=False
        )
        self.meter_provider: Final = _MeterProvider(self._sdk, fault)
        self.tracer_provider: Final = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(_Exporter(fault)))
        self.tracer_provider.add_span_processor(_Processor(fault))
        self.telemetry: Final = Telemetry(
            tracer_provider=self.tracer_provider, meter_provider=self.meter_provider
        )
        fault.armed = True

    @contextmanager
    def installed(self) -> Generator[None]:
        """With the logger ``tapescope`` and the process's propagator faulty as well."""
        logger, handler = logging.getLogger("tapescope"), _LogHandler(self.fault)
        level, before = logger.level, propagate.get_global_textmap()
        fault_of_filter: Callable[[logging.LogRecord], bool] = self._filter
        logger.addFilter(fault_of_filter)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        propagate.set_global_textmap(_Propagator(self.fault))
        sdk = logging.getLogger("opentelemetry")
        sdk_level = sdk.level
        sdk.setLevel(logging.CRITICAL + 1)  # it tells of each export that raised
        try:
            yield
        finally:
            sdk.setLevel(sdk_level)
            propagate.set_global_textmap(before)
            logger.setLevel(level)
            logger.removeHandler(handler)
            logger.removeFilter(fault_of_filter)

    def _filter(self, record: logging.LogRecord) -> bool:
        self.fault.at("logger.filter")
        return True

    def close(self) -> None:
        """End the providers, without faults: what they raise there is their owner's."""
        self.fault.armed = False
        self.tracer_provider.shutdown()
        self._sdk.shutdown()
