"""The two spans of a task: the submit, and each run, which is a new root linked to the submit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import Token
from types import TracebackType
from typing import Final, Self

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tapescope.model import AttemptOutcome, LinkKind, TracedAttempt
from tapescope_telemetry.failures import FailureMarker, is_a
from tapescope_telemetry.guard import SPANS_OF_OTHERS
from tapescope_telemetry.instruments import NO_CONTEXT
from tapescope_telemetry.names import OTHER, RESCUE, RUN, SUBMIT, Attribute

__all__ = [
    "ERROR_OUTCOMES",
    "UNTRACED_SUBMIT",
    "RunSpan",
    "SubmitSpan",
    "UntracedRun",
    "continue_trace",
    "format_traceparent",
    "is_traced",
    "parse_traceparent",
    "read_span_ids",
    "start_run",
]

ERROR_OUTCOMES: Final = frozenset(
    {AttemptOutcome.FAILED, AttemptOutcome.RETRIED, AttemptOutcome.LOST}
)
"""Outcomes of a run with the status ERROR; all others, a cancel above all, stay UNSET."""

_W3C: Final = TraceContextTextMapPropagator()


def format_traceparent(of: SpanContext) -> str | None:
    """The W3C ``traceparent`` of a span, ``None`` when it is not a valid one."""
    if not of.is_valid:
        return None
    trace_id, span_id = format_trace_id(of.trace_id), format_span_id(of.span_id)
    return f"00-{trace_id}-{span_id}-{of.trace_flags:02x}"


def parse_traceparent(text: str | None) -> SpanContext | None:
    """The span that a W3C ``traceparent`` names; ``None`` when it names none or is malformed."""
    if not text:
        return None
    with SPANS_OF_OTHERS:
        found = get_current_span(_W3C.extract({"traceparent": text}, Context())).get_span_context()
        return found if found.is_valid else None
    return None


def read_span_ids(context: Context) -> tuple[str, str] | None:
    """The trace and span id of the span in this context, as text; ``None`` where there is none."""
    with SPANS_OF_OTHERS:
        found = get_current_span(context).get_span_context()
        if found.is_valid:
            return format_trace_id(found.trace_id), format_span_id(found.span_id)
    return None


def is_traced() -> bool:
    """Whether the caller's context may hold a span; one that holds nothing has none."""
    with SPANS_OF_OTHERS:
        return bool(contexts.get_current())
    return True


@contextmanager
def continue_trace(traceparent: str | None) -> Generator[None]:
    """Make the span that ``traceparent`` names current, if it names one, inside."""
    named = parse_traceparent(traceparent)
    token: Token[Context] | None = None
    if named is not None:
        with SPANS_OF_OTHERS:
            token = contexts.attach(set_span_in_context(NonRecordingSpan(named)))
    try:
        yield
    finally:
        _detach(token)


def _detach(token: Token[Context] | None) -> None:
    if token is not None:
        with SPANS_OF_OTHERS:
            contexts.detach(token)


class SubmitSpan:
    """The span around the creation of a task, current while its ``with`` block runs.

    An exception marks the span as an error, except for a ``CancelledError``: the caller stopped
    waiting, and the task may or may not have been created, so the status stays UNSET.
    """

    __slots__ = ("_attributes", "_failures", "_name", "_span", "_token", "_tracer", "traceparent")

    def __init__(
        self, tracer: Tracer, failures: FailureMarker, op: str, task_id: str, adapter: str
    ) -> None:
        self._tracer = tracer
        self._failures = failures
        self._name = SUBMIT.of(op)
        self._attributes = {
            Attribute.OP: op,
            Attribute.TASK_ID: task_id,
            Attribute.ADAPTER: adapter,
        }
        self._span: Span = INVALID_SPAN
        self._token: Token[Context] | None = None
        self.traceparent: str | None = None
        """What to store with the task, for the run to link to; ``None`` without a tracer."""

    def __enter__(self) -> Self:
        with SPANS_OF_OTHERS:
            self._span = self._tracer.start_span(
                self._name,
                kind=SpanKind.PRODUCER,
                attributes=self._attributes,
                record_exception=False,
                set_status_on_exception=False,
            )
            self.traceparent = format_traceparent(self._span.get_span_context())
            if self.traceparent is not None:
                self._token = contexts.attach(set_span_in_context(self._span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _detach(self._token)
        if error is not None and not is_a(error, (asyncio.CancelledError, GeneratorExit)):
            with SPANS_OF_OTHERS:
                if self._span.is_recording():
                    self._failures.mark(self._span, error, None, "")
        with SPANS_OF_OTHERS:
            self._span.end()


class _UntracedSubmit(SubmitSpan):
    """Where nobody traces: a caller without a span, and no tracer."""

    __slots__ = ()

    def __init__(self) -> None:
        self.traceparent = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        pass


UNTRACED_SUBMIT: Final = _UntracedSubmit()


class RunSpan:
    """The span of one attempt. Each that was started must be ended, on every path (invariant I8).

    A runner gets it through ``context``, and so does a drop that comes after the end and still has
    this span to point to.
    """

    __slots__ = (
        "_ended",
        "_failures",
        "_lock",
        "_span",
        "context",
        "sampled",
        "span_id",
        "trace_id",
        "traceparent",
    )

    def __init__(self, span: Span, failures: FailureMarker, passed_on: SpanContext | None) -> None:
        own = span.get_span_context()
        self._span = span
        self._failures = failures
        self._lock = threading.Lock()
        self._ended = False
        self.context: Final = set_span_in_context(span, Context()) if own.is_valid else NO_CONTEXT
        """Holds this span and nothing else: no baggage, nothing of the submitter's."""
        self.trace_id: Final = format_trace_id(own.trace_id) if own.is_valid else None
        self.span_id: Final = format_span_id(own.span_id) if own.is_valid else None
        self.sampled: Final = own.is_valid and own.trace_flags.sampled
        """Whether it is recorded, to be found by its ids."""
        self.traceparent: Final = format_traceparent(
            own if own.is_valid or passed_on is None else passed_on
        )
        """What to give to a child process; without a tracer here, the submit's is passed on."""

    @property
    def ended(self) -> bool:
        """Whether the span has its outcome."""
        return self._ended

    def attach(self) -> None:
        """Make it current for the rest of the caller's asyncio task, whose context is its own."""
        with SPANS_OF_OTHERS:
            contexts.attach(self.context)  # never detached: the context ends with its task

    def end(
        self,
        outcome: str,
        *,
        error: BaseException | None = None,
        error_type: str | None = None,
        message: str = "",
        cancel_reason: str | None = None,
        cancel_requested: bool = False,
        tape_length: int | None = None,
        tape_dropped: int | None = None,
    ) -> bool:
        """Tell how the attempt ended, and end the span; ``False`` when that was done before.

        The status follows the cancel table: ``failed``, ``retried`` and ``lost`` are ERROR with an
        ``error.type``; ``succeeded``, ``cancelled`` and ``released`` are UNSET without one,
        whatever a cleanup raised. A cancelled run always says its reason.
        """
        with self._lock:
            if self._ended:
                return False
            self._ended = True
        span = self._span
        with SPANS_OF_OTHERS:
            if span.is_recording():
                cancelled = outcome == AttemptOutcome.CANCELLED
                if cancelled and cancel_reason is None:
                    cancel_reason = OTHER
                attributes: dict[str, str | int | bool | None] = {
                    Attribute.OUTCOME: str(outcome),
                    Attribute.TAPE_LENGTH: tape_length,
                    Attribute.TAPE_DROPPED: tape_dropped,
                    Attribute.CANCEL_REASON: None if cancel_reason is None else str(cancel_reason),
                    Attribute.CANCEL_REQUESTED: True if cancelled or cancel_requested else None,
                }
                span.set_attributes(
                    {key: value for key, value in attributes.items() if value is not None}
                )
                if outcome in ERROR_OUTCOMES:
                    self._failures.mark(span, error, error_type, message)
                elif cancelled:
                    self._failures.mark_cancelled(span, str(cancel_reason))
        with SPANS_OF_OTHERS:
            span.end()
        return True


class UntracedRun(RunSpan):
    """Where nobody traces, and no submit did: one for all runs, for it keeps nothing of any."""

    __slots__ = ()

    def __init__(self, failures: FailureMarker) -> None:
        super().__init__(INVALID_SPAN, failures, None)

    def attach(self) -> None:
        """Nothing: the run's own context holds no span either."""

    def end(self, outcome: str, **told: object) -> bool:
        """Nothing is open."""
        return True


def start_run(
    tracer: Tracer,
    failures: FailureMarker,
    *,
    op: str,
    task_id: str,
    attempt: int,
    owner: str,
    traceparent: str | None,
    as_child: bool,
    run_before: TracedAttempt | None = None,
    rescue: bool = False,
) -> RunSpan:
    """Start the span of an attempt: a new root linked to the submit that ``traceparent`` names, and
    to the run of the attempt before.

    With ``as_child`` a first attempt is the submit's child instead; a retry is a root all the same.
    With ``rescue`` it is the span of the manager that takes the attempt from a lost owner, whose
    run is ``run_before``.
    """
    submit = parse_traceparent(traceparent)
    start_in, links = Context(), list[Link]()
    with SPANS_OF_OTHERS:
        if submit is not None and as_child and attempt == 1 and not rescue:
            start_in = set_span_in_context(NonRecordingSpan(submit), start_in)
        elif submit is not None:
            links.append(Link(submit, {Attribute.LINK: LinkKind.SUBMIT.value}))
        if run_before is not None:
            traceparent = f"00-{run_before.trace_id}-{run_before.span_id}-01"  # kept where sampled
            if (before := parse_traceparent(traceparent)) is not None:
                kind = LinkKind.RESCUED_RUN if rescue else LinkKind.PREVIOUS_ATTEMPT
                links.append(Link(before, {Attribute.LINK: kind.value}))
        attributes: dict[str, str | int] = {
            Attribute.OP: op,
            Attribute.TASK_ID: task_id,
            Attribute.ATTEMPT: attempt,
            Attribute.OWNER: owner,
        }
        span = tracer.start_span(
            (RESCUE if rescue else RUN).of(op),
            context=start_in,
            kind=SpanKind.INTERNAL if rescue else SpanKind.CONSUMER,
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        )
        return RunSpan(span, failures, submit)
    return RunSpan(INVALID_SPAN, failures, submit)
