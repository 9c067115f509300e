"""Rows that were written past tapescope and cannot be read whole: each is shown as such.

Constraints keep such rows out (docs/decisions/0030); where one was written before them, or past
them, it costs neither the page that it is on nor the calls of others. A word of a closed set that
this version does not know is no damage: a newer version wrote it, and it is carried.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import orjson

from tapescope.codec import decode
from tapescope.model.audit import AuditRule
from tapescope.model.repairs import Repair
from tapescope.model.tape import DroppedEvent, DropReason, Event
from tapescope.model.tasks import (
    DEFAULT_QUEUE,
    Assurance,
    CancelReason,
    CancelRequest,
    Task,
    TaskStatus,
)
from tapescope.model.times import FIRST_TIME, LAST_TIME
from tapescope.model.words import carry

__all__ = [
    "READ_BYTES",
    "are_times",
    "as_damaged_task",
    "count_drops",
    "has_sound_numbers",
    "read_cancel",
    "read_drop",
    "read_event",
    "read_json",
    "read_repair",
    "read_sound_tags",
    "read_tags",
]

READ_BYTES: Final = 16 * 2**20
"""Bytes of the JSON text of one row that are read, of params or of a body, and from which on a page
ends. No store takes as much (``StoreLimits``): what is longer was written past it."""
_SHOWN: Final = 100
"""Characters of a text that cannot be read."""
_DEEPEST: Final = 254
"""Levels of lists and objects that the codec writes."""
_DEEP_TEXT: Final = 2 * _DEEPEST
"""The shortest text that is nested as deep has an end for each beginning."""


def read_json(text: Any) -> Any:
    """The value of a JSON text of a row. Raises ``TypeError`` or ``ValueError``.

    Also for one that could be read, and not be written again, for it is nested too deep.
    """
    value = decode(text)
    if len(text) > _DEEP_TEXT and text.count("[") + text.count("{") > _DEEPEST:
        orjson.dumps(value)
    return value


def are_times(*microseconds: Any) -> bool:
    """Whether each of them is a time that can be shown, or ``None``."""
    for one in microseconds:
        if one is not None and (type(one) is not int or not FIRST_TIME <= one <= LAST_TIME):
            return False
    return True


def has_sound_numbers(attempt: Any, retries: Any, retries_spent: Any, timeout: Any) -> bool:
    """Whether a row's numbers are numbers of their kind."""
    return (
        type(attempt) is type(retries) is type(retries_spent) is int
        and attempt >= 0 <= retries
        and retries_spent >= 0
        and (timeout is None or (type(timeout) in (float, int) and 0 < timeout < math.inf))
    )


def read_tags(text: Any) -> tuple[str, ...]:
    """The tags of a row. Raises ``TypeError`` or ``ValueError``."""
    if text is None:
        return ()
    tags: object = decode(text)
    if not isinstance(tags, list) or not {*map(type, cast("list[object]", tags))} <= {str}:
        raise ValueError("they are not a list of texts")
    return tuple(cast("list[str]", tags))


def read_sound_tags(text: Any) -> tuple[str, ...]:
    """The tags of a row; none where they cannot be read: so nobody is shown it for a tag."""
    try:
        return read_tags(text)
    except (TypeError, ValueError):
        return ()


def read_cancel(
    reason: Any, message: Any, by: Any, at: Any, traceparent: Any = None, *, role: Any = None
) -> CancelRequest | None:
    """The cancel request on a task's row; ``None`` where there is none, or none can be read."""
    if at is None or not isinstance(reason, str) or not are_times(at):
        return None
    message = message if isinstance(message, str) else ""
    by = by if isinstance(by, str) else None
    known = Assurance.CLAIMED if role is None else Assurance.ROLE
    traceparent = traceparent if isinstance(traceparent, str) else None
    return CancelRequest(carry(CancelReason, reason), message, by, at, role, known, traceparent)


def as_damaged_task(row: Mapping[str, Any]) -> Task:
    """The task of a row, by column, of which something cannot be read.

    What cannot be read has the value of a new task's row, and ``damage`` names it.
    """
    wrong: list[str] = []

    def take(name: str, kind: type | tuple[type, ...], otherwise: Any) -> Any:
        value = row[name]
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
        if value is not None or otherwise is not None:
            wrong.append(name)
        return otherwise

    def take_time(name: str, otherwise: int | None) -> Any:
        if are_times(row[name]):
            return take(name, int, otherwise)
        wrong.append(name)
        return otherwise

    def take_count(name: str) -> Any:
        value = row[name]
        if type(value) is int and value >= 0:
            return value
        wrong.append(name)
        return 0

    def take_priority() -> Any:
        value = row["priority"]
        if type(value) is int:
            return value
        wrong.append("priority")
        return 0

    def take_tags() -> tuple[str, ...]:
        try:
            return read_tags(row["tags"])
        except (TypeError, ValueError):  # no text, or not a list of texts
            wrong.append("tags")
            return ()

    def take_flag(name: str) -> bool:
        if row[name] in (0, 1):  # SQLite has no others
            return bool(row[name])
        wrong.append(name)
        return False

    def take_timeout() -> Any:
        if has_sound_numbers(0, 0, 0, row["timeout_s"]):
            return row["timeout_s"]
        wrong.append("timeout_s")
        return None

    params: dict[str, Any] = {}
    try:
        found = read_json(row["params"])
    except (TypeError, ValueError):  # no text, or a text that is not JSON
        found = None
    if isinstance(found, dict):
        params = cast("dict[str, Any]", found)
    else:
        wrong.append("params")
    on_record = [row[f"cancel_{name}"] for name in ("reason", "message", "by", "requested_at")]
    reason, message, by, at = on_record
    role = row.get("cancel_role")
    cancel = read_cancel(reason, message, by, at, row["cancel_traceparent"], role=role)
    kept = None if cancel is None else [cancel.reason, cancel.message, cancel.by, cancel.at_us]
    if kept != on_record and (cancel is not None or on_record != [None] * 4):
        wrong.append("cancel")
    parked_us = take_time("parked_at", None)

    def take_due_time() -> Any:
        run_us = take_time("run_at", 0)  # looked at in any case
        return run_us if parked_us is None else parked_us

    return Task(
        task_id=take("task_id", str, "?"),
        op=take("op", str, "?"),
        params=params,
        status=carry(TaskStatus, take("status", str, TaskStatus.PENDING.value)),
        attempt=take_count("attempt"),
        owner=take("owner", str, None),
        created_us=take_time("created_at", 0),
        run_us=take_due_time(),
        claimed_us=take_time("claimed_at", None),
        finished_us=take_time("finished_at", None),
        lease_expires_us=take_time("lease_expires_at", None),
        timeout=take_timeout(),
        retries=take_count("retries"),
        idempotency_key=take("idempotency_key", str, None),
        traceparent=take("traceparent", str, None),
        cancel=cancel,
        error_code=take("error_code", str, None),
        retries_spent=take_count("retries_spent"),
        priority=take_priority(),
        tags=take_tags(),
        parent_id=take("parent_id", str, None),
        cancel_with_parent=take_flag("cancel_with_parent"),
        unique_key=take("unique_key", str, None),
        concurrency_key=take("concurrency_key", str, None),
        parked=parked_us is not None and row["status"] == TaskStatus.PENDING,
        engine=take("engine", str, None) or None,
        queue=take("queue", str, DEFAULT_QUEUE),
        key=row["id"],
        damage=f"{', '.join(wrong)} of its row cannot be read" if wrong else "",
    )


def read_event(seq: Any, type: Any, ts: Any, attempt: Any, body: Any) -> Event:
    """An event as its row has it; ``damage`` says what cannot be read."""
    wrong: list[str] = []
    if not are_times(ts) or ts is None:
        wrong.append(f"its time is {ts!r:.{_SHOWN}}")
        ts = 0
    if not isinstance(seq, int):
        wrong.append(f"its number is {seq!r:.{_SHOWN}}")
        seq = 0
    if not isinstance(attempt, int):
        wrong.append(f"its attempt is {attempt!r:.{_SHOWN}}")
        attempt = 0
    if not isinstance(type, str):
        wrong.append(f"its type is {type!r:.{_SHOWN}}")
        type = "?"
    try:
        read = read_json(body)
    except (TypeError, ValueError):
        why = "too long" if body is None else f"not JSON: {body!r:.{_SHOWN}}"
        wrong.append(f"its body is {why}")
        read = None
    return Event(seq, type, ts, attempt, read, "; ".join(wrong))


def read_drop(
    task_id: Any, attempt: Any, type: Any, reason: Any, ts: Any, late: Any, trace_id: Any, body: Any
) -> DroppedEvent:
    """A late event as its row has it; ``late`` is in microseconds."""
    event = read_event(0, type, ts, attempt, body)
    wrong = [event.damage] if event.damage else []
    if not isinstance(reason, str):
        wrong.append(f"its reason is {reason!r:.{_SHOWN}}")
        reason = DropReason.UNKNOWN_TASK.value
    if not isinstance(task_id, str):
        wrong.append(f"its task is {task_id!r:.{_SHOWN}}")
        task_id = "?"
    return DroppedEvent(
        task_id=task_id,
        attempt=event.attempt,
        type=event.type,
        reason=carry(DropReason, reason),
        ts_us=event.ts_us,
        late_s=late / 1e6 if isinstance(late, int) else None,
        trace_id=trace_id if isinstance(trace_id, str) else None,
        body=event.body,
        damage="; ".join(wrong),
    )


def count_drops(counts: Iterable[tuple[Any, Any]]) -> dict[DropReason, int]:
    """How many events were dropped, by reason; a count that cannot be read counts nothing."""
    found: dict[DropReason, int] = {}
    for reason, n in counts:
        if isinstance(reason, str) and isinstance(n, int):
            found[carry(DropReason, reason)] = n
    return found


def read_repair(
    rule: Any, task_id: Any, was: Any, done: Any, at: Any, by: Any, number: int
) -> Repair:
    """An entry of the repair log; what cannot be read of it is shown as it stands."""

    def read(text: Any) -> Any:
        try:
            return decode(text)
        except (TypeError, ValueError):
            return f"{text!r:.{_SHOWN}}"

    facts = read(done)
    return Repair(
        carry(AuditRule, str(rule)),
        str(task_id),
        read(was),
        cast("Mapping[str, Any]", facts) if isinstance(facts, dict) else {"unreadable": facts},
        at if at is not None and are_times(at) else 0,
        str(by),
        number,
    )
