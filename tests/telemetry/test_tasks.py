"""A manager's metrics."""

from __future__ import annotations

from weakref import ref

from tapescope_telemetry import OTHER
from tests.telemetry.recording import Recording


def test_series_of_an_op_start_at_zero(recording: Recording) -> None:
    """Whatever is known of an op beforehand exists at zero as soon as the op was seen."""
    recording.telemetry.tasks.seen("resize")
    recording.telemetry.tasks.seen("resize")

    assert recording.value("tapescope.task.submitted", task_op="resize") == 0
    assert recording.value("tapescope.task.zombies", task_op="resize") == 0
    active = recording.points("tapescope.task.active", task_op="resize")
    assert {(p.labels["tapescope.task.state"], p.value) for p in active} == {
        ("pending", 0),
        ("running", 0),
        ("cancelling", 0),
    }
    retries = recording.points("tapescope.task.retries", task_op="resize")
    assert {(p.labels["error.type"], p.value) for p in retries} == {
        ("timeout", 0),
        ("bad_result", 0),
        ("unrequested_cancel", 0),
        ("worker_lost", 0),
    }


def test_cancel_reasons_start_at_zero(recording: Recording) -> None:
    """The three reasons of a cancel are there before anybody cancels, as is the limit."""
    reasons = recording.points("tapescope.cancel.requests")

    assert {(p.labels["tapescope.cancel.reason"], p.value) for p in reasons} == {
        ("user", 0),
        ("shutdown", 0),
        ("superseded", 0),
    }
    assert recording.value("tapescope.task.limit") == 0


def test_counters_and_levels_add_up(recording: Recording) -> None:
    """Submits count up; active tasks, zombies and the limit go both ways."""
    tasks = recording.telemetry.tasks
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

    assert recording.value("tapescope.task.submitted", task_op="resize") == 2
    assert recording.value("tapescope.task.active", task_state="pending") == 1
    assert recording.value("tapescope.task.active", task_state="running") == 1
    assert recording.value("tapescope.task.zombies", task_op="resize") == 0
    assert recording.value("tapescope.task.limit") == 50
    assert recording.value("tapescope.cancel.requests", cancel_reason="user") == 1
    assert recording.value("tapescope.task.retries", error_type="ValueError") == 1


def test_duration_tells_outcome_and_error(recording: Recording) -> None:
    """A finished task is one record: its outcome, and for a failure what it was."""
    tasks = recording.telemetry.tasks
    tasks.finished("resize", "succeeded", None, 1.5)
    tasks.finished("resize", "failed", "timeout", 3.0)

    name = "tapescope.task.duration"
    (succeeded,) = recording.points(name, task_outcome="succeeded")
    (failed,) = recording.points(name, task_outcome="failed")
    assert (succeeded.value, succeeded.point.sum) == (1, 1.5)
    assert succeeded.labels.keys() == {"tapescope.task.op", "tapescope.task.outcome"}
    assert failed.labels["error.type"] == "timeout"


def test_duration_of_a_cancelled_task_has_a_reason_and_no_error(recording: Recording) -> None:
    """A cancel is no error, even when the cleanup raised; its reason is always there."""
    tasks = recording.telemetry.tasks
    tasks.finished("resize", "cancelled", "ValueError", 1.0, cancel_reason="shutdown")
    tasks.finished("resize", "cancelled", None, 1.0)

    points = recording.points("tapescope.task.duration")
    assert {p.labels["tapescope.cancel.reason"] for p in points} == {"shutdown", OTHER}
    assert not [p for p in points if "error.type" in p.labels]


def test_duration_points_at_its_run(recording: Recording) -> None:
    """The exemplar of a duration is the run that took so long."""
    run = recording.telemetry.start_run_span("resize", "task", 1, "owner", None)
    recording.telemetry.tasks.finished("resize", "succeeded", None, 2.0, context=run.context)
    run.end("succeeded")

    (point,) = recording.points("tapescope.task.duration")
    assert [f"{e.trace_id:032x}" for e in point.point.exemplars] == [run.trace_id]


def test_times_never_go_below_zero(recording: Recording) -> None:
    """Two clocks that disagree make a wait of zero, not a measurement that the SDK refuses."""
    tasks = recording.telemetry.tasks
    tasks.queue_wait("resize", -0.001)
    tasks.cancel_finished("user", -0.001)
    tasks.overrun("resize", -0.001)

    for name in (
        "tapescope.task.queue.wait_time",
        "tapescope.cancel.duration",
        "tapescope.cancel.overrun",
    ):
        (point,) = recording.points(name)
        assert (point.value, point.point.sum) == (1, 0), name


def test_ops_and_errors_are_capped(recording: Recording) -> None:
    """Ops and error types that somebody makes up by the hundred end in ``_OTHER``, and balance."""
    tasks = recording.telemetry.tasks
    for number in range(250):
        tasks.active(f"op{number}", "running", 1)
        tasks.retried("op0", f"Error{number}")
    for number in range(250):
        tasks.active(f"op{number}", "running", -1)

    active = recording.points("tapescope.task.active", task_state="running")
    assert len(active) == 201
    assert {point.value for point in active} == {0}
    retries = recording.points("tapescope.task.retries", task_op="op0")
    assert sum(point.value for point in retries) == 250
    assert [point.value for point in retries if point.has(error_type=OTHER)] == [200]


class Pool:
    """Something that has tasks."""

    def read_ages(self) -> list[tuple[str, float]]:
        """Two of an op."""
        return [("resize", 2.0), ("resize", 5.0)]


def read_oldest(recording: Recording) -> dict[object, float]:
    """The age that each op has now."""
    points = recording.points("tapescope.task.oldest_active.age")
    return {point.labels["tapescope.task.op"]: point.value for point in points}


def test_the_oldest_active_task_is_told(recording: Recording) -> None:
    """The age is the oldest one's of each op, 0 where none is active, and 0 when nobody tells."""
    tasks, pool = recording.telemetry.tasks, Pool()

    tasks.seen("shell")
    tasks.watch_ages(pool.read_ages)
    watched = read_oldest(recording)
    tasks.unwatch_ages(pool.read_ages)
    tasks.unwatch_ages(pool.read_ages)

    assert watched == {"resize": 5.0, "shell": 0.0}
    assert read_oldest(recording)["shell"] == 0


def test_telemetry_keeps_no_manager_alive(recording: Recording) -> None:
    """Who is asked for ages and goes away without a word is forgotten: it was never closed."""
    tasks, pool = recording.telemetry.tasks, Pool()
    tasks.watch_ages(pool.read_ages)
    gone = ref(pool)
    del pool

    assert gone() is None
    assert read_oldest(recording) == {}
