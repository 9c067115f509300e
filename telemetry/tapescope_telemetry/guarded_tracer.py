"""The process's own tracer provider, for a library that calls it without a guard.

The framework of the HTTP API makes the spans of acts. What a provider, a sampler or a processor
raises would pass through it into the act: here it is kept (docs/decisions/0033).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    SpanContext,
    Tracer,
    TracerProvider,
)

from tapescope_telemetry.guard import SPANS_OF_OTHERS

__all__ = ["GuardedTracerProvider", "can_trace"]


def can_trace(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request with these headers can have a span: the process has a tracer provider, and
    its propagator, which is anybody's code, can read them."""
    with SPANS_OF_OTHERS:
        if isinstance(trace.get_tracer_provider(), ProxyTracerProvider | NoOpTracerProvider):
            return False
        propagate.extract({k.decode("latin-1"): v.decode("latin-1") for k, v in headers})
        return True
    return False


class GuardedTracerProvider(TracerProvider):
    """Gives tracers of the global provider, which is looked for at each span; none of them raises.

    A ``KeyboardInterrupt`` and a ``SystemExit`` pass, as from every guard.
    """

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> Tracer:
        """A tracer that asks the global provider for one."""
        return _GuardedTracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )


class _GuardedTracer(Tracer):
    def __init__(self, *scope: Any) -> None:
        self._scope: Final = scope
        self._made: tuple[TracerProvider, Tracer] | None = None
        """The last provider, and its tracer."""

    def start_span(self, *args: Any, **settings: Any) -> Span:
        """A span, or one that records nothing where it cannot be started."""
        with SPANS_OF_OTHERS:
            return _GuardedSpan(self._find_tracer().start_span(*args, **settings))
        return INVALID_SPAN

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # as a context manager alone
        self, *args: Any, end_on_exit: bool = True, **settings: Any
    ) -> Generator[Span]:
        """The same, current inside."""
        span = self.start_span(*args, **settings)
        with trace.use_span(
            span, end_on_exit, record_exception=False, set_status_on_exception=False
        ):
            yield span

    def _find_tracer(self) -> Tracer:
        provider = trace.get_tracer_provider()
        if self._made is None or self._made[0] is not provider:
            self._made = provider, provider.get_tracer(*self._scope)
        return self._made[1]


class _GuardedSpan(Span):
    """A span whose methods raise nothing."""

    def __init__(self, inner: Span) -> None:
        self._inner: Final = inner
        self._context = INVALID_SPAN_CONTEXT
        with SPANS_OF_OTHERS:
            self._context = inner.get_span_context()

    def get_span_context(self) -> SpanContext:
        """As it was when the span began: it never changes."""
        return self._context

    def is_recording(self) -> bool:
        """Whether it is; ``False`` where it cannot say."""
        with SPANS_OF_OTHERS:
            return self._inner.is_recording()
        return False

    def end(self, end_time: int | None = None) -> None:
        """End it."""
        with SPANS_OF_OTHERS:
            self._inner.end(end_time)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set some attributes."""
        with SPANS_OF_OTHERS:
            self._inner.set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute."""
        with SPANS_OF_OTHERS:
            self._inner.set_attribute(key, value)

    def add_event(self, *args: Any, **settings: Any) -> None:
        """Add an event."""
        with SPANS_OF_OTHERS:
            self._inner.add_event(*args, **settings)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Add a link."""
        with SPANS_OF_OTHERS:
            self._inner.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """Give it another name."""
        with SPANS_OF_OTHERS:
            self._inner.update_name(name)

    def set_status(self, *args: Any, **settings: Any) -> None:
        """Set its status."""
        with SPANS_OF_OTHERS:
            self._inner.set_status(*args, **settings)

    def record_exception(self, *args: Any, **settings: Any) -> None:
        """Record an exception."""
        with SPANS_OF_OTHERS:
            self._inner.record_exception(*args, **settings)
