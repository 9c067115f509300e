"""The quarantine, the audit, repairs and retention, on the tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from journal_store.flushes import find_task, kept_counter, list_tasks
from journal_store.tables import Transaction
from tapescope.model import (
    AuditPage,
    AuditRule,
    DropFilter,
    DroppedEvent,
    DropReason,
    Mended,
    QuarantinePage,
    Repair,
    Task,
)
from tapescope.store import (
    DueDrop,
    DueTask,
    EventRow,
    RepairPlan,
    StoredTask,
    audit_tasks,
    drop_event,
    plan_repair,
)

__all__ = [
    "audit",
    "delete_drops",
    "delete_tasks",
    "due_drops",
    "due_tasks",
    "read_counts",
    "read_quarantine",
    "read_repairs",
    "read_tape",
    "repair",
]


def read_tape(tx: Transaction, key: int) -> list[EventRow]:
    """A task's whole tape."""
    return [row for _, row in sorted(tx.scan(f"events/{key}").items())]


def read_counts(tx: Transaction, task_id: str) -> Counter[DropReason]:
    """By reason how many late events of a task were counted."""
    counted: dict[str, int] = tx.get("counted", task_id) or {}
    return Counter({DropReason(reason): n for reason, n in counted.items()})


def _read_drops(tx: Transaction, task_id: str | None) -> list[tuple[int, DroppedEvent]]:
    drops: list[tuple[int, DroppedEvent]] = [
        (int(number), drop) for number, drop in tx.scan("drops").items()
    ]
    return [pair for pair in sorted(drops, key=_number) if task_id in (None, pair[1].task_id)]


def _number(pair: tuple[int, DroppedEvent]) -> int:
    return pair[0]


def read_quarantine(
    tx: Transaction, wanted: DropFilter, after: int, limit: int, look_at: int
) -> QuarantinePage:
    """A page of the late events of one task, or of all."""
    task_id = wanted.task_id
    of = [str(one) for one in tx.scan("counted")] if task_id is None else [task_id]
    counts = sum((read_counts(tx, one) for one in of), Counter[DropReason]())
    kept = _read_drops(tx, task_id)
    ahead = [pair for pair in kept if pair[0] > after]
    looked_at = ahead[:look_at] if wanted.by_time else ahead
    found = [pair for pair in looked_at if wanted.admits(pair[1])]
    page = found[:limit]
    more = page if len(found) > limit else looked_at if len(looked_at) < len(ahead) else []
    next_ = more[-1][0] if more else None
    drops = tuple(drop for _, drop in page)
    if not wanted.counted:
        return QuarantinePage(drops, 0, next_, {})
    return QuarantinePage(drops, max(0, counts.total() - len(kept)), next_, counts)


def _read_stored(tx: Transaction, tasks: Sequence[Task]) -> list[StoredTask]:
    kept: defaultdict[str, Counter[DropReason]] = defaultdict(Counter)
    for _, drop in _read_drops(tx, None):
        kept[drop.task_id][drop.reason] += 1
    return [
        StoredTask(task, read_tape(tx, task.key), kept[task.task_id], read_counts(tx, task.task_id))
        for task in tasks
    ]


def audit(tx: Transaction, after: int, limit: int, grace: int, now: int) -> AuditPage:
    """A page of the audit."""
    ahead = [task for task in list_tasks(tx) if task.key > after]
    page = _read_stored(tx, ahead[:limit])
    rows = len(page) + sum(len(stored.tape) for stored in page)
    next_ = page[-1].task.key if len(ahead) > limit else None
    return AuditPage(len(page), rows, tuple(audit_tasks(page, now, grace)), next_)


def repair(tx: Transaction, task_id: str, grace: int, by: str, now: int) -> Mended | None:
    """Mend a task; who only asks does not commit the transaction."""
    task = find_task(tx, task_id)
    if task is None:
        return None
    (stored,) = _read_stored(tx, [task])
    plan = plan_repair(stored, now, grace)
    if plan.entries:
        _carry_out(tx, plan, stored)
    repairs: list[Repair] = []
    for one in plan.entries:
        number = tx.next_number("repair")
        repairs.append(Repair(one.rule, task_id, one.was, one.done, now, by, number))
        tx.put("repairs", number, [one.rule.value, task_id, one.was, dict(one.done), now, by])
    left = audit_tasks(_read_stored(tx, [plan.task]), now, grace)
    if plan.hands_over:
        left = [violation for violation in left if violation.rule is not AuditRule.STUCK_RUNNING]
    return Mended(tuple(repairs), tuple(left))


def _carry_out(tx: Transaction, plan: RepairPlan, stored: StoredTask) -> None:
    task, tape = plan.task, f"events/{plan.task.key}"
    tx.put("tasks", task.key, task)
    final = stored.tape[-len(plan.taken) - 1] if plan.taken else None
    counts = Counter(stored.counted)
    for row, reason in plan.taken:
        tx.put(tape, row.seq, None)
        tx.put("drops", tx.next_number("drop"), drop_event(task.task_id, row, reason, final, None))
        counter = kept_counter(task.task_id, reason)
        tx.put("counters", counter, (tx.get("counters", counter) or 0) + 1)
        counts[reason] += 1
    if plan.final is not None:
        tx.put(tape, plan.final.seq, plan.final)
    left = read_tape(tx, task.key)
    tx.put("ends", task.key, left[-1] if left else None)
    said = {reason.value: n for reason, n in {**counts, **plan.counts}.items()}
    tx.put("counted", task.task_id, said)


def read_repairs(tx: Transaction, after: int, limit: int) -> Sequence[Repair]:
    """The repair log after its entry ``after``."""
    rows = [(int(number), row) for number, row in tx.scan("repairs").items()]
    return [
        Repair(AuditRule(rule), task_id, was, done, at, by, number)
        for number, (rule, task_id, was, done, at, by) in sorted(rows)
        if number > after
    ][:limit]


def due_tasks(
    tx: Transaction, cutoff: int, outcomes: Sequence[str], op: str | None, after: int, limit: int
) -> Sequence[DueTask]:
    """The next tasks, each with the length of its tape where it may go."""
    page = [task for task in list_tasks(tx) if task.key > after][:limit]
    return [
        DueTask(
            task.key,
            task.created_us >= cutoff,
            len(tx.scan(f"events/{task.key}"))
            if task.status.value in outcomes
            and op in (None, task.op)
            and (task.finished_us or cutoff) < cutoff
            else None,
        )
        for task in page
    ]


def delete_tasks(tx: Transaction, keys: Sequence[int]) -> int:
    """Delete those that have ended, each with its tape, its names and its counts."""
    deleted = 0
    for key in keys:
        task: Task | None = tx.get("tasks", key)
        if task is None or not task.status.terminal:
            continue
        deleted += 1
        ended_as, ended = f"{task.op} {task.status}", task.status.value
        *_, before = tx.get("pruned", ended_as) or (0,)
        tx.put("pruned", ended_as, (task.op, ended, before + 1))
        for row in read_tape(tx, key):
            tx.put(f"events/{key}", row.seq, None)
        for n in list(tx.scan(f"inbox/{key}")):
            tx.put(f"inbox/{key}", n, None)
        for attempt in list(tx.scan(f"traces/{key}")):
            tx.put(f"traces/{key}", attempt, None)
        for table, name in (("ends", key), ("tasks", key), ("ids", task.task_id)):
            tx.put(table, name, None)
        tx.put("counted", task.task_id, None)
        tx.put("counters", f"kept {task.task_id}", None)
        if task.idempotency_key is not None:
            tx.put("idempotency", f"{task.op} {task.idempotency_key}", None)
        unique = f"{task.op} {task.unique_key}"
        if task.unique_key is not None and tx.get("unique", unique) == key:
            tx.put("unique", unique, None)
    return deleted


def due_drops(tx: Transaction, cutoff: int, after: int, limit: int) -> Sequence[DueDrop]:
    """The next late events that are kept."""
    ahead = [pair for pair in _read_drops(tx, None) if pair[0] > after]
    return [DueDrop(number, drop.ts_us < cutoff) for number, drop in ahead[:limit]]


def delete_drops(tx: Transaction, numbers: Sequence[int]) -> int:
    """Delete late events; the counts of a task that is not known go with its last one."""
    deleted = 0
    for number in numbers:
        drop: DroppedEvent | None = tx.get("drops", number)
        if drop is None:
            continue
        deleted += 1
        tx.put("drops", number, None)
        counter = kept_counter(drop.task_id, drop.reason)
        kept: int = tx.get("counters", counter) or 0
        tx.put("counters", counter, kept - 1 if kept > 1 else None)
        if find_task(tx, drop.task_id) is None and not _read_drops(tx, drop.task_id):
            tx.put("counted", drop.task_id, None)
    return deleted
