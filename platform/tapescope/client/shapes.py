"""Values of the model from the JSON shapes in which they leave a server.

The way back of ``tapescope.model.json_shapes``. Fields that are not known are left alone: a newer
server may have more. A shape that lacks one raises ``KeyError``, ``TypeError`` or ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from tapescope.model.audit import AuditReport, AuditRule, Violation
from tapescope.model.backlog import Backlog, OpBacklog
from tapescope.model.leases import TracedAttempt
from tapescope.model.messages import InboxPage, Message, Sent
from tapescope.model.ops import Drain, Pause, PausePage, WorkerPage, WorkerState
from tapescope.model.schedules import CatchUp, Overlap, Schedule, ScheduleOrigin, SchedulePage
from tapescope.model.tape import FINAL, DroppedEvent, DropReason, Event, QuarantinePage, TapePage
from tapescope.model.tasks import (
    DEFAULT_QUEUE,
    Assurance,
    CancelReason,
    CancelRequest,
    FinalEvent,
    Task,
    TaskPage,
    TaskStatus,
)
from tapescope.model.times import parse_time
from tapescope.model.words import carry
from tapescope.store.flush import CancelState

__all__ = [
    "CancelTold",
    "SeenTask",
    "SeenTasks",
    "read_audit",
    "read_backlog",
    "read_cancel_told",
    "read_drained",
    "read_drops",
    "read_event",
    "read_final",
    "read_inbox",
    "read_pause",
    "read_pauses",
    "read_resumed",
    "read_schedule",
    "read_schedules",
    "read_seen",
    "read_seen_tasks",
    "read_sent",
    "read_tape",
    "read_traced",
    "read_workers",
]

Shape = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SeenTask:
    """A task as its row stands, and what the server knows of its owner."""

    task: Task
    lost: str | None
    """Why its owner is taken to be gone, where the task runs; else ``None``."""


@dataclass(frozen=True, slots=True)
class SeenTasks(TaskPage):
    """A page of tasks, and which of them are lost."""

    lost: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why the owner of a task that runs is taken to be gone, by the task's id."""


@dataclass(frozen=True, slots=True)
class CancelTold:
    """What became of a request to cancel."""

    state: CancelState
    request: CancelRequest | None
    """The request on record, which is the first one; ``None`` for a task that ended without."""
    lost: str | None
    """Why the owner was taken to be gone: the task was taken from it, and has ended."""


def read_cancel_told(shape: Shape) -> CancelTold:
    """From what ``POST /v1/tasks/{id}/cancel`` answers."""
    asked = shape["request"]
    state = carry(CancelState, _text(shape["state"]))
    request = None if asked is None else _read_cancel(asked)
    return CancelTold(state, request, _optional_text(shape["lost"]))


def read_seen(shape: Shape) -> SeenTask:
    """From what ``GET /v1/tasks/{id}`` answers."""
    return SeenTask(_read_task(shape), _optional_text(shape.get("lost")))


def read_seen_tasks(shape: Shape) -> SeenTasks:
    """From what ``GET /v1/tasks`` answers."""
    seen = [read_seen(one) for one in shape["tasks"]]
    lost = {one.task.task_id: one.lost for one in seen if one.lost is not None}
    return SeenTasks(tuple(one.task for one in seen), _optional_text(shape["next"]), lost)


def _read_task(shape: Shape) -> Task:
    cancel = shape["cancel"]
    return Task(
        task_id=_text(shape["task_id"]),
        op=_text(shape["op"]),
        params=shape["params"],
        status=carry(TaskStatus, _text(shape["status"])),
        attempt=int(shape["attempt"]),
        owner=shape["owner"],
        created_us=parse_time(shape["created_at"]),
        run_us=parse_time(shape["run_at"]),
        claimed_us=_optional_time(shape["claimed_at"]),
        finished_us=_optional_time(shape["finished_at"]),
        lease_expires_us=_optional_time(shape["lease_expires_at"]),
        timeout=shape["timeout"],
        retries=int(shape["retries"]),
        idempotency_key=shape["idempotency_key"],
        traceparent=shape["traceparent"],
        cancel=None if cancel is None else _read_cancel(cancel),
        error_code=shape["error_code"],
        retries_spent=int(shape["retries_spent"]),
        priority=int(shape.get("priority", 0)),  # an older server does not say
        tags=tuple(map(_text, shape.get("tags", ()))),  # as above
        parent_id=_optional_text(shape.get("parent_id")),  # as above
        cancel_with_parent=bool(shape.get("cancel_with_parent")),  # as above
        unique_key=shape.get("unique_key"),  # as above
        concurrency_key=shape.get("concurrency_key"),
        parked=bool(shape.get("parked", False)),
        engine=shape.get("engine"),  # as above
        queue=_text(shape.get("queue", DEFAULT_QUEUE)),  # as above
        damage=shape.get("damage") or "",
    )


def _read_cancel(shape: Shape) -> CancelRequest:
    """The request to cancel a task that is on record."""
    return CancelRequest(
        carry(CancelReason, _text(shape["reason"])),
        _text(shape["message"]),
        shape["by"],
        parse_time(shape["requested_at"]),
        shape["role"],
        carry(Assurance, _text(shape["known"])),
        shape.get("traceparent"),
    )


def read_event(shape: Shape) -> Event:
    """One event of a tape."""
    seq = shape["seq"]
    if type(seq) is not int:
        raise TypeError("a seq is a whole number")
    return Event(
        seq,
        _text(shape["type"]),
        parse_time(shape["ts"]),
        int(shape["attempt"]),
        shape["body"],
        shape.get("damage") or "",
    )


def read_tape(shape: Shape) -> TapePage:
    """A page of a tape."""
    final_seq = shape["final_seq"]
    return TapePage(
        _text(shape["task_id"]),
        tuple(map(read_event, shape["events"])),
        int(shape["last_seq"]),
        None if final_seq is None else int(final_seq),
        int(shape["dropped"]),
    )


def read_final(shape: Shape) -> FinalEvent:
    """How a task ended, from what ``GET /v1/tasks/{id}/result`` answers."""
    return FinalEvent.from_event(Event(0, FINAL, 0, 0, shape))


def read_sent(shape: Shape) -> Sent:
    """From what ``POST /v1/tasks/{id}/messages`` answers."""
    return Sent(int(shape["n"]), _text(shape["key"]), bool(shape["new"]))


def read_inbox(shape: Shape) -> InboxPage:
    """From what ``GET /v1/tasks/{id}/messages`` answers."""
    messages = tuple(
        Message(
            int(one["n"]),
            one["body"],
            _text(one["key"]),
            parse_time(one["sent_at"]),
            None if one["taken_seq"] is None else int(one["taken_seq"]),
        )
        for one in shape["messages"]
    )
    return InboxPage(messages, None if shape["next"] is None else int(shape["next"]))


def read_drops(shape: Shape) -> QuarantinePage:
    """A page of late events. A server does not say how many there were by reason."""
    drops = tuple(
        DroppedEvent(
            _text(one["task_id"]),
            int(one["attempt"]),
            _text(one["type"]),
            carry(DropReason, _text(one["reason"])),
            parse_time(one["ts"]),
            one["late_s"],
            one["trace_id"],
            one["body"],
            one.get("damage") or "",
        )
        for one in shape["drops"]
    )
    next_ = shape["next"]
    return QuarantinePage(drops, int(shape["overflow"]), None if next_ is None else int(next_), {})


def read_backlog(shape: Shape) -> Backlog:
    """What waits and runs."""
    return Backlog(
        parse_time(shape["made_at"]),
        float(shape["age"]),
        tuple(
            OpBacklog(
                op=_text(one["op"]),
                due=int(one["due"]),
                scheduled=int(one["scheduled"]),
                retrying=int(one["retrying"]),
                running=int(one["running"]),
                held=int(one["held"]),
                oldest_due=one["oldest_due"],
                oldest_running=one["oldest_running"],
                workers=int(one["workers"]),
                unserved=tuple(map(_text, one.get("unserved", ()))),  # as above
                registered=bool(one["registered"]),
                timeout=one["timeout"],
                succeeded=int(one["succeeded"]),
                failed=int(one["failed"]),
                cancelled=int(one["cancelled"]),
                gone=int(one["gone"]),
                paused=_read_optional_pause(one.get("paused")),
            )
            for one in shape["ops"]
        ),
    )


def _read_optional_pause(shape: Shape | None) -> Pause | None:
    """That an op is paused; a server of an older version does not say it."""
    return None if shape is None else read_pause(shape)


def read_pause(shape: Shape) -> Pause:
    """An op that is paused."""
    at, reason = parse_time(shape["at"]), _text(shape["reason"])
    return Pause(_text(shape["op"]), at, _optional_text(shape["by"]), reason)


def read_resumed(shape: Shape) -> Pause | None:
    """The pause that ended, from what ``POST /v1/ops/{op}/resume`` answers."""
    was = shape["was"]
    return None if was is None else read_pause(was)


def read_pauses(shape: Shape) -> PausePage:
    """A page of paused ops."""
    return PausePage(tuple(map(read_pause, shape["pauses"])), _optional_text(shape["next"]))


def read_workers(shape: Shape) -> WorkerPage:
    """A page of who works on a store."""
    return WorkerPage(tuple(map(_read_worker, shape["workers"])), _optional_text(shape["next"]))


def _read_worker(shape: Shape) -> WorkerState:
    drain, queues = shape["drain"], shape.get("queues")
    return WorkerState(
        _text(shape["owner"]),
        ops=tuple(map(_text, shape["ops"])),
        running=int(shape["running"]),
        is_worker=bool(shape["is_worker"]),
        alive=bool(shape["alive"]),
        since_us=_optional_time(shape["since"]),
        heard_us=_optional_time(shape["heard"]),
        drain=None if drain is None else _read_drain(drain),
        queues=None if queues is None else tuple(map(_text, queues)),
    )


def read_drained(shape: Shape) -> Drain:
    """The drain in force, from what ``POST /v1/workers/{owner}/drain`` answers."""
    return _read_drain(shape["drain"])


def _read_drain(shape: Shape) -> Drain:
    at, reason = parse_time(shape["at"]), _text(shape["reason"])
    return Drain(at, _optional_text(shape["by"]), reason)


def read_schedule(shape: Shape) -> Schedule:
    """A schedule as its row stands."""
    params = shape["params"]
    if not isinstance(params, dict):
        raise TypeError("the params of a schedule are an object")
    return Schedule(
        name=_text(shape["name"]),
        op=_text(shape["op"]),
        params=cast("dict[str, Any]", params),
        timeout=shape["timeout"],
        retries=shape["retries"],
        cron=_optional_text(shape["cron"]),
        every=shape["every"],
        time_zone=_text(shape["time_zone"]),
        catch_up=carry(CatchUp, _text(shape["catch_up"])),
        overlap=carry(Overlap, _text(shape["overlap"])),
        origin=carry(ScheduleOrigin, _text(shape["origin"])),
        paused=bool(shape["paused"]),
        next_us=_optional_time(shape["next_at"]),
        last_us=_optional_time(shape["last_at"]),
        last_task=_optional_text(shape["last_task"]),
        created_us=parse_time(shape["created_at"]),
        revision=int(shape["revision"]),
        priority=shape.get("priority"),  # as above
        tags=tuple(map(_text, shape.get("tags", ()))),  # as above
        queue=_optional_text(shape.get("queue")),
    )


def read_schedules(shape: Shape) -> SchedulePage:
    """A page of schedules."""
    return SchedulePage(
        tuple(map(read_schedule, shape["schedules"])), _optional_text(shape["next"])
    )


def read_traced(shape: Shape) -> list[TracedAttempt]:
    """The attempts whose run spans were recorded."""
    return [
        TracedAttempt(
            _text(one["task_id"]),
            _text(one["op"]),
            carry(TaskStatus, _text(one["status"])),
            int(one["attempt"]),
            _text(one["trace_id"]),
            _text(one["span_id"]),
            tuple(map(_text, one.get("tags", ()))),
        )
        for one in shape["attempts"]
    ]


def read_audit(shape: Shape) -> AuditReport:
    """What an audit found."""
    violations = tuple(
        Violation(carry(AuditRule, _text(one["rule"])), _text(one["task_id"]), _text(one["detail"]))
        for one in shape["violations"]
    )
    return AuditReport(int(shape["checked"]), violations)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in the place of a text")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _optional_time(value: object) -> int | None:
    return None if value is None else parse_time(_text(value))
