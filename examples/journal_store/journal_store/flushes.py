"""A flush on the tables: creates, claims, rows, cancels. And what else writes to a tape."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from journal_store.tables import Transaction
from tapescope.model import (
    ATTEMPT_FAILED,
    FINAL,
    MESSAGE_TAKEN,
    DropReason,
    InboxRow,
    KnownOp,
    RescueResult,
    SendAnswer,
    SendRow,
    Task,
    TaskStatus,
    TracedAttempt,
    Untaken,
)
from tapescope.store import (
    CancelAnswer,
    CancelRow,
    CancelState,
    ClaimAnswer,
    ClaimRow,
    CreateRow,
    DueOrder,
    DueRow,
    EventRow,
    Flush,
    FlushAnswer,
    FlushRefused,
    Follower,
    FollowersOrder,
    FollowersPage,
    RefusedRow,
    RescuedRow,
    RescueOrder,
    RowPlan,
    Starts,
    StoreLimits,
    TraceRow,
    add_event,
    as_ended,
    as_given_up,
    as_pending,
    as_running,
    check_next_event,
    decode,
    drop_event,
    list_ended,
    plan_cancel,
    plan_rows,
    plan_send,
    start_tape,
    take_message,
)

__all__ = [
    "claim_due",
    "find_starts",
    "find_task",
    "find_untaken",
    "keep_begun",
    "kept_counter",
    "last_seq",
    "list_tasks",
    "list_traced",
    "note_traces",
    "read_inbox",
    "rescue",
    "send_message",
    "write",
]


def write(tx: Transaction, flush: Flush, now: int, limits: StoreLimits) -> FlushAnswer:
    """Carry out a flush. Raises ``FlushRefused``; the transaction is then not committed."""
    answer = FlushAnswer(now)
    answer.keys = [_create(tx, row, place, answer) for place, row in enumerate(flush.creates)]
    answer.claims = [_claim(tx, row, now) for row in flush.claims]
    answer.refused = _put_rows(tx, flush, answer, limits)
    answer.cancels = [_cancel(tx, row, now) for row in flush.cancels]
    answer.untaken = find_untaken(tx, list_ended(flush, answer))
    note_traces(tx, flush.traces)
    return answer


def note_traces(tx: Transaction, rows: Sequence[TraceRow]) -> None:
    """Keep where run spans are, once for each attempt of a task that is there."""
    for row in rows:
        table = f"traces/{row.key}"
        if tx.get("tasks", row.key) is not None and tx.get(table, row.attempt) is None:
            tx.put(table, row.attempt, [row.trace_id, row.span_id])


def list_traced(tx: Transaction, task: Task) -> Sequence[TracedAttempt]:
    """The attempts of a task whose run spans are kept, in their order."""
    return [
        TracedAttempt(task.task_id, task.op, task.status, int(attempt), trace, span, task.tags)
        for attempt, (trace, span) in sorted(tx.scan(f"traces/{task.key}").items())
    ]


def find_task(tx: Transaction, task_id: str) -> Task | None:
    """The task as its row stands."""
    task: Task | None = tx.get("tasks", tx.get("ids", task_id) or 0)
    return task


def find_followers(tx: Transaction, order: FollowersOrder) -> FollowersPage:
    """Open tasks that are to be cancelled, for their parents have ended as cancelled.

    All parents are looked at: the journal holds few.
    """
    found: list[Follower] = []
    for task in sorted(list_tasks(tx), key=lambda one: (one.parent_id or "", one.task_id)):
        if task.parent_id is None or not task.cancel_with_parent:
            continue
        if (task.parent_id, task.task_id) <= order.after:
            continue
        above = find_task(tx, task.parent_id)
        if task.status.terminal or task.cancel is not None or above is None:
            continue
        if above.status is TaskStatus.CANCELLED:
            asked = above.cancel
            told = (None,) * 3 if asked is None else (asked.reason, asked.message, asked.by)
            found.append(Follower(task.task_id, above.task_id, *told))
        if len(found) == order.limit:
            return FollowersPage(found, (task.parent_id, task.task_id))
    return FollowersPage(found)


def list_tasks(tx: Transaction, status: TaskStatus | None = None) -> Sequence[Task]:
    """Every task, or every one of a status, the oldest first."""
    tasks: list[Task] = [task for _, task in sorted(tx.scan("tasks").items())]
    return tasks if status is None else [task for task in tasks if task.status is status]


def read_inbox(tx: Transaction, task: Task) -> list[InboxRow]:
    """The messages of a task, by their numbers."""
    return [row for _, row in sorted(tx.scan(f"inbox/{task.key}").items())]


def send_message(tx: Transaction, row: SendRow, now: int) -> SendAnswer | None:
    """Put a message into the inbox of its task, or say why not."""
    task = find_task(tx, row.task_id)
    if task is None:
        return None
    answer, new = plan_send(task, read_inbox(tx, task), row, now)
    if new is not None:
        tx.put(f"inbox/{task.key}", new.n, new)
    return answer


def find_untaken(tx: Transaction, task_ids: Sequence[str]) -> list[Untaken]:
    """Those of these tasks that have messages which they did not take."""
    tasks = (task for task_id in task_ids if (task := find_task(tx, task_id)) is not None)
    left = ((task, sum(one.taken_seq is None for one in read_inbox(tx, task))) for task in tasks)
    return [Untaken(task.task_id, task.op, n) for task, n in left if n]


def last_seq(tx: Transaction, task: Task) -> int:
    """Where the task's tape ends; 0 when it is empty."""
    last = _last_event(tx, task)
    return 0 if last is None else last.seq


def _last_event(tx: Transaction, task: Task) -> EventRow | None:
    last: EventRow | None = tx.get("ends", task.key)
    return last


def _final_of(tx: Transaction, task: Task) -> EventRow | None:
    last = _last_event(tx, task)
    return last if last is not None and last.type == FINAL else None


def _put_event(tx: Transaction, task: Task, row: EventRow, now: int) -> None:
    check_next_event(task, _last_event(tx, task), row)
    tx.put(f"events/{task.key}", row.seq, row)
    tx.put("ends", task.key, row)
    if row.type == FINAL:
        tx.put("tasks", task.key, as_ended(task, row, now))
    elif row.type == MESSAGE_TAKEN:
        inbox = read_inbox(tx, task)
        take_message(inbox, row)
        for message in inbox:
            if message.taken_seq == row.seq:
                tx.put(f"inbox/{task.key}", message.n, message)


def _create(tx: Transaction, row: CreateRow, place: int, answer: FlushAnswer) -> int:
    name = None if row.idempotency_key is None else f"{row.op} {row.idempotency_key}"
    unique = None if row.unique_key is None else f"{row.op} {row.unique_key}"
    taken = tx.get("ids", row.task_id) or (name and tx.get("idempotency", name))
    if not taken and unique is not None:
        last: Task | None = tx.get("tasks", tx.get("unique", unique) or 0)
        taken = last.key if last is not None and not last.status.terminal else None
    if taken:
        answer.existing[place] = tx.get("tasks", taken)
        return 0
    key = tx.next_number("task")
    tx.put("tasks", key, as_pending(row, decode(row.params), answer.now, key))
    tx.put("ids", row.task_id, key)
    if name is not None:
        tx.put("idempotency", name, key)
    if unique is not None:
        tx.put("unique", unique, key)
    return key


def _start(
    tx: Transaction, task: Task, owner: str, lease: int, now: int, ts: int, body: str
) -> ClaimAnswer:
    won = ClaimAnswer(task.attempt + 1, now, now + lease, last_seq(tx, task) + 1)
    running = as_running(task, owner, won)
    tx.put("tasks", task.key, running)
    _put_event(tx, running, start_tape(running, _last_event(tx, task), ts, body), now)
    return won


def _claim(tx: Transaction, row: ClaimRow, now: int) -> ClaimAnswer | None:
    task = find_task(tx, row.task_id)
    free = task is not None and task.status is TaskStatus.PENDING and task.run_us <= now
    if task is None or not free or task.parked or task.attempt != row.attempt:
        return None
    if task.has_expired(now):
        return None
    return _start(tx, task, row.owner, row.lease, now, row.ts, row.body)


def _put_rows(
    tx: Transaction, flush: Flush, answer: FlushAnswer, limits: StoreLimits
) -> Sequence[RefusedRow]:
    def find(key: int) -> tuple[Task, EventRow | None] | None:
        task: Task | None = tx.get("tasks", key)
        return None if task is None else (task, _final_of(tx, task))

    plans = list(enumerate(plan_rows(flush, find)))
    refused: list[RefusedRow] = []
    for place, plan in plans:  # before the tapes grow: a late row is told how the flush found them
        if not plan.late:
            continue
        met: Task | None = tx.get("tasks", plan.row.key)
        refused.append(plan.refuse(place, met, 0 if met is None else last_seq(tx, met)))
        source = flush.sources[place]
        if plan.reason is not None:
            _drop(tx, source.task_id, met, plan, plan.reason, source.trace_id, limits)
    for place, plan in plans:
        task: Task | None = tx.get("tasks", plan.row.key)
        if task is None or plan.late:
            continue
        _put_event(tx, task, plan.row, answer.now)
        if plan.give_up is not None:
            _, run_at, spends, owner, lease = plan.give_up
            due = answer.now if run_at is None else run_at
            again = as_given_up(task, due, spends, owner, lease)
            tx.put("tasks", task.key, again)
        if plan.cancel is not None:
            answer.cancelled_instead[place] = plan.cancel
    return refused


def kept_counter(task_id: str, reason: DropReason) -> str:
    """The counter of the kept late events: of one task, or of all that the store does not know."""
    return "kept" if reason is DropReason.UNKNOWN_TASK else f"kept {task_id}"


def _drop(
    tx: Transaction,
    task_id: str,
    task: Task | None,
    plan: RowPlan,
    reason: DropReason,
    trace_id: str | None,
    limits: StoreLimits,
) -> None:
    """Count a late event, and keep it while there is room."""
    row = plan.row
    attempt = f"{task_id} {row.attempt} {row.owner}"
    tx.put("offers", attempt, max(row.offer, tx.get("offers", attempt) or 0))
    counted: dict[str, int] = tx.get("counted", task_id) or {}
    tx.put("counted", task_id, {**counted, reason.value: counted.get(reason.value, 0) + 1})
    counter, room = kept_counter(task_id, reason), limits.quarantine_per_task
    if task is None:
        room = limits.quarantine_unknown
    kept: int = tx.get("counters", counter) or 0
    if kept < room:
        tx.put("counters", counter, kept + 1)
        final = None if task is None else _final_of(tx, task)
        number = tx.next_number("drop")
        tx.put("drops", number, drop_event(task_id, row, reason, final, trace_id))


def _cancel(tx: Transaction, row: CancelRow, now: int) -> CancelAnswer | None:
    task = find_task(tx, row.task_id)
    if task is None:
        return None
    before = task
    state, task = plan_cancel(before, row, now)
    if task is not before:
        tx.put("tasks", task.key, task)
    if state is CancelState.CANCELLED:
        _put_event(tx, task, add_event(task, _last_event(tx, task), FINAL, row.ts, row.body), now)
    end = last_seq(tx, task)
    return CancelAnswer(state, task.op, task.owner, task.attempt, task.cancel, end)


def find_starts(tx: Transaction, now: int) -> Starts:
    """Which pending tasks may begin, by the slots and the rate of their op."""
    known = [KnownOp(*row[:-1]) for row in tx.scan("ops").values()]
    begun = {(op, key): times for op, key, times in tx.scan("begun").values()}
    return Starts(list_tasks(tx), known, begun, now)


def keep_begun(tx: Transaction, starts: Starts) -> None:
    """Keep when the attempts began that count in the window of a concurrency key."""
    kept = {f"{op}/{key}": [op, key, times] for (op, key), times in starts.begun.items()}
    for name in {*map(str, tx.scan("begun")), *kept}:
        if tx.get("begun", name) != kept.get(name):
            tx.put("begun", name, kept.get(name))


def claim_due(tx: Transaction, order: DueOrder, now: int) -> Sequence[DueRow]:
    """Claim the tasks of the highest priority, and of these the longest due."""
    if tx.get("drains", order.owner) is not None:
        return []
    able = set(order.ops) - set(tx.scan("pauses"))
    pending = list_tasks(tx, TaskStatus.PENDING)
    due = [task for task in pending if task.op in able and task.run_us <= now]
    rows: list[DueRow] = []
    due.sort(key=lambda one: (-one.priority, one.run_us, one.key))
    starts = find_starts(tx, now)
    mine = (one for one in due if starts.take(one) and order.takes(one))  # slots know no queues
    for task in islice(mine, order.limit):
        if task.has_expired(now):  # it is not begun, and who asked ends it
            rows.append(DueRow(task, 0, 0, expired=True))
            continue
        body = order.body(task.attempt + 1)
        starts.note(task)
        won = _start(tx, task, order.owner, order.lease, now, order.ts, body)
        rows.append(DueRow(tx.get("tasks", task.key), won.attempt, won.started_seq))
    keep_begun(tx, starts)
    return rows


def rescue(tx: Transaction, order: RescueOrder, now: int) -> Sequence[RescuedRow]:
    """Take tasks from owners that are dead, or whose lease is over."""
    rescued: list[RescuedRow] = []
    for task in list_tasks(tx):
        if not order.takes(task, now):
            continue
        if len(rescued) == order.limit:
            break
        result = order.judge(task)
        retried = result is RescueResult.RETRIED
        type_ = ATTEMPT_FAILED if retried else FINAL
        body = order.body(task, result)
        try:
            event = add_event(task, _last_event(tx, task), type_, order.ts, body)
            _put_event(tx, task, event, now)
        except FlushRefused:
            continue  # its tape is broken: for the audit to find, and for a repair
        if retried:
            tx.put("tasks", task.key, as_given_up(task, now, 1))
        rescued.append(RescuedRow(task, result, event.seq))
    return rescued
