"""A manager's metrics."""

from __future__ import annotations

from weakref import ref

from tapescope_telemetry import OTHER
from tests.support.captured_telemetry import CapturedTelemetry


def test_series_of_an_op_start_at_zero(captured: CapturedTelemetry) -> None:
    """Whatever is known of an op beforehand exists at zero as soon as the op was seen."""
    captured.telemetry.tasks.seen("resize")
    captured.telemetry.tasks.seen("resize")

    assert captured.value("tapescope.task.submitted", task_op="resize") == 0
    assert captured.value("tapescope.task.zombies", task_op="resize") == 0
    active = captured.points("tapescope.task.active", task_op="resize")
    assert {(p.labels["tapescope.task.state"], p.value) for p in active} == {
        ("pending", 0),
        ("running", 0),
        ("cancelling", 0),
    }
    retries = captured.points("tapescope.task.retries", task_op="resize")
    assert {(p.labels["error.type"], p.value) for p in retries} == {
        ("timeout", 0),
        ("bad_params", 0),
        ("stalled", 0),
        ("bad_result", 0),
        ("bad_row", 0),
        ("unrequested_cancel", 0),
        ("worker_lost", 0),
    }


def test_cancel_reasons_start_at_zero(captured: CapturedTelemetry) -> None:
    """The four reasons of a cancel are there before any cancel, as is the limit."""
    reasons = captured.points("tapescope.cancel.requests")

    assert {(p.labels["tapescope.cancel.reason"], p.value) for p in reasons} == {
        ("user", 0),
        ("shutdown", 0),
        ("superseded", 0),
        ("expired", 0),
    }
    assert captured.value("tapescope.task.limit") == 0


def test_counters_and_levels_add_up(captured: CapturedTelemetry) -> None:
    """Submits count up; active tasks, zombies and the limit go both ways."""
    tasks = captured.telemetry.tasks
    tasks.submitted("resize")
    tasks.submitted("resize")
    tasks.active("resize", "pending", 2)
    tasks.active("resize", "pending", -1)
    tasks.active("resize", "running", 1)
    tasks.zombie("resize", 1)
    tasks.zombie("resize", -1)
    tasks.limit(100)
    tasks.limit(50)
    tasks.limit(-100)
    tasks.cancel_requested("user")
    tasks.retried("resize", "ValueError")

    assert captured.value("tapescope.task.submitted", task_op="resize") == 2
    assert captured.value("tapescope.task.active", task_state="pending") == 1
    assert captured.value("tapescope.task.active", task_state="running") == 1
    assert captured.value("tapescope.task.zombies", task_op="resize") == 0
    assert captured.value("tapescope.task.limit") == 50
    assert captured.value("tapescope.cancel.requests", cancel_reason="user") == 1
    assert captured.value("tapescope.task.retries", error_type="ValueError") == 1


def test_duration_tells_outcome_and_error(captured: CapturedTelemetry) -> None:
    """A finished task is one record: its outcome, and for a failure what it was."""
    tasks = captured.telemetry.tasks
    tasks.finished("resize", "succeeded", None, 1.5)
    tasks.finished("resize", "failed", "timeout", 3.0)

    name = "tapescope.task.duration"
    (succeeded,) = captured.points(name, task_outcome="succeeded")
    (failed,) = captured.points(name, task_outcome="failed")
    assert (succeeded.value, succeeded.point.sum) == (1, 1.5)
    assert succeeded.labels.keys() == {"tapescope.task.op", "tapescope.task.outcome"}
    assert failed.labels["error.type"] == "timeout"


def test_duration_of_a_cancelled_task_has_a_reason_and_no_error(
    captured: CapturedTelemetry,
) -> None:
    """A cancel is not an error, even when the cleanup raised; its reason is always there."""
    tasks = captured.telemetry.tasks
    tasks.finished("resize", "cancelled", "ValueError", 1.0, cancel_reason="shutdown")
    tasks.finished("resize", "cancelled", None, 1.0)

    points = captured.points("tapescope.task.duration")
    assert {p.labels["tapescope.cancel.reason"] for p in points} == {"shutdown", OTHER}
    assert not [p for p in points if "error.type" in p.labels]


def test_duration_points_at_its_run(captured: CapturedTelemetry) -> None:
    """The exemplar of a duration is the run that took so long."""
    run = captured.telemetry.start_run_span("resize", "task", 1, "owner", None)
    captured.telemetry.tasks.finished("resize", "succeeded", None, 2.0, context=run.context)
    run.end("succeeded")

    (point,) = captured.points("tapescope.task.duration")
    assert [f"{e.trace_id:032x}" for e in point.point.exemplars] == [run.trace_id]


def test_times_never_go_below_zero(captured: CapturedTelemetry) -> None:
    """Two clocks that disagree make a wait of zero, not a measurement that the SDK refuses."""
    tasks = captured.telemetry.tasks
    tasks.queue_wait("resize", -0.001)
    tasks.cancel_finished("user", -0.001)
    tasks.overrun("resize", -0.001)

    for name in (
        "tapescope.task.queue.wait_time",
        "tapescope.cancel.duration",
        "tapescope.cancel.overrun",
    ):
        (point,) = captured.points(name)
        assert (point.value, point.point.sum) == (1, 0), name


def test_ops_and_errors_are_capped(captured: CapturedTelemetry) -> None:
    """Ops and error types that users make up by the hundred end in ``_OTHER``, and balance."""
    tasks = captured.telemetry.tasks
    for number in range(250):
        tasks.active(f"op{number}", "running", 1)
        tasks.retried("op0", f"Error{number}")
    for number in range(250):
        tasks.active(f"op{number}", "running", -1)

    active = captured.points("tapescope.task.active", task_state="running")
    assert len(active) == 201
    assert {point.value for point in active} == {0}
    retries = captured.points("tapescope.task.retries", task_op="op0")
    assert sum(point.value for point in retries) == 250
    assert [point.value for point in retries if point.has(error_type=OTHER)] == [200]


class Pool:
    """Something that has tasks."""

    def read_ages(self) -> list[tuple[str, float]]:
        """Two of an op."""
        return [("resize", 2.0), ("resize", 5.0)]


def read_oldest(captured: CapturedTelemetry) -> dict[object, float]:
    """The age that each op has now."""
    points = captured.points("tapescope.task.oldest_active.age")
    return {point.labels["tapescope.task.op"]: point.value for point in points}


def test_the_oldest_active_task_is_told(captured: CapturedTelemetry) -> None:
    """The age is the oldest one's of each op, 0 where none is active, and without a manager."""
    tasks, pool = captured.telemetry.tasks, Pool()

    tasks.seen("shell")
    tasks.watch_ages(pool.read_ages)
    watched = read_oldest(captured)
    tasks.unwatch_ages(pool.read_ages)
    tasks.unwatch_ages(pool.read_ages)

    assert watched == {"resize": 5.0, "shell": 0.0}
    assert read_oldest(captured)["shell"] == 0


def test_telemetry_keeps_no_manager_alive(captured: CapturedTelemetry) -> None:
    """Who is asked for ages and goes away without a word is forgotten: it was never closed."""
    tasks, pool = captured.telemetry.tasks, Pool()
    tasks.watch_ages(pool.read_ages)
    gone = ref(pool)
    del pool

    assert gone() is None
    assert read_oldest(captured) == {}
