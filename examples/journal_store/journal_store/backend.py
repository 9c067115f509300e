"""The backend: each primitive of the port as one transaction, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from journal_store import flushes, maintenance
from journal_store.flushes import find_starts, find_task, keep_begun, last_seq, list_tasks
from journal_store.journal import Journal
from journal_store.tables import Tables, Transaction, from_line, to_line
from tapescope.model import (
    FINAL,
    AuditPage,
    Backlog,
    BacklogCount,
    CancelRequest,
    Drain,
    DropFilter,
    Event,
    HeldLease,
    InboxRow,
    KnownOp,
    LeaderTerm,
    MaintenanceJob,
    Mended,
    Pause,
    QuarantinePage,
    Repair,
    Schedule,
    SendAnswer,
    SendRow,
    TapePage,
    Task,
    TaskFilter,
    TaskStatus,
    TracedAttempt,
    Untaken,
    WorkerState,
    count_backlog,
    find_served,
    list_counts,
)
from tapescope.store import (
    RESYNC,
    AttemptState,
    BackendContext,
    Change,
    DueDrop,
    DueOrder,
    DueRow,
    DueTask,
    Expired,
    ExpiredOrder,
    Flush,
    FlushAnswer,
    FollowersOrder,
    FollowersPage,
    ListedTasks,
    OpenMode,
    RescuedRow,
    RescueOrder,
    SchemaVersions,
    StoreAway,
    StoreBackend,
    TraceRow,
    decode,
    must_migrate,
    read_schedule,
    write_schedule,
)

__all__ = ["JournalBackend"]

T = TypeVar("T")

_WEEK: Final = 7 * 24 * 3_600_000_000
"""Microseconds that an op is known after its last registration."""
_LOOK_EVERY: Final = 0.02
"""Seconds between two looks for the commits of other processes, while somebody wants to know."""


class News:
    """What other processes have committed since the last look."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}
        """By key the tasks that changed, and where the tape ends as far as the change says."""
        self.arrivals = False
        """Whether a task has come to wait for a claim."""


class JournalBackend(StoreBackend):
    """The journal at ``path``, which is made when a store is opened that may make it."""

    adapter: ClassVar[str] = "journal"

    _context: BackendContext
    """From ``open`` on."""

    def __init__(self, path: Path) -> None:
        self.name = f"journal:///{path}"
        self._journal = Journal(path)
        self._tables = Tables()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._news = News()

    @property
    def outlives_process(self) -> bool:
        """Yes: the file is there for other processes, now and later."""
        return True

    # --- life -------------------------------------------------------------------------------------

    async def open(self, context: BackendContext) -> None:
        self._context = context
        must_migrate(context.open_mode, await self.schema_versions(), self.name)
        await self._in_thread(lambda: self._open(context.open_mode))

    def _open(self, mode: OpenMode) -> None:
        self._tables, self._news = Tables(), News()
        self._journal.open(mode)
        self._read_on()

    async def close(self) -> None:
        await self._in_thread(self._journal.close)

    async def schema_versions(self) -> SchemaVersions:
        return SchemaVersions(int(self._journal.path.exists()), 1)

    # --- transactions -----------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do something with the journal: in one thread, so that one thing is done at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _read(self, step: Callable[[Transaction], T]) -> T:
        """A step that changes nothing, on what is committed now."""

        def work() -> T:
            self._read_on()
            return step(Transaction(self._tables))

        return await self._in_thread(work)

    async def _write(self, step: Callable[[Transaction], T], *, commit: bool = True) -> T:
        """A step and its commit, with every other process kept from writing."""

        def work() -> T:
            with self._journal.lock():
                self._read_on()
                tx = Transaction(self._tables)
                answer = step(tx)
                if commit and (changes := tx.changes):
                    self._journal.write(to_line(changes))
                    self._tables.apply(changes)
            return answer

        return await self._in_thread(work)

    def _read_on(self) -> None:
        """Take over what other processes have committed."""
        for line in self._journal.read():
            changes = from_line(line)
            self._tables.apply(changes)
            for table, key, value in changes:
                if table == "ends" and value is not None:
                    self._news.ends[int(key)] = value.seq
                elif table.startswith("inbox/") and value is not None:
                    self._news.ends.setdefault(int(table.partition("/")[2]), 0)
                elif table == "tasks" and value is not None:
                    self._news.ends.setdefault(int(key), 0)
                    self._news.arrivals |= value.status is TaskStatus.PENDING

    # --- writing ----------------------------------------------------------------------------------

    async def write(self, flush: Flush) -> FlushAnswer:
        return await self._write(
            lambda tx: flushes.write(tx, flush, self._now(), self._context.limits)
        )

    async def load(self, task_id: str, attempt: int, owner: str) -> AttemptState:
        def step(tx: Transaction) -> AttemptState:
            task = find_task(tx, task_id)
            dropped = tx.get("offers", f"{task_id} {attempt} {owner}") or 0
            if task is None:
                return AttemptState(0, "", 0, dropped)
            tape = maintenance.read_tape(tx, task.key)
            offers = [dropped, *(row.offer for row in tape if row.attempt == attempt)]
            return AttemptState(task.key, task.op, len(tape), max(offers))

        return await self._read(step)

    async def note_traces(self, rows: Sequence[TraceRow]) -> None:
        await self._write(lambda tx: flushes.note_traces(tx, rows))

    # --- claims and leases ------------------------------------------------------------------------

    async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        # No reply is ever lost on the way from a file, so no call is sent again.
        return await self._write(lambda tx: flushes.claim_due(tx, order, self._now()))

    async def send_message(self, row: SendRow) -> SendAnswer | None:
        return await self._write(lambda tx: flushes.send_message(tx, row, self._now()))

    async def read_inbox(self, task_id: str, after: int, limit: int) -> Sequence[InboxRow] | None:
        def step(tx: Transaction) -> Sequence[InboxRow] | None:
            task = find_task(tx, task_id)
            rows = [] if task is None else flushes.read_inbox(tx, task)
            return None if task is None else [row for row in rows if row.n > after][:limit]

        return await self._read(step)

    async def find_untaken(self, task_ids: Sequence[str]) -> Sequence[Untaken]:
        return await self._read(lambda tx: flushes.find_untaken(tx, task_ids))

    async def next_due(self, ops: Sequence[str], queues: Sequence[str] | None = None) -> int | None:
        def step(tx: Transaction) -> int | None:
            able = set(ops) - set(tx.scan("pauses"))
            pending = list_tasks(tx, TaskStatus.PENDING)
            starts = find_starts(tx, self._now())
            wanted = [one for one in pending if queues is None or one.queue in queues]
            times = (starts.find_earliest(task) for task in wanted if task.op in able)
            return min((at for at in times if at is not None), default=None)

        return await self._read(step)

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str] | None
    ) -> Sequence[HeldLease]:
        until = self._now() + lease

        def step(tx: Transaction) -> Sequence[HeldLease]:
            held = [
                task
                for task in list_tasks(tx, TaskStatus.RUNNING)
                if task.owner == owner and (task_ids is None or task.task_id in task_ids)
            ]
            for task in held:
                tx.put("tasks", task.key, replace(task, lease_expires_us=until))
            return [HeldLease(task.task_id, task.attempt, task.cancel) for task in held]

        return await self._write(step)

    async def let_go(self, task_id: str, attempt: int, owner: str) -> None:
        now = self._now()

        def step(tx: Transaction) -> None:
            for task in list_tasks(tx, TaskStatus.PENDING):
                asked = (task.task_id, task.attempt) == (task_id, attempt)
                if asked and task.lease_expires_us is not None and task.owner in (None, owner):
                    tx.put("tasks", task.key, replace(task, lease_expires_us=now))

        await self._write(step)

    async def read_owners(self) -> Sequence[str]:
        tasks = await self._read(list_tasks)
        return sorted({t.owner for t in tasks if t.owner is not None and not t.status.terminal})

    async def rescue(self, order: RescueOrder) -> Sequence[RescuedRow]:
        return await self._write(lambda tx: flushes.rescue(tx, order, self._now()))

    async def find_expired(self, order: ExpiredOrder) -> Sequence[Expired]:
        return order.pick(await self._read(list_tasks), self._now())

    async def find_followers(self, order: FollowersOrder) -> FollowersPage:
        return await self._read(lambda tx: flushes.find_followers(tx, order))

    async def read_cancels(self, owners: Sequence[str]) -> Sequence[tuple[str, str, CancelRequest]]:
        running = await self._read(lambda tx: list_tasks(tx, TaskStatus.RUNNING))
        return [
            (task.task_id, task.owner, task.cancel)
            for task in running
            if task.owner is not None and task.owner in owners and task.cancel is not None
        ]

    async def register_ops(self, ops: Sequence[KnownOp]) -> None:
        def step(tx: Transaction) -> None:
            for one in ops:
                told = (one.timeout, one.retries, one.priority, one.max_concurrent)
                kept = (one.queue, one.max_waiting, one.expires_in)
                rate = (one.rate_times, one.rate_per_us)
                tx.put("ops", one.op, [one.op, *told, *kept, *rate, self._now()])
            keep_begun(tx, find_starts(tx, self._now()))

        await self._write(step)

    async def read_ops(self, within: int) -> Sequence[KnownOp]:
        since = self._now() - within
        rows = await self._read(lambda tx: list(tx.scan("ops").values()))
        return [KnownOp(*said) for *said, at in rows if at > since]

    async def tell_worker(
        self, owner: str, ops: Sequence[str], lease: int, queues: Sequence[str] | None = None
    ) -> None:
        now = self._now()

        def step(tx: Transaction) -> None:
            since = (tx.get("workers", owner) or [None, None, None, now])[3]
            taken = None if queues is None else [*queues]
            tx.put("workers", owner, [owner, [*ops], now + lease, since, now, taken])

        await self._write(step)

    async def forget_worker(self, owner: str) -> None:
        def step(tx: Transaction) -> None:
            tx.put("workers", owner, None)
            tx.put("drains", owner, None)

        await self._write(step)

    async def list_workers(self, after: str, limit: int) -> Sequence[WorkerState]:
        now = self._now()

        def step(tx: Transaction) -> list[WorkerState]:
            told = tx.scan("workers")
            running = Counter(t.owner for t in list_tasks(tx, TaskStatus.RUNNING) if t.owner)
            owners = sorted(owner for owner in {*running, *map(str, told)} if owner > after)
            return [
                _describe_worker(tx, owner, told.get(owner), running[owner], now)
                for owner in owners[:limit]
            ]

        return await self._read(step)

    async def drain_worker(self, owner: str, by: str | None, reason: str) -> Drain | None:
        def step(tx: Transaction) -> Drain | None:
            if tx.get("workers", owner) is None:
                return None
            if tx.get("drains", owner) is None:
                tx.put("drains", owner, [self._now(), by, reason])
            return Drain(*tx.get("drains", owner))

        return await self._write(step)

    async def undrain_worker(self, owner: str) -> bool:
        def step(tx: Transaction) -> bool:
            tx.put("drains", owner, None)
            return tx.get("workers", owner) is not None

        return await self._write(step)

    async def find_drain(self, owner: str) -> Drain | None:
        row = await self._read(lambda tx: tx.get("drains", owner))
        return None if row is None else Drain(*row)

    async def pause_op(self, op: str, by: str | None, reason: str) -> Pause:
        def step(tx: Transaction) -> Pause:
            if tx.get("pauses", op) is None:
                tx.put("pauses", op, [op, self._now(), by, reason])
            return Pause(*tx.get("pauses", op))

        return await self._write(step)

    async def resume_op(self, op: str) -> Pause | None:
        def step(tx: Transaction) -> Pause | None:
            row = tx.get("pauses", op)
            tx.put("pauses", op, None)
            return None if row is None else Pause(*row)

        return await self._write(step)

    async def list_pauses(self, after: str, limit: int) -> Sequence[Pause]:
        rows = await self._read(lambda tx: list(tx.scan("pauses").values()))
        return [Pause(*row) for row in sorted(rows, key=lambda row: row[0]) if row[0] > after][
            :limit
        ]

    async def read_backlog(self, fresh: int) -> Backlog:
        now = self._now()

        def step(tx: Transaction) -> Backlog:
            workers = list(tx.scan("workers").values())
            living = [(ops, rest[-1]) for _, ops, until, *rest in workers if until > now]
            known = [row for row in tx.scan("ops").values() if row[-1] > now - _WEEK]
            pruned = {(op, status): n for op, status, n in tx.scan("pruned").values()}
            return count_backlog(
                list_tasks(tx),
                pruned,
                now,
                workers=Counter(op for ops, _ in living for op in ops),
                registered={op: timeout for op, timeout, *_ in known},
                paused={op: Pause(op, *rest) for op, *rest in tx.scan("pauses").values()},
                served=find_served(living),
            )

        return await self._read(step)

    async def watch(self) -> None:
        changes = self._context.changes
        await self._take_news()
        changes.publish(RESYNC)
        while True:
            for change in await self._take_news():
                changes.publish(change)
            await asyncio.sleep(_LOOK_EVERY)

    async def _take_news(self) -> Sequence[Change]:
        """The changes of other processes since the last call; their cancels are passed on."""

        def step(tx: Transaction) -> tuple[News, list[Change]]:
            news, self._news = self._news, News()
            tasks = [(tx.get("tasks", key), seq) for key, seq in news.ends.items()]
            return news, [Change(task.task_id, seq) for task, seq in tasks if task is not None]

        try:
            news, published = await self._read(step)
            if published:
                await self._context.tell_owners()
        except StoreAway:
            return [RESYNC]
        if news.arrivals:
            self._context.changes.publish_arrival()
        return published

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, task_id: str) -> Task | None:
        return await self._read(lambda tx: find_task(tx, task_id))

    async def find_traced(self, trace_id: str, limit: int) -> Sequence[TracedAttempt]:
        def step(tx: Transaction) -> Sequence[TracedAttempt]:
            tasks = [task for status in TaskStatus for task in list_tasks(tx, status)]
            tasks.sort(key=lambda task: task.key)
            traced = [one for task in tasks for one in flushes.list_traced(tx, task)]
            return [one for one in traced if one.trace_id == trace_id][:limit]

        return await self._read(step)

    async def read_traced(self, task_ids: Sequence[str]) -> Sequence[TracedAttempt]:
        def step(tx: Transaction) -> Sequence[TracedAttempt]:
            tasks = [find_task(tx, task_id) for task_id in sorted(task_ids)]
            return [one for task in tasks if task for one in flushes.list_traced(tx, task)]

        return await self._read(step)

    async def find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        def step(tx: Transaction) -> Sequence[Task]:
            tasks = [find_task(tx, task_id) for task_id in task_ids]
            return [task for task in tasks if task is not None and task.status.terminal]

        return await self._read(step)

    async def list(
        self, wanted: TaskFilter, limit: int, before: str | None, look_at: int
    ) -> ListedTasks:
        tasks = await self._read(lambda tx: list_tasks(tx, wanted.status))
        newest_first = sorted(tasks, key=lambda one: one.task_id, reverse=True)
        seen = [task for task in newest_first if before is None or task.task_id < before][:look_at]
        found = [task for task in seen if wanted.admits(task)][:limit]
        stopped = len(seen) == look_at and len(found) < limit
        return ListedTasks(found, seen[-1].task_id if stopped else None)

    async def count(self, op: str | None, tag: str | None) -> Mapping[TaskStatus, int]:
        wanted = TaskFilter(op=op, tag=tag)
        tasks = await self._read(list_tasks)
        return Counter(task.status for task in tasks if wanted.admits(task))

    async def read_tape(self, task_id: str, after_seq: int, limit: int) -> TapePage | None:
        def step(tx: Transaction) -> TapePage | None:
            task = find_task(tx, task_id)
            if task is None:
                return None
            rows = [tx.get(f"events/{task.key}", after_seq + n) for n in range(1, limit + 1)]
            events = tuple(
                Event(row.seq, row.type, row.ts, row.attempt, decode(row.body))
                for row in rows
                if row is not None
            )
            last = tx.get("ends", task.key)
            final = last.seq if last is not None and last.type == FINAL else None
            dropped = maintenance.read_counts(tx, task_id).total()
            return TapePage(task_id, events, last_seq(tx, task), final, dropped)

        return await self._read(step)

    async def read_quarantine(
        self, wanted: DropFilter, after: int, limit: int, look_at: int
    ) -> QuarantinePage:
        return await self._read(
            lambda tx: maintenance.read_quarantine(tx, wanted, after, limit, look_at)
        )

    # --- maintenance ------------------------------------------------------------------------------

    async def audit(self, after: int, limit: int, grace: int) -> AuditPage:
        return await self._read(lambda tx: maintenance.audit(tx, after, limit, grace, self._now()))

    async def repair(self, task_id: str, grace: int, by: str, dry_run: bool) -> Mended | None:
        return await self._write(
            lambda tx: maintenance.repair(tx, task_id, grace, by, self._now()), commit=not dry_run
        )

    async def recount_backlog(self) -> Sequence[BacklogCount]:
        return list_counts(await self.read_backlog(0))

    async def mend_backlog(self, by: str, *, dry_run: bool) -> Sequence[Repair]:
        return ()  # what is counted when it is asked for is never wrong

    async def read_repairs(self, after: int, limit: int) -> Sequence[Repair]:
        return await self._read(lambda tx: maintenance.read_repairs(tx, after, limit))

    async def due_tasks(
        self, cutoff: int, outcomes: Sequence[str], op: str | None, after: int, limit: int
    ) -> Sequence[DueTask]:
        return await self._read(
            lambda tx: maintenance.due_tasks(tx, cutoff, outcomes, op, after, limit)
        )

    async def delete_tasks(self, keys: Sequence[int], events: int) -> int:
        return await self._write(lambda tx: maintenance.delete_tasks(tx, keys))

    async def due_drops(self, cutoff: int, after: int, limit: int) -> Sequence[DueDrop]:
        return await self._read(lambda tx: maintenance.due_drops(tx, cutoff, after, limit))

    async def delete_drops(self, keys: Sequence[int]) -> int:
        return await self._write(lambda tx: maintenance.delete_drops(tx, keys))

    async def find_open(
        self, after: int, among: Sequence[int], limit: int
    ) -> tuple[int, Sequence[int]]:
        def step(tx: Transaction) -> tuple[int, Sequence[int]]:
            keys = [task.key for task in list_tasks(tx) if not task.status.terminal]
            ahead = [key for key in keys if key > after][:limit]
            return tx.get("counters", "task") or 0, [*(k for k in keys if k in among), *ahead]

        return await self._read(step)

    # --- leadership -------------------------------------------------------------------------------

    async def acquire_leadership(self, owner: str, lease: int) -> LeaderTerm | None:
        now = self._now()

        def step(tx: Transaction) -> LeaderTerm | None:
            leader, until = tx.get("leadership", "leader") or (owner, 0)
            if leader != owner and until >= now:
                return None
            tx.put("leadership", "leader", [owner, now + lease])
            audited, pruned = (tx.get("leadership", job) or 0 for job in ("audited", "pruned"))
            return LeaderTerm(now, audited, pruned)

        return await self._write(step)

    async def record_job(self, owner: str, job: MaintenanceJob) -> None:
        await self._write(lambda tx: _set_if_leader(tx, owner, job, self._now()))

    async def resign_leadership(self, owner: str) -> None:
        await self._write(lambda tx: _set_if_leader(tx, owner, "leader", None))

    # --- schedules --------------------------------------------------------------------------------

    async def add_schedule(self, row: Schedule) -> bool:
        def step(tx: Transaction) -> bool:
            if tx.get("schedules", row.name) is not None:
                return False
            tx.put("schedules", row.name, list(write_schedule(row)))
            return True

        return await self._write(step)

    async def change_schedule(self, row: Schedule) -> bool:
        def step(tx: Transaction) -> bool:
            said = tx.get("schedules", row.name)
            kept = None if said is None else read_schedule(*said)
            if kept is None or kept.revision != row.revision:
                return False
            changed = replace(row, created_us=kept.created_us, revision=row.revision + 1)
            tx.put("schedules", row.name, list(write_schedule(changed)))
            return True

        return await self._write(step)

    async def remove_schedule(self, name: str) -> bool:
        def step(tx: Transaction) -> bool:
            there = tx.get("schedules", name) is not None
            tx.put("schedules", name, None)
            return there

        return await self._write(step)

    async def get_schedule(self, name: str) -> Schedule | None:
        row = await self._read(lambda tx: tx.get("schedules", name))
        return None if row is None else read_schedule(*row)

    async def list_schedules(self, after: str, limit: int) -> Sequence[Schedule]:
        rows = sorted(await self._read_schedules(), key=lambda row: row.name)
        return [row for row in rows if row.name > after][:limit]

    async def list_due_schedules(
        self, now: int, after: tuple[int, str], limit: int
    ) -> Sequence[Schedule]:
        due = [
            ((row.next_us, row.name), row)
            for row in await self._read_schedules()
            if row.next_us is not None and row.next_us <= now and not row.paused
        ]
        due.sort(key=lambda one: one[0])
        return [row for place, row in due if place > after][:limit]

    async def next_schedule(self, after: int) -> int | None:
        times = [row.next_us for row in await self._read_schedules() if not row.paused]
        return min((time for time in times if time is not None and time > after), default=None)

    async def acquire_firing(self, owner: str, now: int, until: int) -> bool:
        def step(tx: Transaction) -> bool:
            holder, held = tx.get("leadership", "firing") or (owner, 0)
            if holder != owner and now <= held <= 2 * until - now:
                return False
            tx.put("leadership", "firing", [owner, until])
            return True

        return await self._write(step)

    async def resign_firing(self, owner: str) -> None:
        def step(tx: Transaction) -> None:
            if (tx.get("leadership", "firing") or (None,))[0] == owner:
                tx.put("leadership", "firing", None)

        await self._write(step)

    async def _read_schedules(self) -> Sequence[Schedule]:
        rows = await self._read(lambda tx: list(tx.scan("schedules").values()))
        return [read_schedule(*row) for row in rows]

    def _now(self) -> int:
        return self._context.clock.now()


def _describe_worker(
    tx: Transaction, owner: str, told: Sequence[Any] | None, running: int, now: int
) -> WorkerState:
    if told is None:
        return WorkerState(owner, running=running, is_worker=False)
    _, ops, until, since, heard, queues = told
    drain = tx.get("drains", owner)
    return WorkerState(
        owner,
        tuple(ops),
        running,
        alive=until > now,
        since_us=since,
        heard_us=heard,
        drain=None if drain is None else Drain(*drain),
        queues=None if queues is None else tuple(queues),
    )


def _set_if_leader(tx: Transaction, owner: str, key: str, value: Any) -> None:
    leader = tx.get("leadership", "leader")
    if leader is not None and leader[0] == owner:
        tx.put("leadership", key, value)
