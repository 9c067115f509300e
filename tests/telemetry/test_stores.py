"""A store's metrics: drops above all."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from tapescope.model import TAPE_OPEN, TAPE_UNKNOWN, AuditRule
from tapescope_telemetry import OTHER
from tests.support.captured_telemetry import CapturedTelemetry

OPERATION = "tapescope.store.operation.duration"
DROPPED = "tapescope.tape.event.dropped"
SDK_SERIES_LIMIT = 2_000


class Word(StrEnum):
    """A closed set as the platform has them."""

    CANCELLED = "cancelled"


def test_same_adapter_gives_the_same_meter(captured: CapturedTelemetry) -> None:
    """Two stores of one adapter count into one meter and one ledger."""
    store = captured.telemetry.store("sqlite")

    assert captured.telemetry.store("sqlite") is store
    assert captured.telemetry.store("postgresql") is not store


def test_drop_is_counted_once_with_all_its_labels(captured: CapturedTelemetry) -> None:
    """A drop shows its reason, type, op, adapter and outcome, and leaves the ledger's flight."""
    store = captured.telemetry.store("sqlite")
    store.ledger.offer(2)
    store.dropped("after_terminal", "log", "resize", Word.CANCELLED, 2)
    labels = {
        "tapescope.drop.reason": "after_terminal",
        "tapescope.event.type": "log",
        "tapescope.task.op": "resize",
        "tapescope.store.adapter": "sqlite",
        "tapescope.tape.outcome": "cancelled",
    }

    counted = [point for point in captured.points(DROPPED) if point.value]
    assert [(dict(point.labels), point.value) for point in counted] == [(labels, 2)]
    assert type(counted[0].labels["tapescope.tape.outcome"]) is str
    assert (store.ledger.dropped, store.ledger.in_flight, store.ledger.unaccounted) == (2, 0, 0)


def test_drop_of_an_unknown_task_has_no_outcome_of_a_tape(captured: CapturedTelemetry) -> None:
    """A drop without a task says ``unknown`` and ``_OTHER``, where an open tape says ``open``."""
    store = captured.telemetry.store("sqlite")
    store.dropped("unknown_task", "log", None, None)
    store.dropped("stale_attempt", "log", "resize", TAPE_OPEN)

    assert captured.value(DROPPED, drop_reason="unknown_task", task_op=OTHER, event_type="log") == 1
    (unknown,) = (p for p in captured.points(DROPPED, drop_reason="unknown_task") if p.value)
    assert unknown.has(tape_outcome=TAPE_UNKNOWN)
    (stale,) = (p for p in captured.points(DROPPED, drop_reason="stale_attempt") if p.value)
    assert stale.has(tape_outcome="open", task_op="resize")


def test_drop_points_at_a_run_that_has_ended(captured: CapturedTelemetry) -> None:
    """The exemplar of a late event is the run's span, though that one is over."""
    run = captured.telemetry.start_run_span("resize", "task", 1, "owner", None)
    run.end("succeeded")
    captured.telemetry.store("sqlite").dropped(
        "after_terminal", "log", "resize", "succeeded", context=run.context
    )

    (counted,) = (point for point in captured.points(DROPPED) if point.value)
    (exemplar,) = counted.point.exemplars
    assert f"{exemplar.trace_id:032x}" == run.trace_id
    assert f"{exemplar.span_id:016x}" == run.span_id


def test_exemplars_of_an_operation_are_spread_over_buckets_and_time(
    captured: CapturedTelemetry,
) -> None:
    """A bucket is offered its next exemplar after a while; every call is counted all the same."""
    store = captured.telemetry.store("sqlite")
    now = 100.0
    store.now = lambda: now
    runs = [captured.telemetry.start_run_span("a", f"task-{n}", 1, "me", None) for n in range(4)]

    def told() -> set[str | None]:
        (point,) = captured.points(OPERATION, store_operation="append")
        return {f"{exemplar.trace_id:032x}" for exemplar in point.point.exemplars}

    store.operation("append", 0.001, context=runs[0].context)
    store.operation("append", 0.001, context=runs[1].context)
    store.operation("append", 2.0, context=runs[2].context)
    first = told()
    store.operation("append", 0.001, context=runs[1].context)
    second = told()
    now += 0.1
    store.operation("append", 0.001, context=runs[3].context)
    third = told()

    assert first == {runs[0].trace_id, runs[2].trace_id}
    assert (second, third) == (set(), {runs[3].trace_id})
    assert captured.value(OPERATION, store_operation="append") == 5


def test_calls_of_no_sampled_trace_take_nobodys_turn(captured: CapturedTelemetry) -> None:
    """With one trace in a hundred sampled, the sampled one is the exemplar, not the one before."""
    store = captured.telemetry.store("sqlite")
    store.now = lambda: 100.0
    unsampled = SpanContext(1, 1, is_remote=False)
    run = captured.telemetry.start_run_span("a", "task", 1, "me", None)
    for context in (set_span_in_context(NonRecordingSpan(unsampled), Context()), run.context):
        store.operation("append", 0.001, context=context)
    (point,) = captured.points(OPERATION)

    assert [f"{one.trace_id:032x}" for one in point.point.exemplars] == [run.trace_id]


def test_failures_always_offer_an_exemplar(captured: CapturedTelemetry) -> None:
    """The last of two failures in one moment is the exemplar."""
    store = captured.telemetry.store("sqlite")
    store.now = lambda: 100.0
    runs = [captured.telemetry.start_run_span("a", f"task-{n}", 1, "me", None) for n in range(2)]
    for run in runs:
        store.operation("append", 0.001, "TimeoutError", run.context)
    (point,) = captured.points(OPERATION)

    assert [f"{one.trace_id:032x}" for one in point.point.exemplars] == [runs[1].trace_id]


def test_zeros_leave_no_exemplar(captured: CapturedTelemetry) -> None:
    """Making a series at zero inside a span does not make that span its exemplar."""
    with captured.telemetry.submit_span("resize", "task", "sqlite"):
        captured.telemetry.store("sqlite")
        captured.telemetry.tasks.seen("resize")

    points = captured.points(DROPPED)
    assert points
    assert not [point for point in points if point.point.exemplars]


def test_plausible_drops_of_an_op_start_at_zero(captured: CapturedTelemetry) -> None:
    """An op that was seen has the 31 drop series that page at zero, whichever came first, op or
    store; what comes after the end has its zeros without an op."""
    early = captured.telemetry.store("sqlite")
    captured.telemetry.tasks.seen("resize")
    captured.telemetry.store("postgresql")

    for adapter in ("sqlite", "postgresql"):
        points = captured.points(DROPPED, store_adapter=adapter, task_op="resize")
        reasons = Counter(point.labels["tapescope.drop.reason"] for point in points)
        late = captured.points(DROPPED, store_adapter=adapter, drop_reason="after_terminal")
        assert reasons == {"stale_attempt": 28, "duplicate_final": 3}
        assert {point.labels["tapescope.task.op"] for point in late} == {OTHER}
        assert len(late) == 18
        assert {point.value for point in points} == {0}
        unknown = captured.points(DROPPED, store_adapter=adapter, drop_reason="unknown_task")
        assert {point.labels["tapescope.task.op"] for point in unknown} == {OTHER}
        assert len(unknown) == 7
    assert early.ledger.dropped == 0


def test_drop_ops_are_capped(captured: CapturedTelemetry) -> None:
    """The 33rd op of a process shares the label ``_OTHER``, and stays there."""
    store = captured.telemetry.store("sqlite")
    for number in range(40):
        store.dropped("after_terminal", "log", f"op{number}", "succeeded")
    store.dropped("after_terminal", "log", "op0", "succeeded")

    ops = {p.labels["tapescope.task.op"]: p.value for p in captured.points(DROPPED) if p.value}
    assert len(ops) == 33
    assert (ops["op0"], ops["op31"], ops[OTHER]) == (2, 1, 8)


def test_zeros_leave_room_for_real_drops(captured: CapturedTelemetry) -> None:
    """With many ops on two adapters the SDK's series limit is not reached by zeros alone."""
    for adapter in ("sqlite", "postgresql"):
        captured.telemetry.store(adapter)
    for number in range(40):
        captured.telemetry.tasks.seen(f"op{number}")
    captured.telemetry.store("postgresql").dropped("after_terminal", "log", "op31", "succeeded")

    assert len(captured.points(DROPPED)) < SDK_SERIES_LIMIT * 3 / 4
    assert captured.value(DROPPED, store_adapter="postgresql", task_op="op31") == 1


def test_event_types_are_capped(captured: CapturedTelemetry) -> None:
    """Known types keep their names for ever; of a user's, the first twenty do."""
    ledger = captured.telemetry.store("sqlite").ledger
    ledger.offer(31)
    for number in range(30):
        ledger.store(f"user{number}")
    ledger.store("partial")

    name = "tapescope.tape.event.appended"
    stored = {p.labels["tapescope.event.type"]: p.value for p in captured.points(name) if p.value}
    assert len(stored) == 22
    assert (stored["user0"], stored["user19"], stored[OTHER], stored["partial"]) == (1, 1, 10, 1)
    assert ledger.unaccounted == 0


def test_text_that_is_no_event_type_is_no_label(captured: CapturedTelemetry) -> None:
    """What was refused as an event type is counted as failed, its text kept off the label."""
    ledger = captured.telemetry.store("sqlite").ledger
    ledger.offer(2)
    ledger.fail("Secret of user 4711", "tapescope.errors.BadEventType")
    ledger.fail("x" * 65, "tapescope.errors.BadEventType")

    (failed,) = (p for p in captured.points("tapescope.tape.event.failed") if p.value)
    assert (failed.labels["tapescope.event.type"], failed.value) == (OTHER, 2)


def test_known_event_types_start_at_zero(captured: CapturedTelemetry) -> None:
    """A store that has done nothing reports each known type, each known failure and the balance."""
    captured.telemetry.store("sqlite")

    assert len(captured.points("tapescope.tape.event.appended")) == 8
    assert len(captured.points("tapescope.tape.event.failed")) == 8 * 4
    assert captured.value("tapescope.tape.event.offered") == 0
    assert captured.value("tapescope.tape.event.unaccounted") == 0


def test_failed_operation_is_a_series_of_its_own(captured: CapturedTelemetry) -> None:
    """A call that failed is timed too, under its error."""
    store = captured.telemetry.store("sqlite")
    store.operation("append", 0.001)
    store.operation("append", 0.002)
    store.operation("append", 0.5, "tapescope.errors.StoreUnavailable")

    name = "tapescope.store.operation.duration"
    failed = captured.points(name, error_type="tapescope.errors.StoreUnavailable")
    assert [point.value for point in failed] == [1]
    assert [p.value for p in captured.points(name) if "error.type" not in p.labels] == [2]


def test_sizes_and_followers_are_told(captured: CapturedTelemetry) -> None:
    """Flush sizes and tape lengths are distributions; followers go up and down."""
    store = captured.telemetry.store("sqlite")
    store.flush(12)
    store.tape_closed(4)
    with store.following("live", lambda: 0), store.following("live", lambda: 0):
        pass
    with store.following("live", lambda: 0):
        followers = captured.value("tapescope.subscriber.active", subscriber_kind="live")

    assert captured.points("tapescope.store.flush.size")[0].point.sum == 12
    assert captured.points("tapescope.tape.length")[0].point.sum == 4
    assert followers == 1


def test_the_slowest_follower_is_told(captured: CapturedTelemetry) -> None:
    """The lag is the largest of the kind's followers, and 0 when they have gone."""
    store = captured.telemetry.store("sqlite")
    with store.following("live", lambda: 3), store.following("live", lambda: 7):
        slowest = captured.value("tapescope.subscriber.lag", subscriber_kind="live")

    assert slowest == 7
    assert captured.value("tapescope.subscriber.lag", subscriber_kind="live") == 0


def test_audit_is_counted_by_rule_from_zero(captured: CapturedTelemetry) -> None:
    """Every rule has its series before anything was found; what is found adds up."""
    store = captured.telemetry.store("sqlite")
    name = "tapescope.tape.audit.violations"
    before = {p.labels["tapescope.audit.rule"]: p.value for p in captured.points(name)}
    store.audited(5, {"sequence_gap": 2})
    store.audited(3, {})

    assert before == dict.fromkeys(AuditRule, 0)
    assert captured.value(name, audit_rule="sequence_gap", store_adapter="sqlite") == 2
    assert captured.value("tapescope.tape.audit.checked", store_adapter="sqlite") == 8


def test_time_of_the_last_audit_is_absent_before_the_first(captured: CapturedTelemetry) -> None:
    """No audit shows as no series, not as one of 1970; later ones move it forward only."""
    store = captured.telemetry.store("sqlite")
    name = "tapescope.tape.audit.last_success.timestamp"
    before = captured.metrics().get(name)
    store.audit_succeeded(1_800_000_002.5)
    store.audit_succeeded(1_800_000_001.0)

    assert before is None
    assert captured.value(name) == 1_800_000_002.5
