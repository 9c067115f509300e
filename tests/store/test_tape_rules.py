"""What a tape takes, by the rules in plain Python: the guards of a store that has no triggers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tapescope.model.tape import FINAL
from tapescope.model.tasks import NewTask, Task, TaskStatus
from tapescope.store import (
    FIRST_FOREIGN_OFFER,
    EventRow,
    FlushRefused,
    StoreLimits,
    add_event,
    as_pending,
    check_next_event,
)
from tapescope.store.validation import check_new_task, new_task_id


def running() -> Task:
    """A task that runs, in its second attempt."""
    row, params = check_new_task(NewTask(new_task_id(), "work"), StoreLimits())
    task = as_pending(row, params, 1, 1)
    return replace(task, status=TaskStatus.RUNNING, attempt=2, owner="me")


LAST = EventRow(1, 3, 2, 7, "log", 1, "{}", "me")
NEXT = LAST._replace(seq=4, offer=8)


@pytest.mark.parametrize(
    ("invariant", "last", "row", "status"),
    [
        ("I1", LAST._replace(type=FINAL), NEXT, TaskStatus.RUNNING),
        ("I3", LAST, NEXT._replace(seq=5), TaskStatus.RUNNING),
        ("I3", None, NEXT, TaskStatus.RUNNING),
        ("I5", LAST, NEXT._replace(attempt=3), TaskStatus.RUNNING),
        ("I7", LAST, NEXT._replace(offer=7), TaskStatus.RUNNING),
        ("I5", LAST, NEXT, TaskStatus.PENDING),
    ],
)
def test_an_event_out_of_place_is_refused(
    invariant: str, last: EventRow | None, row: EventRow, status: TaskStatus
) -> None:
    """By the number of the invariant; the one in its place is taken."""
    task = running()
    check_next_event(task, LAST, NEXT)

    with pytest.raises(FlushRefused, match=f"^{invariant}: "):
        check_next_event(replace(task, status=status), last, row)


def test_an_event_of_another_has_an_offer_that_no_run_takes() -> None:
    """A late event of the run could be taken for it."""
    assert add_event(running(), LAST, FINAL, 1, "{}").offer == FIRST_FOREIGN_OFFER
    assert add_event(running(), None, FINAL, 1, "{}").offer == FIRST_FOREIGN_OFFER
