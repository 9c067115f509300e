"""The spans of a task: the submit, each run, which is a new root linked to the submit, a rescue,
and a cancel that ends a task of which no attempt runs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import Token
from types import TracebackType
from typing import Final, NamedTuple, Self

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
from tapescope_telemetry.baggage import add_baggage, format_baggage
from tapescope_telemetry.failures import FailureMarker, is_a
from tapescope_telemetry.guard import SPANS_OF_OTHERS
from tapescope_telemetry.instruments import NO_CONTEXT
from tapescope_telemetry.names import CANCEL, OTHER, RESCUE, RUN, SUBMIT, Attribute

__all__ = [
    "ERROR_OUTCOMES",
    "UNTRACED_SUBMIT",
    "Caller",
    "RunSpan",
    "SubmitSpan",
    "UntracedRun",
    "continue_trace",
    "copy_untraced",
    "format_trace_context",
    "format_traceparent",
    "format_tracestate",
    "is_in_span",
    "is_traced",
    "join_trace_context",
    "parse_trace_context",
    "read_caller",
    "read_span_ids",
    "start_cancel",
    "start_run",
]

ERROR_OUTCOMES: Final = frozenset(
    {AttemptOutcome.FAILED, AttemptOutcome.RETRIED, AttemptOutcome.LOST}
)
"""Outcomes of a run with the status ERROR; all others, a cancel above all, stay UNSET."""

_W3C: Final = TraceContextTextMapPropagator()
TRACESTATE_MOST: Final = 512
"""Characters of a ``tracestate`` that go on with a task; so many a platform should hand on at least
(W3C Trace Context, 3.3.1.5)."""
_BEHIND: Final = "\n"
"""Between a trace context and the baggage that is stored behind it. A blank stands before it, so
that who knows of no baggage reads the ``traceparent`` alone."""
_ENTRY_LARGE: Final = 128
"""Characters of one entry; larger ones go first where not all have room (the same section)."""


def format_traceparent(of: SpanContext) -> str | None:
    """The W3C ``traceparent`` of a span, ``None`` when it is not a valid one."""
    if not of.is_valid:
        return None
    trace_id, span_id = format_trace_id(of.trace_id), format_span_id(of.span_id)
    return f"00-{trace_id}-{span_id}-{of.trace_flags:02x}"


def format_tracestate(of: SpanContext) -> str | None:
    """The W3C ``tracestate`` of a span, whole entries of it; ``None`` where there is none."""
    entries = [f"{key}={value}" for key, value in of.trace_state.items()]
    size = sum(map(len, entries)) + len(entries) - 1
    for large in (True, False):
        for entry in reversed(entries.copy()):
            if size > TRACESTATE_MOST and (len(entry) > _ENTRY_LARGE or not large):
                entries.remove(entry)
                size -= len(entry) + 1
    return ",".join(entries) or None


def format_trace_context(of: SpanContext) -> str | None:
    """A span as it is stored with a task: ``traceparent``, and after a space its ``tracestate``."""
    parts = format_traceparent(of), format_tracestate(of)
    return " ".join(filter(None, parts)) if of.is_valid else None


def parse_trace_context(text: str | None) -> SpanContext | None:
    """The span that was stored so; ``None`` when the text names none or is malformed."""
    if not text:
        return None
    traceparent, _, tracestate = text.partition(_BEHIND)[0].strip(" ").partition(" ")
    with SPANS_OF_OTHERS:
        headers = {"traceparent": traceparent, "tracestate": tracestate}
        found = get_current_span(_W3C.extract(headers, Context())).get_span_context()
        return found if found.is_valid else None
    return None


def join_trace_context(traceparent: str | None, tracestate: str | None) -> str | None:
    """What two headers or variables name, as it is stored; ``None`` where they name no span."""
    named = parse_trace_context(" ".join(filter(None, (traceparent, tracestate))))
    return None if named is None else format_trace_context(named)


def read_span_ids(context: Context) -> tuple[str, str] | None:
    """The trace and span id of the span in this context, as text; ``None`` where there is none."""
    with SPANS_OF_OTHERS:
        found = get_current_span(context).get_span_context()
        if found.is_valid:
            return format_trace_id(found.trace_id), format_span_id(found.span_id)
    return None


def is_in_span() -> bool:
    """Whether the caller's context holds a span, recorded or not."""
    with SPANS_OF_OTHERS:
        return get_current_span().get_span_context().is_valid
    return False


class Caller(NamedTuple):
    """Who asks for something, as its context tells it."""

    context: Context
    """To be the parent of a span with."""
    trace_context: str | None
    """Its span, as it is stored; ``None`` where there is none, or one that is not recorded."""


def read_caller() -> Caller:
    """The caller's span, as a cancel keeps it."""
    with SPANS_OF_OTHERS:
        context = contexts.get_current()
        if context:
            found = get_current_span(context).get_span_context()
            if found.is_valid:
                kept = format_trace_context(found) if found.trace_flags.sampled else None
                return Caller(set_span_in_context(NonRecordingSpan(found), Context()), kept)
    return Caller(NO_CONTEXT, None)


def name_callers_span() -> dict[str, str]:
    """The W3C headers that name the caller's span, for a request to another service."""
    headers: dict[str, str] = {}
    with SPANS_OF_OTHERS:
        _W3C.inject(headers)
    return headers


def is_traced() -> bool:
    """Whether the caller's context may hold a span; one that holds nothing has none."""
    with SPANS_OF_OTHERS:
        return bool(contexts.get_current())
    return True


@contextmanager
def continue_trace(trace_context: str | None, baggage: str | None = None) -> Generator[None]:
    """Make the span that ``trace_context`` names current, if it names one, inside; and so the
    entries of ``baggage``, as a W3C header has them."""
    named = parse_trace_context(trace_context)
    token: Token[Context] | None = None
    if named is not None or baggage:
        with SPANS_OF_OTHERS:
            context = add_baggage(baggage, contexts.get_current())
            if named is not None:
                context = set_span_in_context(NonRecordingSpan(named), context)
            token = contexts.attach(context)
    try:
        yield
    finally:
        _detach(token)


def copy_untraced(of: contextvars.Context) -> contextvars.Context:
    """A copy of a context, in which no span and no baggage is current."""
    copy = of.copy()
    with SPANS_OF_OTHERS:
        copy.run(contexts.attach, NO_CONTEXT)  # never detached: the context ends with its task
    return copy


def _detach(token: Token[Context] | None) -> None:
    if token is not None:
        with SPANS_OF_OTHERS:
            contexts.detach(token)


class SubmitSpan:
    """The span around the creation of a task, current while its ``with`` block runs.

    An exception marks the span as an error, except for a ``CancelledError``: the caller stopped
    waiting, and the task may or may not have been created, so the status stays UNSET.
    """

    __slots__ = (
        *("_attributes", "_carries_baggage", "_failures", "_name", "_span", "_token", "_tracer"),
        "trace_context",
    )

    def __init__(
        self,
        tracer: Tracer,
        failures: FailureMarker,
        op: str,
        task_id: str,
        adapter: str,
        *,
        as_message: bool = False,
        carries_baggage: bool = False,
        schedule: tuple[str, str] | None = None,
        tags: Sequence[str] = (),
        parent_id: str | None = None,
    ) -> None:
        self._tracer = tracer
        self._failures = failures
        self._carries_baggage = carries_baggage
        self._name = SUBMIT.of(op)
        self._attributes: dict[str, str | Sequence[str]] = {
            Attribute.OP: op,
            Attribute.TASK_ID: task_id,
            Attribute.ADAPTER: adapter,
        }
        if schedule is not None:
            name, firing_time = schedule
            self._attributes |= {Attribute.SCHEDULE: name, Attribute.FIRING_TIME: firing_time}
        if tags:
            self._attributes[Attribute.TAGS] = tags
        if parent_id is not None:
            self._attributes[Attribute.PARENT_ID] = parent_id
        if as_message:
            self._attributes |= SUBMIT.describe_message(op, task_id)
        self._span: Span = INVALID_SPAN
        self._token: Token[Context] | None = None
        self.trace_context: str | None = None
        """What to store with the task, for the run to link to, with the caller's baggage behind it
        where that is carried; ``None`` without a tracer, and without baggage."""

    def __enter__(self) -> Self:
        with SPANS_OF_OTHERS:
            self._span = self._tracer.start_span(
                self._name,
                kind=SpanKind.PRODUCER,
                attributes=self._attributes,
                record_exception=False,
                set_status_on_exception=False,
            )
            self.trace_context = format_trace_context(self._span.get_span_context())
            if self.trace_context is not None:
                self._token = contexts.attach(set_span_in_context(self._span))
        if self._carries_baggage and (carried := format_baggage(contexts.get_current())):
            self.trace_context = f"{self.trace_context or ''} {_BEHIND}{carried}"
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
        self.trace_context = None

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
        "_of_runner",
        "_span",
        "baggage",
        "context",
        "sampled",
        "span_id",
        "trace_id",
        "traceparent",
        "tracestate",
    )

    def __init__(
        self,
        span: Span,
        failures: FailureMarker,
        passed_on: SpanContext | None,
        baggage: str | None = None,
    ) -> None:
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
        handed_on = own if own.is_valid or passed_on is None else passed_on
        self.traceparent: Final = format_traceparent(handed_on)
        """What to give to a child process; without a tracer here, the submit's is passed on."""
        self.tracestate: Final = format_tracestate(handed_on)
        """Of the same trace: what goes with ``traceparent``."""
        self.baggage: Final = baggage
        """What of the submitter's baggage is handed on, as a W3C header; ``None`` for nothing."""
        self._of_runner = add_baggage(baggage, self.context)

    @property
    def ended(self) -> bool:
        """Whether the span has its outcome."""
        return self._ended

    def attach(self) -> None:
        """Make it current for the rest of the caller's asyncio task, whose context is its own."""
        with SPANS_OF_OTHERS:
            contexts.attach(self._of_runner)  # never detached: the context ends with its task

    def end(
        self,
        outcome: str,
        *,
        error: BaseException | None = None,
        error_type: str | None = None,
        message: str = "",
        cancel_reason: str | None = None,
        cancel_requested: bool = False,
        canceller: str | None = None,
        tape_length: int | None = None,
        tape_dropped: int | None = None,
    ) -> bool:
        """Tell how the attempt ended, and end the span; ``False`` when that was done before.

        The status follows the cancel table: ``failed``, ``retried`` and ``lost`` are ERROR with an
        ``error.type``; ``succeeded``, ``cancelled`` and ``released`` are UNSET without one,
        whatever a cleanup raised. A cancelled run always says its reason. ``canceller`` is the
        trace context of the span that a cancel was requested in, to link to where it is recorded.
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
                asked_in = parse_trace_context(canceller)
                if asked_in is not None and asked_in.trace_flags.sampled:
                    span.add_link(asked_in, {Attribute.LINK: LinkKind.CANCEL.value})
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
    trace_context: str | None,
    as_child: bool,
    run_before: TracedAttempt | None = None,
    rescue: bool = False,
    queue_wait: float | None = None,
    timeout: float | None = None,
    retries_left: int | None = None,
    function: str | None = None,
    engine: str | None = None,
    as_message: bool = False,
    carries_baggage: bool = False,
) -> RunSpan:
    """Start the span of an attempt: a new root linked to the submit that ``trace_context`` names,
    and to the run of the attempt before.

    With ``as_child`` a first attempt is the submit's child instead; a retry is a root all the same.
    With ``rescue`` it is the span of the manager that takes the attempt from a lost owner, whose
    run is ``run_before``. What of the rest is ``None`` is not told; times are in seconds.
    ``as_message`` adds the attributes of the convention for messaging. With ``carries_baggage`` the
    runner has the baggage that is stored behind ``trace_context``.
    """
    submit = parse_trace_context(trace_context)
    carried = (trace_context or "").partition(_BEHIND)[2] if carries_baggage else None
    start_in, links = Context(), list[Link]()
    with SPANS_OF_OTHERS:
        if submit is not None and as_child and attempt == 1 and not rescue:
            start_in = set_span_in_context(NonRecordingSpan(submit), start_in)
        elif submit is not None:
            links.append(Link(submit, {Attribute.LINK: LinkKind.SUBMIT.value}))
        if run_before is not None:
            kept = f"00-{run_before.trace_id}-{run_before.span_id}-01"  # kept where sampled
            if (before := parse_trace_context(kept)) is not None:
                kind = LinkKind.RESCUED_RUN if rescue else LinkKind.PREVIOUS_ATTEMPT
                links.append(Link(before, {Attribute.LINK: kind.value}))
        attributes: dict[str, str | int | float | None] = {
            Attribute.OP: op,
            Attribute.TASK_ID: task_id,
            Attribute.ATTEMPT: attempt,
            Attribute.OWNER: owner,
            Attribute.QUEUE_WAIT: queue_wait,
            Attribute.TIMEOUT: timeout,
            Attribute.RETRIES_LEFT: retries_left,
            Attribute.FUNCTION: function,
            Attribute.ENGINE: engine,
        }
        row = RESCUE if rescue else RUN
        if as_message:
            attributes |= row.describe_message(op, task_id)
        span = tracer.start_span(
            row.of(op),
            context=start_in,
            kind=SpanKind.INTERNAL if rescue else SpanKind.CONSUMER,
            attributes={key: value for key, value in attributes.items() if value is not None},
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        )
        return RunSpan(span, failures, submit, carried or None)
    return RunSpan(INVALID_SPAN, failures, submit, carried or None)


def start_cancel(
    tracer: Tracer,
    failures: FailureMarker,
    *,
    op: str,
    task_id: str,
    attempt: int,
    trace_context: str | None,
    asked_in: Caller,
) -> RunSpan:
    """Start the span of a cancel that ended a task of which no attempt ran: a child of the span
    that it was requested in, linked to the submit that ``trace_context`` names.

    ``attempt`` is the last one, 0 for a task that was never begun.
    """
    submit = parse_trace_context(trace_context)
    with SPANS_OF_OTHERS:
        links = [] if submit is None else [Link(submit, {Attribute.LINK: LinkKind.SUBMIT.value})]
        span = tracer.start_span(
            CANCEL.of(op),
            context=asked_in.context,
            kind=SpanKind.INTERNAL,
            attributes={
                Attribute.OP: op,
                Attribute.TASK_ID: task_id,
                Attribute.ATTEMPT: attempt,
            },
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        )
        return RunSpan(span, failures, submit)
    return RunSpan(INVALID_SPAN, failures, submit)
