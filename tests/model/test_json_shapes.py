"""The JSON shapes: no field of a value is forgotten on its way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest

from tapescope.model import (
    Backlog,
    CancelReason,
    CancelRequest,
    DroppedEvent,
    DropReason,
    Event,
    OpBacklog,
    TapePage,
    Task,
    TaskPage,
    TaskStatus,
)
from tapescope.model.json_shapes import (
    backlog_shape,
    drop_shape,
    event_shape,
    list_shape,
    op_shape,
    tape_shape,
    task_shape,
)

TASK = Task(
    task_id="id",
    op="resize",
    params={"folder": "a"},
    status=TaskStatus.RUNNING,
    attempt=2,
    owner="me",
    created_us=1_000_000,
    run_us=2_000_000,
    claimed_us=3_000_000,
    finished_us=None,
    lease_expires_us=4_000_000,
    timeout=1.5,
    retries=3,
    idempotency_key="key",
    traceparent=None,
    cancel=CancelRequest(CancelReason.USER, "why", "me", 5),
    error_code=None,
    retries_spent=1,
)
EVENT = Event(1, "log", 0, 1, {"message": "a"})
DROP = DroppedEvent("id", 1, "log", DropReason.STALE_ATTEMPT, 0, None, None, None)

NOT_SHOWN: Mapping[str, Mapping[str, str]] = {
    "Task": {"key": "the store's own number of the row; it means nothing outside that store"},
}
"""Fields that are left out on purpose, by class, with the reason."""


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (task := replace(TASK, damage="params"), task_shape(task)),
        (event := replace(EVENT, damage="its body"), event_shape(event)),
        (drop := replace(DROP, damage="its body"), drop_shape(drop)),
        (backlog := Backlog(1, 0.5, ()), backlog_shape(backlog)),
        (one := OpBacklog("x"), op_shape(one)),
        (page := TapePage("id", (EVENT,), 1, None, 0), tape_shape(page)),
        (tasks := TaskPage((TASK,), None), list_shape(tasks)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_field_is_in_the_json(value: Any, shape: dict[str, Any]) -> None:
    """A field that is added to a value must be shown, or be named here with the reason why not."""
    hidden = NOT_SHOWN.get(value.__class__.__name__, {})
    shown = {find_name(value.__class__, field.name) for field in fields(value)}

    assert shape.keys() == shown - hidden.keys()


def test_what_can_be_read_has_no_damage() -> None:
    """The key is there only where it says something."""
    for shape in (task_shape(TASK), event_shape(EVENT), drop_shape(DROP)):
        assert "damage" not in shape


def find_name(kind: type[Any], field: str) -> str:
    """What users call a field: one in microseconds has a property that makes it a time."""
    stem, in_microseconds = field.removesuffix("_us"), field.endswith("_us")
    names = (f"{stem}_at", stem) if in_microseconds else (field,)
    return next(name for name in names if name in vars(kind))


def test_a_task_says_how_many_retries_are_spent() -> None:
    """Both numbers are needed to see whether another attempt follows."""
    assert {key: task_shape(TASK)[key] for key in ("retries", "retries_spent")} == {
        "retries": 3,
        "retries_spent": 1,
    }
