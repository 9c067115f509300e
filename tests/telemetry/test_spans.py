"""The two spans of a task, as an exporter receives them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.baggage import set_baggage
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from tapescope.errors import TapescopeError
from tapescope_telemetry import OTHER, Telemetry, error_type_of
from tapescope_telemetry.spans import continue_trace, join_trace_context
from tapescope_telemetry.telemetry import TraceMode
from tests.support.captured_telemetry import CapturedTelemetry

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class CleanupError(Exception):
    """An error that is not a built-in."""


def test_submit_span_is_a_producer_under_the_caller(captured: CapturedTelemetry) -> None:
    """The submit is a child of the caller's span, current while it lasts, and then gone."""
    tracer = captured.tracer_provider.get_tracer("caller")
    with (
        tracer.start_as_current_span("request") as caller,
        captured.telemetry.submit_span("resize", "task-1", "sqlite") as submit,
    ):
        inside = trace.get_current_span().get_span_context()
    after = trace.get_current_span().get_span_context()
    span, _ = captured.spans()

    assert (span.name, span.kind) == ("submit resize", SpanKind.PRODUCER)
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert dict(span.attributes or {}) == {
        "tapescope.task.op": "resize",
        "tapescope.task.id": "task-1",
        "tapescope.store.adapter": "sqlite",
    }
    assert span.status.status_code is StatusCode.UNSET
    flags = f"{inside.trace_flags:02x}"
    assert inside.trace_flags.sampled
    assert submit.trace_context == f"00-{inside.trace_id:032x}-{inside.span_id:016x}-{flags}"
    assert not after.is_valid


def test_failed_submit_is_an_error(captured: CapturedTelemetry) -> None:
    """A submit that raised says so: ERROR, the error's type, one recorded exception."""
    with (
        pytest.raises(CleanupError),
        captured.telemetry.submit_span("resize", "task", "sqlite"),
    ):
        raise CleanupError("no")
    span = captured.span()

    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == f"{__name__}.CleanupError"
    assert [event.name for event in span.events] == ["exception"]


def test_cancelled_submit_is_not_an_error(captured: CapturedTelemetry) -> None:
    """The caller stopped waiting for a submit: UNSET, no error type, no exception."""
    with (
        pytest.raises(asyncio.CancelledError),
        captured.telemetry.submit_span("resize", "task", "sqlite"),
    ):
        raise asyncio.CancelledError
    span = captured.span()

    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in (span.attributes or {})
    assert not span.events


def test_run_span_is_a_new_root_linked_to_the_submit(captured: CapturedTelemetry) -> None:
    """The run begins a trace of its own, even inside the submit, and links back to it."""
    with captured.telemetry.submit_span("resize", "task-1", "sqlite") as submit:
        run = captured.telemetry.start_run_span("resize", "task-1", 2, "me", submit.trace_context)
    run.end("succeeded", tape_length=5, tape_dropped=1)
    submitted, ran = captured.spans()

    assert (ran.name, ran.kind, ran.parent) == ("run resize", SpanKind.CONSUMER, None)
    assert submitted.context is not None
    assert ran.context is not None
    assert ran.context.trace_id != submitted.context.trace_id
    assert [link.context.span_id for link in ran.links] == [submitted.context.span_id]
    assert dict(ran.attributes or {}) == {
        "tapescope.task.op": "resize",
        "tapescope.task.id": "task-1",
        "tapescope.task.attempt": 2,
        "tapescope.task.owner": "me",
        "tapescope.task.outcome": "succeeded",
        "tapescope.tape.length": 5,
        "tapescope.tape.dropped": 1,
    }


def test_run_span_has_its_ids_and_a_clean_context(captured: CapturedTelemetry) -> None:
    """A run gives its ids, a ``traceparent`` for a child, and a context with nothing else in it."""
    token = context.attach(set_baggage("user", "somebody"))
    run = captured.telemetry.start_run_span("resize", "task", 1, "me", None)
    context.detach(token)
    own = trace.get_current_span(run.context).get_span_context()
    run.end("released")

    assert (run.trace_id, run.span_id) == (f"{own.trace_id:032x}", f"{own.span_id:016x}")
    assert own.trace_flags.sampled
    assert run.traceparent == f"00-{run.trace_id}-{run.span_id}-{own.trace_flags:02x}"
    assert len(run.context) == 1
    assert not captured.span().links


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        "x" * 100_000,
    ],
)
def test_malformed_traceparent_gives_no_link(captured: CapturedTelemetry, traceparent: str) -> None:
    """A trace context that cannot be read costs the link and nothing else."""
    run = captured.telemetry.start_run_span("resize", "task", 1, "me", traceparent)
    run.end("succeeded")

    assert not captured.span().links


@pytest.mark.parametrize("trace_mode", ["link", "child"])
def test_tracestate_goes_from_submit_to_run(
    captured: CapturedTelemetry, trace_mode: TraceMode
) -> None:
    """It is on the link, or the run's own where it is the submit's child; a new root has none."""
    telemetry = Telemetry(tracer_provider=captured.tracer_provider, trace_mode=trace_mode)
    caller = f"00-{TRACE}-{SPAN}-01 vendor=a b,ot=th:8"
    with continue_trace(caller), telemetry.submit_span("resize", "task", "sqlite") as submit:
        pass
    run = telemetry.start_run_span("resize", "task", 1, "me", submit.trace_context)
    silent = Telemetry().start_run_span("resize", "task", 1, "me", caller)
    run.end("succeeded")
    _, ran = captured.spans()
    linked = [link.context.trace_state.to_header() for link in ran.links]

    assert (submit.trace_context or "").partition(" ")[2] == "vendor=a b,ot=th:8"
    assert linked == (["vendor=a b,ot=th:8"] if trace_mode == "link" else [])
    assert run.tracestate == (None if trace_mode == "link" else "vendor=a b,ot=th:8")
    assert (silent.traceparent, silent.tracestate) == (caller[:55], "vendor=a b,ot=th:8")


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        (["a=1", "b=2"], ["a=1", "b=2"]),
        (["a=" + "x" * 200, *(f"k{n}=" + "y" * 60 for n in range(6))], range(1, 7)),
        ([f"k{n}=" + "y" * 96 for n in range(9)], range(5)),
        ([f"k{n}=" + "y" * 200 for n in range(9)], range(2)),
        (["no tracestate"], []),
    ],
)
def test_what_is_stored_of_a_tracestate_is_bounded(
    entries: list[str], kept: range | list[str]
) -> None:
    """Whole entries, 512 characters at most: large ones go first, and then the last ones."""
    expected = [entries[nth] for nth in kept] if isinstance(kept, range) else kept
    stored = join_trace_context(f"00-{TRACE}-{SPAN}-01", ",".join(entries))

    assert stored == " ".join(filter(None, (f"00-{TRACE}-{SPAN}-01", ",".join(expected))))


def test_child_mode_parents_the_first_attempt_only(captured: CapturedTelemetry) -> None:
    """With ``trace_mode="child"`` a first run continues the submit's trace; a retry links to it."""
    telemetry = Telemetry(
        tracer_provider=captured.tracer_provider,
        meter_provider=captured.meter_provider,
        trace_mode="child",
    )
    for attempt in (1, 2):
        telemetry.start_run_span("resize", "task", attempt, "me", f"00-{TRACE}-{SPAN}-01").end(
            "retried", error_type="timeout"
        )
    first, second = captured.spans()

    assert first.parent is not None
    assert (f"{first.parent.span_id:016x}", len(first.links)) == (SPAN, 0)
    assert (second.parent, len(second.links)) == (None, 1)


def test_a_cancel_may_be_given_the_status_error(captured: CapturedTelemetry) -> None:
    """With ``cancel_status="error"`` a cancel is ERROR, without type or exception; no other is."""
    telemetry = Telemetry(
        tracer_provider=captured.tracer_provider,
        meter_provider=captured.meter_provider,
        cancel_status="error",
    )
    for outcome in ("cancelled", "succeeded", "released"):
        run = telemetry.start_run_span("resize", "task", 1, "me", None)
        run.end(outcome, error=ValueError("cleanup"), cancel_reason="user", cancel_requested=True)
    cancelled, succeeded, released = captured.spans()

    assert cancelled.status.status_code is StatusCode.ERROR
    assert cancelled.status.description == "cancelled: user"
    assert "error.type" not in (cancelled.attributes or {})
    assert cancelled.events == ()
    assert {succeeded.status.status_code, released.status.status_code} == {StatusCode.UNSET}


@pytest.mark.parametrize(("name", "value"), [("cancel_status", "ok"), ("trace_mode", "none")])
def test_a_choice_that_is_none_is_refused(name: str, value: str) -> None:
    """A value of ``trace_mode`` or ``cancel_status`` that does not exist is an error at once."""
    choice: Any = {name: value}

    with pytest.raises(TapescopeError, match=name):
        Telemetry(**choice)


@pytest.mark.parametrize("outcome", ["failed", "retried", "lost"])
def test_failure_is_an_error_with_its_type(captured: CapturedTelemetry, outcome: str) -> None:
    """Failed, retried and lost attempts are ERROR, with the type and the exception, once."""
    run = captured.telemetry.start_run_span("resize", "task", 1, "me", None)
    run.end(outcome, error=ValueError("too small"))
    span = captured.span()

    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "too small")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ValueError"
    assert span.attributes["tapescope.task.outcome"] == outcome
    assert [event.name for event in span.events] == ["exception"]


def test_failure_without_an_exception_has_a_code(captured: CapturedTelemetry) -> None:
    """A timeout or a lost lease has the platform's code and message and records no exception."""
    start = captured.telemetry.start_run_span
    start("resize", "task", 1, "me", None).end("failed", error_type="timeout", message="60 s")
    start("resize", "task", 1, "me", None).end("lost")
    timed_out, lost = captured.spans()

    assert timed_out.attributes is not None
    assert timed_out.attributes["error.type"] == "timeout"
    assert (timed_out.status.description, timed_out.events) == ("60 s", ())
    assert lost.attributes is not None
    assert lost.attributes["error.type"] == OTHER
    assert lost.status.status_code is StatusCode.ERROR


def test_cancelled_run_is_neither_error_nor_success(captured: CapturedTelemetry) -> None:
    """A cancel is UNSET with outcome and reason, and no error, even when its cleanup raised."""
    run = captured.telemetry.start_run_span("resize", "task", 1, "me", None)
    run.end("cancelled", error=CleanupError("no"), error_type="timeout", cancel_reason="user")
    span = captured.span()

    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    assert span.attributes is not None
    assert "error.type" not in span.attributes
    assert span.attributes["tapescope.task.outcome"] == "cancelled"
    assert span.attributes["tapescope.cancel.reason"] == "user"
    assert span.attributes["tapescope.cancel.requested"] is True


def test_cancelled_run_always_has_a_reason(captured: CapturedTelemetry) -> None:
    """A cancel without a reason says ``_OTHER``; the attribute is never missing."""
    captured.telemetry.start_run_span("resize", "task", 1, "me", None).end("cancelled")
    attributes = captured.span().attributes

    assert attributes is not None
    assert attributes["tapescope.cancel.reason"] == OTHER


def test_success_against_a_cancel_says_it_was_requested(captured: CapturedTelemetry) -> None:
    """A runner that returned although it was cancelled succeeded, and the span shows both."""
    run = captured.telemetry.start_run_span("resize", "task", 1, "me", None)
    run.end("succeeded", cancel_requested=True)
    span = captured.span()

    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes is not None
    assert span.attributes["tapescope.cancel.requested"] is True
    assert "tapescope.cancel.reason" not in span.attributes


def test_run_ends_once(captured: CapturedTelemetry) -> None:
    """The first end is told; a second one changes nothing and says so (invariant I8)."""
    run = captured.telemetry.start_run_span("resize", "task", 1, "me", None)
    open_before = run.ended
    first = run.end("cancelled", cancel_reason="user")
    second = run.end("failed", error=ValueError("late"))
    span = captured.span()

    assert (open_before, first, second, run.ended) == (False, True, False, True)
    assert span.attributes is not None
    assert span.attributes["tapescope.task.outcome"] == "cancelled"
    assert span.status.status_code is StatusCode.UNSET


def test_unsampled_run_still_has_a_context() -> None:
    """A run that is not recorded ends quietly and hands on the decision not to sample."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    run = Telemetry(tracer_provider=provider).start_run_span("resize", "task", 1, "me", None)
    ended = run.end("failed", error=ValueError("no"))

    flags = trace.get_current_span(run.context).get_span_context().trace_flags
    assert ended
    assert not flags.sampled
    assert run.traceparent == f"00-{run.trace_id}-{run.span_id}-{flags:02x}"


def test_error_type_is_the_qualified_name() -> None:
    """A built-in goes by its bare name, anything else by module and name, a group of one inside."""
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("no")])])
    two = ExceptionGroup("two", [ValueError("a"), KeyError("b")])

    assert error_type_of(ValueError("no")) == "ValueError"
    assert error_type_of(TimeoutError()) == "TimeoutError"
    assert error_type_of(CleanupError()) == f"{__name__}.CleanupError"
    assert error_type_of(asyncio.CancelledError()) == "asyncio.exceptions.CancelledError"
    assert error_type_of(nested) == "ValueError"
    assert error_type_of(two) == "ExceptionGroup"


def test_group_of_one_is_reported_as_the_one_inside(captured: CapturedTelemetry) -> None:
    """A ``TaskGroup``'s wrapper does not hide what went wrong."""
    run = captured.telemetry.start_run_span("resize", "task", 1, "me", None)
    run.end("failed", error=ExceptionGroup("unhandled errors", [ValueError("too small")]))
    span = captured.span()

    assert span.status.description == "too small"
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ValueError"
    recorded = span.events[0].attributes
    assert recorded is not None
    assert recorded["exception.type"] == "ValueError"


@pytest.mark.parametrize(("signal", "events"), [("logs", 0), ("logs/dup", 1), ("other", 1)])
def test_exception_signal_opt_in_is_honoured(
    monkeypatch: pytest.MonkeyPatch, captured: CapturedTelemetry, signal: str, events: int
) -> None:
    """Who opted in to exceptions as logs finds none on the span, unless both were asked for."""
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", signal)
    telemetry = Telemetry(
        tracer_provider=captured.tracer_provider, meter_provider=captured.meter_provider
    )
    telemetry.start_run_span("resize", "task", 1, "me", None).end("failed", error=ValueError("no"))
    span = captured.span()

    assert len(span.events) == events
    assert span.status.status_code is StatusCode.ERROR
