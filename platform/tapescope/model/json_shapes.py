"""The JSON shapes in which tasks, tapes and drops leave the process.

Times are RFC 3339, UTC, with microseconds. What a runner wrote (params, bodies) is left as it is.

A shape belongs to the model: the command line and HTTP must show one task alike, and neither of
those rooms may import the other. ``model`` is below both, and a shape needs nothing but the values.
"""

from __future__ import annotations

from typing import Any

from tapescope.model.audit import AuditReport, Violation
from tapescope.model.backlog import Backlog, OpBacklog
from tapescope.model.leases import TracedAttempt
from tapescope.model.messages import InboxPage, Message, Sent
from tapescope.model.ops import Drain, Pause, PausePage, WorkerPage, WorkerState
from tapescope.model.repairs import RepairReport
from tapescope.model.schedules import Schedule, SchedulePage
from tapescope.model.tape import DroppedEvent, Event, QuarantinePage, TapePage
from tapescope.model.tasks import CancelRequest, Task, TaskPage
from tapescope.model.times import format_optional_time, format_time

__all__ = [
    "audit_shape",
    "backlog_shape",
    "cancel_shape",
    "drain_shape",
    "drop_shape",
    "drops_shape",
    "event_shape",
    "list_shape",
    "message_shape",
    "messages_shape",
    "op_shape",
    "pause_shape",
    "pauses_shape",
    "repair_shape",
    "schedule_shape",
    "schedules_shape",
    "sent_shape",
    "tape_shape",
    "task_shape",
    "traced_shape",
    "worker_shape",
    "workers_shape",
]


def task_shape(task: Task) -> dict[str, Any]:
    """A task as its row stands; with ``damage`` where some of it cannot be read."""
    shape = {
        "task_id": task.task_id,
        "op": task.op,
        "status": task.status.value,
        "attempt": task.attempt,
        "params": task.params,
        "owner": task.owner,
        "created_at": format_time(task.created_us),
        "run_at": format_time(task.run_us),
        "claimed_at": format_optional_time(task.claimed_us),
        "finished_at": format_optional_time(task.finished_us),
        "lease_expires_at": format_optional_time(task.lease_expires_us),
        "timeout": task.timeout,
        "retries": task.retries,
        "retries_spent": task.retries_spent,
        "priority": task.priority,
        "tags": list(task.tags),
        "parent_id": task.parent_id,
        "cancel_with_parent": task.cancel_with_parent,
        "engine": task.engine,
        "queue": task.queue,
        "idempotency_key": task.idempotency_key,
        "unique_key": task.unique_key,
        "concurrency_key": task.concurrency_key,
        "parked": task.parked,
        "traceparent": _traceparent_of(task.traceparent),
        "cancel": None if task.cancel is None else cancel_shape(task.cancel),
        "error_code": task.error_code,
    }
    return shape | {"damage": task.damage} if task.damage else shape


def list_shape(page: TaskPage) -> dict[str, Any]:
    """A page of tasks, newest first; ``next`` is the next page's ``before``, or null."""
    return {"tasks": [task_shape(task) for task in page.tasks], "next": page.next}


def schedule_shape(schedule: Schedule) -> dict[str, Any]:
    """A schedule as its row stands; lengths of time in seconds."""
    return {
        "name": schedule.name,
        "op": schedule.op,
        "params": schedule.params,
        "timeout": schedule.timeout,
        "retries": schedule.retries,
        "priority": schedule.priority,
        "tags": list(schedule.tags),
        "queue": schedule.queue,
        "cron": schedule.cron,
        "every": schedule.every,
        "time_zone": schedule.time_zone,
        "catch_up": schedule.catch_up.value,
        "overlap": schedule.overlap.value,
        "origin": schedule.origin.value,
        "paused": schedule.paused,
        "next_at": format_optional_time(schedule.next_us),
        "last_at": format_optional_time(schedule.last_us),
        "last_task": schedule.last_task,
        "created_at": format_time(schedule.created_us),
        "revision": schedule.revision,
    }


def schedules_shape(page: SchedulePage) -> dict[str, Any]:
    """A page of schedules, by name; ``next`` is the next page's ``after``, or null."""
    return {"schedules": [schedule_shape(one) for one in page.schedules], "next": page.next}


def backlog_shape(backlog: Backlog) -> dict[str, Any]:
    """What waits and runs, by op; ages in seconds, null where there is nothing."""
    return {
        "made_at": format_time(backlog.made_us),
        "age": backlog.age,
        "ops": [op_shape(one) | {"submitted": one.submitted} for one in backlog.ops],
    }


def op_shape(one: OpBacklog) -> dict[str, Any]:
    """The tasks of one op."""
    return {
        "op": one.op,
        "due": one.due,
        "scheduled": one.scheduled,
        "retrying": one.retrying,
        "held": one.held,
        "oldest_due": one.oldest_due,
        "running": one.running,
        "oldest_running": one.oldest_running,
        "workers": one.workers,
        "unserved": list(one.unserved),
        "registered": one.registered,
        "timeout": one.timeout,
        "succeeded": one.succeeded,
        "failed": one.failed,
        "cancelled": one.cancelled,
        "gone": one.gone,
        "paused": None if one.paused is None else pause_shape(one.paused),
    }


def pause_shape(pause: Pause) -> dict[str, Any]:
    """An op whose tasks no worker claims."""
    return {
        "op": pause.op,
        "at": format_time(pause.at_us),
        "by": pause.by,
        "reason": pause.reason,
    }


def message_shape(one: Message) -> dict[str, Any]:
    """A message to a task, as it is stored; ``taken_seq`` is null where no attempt has taken it."""
    return {
        "n": one.n,
        "key": one.key,
        "body": one.body,
        "sent_at": format_time(one.sent_us),
        "taken_seq": one.taken_seq,
    }


def messages_shape(task_id: str, page: InboxPage) -> dict[str, Any]:
    """A page of a task's messages; ``next`` is the next page's ``after``, or null."""
    messages = [message_shape(one) for one in page.messages]
    return {"task_id": task_id, "messages": messages, "next": page.next}


def sent_shape(task_id: str, sent: Sent) -> dict[str, Any]:
    """What became of a message that was sent."""
    return {"task_id": task_id, "n": sent.n, "key": sent.key, "new": sent.new}


def pauses_shape(page: PausePage) -> dict[str, Any]:
    """A page of paused ops, by name; ``next`` is the next page's ``after``, or null."""
    return {"pauses": [pause_shape(one) for one in page.pauses], "next": page.next}


def worker_shape(one: WorkerState) -> dict[str, Any]:
    """Who works on a store; null where it is not known."""
    return {
        "owner": one.owner,
        "host": one.host,
        "pid": one.pid,
        "ops": list(one.ops),
        "running": one.running,
        "is_worker": one.is_worker,
        "alive": one.alive,
        "since": format_optional_time(one.since_us),
        "heard": format_optional_time(one.heard_us),
        "drain": None if one.drain is None else drain_shape(one.drain),
        "queues": None if one.queues is None else list(one.queues),
    }


def drain_shape(drain: Drain) -> dict[str, Any]:
    """That a worker claims no more tasks."""
    return {"at": format_time(drain.at_us), "by": drain.by, "reason": drain.reason}


def workers_shape(page: WorkerPage) -> dict[str, Any]:
    """A page of who works on a store, by owner; ``next`` is the next page's ``after``, or null."""
    return {"workers": [worker_shape(one) for one in page.workers], "next": page.next}


def event_shape(event: Event) -> dict[str, Any]:
    """One event of a tape; with ``damage`` where some of it cannot be read."""
    shape = {
        "seq": event.seq,
        "type": event.type,
        "ts": format_time(event.ts_us),
        "attempt": event.attempt,
        "body": event.body,
    }
    return shape | {"damage": event.damage} if event.damage else shape


def tape_shape(page: TapePage) -> dict[str, Any]:
    """A page of a tape, and where the whole tape stands."""
    return {
        "task_id": page.task_id,
        "events": [event_shape(event) for event in page.events],
        "last_seq": page.last_seq,
        "final_seq": page.final_seq,
        "dropped": page.dropped,
    }


def traced_shape(one: TracedAttempt) -> dict[str, Any]:
    """An attempt whose run span was recorded."""
    return {
        "task_id": one.task_id,
        "op": one.op,
        "status": one.status.value,
        "attempt": one.attempt,
        "trace_id": one.trace_id,
        "span_id": one.span_id,
        "tags": list(one.tags),
    }


def drop_shape(drop: DroppedEvent) -> dict[str, Any]:
    """A late event, as the quarantine keeps it; with ``damage`` where it cannot all be read."""
    shape = {
        "task_id": drop.task_id,
        "attempt": drop.attempt,
        "type": drop.type,
        "reason": drop.reason.value,
        "ts": format_time(drop.ts_us),
        "late_s": drop.late_s,
        "trace_id": drop.trace_id,
        "body": drop.body,
    }
    return shape | {"damage": drop.damage} if drop.damage else shape


def drops_shape(page: QuarantinePage) -> dict[str, Any]:
    """A page of late events, oldest first; ``next`` is the next page's ``after``, or null."""
    return {
        "drops": [drop_shape(drop) for drop in page.drops],
        "overflow": page.overflow,
        "next": page.next,
    }


def audit_shape(report: AuditReport) -> dict[str, Any]:
    """What an audit found."""
    return {
        "checked": report.checked,
        "violations": [_violation_shape(violation) for violation in report.violations],
    }


def repair_shape(report: RepairReport) -> dict[str, Any]:
    """What an audit found, and what a repair did about it, or would do with ``dry_run``."""
    return {
        "checked": report.checked,
        "violations": [_violation_shape(violation) for violation in report.violations],
        "dry_run": report.dry_run,
        "repairs": [
            {"rule": repair.rule.value, "task_id": repair.task_id, "detail": repair.text}
            for repair in report.repairs
        ],
        "left": [_violation_shape(violation) for violation in report.left],
    }


def _violation_shape(violation: Violation) -> dict[str, Any]:
    return {
        "rule": violation.rule.value,
        "task_id": violation.task_id,
        "detail": violation.detail,
    }


def cancel_shape(cancel: CancelRequest) -> dict[str, Any]:
    """The request to cancel a task that is on record."""
    return {
        "reason": cancel.reason.value,
        "message": cancel.message,
        "by": cancel.by,
        "known": cancel.known.value,
        "role": cancel.role,
        "requested_at": format_time(cancel.at_us),
        "traceparent": _traceparent_of(cancel.traceparent),
    }


def _traceparent_of(stored: str | None) -> str | None:
    """The ``traceparent`` of a trace context as it is stored, without what stands behind it."""
    return (stored or "").partition(" ")[0] or None
