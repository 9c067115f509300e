"""The picture of a life, as the page of a task has it."""

from __future__ import annotations

from tapescope.http.api.page.timeline import draw_timeline
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    FINAL,
    TASK_STARTED,
    DroppedEvent,
    DropReason,
    Event,
)
from tapescope.model.tasks import CancelReason, CancelRequest, Task, TaskStatus

SECOND = 1_000_000
MINUTE = 60 * SECOND
TASK_ID = "0192f0c1-2b7a-7c3e-9a51-0c4f1e2d3b4a"


def make_task(status: TaskStatus, created_us: int, finished_us: int | None, **more: object) -> Task:
    """A task of one op."""
    shape: dict[str, object] = {
        "task_id": TASK_ID,
        "op": "x",
        "params": {},
        "status": status,
        "attempt": 2,
        "owner": "me",
        "created_us": created_us,
        "run_us": created_us,
        "claimed_us": created_us,
        "finished_us": finished_us,
        "lease_expires_us": None,
        "timeout": None,
        "retries": 1,
        "idempotency_key": None,
        "traceparent": None,
        "cancel": None,
        "error_code": None,
    }
    return Task(**(shape | more))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as it is above


def test_a_life_is_drawn_from_its_events() -> None:
    """Attempts end as the tape says, the cancel lies before the final, late events behind it."""
    cancel = CancelRequest(CancelReason.USER, "no", None, 60 * SECOND)
    task = make_task(TaskStatus.CANCELLED, 0, 80 * SECOND, cancel=cancel)
    events = [
        Event(1, TASK_STARTED, 10 * SECOND, 1, {}),
        Event(2, ATTEMPT_FAILED, 30 * SECOND, 1, {}),
        Event(3, TASK_STARTED, 40 * SECOND, 2, {}),
        Event(4, FINAL, 80 * SECOND, 2, {"outcome": "cancelled"}),
    ]
    late = DroppedEvent(
        TASK_ID, 2, "log", DropReason.AFTER_TERMINAL, 100 * SECOND, 20.0, None, None
    )
    line = draw_timeline(task, events, [late], 200 * SECOND)

    assert [(bar.x, bar.width, bar.tone) for bar in line.attempts] == [
        (100.0, 200.0, "failed"),
        (400.0, 400.0, "cancelled"),
    ]
    assert line.cancel is not None
    assert line.final is not None
    assert (line.cancel.x, line.final.x, line.refused[0].x) == (600.0, 800.0, 1_000.0)
    assert line.final.tone == "cancelled"
    assert line.waited == ""
    assert "2 attempts" in line.told
    assert "late events refused: 1" in line.told


def test_a_long_wait_is_said_and_a_run_goes_on_until_now() -> None:
    """A wait of days would leave a run of seconds no room in the picture."""
    task = make_task(TaskStatus.RUNNING, 0, None)
    events = [Event(1, TASK_STARTED, 86_400 * SECOND, 1, {})]
    line = draw_timeline(task, events, [], 86_410 * SECOND)
    lost = draw_timeline(
        make_task(TaskStatus.PENDING, 0, None),
        [*events, Event(2, TASK_STARTED, 86_405 * SECOND, 2, {})],
        [],
        86_410 * SECOND,
    )

    assert [(bar.x, bar.width, bar.tone) for bar in line.attempts] == [(0.0, 1_000.0, "running")]
    assert line.waited == "1d00h"
    assert [bar.tone for bar in lost.attempts] == ["lost", "lost"]
