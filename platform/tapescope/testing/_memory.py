"""``MemoryStore``: the port's rules in plain Python, the reference for every adapter.

It holds its tasks for as long as the object lives, and refuses by itself what the databases
refuse by constraint and trigger (invariants I1 to I5). Tasks that matter belong in a database.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from itertools import groupby, islice
from operator import itemgetter
from typing import ClassVar, Final
from uuid import uuid4

from tapescope.clock import Clock
from tapescope.codec import decode
from tapescope.model.audit import AuditPage, AuditRule
from tapescope.model.backlog import (
    Backlog,
    BacklogCount,
    count_backlog,
    find_served,
    list_counts,
)
from tapescope.model.leadership import LeaderTerm, MaintenanceJob
from tapescope.model.leases import HeldLease, RescueResult, TracedAttempt
from tapescope.model.messages import InboxRow, SendAnswer, SendRow, Untaken
from tapescope.model.ops import Drain, KnownOp, Pause, WorkerState
from tapescope.model.repairs import Mended, Repair
from tapescope.model.schedules import Schedule
from tapescope.model.tape import ATTEMPT_FAILED, FINAL, DropFilter, Event, QuarantinePage, TapePage
from tapescope.model.tasks import CancelRequest, Task, TaskFilter, TaskStatus
from tapescope.store.audit_rules import audit_tasks
from tapescope.store.backend import BackendContext, StoreBackend
from tapescope.store.flush import (
    AttemptState,
    CancelAnswer,
    CancelRow,
    CancelState,
    ClaimAnswer,
    ClaimRow,
    CreateRow,
    EventRow,
    Flush,
    FlushAnswer,
    FlushRefused,
    RefusedRow,
    TraceRow,
    list_ended,
)
from tapescope.store.notifications import RESYNC
from tapescope.store.opening import OpenMode, must_migrate
from tapescope.store.orders import (
    DueDrop,
    DueOrder,
    DueRow,
    DueTask,
    Expired,
    ExpiredOrder,
    FollowersOrder,
    FollowersPage,
    ListedTasks,
    RescuedRow,
    RescueOrder,
    SchemaVersions,
)
from tapescope.store.port import TaskStore
from tapescope.store.repair_plan import RepairPlan, plan_repair
from tapescope.store.tape_rules import RowPlan, add_event, plan_rows, plan_send
from tapescope.store.task_rows import Starts, as_pending, plan_cancel
from tapescope.store.validation import StoreLimits
from tapescope.testing._tables import Quarantine, Record
from tapescope_telemetry import Telemetry

__all__ = ["MemoryBackend", "MemoryStore"]

_VERSION: Final = 1
_REMEMBERED: Final = 7 * 24 * 3_600_000_000
"""Microseconds that an op is known after its last registration."""


class MemoryStore(TaskStore):
    """A ``TaskStore`` in this process's memory: for tests, and to read the port's rules in Python.

    What it holds outlives ``aclose`` and is there when the same object is opened again.
    """

    def __init__(
        self,
        *,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        limits: StoreLimits | None = None,
        patience: float = 10.0,
        open_mode: OpenMode = OpenMode.CREATE,
        backend: MemoryBackend | None = None,
    ) -> None:
        """``backend`` is one of a test's own, with faults in it."""
        super().__init__(
            backend or MemoryBackend(),
            telemetry=telemetry,
            clock=clock,
            limits=limits,
            patience=patience,
            open_mode=open_mode,
        )


class MemoryBackend(StoreBackend):
    """Tasks in dictionaries; a flush is carried out whole or not at all, and one that is sent
    again is answered as it was the first time."""

    adapter: ClassVar[str] = "memory"
    name = "memory"

    _context: BackendContext
    """From ``open`` on."""

    def __init__(self) -> None:
        self._version = 0
        """Of the schema, as a database has one: 1 once the store was made."""
        self._last_key = 0
        self._keys: dict[str, int] = {}
        self._ops: dict[str, tuple[KnownOp, int]] = {}
        self._claimed: dict[str, tuple[int, Sequence[DueRow]]] = {}
        """By owner the number of the last claim of due tasks, and what it took."""
        self._workers: dict[str, WorkerState] = {}
        self._lives_until: dict[str, int] = {}
        self._pauses: dict[str, Pause] = {}
        self._store_id = uuid4().hex[:16]
        self._confirm_at: Counter[int] = Counter()
        """By key when its engine is asked next about a task."""
        self._pruned: Counter[tuple[str, str]] = Counter()
        """By op and status the tasks that have ended and are not here any more."""
        self.records: dict[int, Record] = {}
        """The tasks by key, each with its tape."""
        self._by_idempotency: dict[tuple[str, str], int] = {}
        self._by_unique_key: dict[tuple[str, str], int] = {}
        """By op and key the last task that was made with it; it keeps the key while it is open."""
        self.quarantine = Quarantine()
        """The dropped events, for a test to look at, or to break."""
        self._repairs: list[Repair] = []
        self._begun: Mapping[tuple[str, str], Sequence[int]] = {}
        """By op and concurrency key, when the attempts began that count in its window."""
        self._leader: tuple[str | None, int] = None, 0
        self._schedules: dict[str, Schedule] = {}
        self._firing: tuple[str | None, int] = None, 0
        self._done_at: Counter[MaintenanceJob] = Counter()
        self._answered: dict[str, tuple[int, FlushAnswer]] = {}

    @property
    def outlives_process(self) -> bool:
        """No: another process has another memory."""
        return False

    async def open(self, context: BackendContext) -> None:
        if must_migrate(context.open_mode, await self.schema_versions(), self.name):
            self._version = _VERSION
        self._context = context
        self.quarantine.limits = context.limits
        self._claimed.clear()
        self._answered.clear()  # the numbers of a store that is opened again begin anew

    async def close(self) -> None:
        pass

    # --- writing ----------------------------------------------------------------------------------

    async def write(self, flush: Flush) -> FlushAnswer:
        number, answered = self._answered.get(flush.lane, (0, None))
        if answered is not None and number == flush.number:
            return answered
        with ExitStack() as undo:
            answer = self._carry_out(flush, undo)
            undo.pop_all()  # committed: nothing is undone
        await self.note_traces(flush.traces)
        self._answered[flush.lane] = flush.number, answer
        return answer

    def _carry_out(self, flush: Flush, undo: ExitStack) -> FlushAnswer:
        answer = FlushAnswer(self._context.clock.now())
        answer.keys = [
            self._create(row, place, answer, undo) for place, row in enumerate(flush.creates)
        ]
        answer.claims = [self._claim(row, answer.now, undo) for row in flush.claims]
        answer.refused = self._put_rows(flush, answer, undo)
        answer.cancels = [self._cancel(row, answer.now, undo) for row in flush.cancels]
        answer.untaken = self._find_untaken(list_ended(flush, answer))
        return answer

    def _create(self, row: CreateRow, place: int, answer: FlushAnswer, undo: ExitStack) -> int:
        name = None if row.idempotency_key is None else (row.op, row.idempotency_key)
        standing = self._keys.get(row.task_id)
        if standing is None and name is not None:
            standing = self._by_idempotency.get(name)
        unique = None if row.unique_key is None else (row.op, row.unique_key)
        last = 0 if unique is None else self._by_unique_key.get(unique, 0)
        if standing is None and last in self.records and self.records[last].outcome is None:
            standing = last
        if standing is not None:
            answer.existing[place] = self.records[standing].task
            return 0
        key = self._last_key = self._last_key + 1
        self.records[key] = Record(as_pending(row, decode(row.params), answer.now, key))
        self._keys[row.task_id] = key
        undo.callback(self.records.pop, key)
        undo.callback(self._keys.pop, row.task_id)
        if name is not None:
            self._by_idempotency[name] = key
            undo.callback(self._by_idempotency.pop, name)
        if unique is not None:
            self._by_unique_key[unique] = key
            undo.callback(self._by_unique_key.__setitem__, unique, last)
        return key

    def _claim(self, row: ClaimRow, now: int, undo: ExitStack) -> ClaimAnswer | None:
        record = self.find(row.task_id)
        if record is None:
            return None
        task = record.task
        if (task.status, task.attempt) != (TaskStatus.PENDING, row.attempt) or task.run_us > now:
            return None
        if task.parked or task.has_expired(now):
            return None
        record.remember(undo)
        seq = record.make_running(row.owner, row.lease, now, row.ts, row.body)
        return ClaimAnswer(task.attempt + 1, now, now + row.lease, seq)

    def _put_rows(self, flush: Flush, answer: FlushAnswer, undo: ExitStack) -> list[RefusedRow]:
        """The rows whose attempt owns the task when the flush begins; the others are dropped.

        These first: what a late row is told of its tape is how the flush found it.
        """
        plans = list(enumerate(plan_rows(flush, self._find_tape)))
        refused = [self._refuse(flush, place, plan, undo) for place, plan in plans if plan.late]
        for place, plan in plans:
            record = self.records.get(plan.row.key)
            if record is None or plan.late:
                continue
            record.remember(undo)
            record.put(plan.row, answer.now)
            if plan.cancel is not None:
                answer.cancelled_instead[place] = plan.cancel
            if plan.give_up is not None:
                _, run_at, spends, owner, lease = plan.give_up
                record.make_pending(answer.now if run_at is None else run_at, spends, owner, lease)
        return refused

    def _refuse(self, flush: Flush, place: int, plan: RowPlan, undo: ExitStack) -> RefusedRow:
        row, source, record = plan.row, flush.sources[place], self.records.get(plan.row.key)
        if plan.reason is not None:
            self.quarantine.drop(source.task_id, row, plan.reason, record, source.trace_id, undo)
        task, last_seq = (None, 0) if record is None else (record.task, record.last_seq)
        return plan.refuse(place, task, last_seq)

    def _find_tape(self, key: int) -> tuple[Task, EventRow | None] | None:
        record = self.records.get(key)
        return None if record is None else (record.task, record.final)

    def _cancel(self, row: CancelRow, now: int, undo: ExitStack) -> CancelAnswer | None:
        record = self.find(row.task_id)
        if record is None:
            return None
        state, task = plan_cancel(record.task, row, now)
        if task is not record.task:
            record.remember(undo)
            record.task = task
        if state is CancelState.CANCELLED:
            record.put(add_event(task, record.last, FINAL, row.ts, row.body), now)
        task = record.task
        met = task.op, task.owner, task.attempt, task.cancel
        return CancelAnswer(state, *met, record.last_seq, task.traceparent)

    async def note_traces(self, rows: Sequence[TraceRow]) -> None:
        for row in rows:
            if (record := self.records.get(row.key)) is not None:
                record.trace(row)

    async def find_traced(self, trace_id: str, limit: int) -> Sequence[TracedAttempt]:
        traced = (one for record in self.records.values() for one in record.list_traced())
        return list(islice((one for one in traced if one.trace_id == trace_id), limit))

    async def read_traced(self, task_ids: Sequence[str]) -> Sequence[TracedAttempt]:
        found = filter(None, map(self.find, sorted(task_ids)))
        return [one for record in found for one in record.list_traced()]

    # --- messages ---------------------------------------------------------------------------------

    async def send_message(self, row: SendRow) -> SendAnswer | None:
        record = self.find(row.task_id)
        if record is None:
            return None
        answer, new = plan_send(record.task, record.inbox, row, self._context.clock.now())
        if new is not None:
            record.inbox.append(new)
        return answer

    async def read_inbox(self, task_id: str, after: int, limit: int) -> Sequence[InboxRow] | None:
        record = self.find(task_id)
        return None if record is None else record.inbox[after : after + limit]

    async def find_untaken(self, task_ids: Sequence[str]) -> Sequence[Untaken]:
        return self._find_untaken(task_ids)

    def _find_untaken(self, task_ids: Sequence[str]) -> list[Untaken]:
        found = (record for record in map(self.find, task_ids) if record is not None)
        left = ((record, sum(one.taken_seq is None for one in record.inbox)) for record in found)
        return [Untaken(record.task.task_id, record.task.op, n) for record, n in left if n]

    # --- what a worker asks -----------------------------------------------------------------------

    async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        number, rows = self._claimed.get(order.owner, (0, ()))
        if order.again and number == order.number:
            there = (row for row in rows if row.task.key in self.records)
            return [row._replace(task=self.records[row.task.key].task) for row in there]
        now = self._context.clock.now()
        told = self._workers.get(order.owner)
        if told is not None and told.drain is not None:
            return []
        due = [record for record in self._pending_of(order.ops) if record.task.run_us <= now]
        due.sort(key=lambda record: (-record.task.priority, record.task.run_us, record.task.key))
        claimed: list[DueRow] = []
        starts = self._find_starts(now)
        self._begun = starts.begun
        mine = (one for one in due if starts.take(one.task) and order.takes(one.task))
        for record in islice(mine, order.limit):  # slots know no queues: they were asked first
            if record.task.has_expired(now):
                claimed.append(DueRow(record.task, 0, 0, expired=True))
                continue
            attempt = record.task.attempt + 1
            body = order.body(attempt)
            starts.note(record.task)
            seq = record.make_running(order.owner, order.lease, now, order.ts, body)
            claimed.append(DueRow(record.task, attempt, seq))
        self._claimed[order.owner] = order.number, claimed
        return claimed

    def _find_starts(self, now: int) -> Starts:
        tasks = (record.task for record in self.records.values())
        known = [one for one, _ in self._ops.values()]
        return Starts(tasks, known, self._begun, now)

    async def register_ops(self, ops: Sequence[KnownOp]) -> None:
        now = self._context.clock.now()
        self._ops |= {one.op: (one, now) for one in ops}
        self._begun = self._find_starts(now).begun  # none of an op that has no rate any more

    async def read_ops(self, within: int) -> Sequence[KnownOp]:
        since = self._context.clock.now() - within
        return [one for one, at in self._ops.values() if at > since]

    async def tell_worker(
        self, owner: str, ops: Sequence[str], lease: int, queues: Sequence[str] | None = None
    ) -> None:
        now = self._context.clock.now()
        told = self._workers.get(owner) or WorkerState(owner, since_us=now)
        taken = None if queues is None else tuple(queues)
        self._workers[owner] = replace(told, ops=tuple(ops), queues=taken, heard_us=now)
        self._lives_until[owner] = now + lease

    async def forget_worker(self, owner: str) -> None:
        self._workers.pop(owner, None)
        self._lives_until.pop(owner, None)

    async def list_workers(self, after: str, limit: int) -> Sequence[WorkerState]:
        now = self._context.clock.now()
        tasks = (record.task for record in self.records.values())
        running = Counter(t.owner for t in tasks if t.status is TaskStatus.RUNNING and t.owner)
        owners = sorted(owner for owner in {*running, *self._workers} if owner > after)
        return [
            replace(
                self._workers.get(owner) or WorkerState(owner, is_worker=False),
                running=running[owner],
                alive=self._lives_until.get(owner, now + 1) > now,
            )
            for owner in owners[:limit]
        ]

    async def drain_worker(self, owner: str, by: str | None, reason: str) -> Drain | None:
        told = self._workers.get(owner)
        if told is None:
            return None
        drain = told.drain or Drain(self._context.clock.now(), by, reason)
        self._workers[owner] = replace(told, drain=drain)
        return drain

    async def undrain_worker(self, owner: str) -> bool:
        told = self._workers.get(owner)
        if told is not None:
            self._workers[owner] = replace(told, drain=None)
        return told is not None

    async def find_drain(self, owner: str) -> Drain | None:
        told = self._workers.get(owner)
        return None if told is None else told.drain

    async def pause_op(self, op: str, by: str | None, reason: str) -> Pause:
        return self._pauses.setdefault(op, Pause(op, self._context.clock.now(), by, reason))

    async def resume_op(self, op: str) -> Pause | None:
        return self._pauses.pop(op, None)

    async def list_pauses(self, after: str, limit: int) -> Sequence[Pause]:
        ops = sorted(op for op in self._pauses if op > after)
        return [self._pauses[op] for op in ops[:limit]]

    async def next_due(self, ops: Sequence[str], queues: Sequence[str] | None = None) -> int | None:
        starts = self._find_starts(self._context.clock.now())
        pending = (record.task for record in self._pending_of(ops))
        waiting = (task for task in pending if queues is None or task.queue in queues)
        times = (starts.find_earliest(task) for task in waiting)
        return min((at for at in times if at is not None), default=None)

    def _pending_of(self, ops: Sequence[str]) -> Iterator[Record]:
        able = set(ops) - self._pauses.keys()
        for record in self.records.values():
            task = record.task
            if task.status is TaskStatus.PENDING and task.op in able and task.engine is None:
                yield record

    # --- engines ----------------------------------------------------------------------------------

    @property
    def keeps_engines(self) -> bool:
        return True

    async def read_store_id(self) -> str:
        return self._store_id

    async def find_unconfirmed(self, engine: str, limit: int) -> Sequence[Task]:
        now = self._context.clock.now()
        found = [task for at, task in self._to_confirm(engine) if at <= now]
        return found[:limit]

    async def note_confirmed(self, task_ids: Sequence[str], again_in: int) -> None:
        at = self._context.clock.now() + again_in
        self._confirm_at |= {self._keys[one]: at for one in task_ids if one in self._keys}

    async def count_overdue(self, engine: str, late: int, limit: int) -> tuple[int, int | None]:
        before = self._context.clock.now() - late
        since = [max(at, task.created_us) for at, task in self._to_confirm(engine)]
        overdue = [one for one in since if one <= before][:limit]
        return len(overdue), min(overdue, default=None)

    def _to_confirm(self, engine: str) -> list[tuple[int, Task]]:
        tasks = [record.task for record in self.records.values()]
        waiting = [t for t in tasks if (t.status, t.engine) == (TaskStatus.PENDING, engine)]
        found = [(self._confirm_at[task.key], task) for task in waiting]
        return sorted(found, key=lambda one: (one[0], one[1].key))

    # --- leases -----------------------------------------------------------------------------------

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str] | None
    ) -> Sequence[HeldLease]:
        until = self._context.clock.now() + lease
        held: list[HeldLease] = []
        for record in self.records.values():
            task = record.task
            asked = task_ids is None or task.task_id in task_ids
            if asked and (task.status, task.owner) == (TaskStatus.RUNNING, owner):
                record.task = replace(task, lease_expires_us=until)
                held.append(HeldLease(task.task_id, task.attempt, task.cancel))
        return held

    async def let_go(self, task_id: str, attempt: int, owner: str) -> None:
        record = self.find(task_id)
        if record is None or record.task.lease_expires_us is None:
            return
        task = record.task
        if (task.status, task.attempt) == (TaskStatus.PENDING, attempt) and (
            task.owner in (None, owner)
        ):
            record.task = replace(task, lease_expires_us=self._context.clock.now())

    async def read_owners(self) -> Sequence[str]:
        tasks = (record.task for record in self.records.values())
        return sorted({t.owner for t in tasks if not t.status.terminal and t.owner})

    async def rescue(self, order: RescueOrder) -> Sequence[RescuedRow]:
        now = self._context.clock.now()
        rescued: list[RescuedRow] = []
        for record in self.records.values():
            task = record.task
            if not order.takes(task, now) or len(rescued) >= order.limit:
                continue
            result = order.judge(task)
            type_ = ATTEMPT_FAILED if result is RescueResult.RETRIED else FINAL
            try:
                body = order.body(task, result)
                record.put(add_event(task, record.last, type_, order.ts, body), now)
            except FlushRefused:
                continue  # its tape was broken by hand: for the audit to find
            if result is RescueResult.RETRIED:
                record.make_pending(now, 1)
            rescued.append(RescuedRow(task, result, record.last_seq))
        return rescued

    def find(self, task_id: str) -> Record | None:
        """What is held of a task, for a test to look at, or to break."""
        return self.records.get(self._keys.get(task_id, 0))

    # --- reading ----------------------------------------------------------------------------------

    async def load(self, task_id: str, attempt: int, owner: str) -> AttemptState:
        record = self.find(task_id)
        dropped = self.quarantine.last_offer(task_id, attempt, owner)
        if record is None:
            return AttemptState(0, "", 0, dropped)
        on_tape = max((row.offer for row in record.tape if row.attempt == attempt), default=0)
        task = record.task
        return AttemptState(task.key, task.op, record.last_seq, max(on_tape, dropped))

    async def get(self, task_id: str) -> Task | None:
        record = self.find(task_id)
        return None if record is None else record.task

    async def find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        found = (self.find(task_id) for task_id in task_ids)
        return [one.task for one in found if one is not None and one.task.status.terminal]

    async def list(
        self, wanted: TaskFilter, limit: int, before: str | None, look_at: int
    ) -> ListedTasks:
        newest_first = (
            record.task
            for task_id in sorted(self._keys, reverse=True)
            if before is None or task_id < before
            if (record := self.find(task_id)) is not None
        )
        seen = list(islice(newest_first, look_at))
        found = list(islice(filter(wanted.admits, seen), limit))
        stopped = len(seen) == look_at and len(found) < limit
        return ListedTasks(found, seen[-1].task_id if stopped else None)

    async def count(self, op: str | None, tag: str | None) -> Mapping[TaskStatus, int]:
        wanted = TaskFilter(op=op, tag=tag)
        tasks = (record.task for record in self.records.values())
        return Counter(task.status for task in tasks if wanted.admits(task))

    async def read_tape(self, task_id: str, after_seq: int, limit: int) -> TapePage | None:
        record = self.find(task_id)
        if record is None:
            return None
        page = record.tape[after_seq : after_seq + limit]
        events = tuple(
            Event(row.seq, row.type, row.ts, row.attempt, decode(row.body)) for row in page
        )
        final = record.final
        dropped = self.quarantine.count(task_id)
        return TapePage(task_id, events, record.last_seq, final and final.seq, dropped)

    async def read_quarantine(
        self, wanted: DropFilter, after: int, limit: int, look_at: int
    ) -> QuarantinePage:
        return self.quarantine.read(wanted, after, limit, look_at)

    async def read_cancels(self, owners: Sequence[str]) -> Sequence[tuple[str, str, CancelRequest]]:
        tasks = (record.task for record in self.records.values())
        return [
            (task.task_id, task.owner, task.cancel)
            for task in tasks
            if task.status is TaskStatus.RUNNING and task.owner in owners
            if task.owner is not None and task.cancel is not None
        ]

    async def find_expired(self, order: ExpiredOrder) -> Sequence[Expired]:
        tasks = [record.task for record in self.records.values()]
        return order.pick(tasks, self._context.clock.now())

    async def find_followers(self, order: FollowersOrder) -> FollowersPage:
        tasks = (record.task for record in self.records.values())
        followers = (t for t in tasks if t.cancel_with_parent and t.cancel is None)
        pairs = ((t.parent_id or "", t.task_id) for t in followers if not t.status.terminal)
        rows = self._follow(sorted(pair for pair in pairs if pair > order.after), order.parents)
        return FollowersPage.of(order, list(islice(rows, order.limit)))

    def _follow(
        self, pairs: Iterable[tuple[str, str]], parents: int
    ) -> Iterator[tuple[str | None, str, str | None, str | None, str | None, int]]:
        """The rows of ``FollowersPage.of``."""
        of_parents = groupby(pairs, key=itemgetter(0))
        for n, (parent_id, children) in enumerate(islice(of_parents, parents), 1):
            above = self.find(parent_id)
            asked = None if above is None else above.task.cancel
            reason = message = by = None
            if asked is not None:
                reason, message, by = asked.reason, asked.message, asked.by
            if above is not None and above.task.status is TaskStatus.CANCELLED:
                for _, child in children:
                    yield child, parent_id, reason, message, by, n
            elif n == parents:
                yield None, parent_id, reason, message, by, n

    async def read_backlog(self, fresh: int) -> Backlog:
        now = self._context.clock.now()
        living = [one for one in self._workers.values() if self._lives_until[one.owner] > now]
        since = now - _REMEMBERED
        return count_backlog(
            (record.task for record in self.records.values()),
            self._pruned,
            now,
            workers=Counter(op for one in living for op in one.ops),
            registered={one.op: one.timeout for one, at in self._ops.values() if at > since},
            paused=self._pauses,
            served=find_served((one.ops, one.queues) for one in living),
        )

    # --- maintenance ------------------------------------------------------------------------------

    async def recount_backlog(self) -> Sequence[BacklogCount]:
        return list_counts(await self.read_backlog(0))

    async def mend_backlog(self, by: str, *, dry_run: bool) -> Sequence[Repair]:
        return ()  # what is counted when it is asked for is never wrong

    async def audit(self, after: int, limit: int, grace: int) -> AuditPage:
        ahead = sorted(key for key in self.records if key > after)
        page = [self.records[key] for key in ahead[:limit]]
        stored = [record.with_drops(self.quarantine) for record in page]
        violations = audit_tasks(stored, self._context.clock.now(), grace)
        rows = len(page) + sum(len(record.tape) for record in page)
        next_ = ahead[limit - 1] if len(ahead) > limit else None
        return AuditPage(len(page), rows, tuple(violations), next_)

    async def repair(self, task_id: str, grace: int, by: str, dry_run: bool) -> Mended | None:
        record, now = self.find(task_id), self._context.clock.now()
        if record is None:
            return None
        task = record.task
        quarantine = self.quarantine
        if dry_run:  # on copies
            record, quarantine = deepcopy(record), deepcopy(quarantine)
        plan = plan_repair(record.with_drops(quarantine), now, grace)
        _carry_out(plan, record, quarantine)
        first = len(self._repairs) + 1
        repairs = [
            Repair(one.rule, task_id, one.was, one.done, now, by, first + n)
            for n, one in enumerate(plan.entries)
        ]
        left = tuple(
            violation
            for violation in audit_tasks([record.with_drops(quarantine)], now, grace)
            if not (plan.hands_over and violation.rule is AuditRule.STUCK_RUNNING)
        )
        if not dry_run:
            self._repairs += repairs
            if task.status.terminal and task.status is not record.task.status:
                self._pruned[task.op, task.status.value] += 1  # what was counted stays counted
        return Mended(tuple(repairs), left)

    async def read_repairs(self, after: int, limit: int) -> Sequence[Repair]:
        return self._repairs[after : after + limit]

    async def due_tasks(
        self, cutoff: int, outcomes: Sequence[str], op: str | None, after: int, limit: int
    ) -> Sequence[DueTask]:
        found: list[DueTask] = []
        for key in sorted(key for key in self.records if key > after)[:limit]:
            record = self.records[key]
            task = record.task
            ended = task.finished_us is not None and task.finished_us < cutoff
            due = ended and task.status.value in outcomes and op in (None, task.op)
            found.append(DueTask(key, task.created_us >= cutoff, len(record.tape) if due else None))
        return found

    async def delete_tasks(self, keys: Sequence[int], events: int) -> int:
        gone = [key for key in keys if key in self.records and self.records[key].outcome]
        for key in gone:
            task = self.records.pop(key).task
            self._pruned[task.op, task.status.value] += 1
            del self._keys[task.task_id]
            if task.idempotency_key is not None:
                del self._by_idempotency[task.op, task.idempotency_key]
            if task.unique_key is not None:
                name = task.op, task.unique_key
                if self._by_unique_key.get(name) == task.key:
                    del self._by_unique_key[name]
            self.quarantine.forget_counts(task.task_id)
        return len(gone)

    async def due_drops(self, cutoff: int, after: int, limit: int) -> Sequence[DueDrop]:
        return [DueDrop(n, ts < cutoff) for n, ts in self.quarantine.oldest(after, limit)]

    async def delete_drops(self, keys: Sequence[int]) -> int:
        return self.quarantine.delete(keys)

    async def acquire_leadership(self, owner: str, lease: int) -> LeaderTerm | None:
        now = self._context.clock.now()
        holder, until = self._leader
        if holder not in (None, owner) and until >= now:
            return None
        self._leader = owner, now + lease
        return LeaderTerm(now, self._done_at["audited"], self._done_at["pruned"])

    async def record_job(self, owner: str, job: MaintenanceJob) -> None:
        if self._leader[0] == owner:
            self._done_at[job] = self._context.clock.now()

    async def resign_leadership(self, owner: str) -> None:
        if self._leader[0] == owner:
            self._leader = None, 0

    # --- schedules --------------------------------------------------------------------------------

    async def add_schedule(self, row: Schedule) -> bool:
        if row.name in self._schedules:
            return False
        self._schedules[row.name] = row
        return True

    async def change_schedule(self, row: Schedule) -> bool:
        kept = self._schedules.get(row.name)
        if kept is None or kept.revision != row.revision:
            return False
        self._schedules[row.name] = replace(
            row, created_us=kept.created_us, revision=row.revision + 1
        )
        return True

    async def remove_schedule(self, name: str) -> bool:
        return self._schedules.pop(name, None) is not None

    async def get_schedule(self, name: str) -> Schedule | None:
        return self._schedules.get(name)

    async def list_schedules(self, after: str, limit: int) -> Sequence[Schedule]:
        names = sorted(name for name in self._schedules if name > after)
        return [self._schedules[name] for name in names[:limit]]

    async def list_due_schedules(
        self, now: int, after: tuple[int, str], limit: int
    ) -> Sequence[Schedule]:
        places = sorted(place for place in self._next_times() if after < place <= (now, "\x7f"))
        return [self._schedules[name] for _, name in places[:limit]]

    async def next_schedule(self, after: int) -> int | None:
        return min((time for time, _ in self._next_times() if time > after), default=None)

    def _next_times(self) -> Iterator[tuple[int, str]]:
        for row in self._schedules.values():
            if row.next_us is not None and not row.paused:
                yield row.next_us, row.name

    async def acquire_firing(self, owner: str, now: int, until: int) -> bool:
        holder, held = self._firing
        if holder not in (None, owner) and now <= held <= 2 * until - now:
            return False
        self._firing = owner, until
        return True

    async def resign_firing(self, owner: str) -> None:
        if self._firing[0] == owner:
            self._firing = None, 0

    async def find_open(
        self, after: int, among: Sequence[int], limit: int
    ) -> tuple[int, Sequence[int]]:
        is_open = [key for key, record in sorted(self.records.items()) if not record.outcome]
        known = [key for key in is_open if key in among]
        return self._last_key, known + [key for key in is_open if key > after][:limit]

    async def schema_versions(self) -> SchemaVersions:
        return SchemaVersions(self._version, _VERSION)

    async def watch(self) -> None:
        self._context.changes.publish(RESYNC)
        await asyncio.get_running_loop().create_future()  # no other process can write here


def _carry_out(plan: RepairPlan, record: Record, quarantine: Quarantine) -> None:
    """Do what a repair plans."""
    record.task = plan.task
    del record.tape[len(record.tape) - len(plan.taken) :]
    if plan.final is not None:
        record.tape.append(plan.final)
    for row, reason in plan.taken:
        quarantine.keep(plan.task.task_id, row, reason, record)
    for reason, n in plan.counts.items():
        quarantine.correct(plan.task.task_id, reason, n)
