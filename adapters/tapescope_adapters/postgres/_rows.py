"""Reading rows: the driver's records, or the same as JSON, to the port's frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from tapescope.model import (
    CancelRequest,
    Drain,
    HeldLease,
    QuarantinePage,
    Repair,
    TapePage,
    Task,
    TaskStatus,
    TracedAttempt,
    WorkerState,
    carry,
)
from tapescope.store import (
    READ_BYTES,
    ListedTasks,
    are_times,
    as_damaged_task,
    count_drops,
    decode,
    has_sound_numbers,
    read_cancel,
    read_drop,
    read_event,
    read_json,
    read_repair,
    read_sound_tags,
    read_tags,
)

__all__ = [
    "TASK_COLUMNS",
    "Row",
    "as_cancel",
    "as_lease",
    "as_list",
    "as_quarantine",
    "as_tape",
    "as_task",
]

_COLUMNS: Final = (
    "id, task_id, op, params, status, attempt, owner, created_at, run_at, claimed_at, finished_at, "
    "lease_expires_at, timeout_s, retries, idempotency_key, traceparent, cancel_reason, "
    "cancel_message, cancel_by, cancel_requested_at, cancel_traceparent, cancel_role, "
    "error_code, retries_spent, priority, tags, parent_id, cancel_with_parent, unique_key, "
    "concurrency_key, parked_at, engine, queue"
)
TASK_COLUMNS: Final = _COLUMNS.replace(
    "params", f"CASE WHEN octet_length(params) <= {READ_BYTES} THEN params END AS params"
)
"""What is read of a row. A text that is longer than any store takes is not sent."""
LISTED_COLUMNS: Final = _COLUMNS.replace(
    "params",
    f"CASE WHEN octet_length(params) > {READ_BYTES} THEN NULL"
    " WHEN params IS NOT JSON OBJECT OR params ~ '\\\\u[dD][89a-fA-F]'"
    " OR (length(params) - length(translate(params, '[{', ''))) > 200 THEN params"
    " ELSE '{}' END AS params",
)
"""The same without params, which are empty; but for those that a reader may find damaged."""


class Row(Protocol):
    """A record of the driver, or a JSON object with the same names."""

    def __getitem__(self, name: str, /) -> Any: ...


def as_task(row: Row) -> Task:
    """A task's row."""
    try:
        params, requested_at = read_json(row["params"]), row["cancel_requested_at"]
        created_us, run_us, claimed_us = row["created_at"], row["run_at"], row["claimed_at"]
        finished_us, lease_us = row["finished_at"], row["lease_expires_at"]
        attempt, timeout, retries = row["attempt"], row["timeout_s"], row["retries"]
        spent, reason = row["retries_spent"], row["cancel_reason"]
        priority, parent, parked_us = row["priority"], row["parent_id"], row["parked_at"]
        engine, queue = row["engine"], row["queue"]
        times = (created_us, run_us, claimed_us, finished_us, lease_us, requested_at, parked_us)
        run_us = run_us if parked_us is None else parked_us
        if (
            type(params) is dict
            and are_times(*times)
            and has_sound_numbers(attempt, retries, spent, timeout)
            and type(priority) is int
            and type(engine) is str
            and type(queue) is str
            and (requested_at is None) is (reason is None)
        ):
            return Task(
                key=row["id"],
                task_id=str(row["task_id"]),
                op=row["op"],
                params=cast("dict[str, Any]", params),
                status=carry(TaskStatus, row["status"]),
                attempt=attempt,
                owner=row["owner"],
                created_us=created_us,
                run_us=run_us,
                claimed_us=claimed_us,
                finished_us=finished_us,
                lease_expires_us=lease_us,
                timeout=timeout,
                retries=retries,
                idempotency_key=row["idempotency_key"],
                traceparent=row["traceparent"],
                cancel=None if reason is None else as_cancel(row),
                error_code=row["error_code"],
                retries_spent=spent,
                priority=priority,
                tags=read_tags(row["tags"]),
                parent_id=None if parent is None else str(parent),
                cancel_with_parent=row["cancel_with_parent"],
                unique_key=row["unique_key"],
                concurrency_key=row["concurrency_key"],
                parked=parked_us is not None and row["status"] == TaskStatus.PENDING,
                engine=engine or None,
                queue=queue,
            )
    except (TypeError, ValueError):
        pass  # it was written past tapescope
    found = {name: row[name] for name in _COLUMNS.split(", ")}
    parent = row["parent_id"]
    ids = {"task_id": str(row["task_id"]), "parent_id": None if parent is None else str(parent)}
    return as_damaged_task(found | ids)


def as_list(rows: Sequence[Row]) -> ListedTasks:
    """The rows of a list, which ends with the task whose params are too much for a page."""
    tasks = [as_task(row) for row in rows]
    full = sum(row["size"] for row in rows) >= READ_BYTES
    return ListedTasks(tasks, tasks[-1].task_id if full else None)


def as_worker(row: Row) -> WorkerState:
    """Who works: a row of ``list_workers``."""
    at = row["drained_at"]
    return WorkerState(
        row["owner"],
        tuple(row["ops"] or ()),
        row["running"],
        row["is_worker"],
        row["alive"],
        row["since"],
        row["heard_at"],
        None if at is None else Drain(at, row["drained_by"], row["drain_reason"] or ""),
        None if row["queues"] is None else tuple(row["queues"]),
    )


def as_lease(row: Row) -> HeldLease:
    """A lease that is its owner's."""
    return HeldLease(
        str(row["task_id"]),
        row["attempt"],
        as_cancel(row),
    )


def as_cancel(row: Row) -> CancelRequest | None:
    """The cancel on record; ``None`` where there is none, or none can be read."""
    return read_cancel(
        row["cancel_reason"],
        row["cancel_message"],
        row["cancel_by"],
        row["cancel_requested_at"],
        row["cancel_traceparent"],
        role=row["cancel_role"],
    )


def as_tape(task_id: str, rows: Sequence[Row]) -> TapePage | None:
    """The rows of ``read_tape``: each repeats where the tape stands. No row: no such task."""
    if not rows:
        return None
    first = rows[0]
    events = tuple(
        read_event(row["seq"], row["type"], row["ts"], row["attempt"], row["body"])
        for row in rows
        if row["seq"] is not None
    )
    return TapePage(task_id, events, first["last_seq"], first["final_seq"], first["dropped"])


def as_quarantine(rows: Sequence[Row], limit: int) -> QuarantinePage:
    """The rows of ``read_quarantine``, one more than ``limit`` where there are more."""
    first = rows[0]
    counts: dict[str, int] = decode(first["counts"]) if first["counts"] else {}
    drops = tuple(
        read_drop(
            row["task_id"],
            row["attempt"],
            row["type"],
            row["reason"],
            row["ts"],
            row["late_us"],
            row["trace_id"],
            row["body"],
        )
        for row in rows[:limit]
        if row["id"] is not None
    )
    return QuarantinePage(
        drops,
        overflow=max(0, sum(counts.values()) - first["kept"]),
        next=rows[limit - 1]["id"] if len(rows) > limit else first["looked_to"],
        counts=count_drops(counts.items()),
    )


def as_repair(row: Row) -> Repair:
    """A row of the repair log."""
    return read_repair(
        row["rule"],
        row["task_id"],
        row["was"],
        row["done"],
        row["repaired_at"],
        row["repaired_by"],
        row["id"],
    )


def as_traced(row: Row) -> TracedAttempt:
    """An attempt whose run span was recorded."""
    return TracedAttempt(
        str(row["task_id"]),
        str(row["op"]),
        carry(TaskStatus, row["status"]),
        row["attempt"],
        row["trace_id"],
        row["span_id"],
        read_sound_tags(row["tags"]),
    )
