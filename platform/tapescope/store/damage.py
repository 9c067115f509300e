"""Rows that were written past tapescope and cannot be read whole: each is shown as such.

Constraints keep such rows out (docs/decisions/0030); where one was written before them, or past
them, it costs neither the page that it is on nor the calls of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tapescope.codec import decode
from tapescope.model.tape import DroppedEvent, DropReason, Event
from tapescope.model.tasks import CancelReason, CancelRequest, Task, TaskStatus
from tapescope.model.times import FIRST_TIME, LAST_TIME

__all__ = ["are_times", "as_damaged_task", "read_drop", "read_event"]

_SHOWN = 100
"""Characters of a text that cannot be read."""


def are_times(*microseconds: Any) -> bool:
    """Whether each of them is a time that can be shown, or ``None``."""
    for one in microseconds:
        if one is not None and (type(one) is not int or not FIRST_TIME <= one <= LAST_TIME):
            return False
    return True


def as_damaged_task(row: Mapping[str, Any]) -> Task:
    """The task of a row, by column, of which something cannot be read.

    What cannot be read has the value of a new task's row, and ``damage`` names it.
    """
    wrong: list[str] = []

    def take(
        name: str, kind: type | tuple[type, ...], otherwise: Any, *, sound: bool = True
    ) -> Any:
        value = row[name]
        if sound and isinstance(value, kind) and not isinstance(value, bool):
            return value
        if value is not None or otherwise is not None:
            wrong.append(name)
        return otherwise

    def take_time(name: str, otherwise: int | None) -> Any:
        return take(name, int, otherwise, sound=are_times(row[name]))

    params: dict[str, Any] = {}
    try:
        found = decode(row["params"])
    except (TypeError, ValueError):  # no text, or a text that is not JSON
        found = None
    if isinstance(found, dict):
        params = cast("dict[str, Any]", found)
    else:
        wrong.append("params")
    status = take("status", str, "", sound=row["status"] in list(TaskStatus))
    at, reason = row["cancel_requested_at"], row["cancel_reason"]
    cancel = None
    if are_times(at) and at is not None and reason in list(CancelReason):
        by = row["cancel_by"]
        cancel = CancelRequest(
            CancelReason(reason), str(row["cancel_message"] or ""), by and str(by), at
        )
    elif at is not None or reason is not None:
        wrong.append("cancel")
    task = Task(
        task_id=str(row["task_id"]),
        op=take("op", str, "?"),
        params=params,
        status=TaskStatus(status or TaskStatus.PENDING),
        attempt=take("attempt", int, 0),
        owner=take("owner", str, None),
        created_us=take_time("created_at", 0),
        run_us=take_time("run_at", 0),
        claimed_us=take_time("claimed_at", None),
        finished_us=take_time("finished_at", None),
        lease_expires_us=take_time("lease_expires_at", None),
        timeout=take("timeout_s", (int, float), None),
        retries=take("retries", int, 0),
        idempotency_key=take("idempotency_key", str, None),
        traceparent=take("traceparent", str, None),
        cancel=cancel,
        error_code=take("error_code", str, None),
        retries_spent=take("retries_spent", int, 0),
        key=row["id"],
        damage=f"{', '.join(wrong)} of its row cannot be read" if wrong else "",
    )
    return task


def read_event(seq: int, type: str, ts: Any, attempt: int, body: Any) -> Event:
    """An event as its row has it; ``damage`` says what cannot be read."""
    try:
        if are_times(ts):
            return Event(seq, type, ts, attempt, decode(body))
        damage, ts = f"its time is {ts!r:.{_SHOWN}}", 0
        return Event(seq, type, ts, attempt, decode(body), damage)
    except (TypeError, ValueError):
        return Event(seq, type, ts, attempt, None, f"its body is not JSON: {body!r:.{_SHOWN}}")


def read_drop(
    task_id: str, attempt: int, type: str, reason: Any, ts: Any, late: Any, trace_id: Any, body: Any
) -> DroppedEvent:
    """A late event as its row has it; ``late`` is in microseconds."""
    event = read_event(0, type, ts, attempt, body)
    damage = event.damage
    if reason not in list(DropReason):
        damage = damage or f"its reason is {reason!r:.{_SHOWN}}"
        reason = DropReason.UNKNOWN_TASK
    return DroppedEvent(
        task_id=task_id,
        attempt=attempt,
        type=type,
        reason=DropReason(reason),
        ts_us=event.ts_us,
        late_s=late / 1e6 if isinstance(late, int) else None,
        trace_id=trace_id,
        body=event.body,
        damage=damage,
    )
