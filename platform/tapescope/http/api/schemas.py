"""The shapes of ``tapescope.model.json_shapes``, as the OpenAPI document describes them.

No answer is made of these: a test holds them equal to what is sent.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema

from tapescope.model.audit import AUDIT_GRACE

__all__ = [
    "Attempts",
    "Audit",
    "AuditBody",
    "CancelBody",
    "CancelManyBody",
    "Cancelled",
    "CancelledMany",
    "Drained",
    "Drops",
    "Event",
    "Message",
    "MessageBody",
    "Messages",
    "Pause",
    "Pauses",
    "Problem",
    "Result",
    "Resumed",
    "RetriedMany",
    "RetryManyBody",
    "ScheduleAdded",
    "ScheduleBody",
    "ScheduleRow",
    "Schedules",
    "Sent",
    "Stats",
    "StopBody",
    "StreamError",
    "StreamedEvent",
    "SubmitBody",
    "SubmitManyBody",
    "Submitted",
    "SubmittedMany",
    "Tape",
    "TaskRow",
    "Tasks",
    "Undrained",
    "Waiting",
    "Workers",
]

_ID = "0192f0c1-2b7a-7c3e-9a51-0c4f1e2d3b4a"
_TIME = "2026-01-31T12:00:00.000000Z"
_NOTED = Field(
    default=None, description="What of the row cannot be read that was written past tapescope."
)

TaskId = Annotated[str, Field(examples=[_ID])]
Time = Annotated[AwareDatetime, Field(examples=[_TIME])]
Op = Annotated[str, Field(examples=["resize"])]
Tags = Annotated[
    list[str],
    Field(
        description="By which it is found: at most 10, each 1 to 64 letters, digits and "
        "_ . : / @ = + -, the first a letter, a digit or _.",
        examples=[["customer:4711"]],
    ),
]
Damage = Annotated[str | None, _NOTED]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


# --- what is sent ---------------------------------------------------------------------------------


class _Wrong(BaseModel):
    """What went wrong, but for its type."""

    title: Annotated[str, Field(examples=["Not Found"])]
    status: Annotated[int, Field(examples=[404])]
    detail: Annotated[str, Field(examples=["The store has no task 'x'. Check the id."])]
    error: Annotated[str, Field(description="The error's name.", examples=["UnknownTask"])]
    arguments: Annotated[
        dict[str, str | int | float | bool | None] | None,
        Field(description="What the error's text is made of; left out where it is long."),
    ] = None


class Problem(_Wrong):
    """What went wrong, as RFC 9457 has it."""

    type: Annotated[str, Field(examples=["urn:tapescope:error:UnknownTask"])]


class CancelRequest(_Shape):
    """The first request to cancel the task; it stays."""

    reason: Annotated[str, Field(examples=["user"])]
    message: str
    by: str | None
    known: Annotated[str, Field(description="How it is known who asked.", examples=["claimed"])]
    role: str | None
    requested_at: Time
    traceparent: Annotated[
        str | None,
        Field(description="The span it was requested in, where recorded. Of the row alone."),
    ] = None


class TaskRow(_Shape):
    """A task as its row stands."""

    task_id: TaskId
    op: Op
    status: Annotated[str, Field(examples=["running"])]
    attempt: Annotated[int, Field(description="How often the task was claimed.")]
    params: Any
    owner: str | None
    created_at: Time
    run_at: Time
    claimed_at: Time | None
    finished_at: Time | None
    lease_expires_at: Time | None
    timeout: Annotated[float | None, Field(description="Seconds of one attempt.")]
    retries: int
    retries_spent: int
    priority: Annotated[
        int, Field(description="From -9 to 9: of what is due the higher goes first.")
    ]
    tags: Annotated[list[str], Field(examples=[["customer:4711"]])]
    parent_id: Annotated[
        TaskId | None, Field(description="The task whose runner submitted it.", examples=[_ID])
    ]
    cancel_with_parent: Annotated[
        bool, Field(description="It is cancelled once its parent has ended as cancelled.")
    ]
    engine: Annotated[
        str | None,
        Field(description="What brings it to a worker; null: workers claim it themselves."),
    ]
    queue: Annotated[str, Field(description="Which workers take it.", examples=["default"])]
    expires_in: Annotated[
        float | None,
        Field(
            description="Seconds from when it is due within which its first attempt begins, or "
            "none does."
        ),
    ]
    idempotency_key: str | None
    unique_key: Annotated[
        str | None, Field(description="No other task of its op with it is open beside it.")
    ]
    concurrency_key: Annotated[
        str | None,
        Field(
            description="Of its op no more tasks with it run at once than the op has slots, and no"
            " more begin in a while than its rate has."
        ),
    ]
    parked: Annotated[
        bool,
        Field(
            description="It is pending, and its concurrency key has no slot free, or its rate no"
            " place."
        ),
    ]
    traceparent: str | None
    cancel: CancelRequest | None
    error_code: str | None
    damage: Damage
    lost: Annotated[
        str | None,
        Field(description="Why its owner is taken to be gone, where the task runs; else null."),
    ]


class Tasks(_Shape):
    """A page of tasks, newest first."""

    tasks: list[TaskRow]
    next: Annotated[
        str | None,
        Field(
            description="Send it as 'cursor' for the next page; null at the end. A page may be "
            "empty and yet have a next."
        ),
    ]


FoundBy = Annotated[
    str | None,
    Field(
        description="Which key led to a task that was there: 'idempotency_key' or 'unique_key'.",
        examples=["unique_key"],
    ),
]


class Submitted(_Shape):
    """A task that was submitted."""

    task_id: TaskId
    op: Op
    created: Annotated[bool, Field(description="False where a key led to a task that was there.")]
    found_by: FoundBy


class SubmittedOne(_Shape):
    """What became of one of many."""

    op: Annotated[str, Field(examples=["resize"])]
    task_id: Annotated[str | None, Field(description="Null where it was refused.", examples=[_ID])]
    created: Annotated[bool, Field(description="False where a key led to a task that was there.")]
    found_by: FoundBy
    problem: Annotated[Problem | None, Field(description="Why it was refused; else null.")]


class SubmittedMany(_Shape):
    """What became of each, in the order in which they were sent."""

    tasks: list[SubmittedOne]


_CancelState = Annotated[
    str,
    Field(
        description="'cancelled': it was pending, and has ended. 'recorded': it runs, and will "
        "be stopped. 'already_recorded': an earlier request stays. 'terminal': it had ended.",
        examples=["recorded"],
    ),
]
_Next = Annotated[
    str | None, Field(description="The 'cursor' of the next request; null when all were met.")
]
_Why = Annotated[Problem | None, Field(description="Why it was refused; else null.")]


class CancelledOne(_Shape):
    """What became of one of many."""

    task_id: TaskId
    state: Annotated[_CancelState | None, Field(description="Null where it was refused.")]
    problem: _Why


class CancelledMany(_Shape):
    """What became of each, newest first."""

    tasks: list[CancelledOne]
    next: _Next


class RetriedOne(_Shape):
    """What became of one of many."""

    task_id: TaskId
    new_task_id: Annotated[
        str | None, Field(description="The new task; null where it was refused.", examples=[_ID])
    ]
    created: Annotated[bool, Field(description="False where a key led to a task that was there.")]
    found_by: FoundBy
    problem: _Why


class RetriedMany(_Shape):
    """What became of each, newest first."""

    tasks: list[RetriedOne]
    next: _Next


class Cancelled(_Shape):
    """What became of a request to cancel."""

    task_id: TaskId
    state: _CancelState
    request: Annotated[
        CancelRequest | None, Field(description="The request that is on record: the first one.")
    ]
    lost: Annotated[
        str | None,
        Field(description="Why its owner was taken to be gone: the task was taken from it."),
    ]


class Event(_Shape):
    """One event of a tape."""

    seq: int
    type: Annotated[str, Field(examples=["progress"])]
    ts: Time
    attempt: int
    body: Any
    damage: Damage


class StreamedEvent(Event):
    """One event of a tape that is followed, and where the tape stood when it was sent."""

    last_seq: int
    final_seq: Annotated[int | None, Field(description="Null while the tape is open.")]


class StreamError(_Wrong):
    """Why a stream ends before the final, as its last line; it has no seq."""

    type: Annotated[Literal["error"], Field(description="No event of a tape has this type.")]
    retry_ms: Annotated[int, Field(description="Milliseconds until a reader comes back.")]


class MessageBody(BaseModel):
    """A message for a task."""

    model_config = ConfigDict(extra="forbid")

    body: Annotated[Any, Field(description="Any JSON value: what its runner is given.")]


class Sent(_Shape):
    """A message that is in the inbox of its task."""

    task_id: TaskId
    n: Annotated[int, Field(description="Which one of its task it is, from 1.")]
    key: Annotated[
        str, Field(description="What names it: the 'Idempotency-Key', or one made here.")
    ]
    new: Annotated[bool, Field(description="False where it was there, by its key.")]


class Message(_Shape):
    """A message to a task."""

    n: int
    key: str
    body: Any
    sent_at: Time
    taken_seq: Annotated[
        int | None, Field(description="Where it is on the tape; null where no attempt took it.")
    ]


class Messages(_Shape):
    """A page of a task's messages, by number."""

    task_id: TaskId
    messages: list[Message]
    next: Annotated[int | None, Field(description="Send it as 'after' for the next page.")]


class Tape(_Shape):
    """A page of a tape, and where the whole tape stands."""

    task_id: TaskId
    events: list[Event]
    last_seq: int
    final_seq: Annotated[int | None, Field(description="Null while the tape is open.")]
    dropped: Annotated[int, Field(description="Events that were kept off this tape.")]


class Drop(_Shape):
    """A late event: kept off its tape, and counted."""

    task_id: str
    attempt: int
    type: str
    reason: Annotated[str, Field(examples=["after_terminal"])]
    ts: Time
    late_s: Annotated[float | None, Field(description="Seconds after the final.")]
    trace_id: str | None
    body: Any
    damage: Damage


class Drops(_Shape):
    """A page of late events, oldest first."""

    drops: list[Drop]
    overflow: Annotated[int, Field(description="Counted, but not kept.")]
    next: Annotated[int | None, Field(description="Send it as 'after' for the next page.")]


class ResultError(_Shape):
    """Why the task failed; or, beside a cancel, what its cleanup raised."""

    code: Annotated[str, Field(examples=["builtins.ValueError"])]
    message: str
    traceback: str | None = None
    details: Any = None


class Result(_Shape):
    """How the task ended: what its final says."""

    task_id: TaskId
    outcome: Annotated[str, Field(examples=["succeeded"])]
    result: Any = None
    error: ResultError | None = None
    cancel: CancelRequest | None = None


class Waiting(_Shape):
    """The task has not ended."""

    task_id: TaskId
    status: Annotated[str, Field(examples=["running"])]


class Pause(_Shape):
    """An op whose tasks no worker claims, until it is resumed."""

    op: Op
    at: Time
    by: str | None
    reason: str


class Pauses(_Shape):
    """A page of paused ops, by name."""

    pauses: list[Pause]
    next: Annotated[
        str | None, Field(description="Send it as 'cursor' for the next page; null at the end.")
    ]


class Resumed(_Shape):
    """An op whose tasks the workers claim again."""

    op: Op
    was: Annotated[Pause | None, Field(description="The pause that ended; null: there was none.")]


class Drain(_Shape):
    """That a worker claims no more tasks, while those that it runs go on."""

    at: Time
    by: str | None
    reason: str


Owner = Annotated[str, Field(examples=["web-1:4711:90210-1.2-b0:f3a9c1"])]


class WorkerRow(_Shape):
    """Who works on the store; null where it is not known."""

    owner: Owner
    host: str | None
    pid: int | None
    ops: Annotated[list[str], Field(description="What it can run by name.")]
    running: Annotated[int, Field(description="Tasks that it runs, by their rows.")]
    is_worker: Annotated[
        bool, Field(description="False for what runs a task of its own, as 'tapescope run'.")
    ]
    alive: Annotated[bool, Field(description="Whether it was heard within its time.")]
    since: Time | None
    heard: Time | None
    drain: Drain | None
    queues: Annotated[
        list[str] | None,
        Field(description="The queues that it takes tasks from; null: from all."),
    ]


class Workers(_Shape):
    """A page of who works on the store, by owner."""

    workers: list[WorkerRow]
    next: Annotated[
        str | None, Field(description="Send it as 'cursor' for the next page; null at the end.")
    ]


class Drained(_Shape):
    """A worker that claims no more tasks."""

    owner: Owner
    drain: Annotated[Drain, Field(description="The drain that is in force: the first one.")]


class Undrained(_Shape):
    """A worker that claims tasks again."""

    owner: Owner


class EndRates(_Shape):
    """Tasks a second that ended."""

    succeeded: float
    failed: float
    cancelled: float


class OpStats(_Shape):
    """The tasks of one op; ages in seconds."""

    op: Op
    due: int
    scheduled: int
    retrying: int
    held: int
    oldest_due: float | None
    running: int
    oldest_running: float | None
    workers: int
    unserved: Annotated[
        list[str],
        Field(description="Queues in which a task is due and that none of the workers takes."),
    ]
    registered: bool
    timeout: float | None
    succeeded: int
    failed: int
    cancelled: int
    gone: int
    submitted: int
    paused: Pause | None
    rates: Annotated[
        EndRates | None, Field(description="Over 'rates_over'; null before there are two readings.")
    ]


class Stats(_Shape):
    """What waits and runs, by op."""

    made_at: Time
    age: float
    rates_over: Annotated[
        float | None,
        Field(description="Seconds between the two readings of this server that rates are of."),
    ]
    ops: list[OpStats]


class Attempt(_Shape):
    """An attempt whose run span was recorded."""

    task_id: TaskId
    op: Op
    status: str
    attempt: int
    trace_id: str
    span_id: str
    tags: list[str]


class Attempts(_Shape):
    """The attempts that are in a trace."""

    attempts: list[Attempt]


class Violation(_Shape):
    """An invariant that a tape breaks."""

    rule: str
    task_id: str
    detail: str


class Audit(_Shape):
    """What an audit found."""

    checked: int
    violations: list[Violation]


class ScheduleRow(_Shape):
    """A schedule as its row stands; lengths of time in seconds."""

    name: Annotated[str, Field(examples=["nightly"])]
    op: Op
    params: Any
    timeout: Annotated[float | None, Field(description="Of its tasks; null: as the op has it.")]
    retries: Annotated[int | None, Field(description="Of its tasks; null: as the op has them.")]
    priority: Annotated[int | None, Field(description="Of its tasks; null: as the op has it.")]
    tags: Annotated[list[str], Field(description="Of its tasks.")]
    queue: Annotated[str | None, Field(description="Of its tasks; null: as the op has it.")]
    expires_in: Annotated[float | None, Field(description="Of its tasks; null: as the op has it.")]
    cron: Annotated[str | None, Field(description="Five fields.", examples=["0 3 * * *"])]
    every: Annotated[float | None, Field(description="Seconds, where it has no cron.")]
    time_zone: Annotated[str, Field(examples=["Europe/Berlin"])]
    catch_up: Annotated[str, Field(description="skip, one or all.", examples=["one"])]
    overlap: Annotated[str, Field(description="allow or skip.", examples=["allow"])]
    origin: Annotated[
        str,
        Field(description="code: a worker declares it. store: it was added.", examples=["code"]),
    ]
    paused: bool
    next_at: Annotated[Time | None, Field(description="Its next firing time.")]
    last_at: Annotated[
        Time | None, Field(description="The last firing time for which a task was made.")
    ]
    last_task: Annotated[str | None, Field(description="The id of that task.", examples=[_ID])]
    created_at: Time
    revision: Annotated[int, Field(description="Counts the changes of the row.")]


class ScheduleAdded(ScheduleRow):
    """A schedule that the store has now."""

    created: Annotated[
        bool, Field(description="False where the store had it, as it is given here.")
    ]


class Schedules(_Shape):
    """A page of schedules, by name."""

    schedules: list[ScheduleRow]
    next: Annotated[
        str | None, Field(description="Send it as 'cursor' for the next page; null at the end.")
    ]


# --- what is taken --------------------------------------------------------------------------------


Length = Annotated[float, WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
Seconds = Annotated[float, WithJsonSchema({"type": "number", "minimum": 0})]
Retries = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
"""Their bounds are checked by the platform, whose errors say more."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SubmitBody(_Body):
    """A task to submit by the name of its op."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"op": "resize", "params": {"folder": "photos"}}]}
    )

    op: str
    params: dict[str, Any] = {}
    delay: Annotated[
        Seconds | None, Field(description="Seconds until the first attempt may begin.")
    ] = None
    run_at: Annotated[
        str | None,
        Field(
            description="The first attempt begins no sooner than this time.",
            json_schema_extra={"format": "date-time"},
        ),
    ] = None
    timeout: Annotated[
        Length | None, Field(description="Seconds of one attempt. Default: as the op has it.")
    ] = None
    retries: Annotated[
        Retries | None, Field(description="Attempts that may follow. Default: as the op has it.")
    ] = None
    priority: Annotated[
        int | None,
        Field(description="From -9 to 9: the higher goes first. Default: as the op has it."),
    ] = None
    tags: Tags = []
    unique_key: Annotated[
        str | None,
        Field(
            description="While a task of the op with this key has not ended, the answer is that "
            "task, and none is made."
        ),
    ] = None
    concurrency_key: Annotated[
        str | None,
        Field(
            description="Of its op no more tasks with this key run at once, over the whole store, "
            "than the op has slots. Default: that of all without one."
        ),
    ] = None
    queue: Annotated[
        str | None, Field(description="Which workers take it. Default: as the op has it.")
    ] = None
    expires_in: Annotated[
        Length | None,
        Field(
            description="Seconds from when it is due within which its first attempt begins; else "
            "it ends as cancelled, with the reason 'expired'. Default: as the op has it."
        ),
    ] = None


class SubmitOne(SubmitBody):
    """One of many tasks."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"op": "resize", "params": {"folder": "photos"}}]},
    )

    idempotency_key: Annotated[
        str | None,
        Field(description="The same op and key again give the same task, and run it once."),
    ] = None


class SubmitManyBody(_Body):
    """Tasks to submit at once: 1,000 at most."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "tasks": [
                        {"op": "resize", "params": {"folder": "a"}, "idempotency_key": "order-17"},
                        {"op": "resize", "params": {"folder": "b"}, "idempotency_key": "order-18"},
                    ]
                }
            ]
        }
    )

    tasks: list[SubmitOne]


class CancelBody(_Body):
    """Why the task is cancelled, in your own words."""

    message: Annotated[str, Field(examples=["the customer withdrew the order"])] = ""


class _ChosenBody(_Body):
    """Which tasks: those that meet every condition that is given; one at least."""

    op: Annotated[str | None, Field(examples=["resize"])] = None
    owner: str | None = None
    queue: str | None = None
    key: Annotated[str | None, Field(description="The idempotency key.")] = None
    tag: str | None = None
    parent: str | None = None
    since: Annotated[str | None, Field(description="Created then or later.")] = None
    until: Annotated[str | None, Field(description="Created before then.")] = None
    limit: Annotated[int, Field(ge=1, description="The most tasks of this request.")] = 100
    cursor: Annotated[str | None, Field(description="The 'next' of another answer.")] = None


class CancelManyBody(_ChosenBody):
    """Tasks to cancel, chosen by what they have in common."""

    status: Annotated[
        Literal["pending", "running"] | None, Field(description="Both, where none is named.")
    ] = None
    message: Annotated[str, Field(examples=["the relay is down, INC-42"])] = ""


class RetryManyBody(_ChosenBody):
    """Ended tasks to submit again, chosen by what they have in common."""

    status: Annotated[Literal["failed", "cancelled", "succeeded"], Field(examples=["failed"])]


class StopBody(_Body):
    """Why an op is paused, or a worker drained, in your own words."""

    reason: Annotated[str, Field(examples=["the relay is down, INC-42"])] = ""


class ScheduleBody(_Body):
    """A schedule to add: either 'cron' or 'every'."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "nightly",
                    "op": "resize",
                    "params": {"folder": "photos"},
                    "cron": "0 3 * * *",
                    "time_zone": "Europe/Berlin",
                }
            ]
        }
    )

    name: str
    op: str
    params: dict[str, Any] = {}
    cron: Annotated[
        str | None,
        Field(description="Minute, hour, day of the month, month and day of the week."),
    ] = None
    every: Annotated[
        Length | None,
        Field(
            description="Seconds between two firing times, which are multiples of it since 1970."
        ),
    ] = None
    time_zone: Annotated[str, Field(description="In which 'cron' is read.")] = "UTC"
    catch_up: Annotated[
        str,
        Field(
            description="Times that passed without a worker: 'skip' them, make 'one' task, or a "
            "task for 'all' of the last hundred."
        ),
    ] = "one"
    overlap: Annotated[
        str,
        Field(description="While the task before has not ended: 'allow' the next one, or 'skip'."),
    ] = "allow"
    timeout: Annotated[
        Length | None,
        Field(description="Seconds of one attempt of its tasks. Default: as the op has it."),
    ] = None
    retries: Annotated[
        Retries | None, Field(description="Of its tasks. Default: as the op has them.")
    ] = None
    priority: Annotated[
        int | None, Field(description="Of its tasks. Default: as the op has it.")
    ] = None
    tags: Tags = []
    queue: Annotated[str | None, Field(description="Of its tasks. Default: as the op has it.")] = (
        None
    )
    expires_in: Annotated[
        Length | None, Field(description="Of its tasks. Default: as the op has it.")
    ] = None


class AuditBody(_Body):
    """How to audit."""

    thorough: Annotated[
        bool, Field(description="Count what the store's numbers say, too; slower.")
    ] = False
    grace: Annotated[
        Seconds,
        Field(description="Seconds after the end of its lease from which a running task is stuck."),
    ] = AUDIT_GRACE
    rows_per_second: Annotated[
        Length | None, Field(description="Read no faster than this. Default: no limit.")
    ] = None
