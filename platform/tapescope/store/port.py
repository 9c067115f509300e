"""The store port: what a task's life may ask of a database, in the words of that life.

``TaskStore`` is one abstract class. Its public verbs validate, time, count and translate errors
once, for every adapter; an adapter implements the primitives underneath (``StorePrimitives``). The
port never speaks SQL.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

from tapescope.clock import Backoff, Clock
from tapescope.codec import encode
from tapescope.errors import (
    BadEventType,
    BadSetting,
    StoreClosed,
    StoreRefused,
    TapeFull,
    TapescopeError,
    UnknownTask,
    UsedAfterFork,
)
from tapescope.model.answers import Appended, Finished
from tapescope.model.audit import AuditRule
from tapescope.model.leases import GivenUp, Leases, Rescued, RescueResult
from tapescope.model.tape import (
    FINAL,
    RESERVED_EVENT_TYPES,
    NewEvent,
    QuarantinePage,
    TapePage,
    is_event_type,
)
from tapescope.model.tasks import (
    Attempt,
    CancelReason,
    CancelRequest,
    Claim,
    FinalEvent,
    NewTask,
    Task,
    TaskPage,
    TaskStatus,
)
from tapescope.store._claims import ClaimSlot, DueVerbs
from tapescope.store._group_commit import GroupCommit
from tapescope.store._leadership import LeadershipVerbs
from tapescope.store._leases import LeaseVerbs
from tapescope.store._maintenance import StoreUpkeep
from tapescope.store._pending import (
    PendingCancel,
    PendingClaim,
    PendingCreate,
    PendingEvents,
    PendingFinish,
    PendingWrite,
    TapeCursor,
)
from tapescope.store._repairs import RepairVerbs
from tapescope.store._results import StoreContext, as_running, fail
from tapescope.store._transactions import TransactionVerbs
from tapescope.store._watch import WatchVerbs
from tapescope.store.flush import (
    AttemptState,
    CancelAnswer,
    CancelRow,
    ClaimAnswer,
    ClaimRow,
    FlushRefused,
    StoreAway,
    as_unavailable,
)
from tapescope.store.notifications import Changes
from tapescope.store.validation import (
    StoreLimits,
    check_new_task,
    check_page_size,
    encode_event,
    is_task_id,
    new_task_id,
)
from tapescope_telemetry import StoreMeter, Telemetry, error_type_of

__all__ = [
    "GivenUp",
    "Leases",
    "RescueResult",
    "Rescued",
    "StoreLimits",
    "TaskStore",
    "new_task_id",
]

T = TypeVar("T")


class TaskStore(
    LeaseVerbs,
    DueVerbs,
    TransactionVerbs,
    WatchVerbs,
    RepairVerbs,
    LeadershipVerbs,
    StoreUpkeep,
):
    """Where tasks and their tapes are kept. Use it inside ``async with``, or ``open`` and
    ``aclose``.

    One store belongs to one event loop of one process. Every verb raises ``StoreClosed`` when it is
    not open, ``StoreUnavailable`` when the database cannot be reached within ``patience`` seconds
    (nothing was written), and a write ``EventFateUnknown`` when it was lost in mid-commit.
    """

    def __init__(
        self,
        *,
        name: str,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        limits: StoreLimits | None = None,
        patience: float = 10.0,
    ) -> None:
        if patience <= 0:
            raise BadSetting("patience", patience, "a number of seconds over 0")
        self.name = name
        """The store as a person may see it: without a password."""
        self.telemetry = telemetry or Telemetry.shared()
        self.clock = clock or Clock()
        self.limits = limits or StoreLimits()
        self.patience = patience
        self.instance = os.urandom(16).hex()
        self.meter: StoreMeter = self.telemetry.store(self.adapter)
        self._changes = Changes(self._interest)
        self._context = StoreContext(
            name, self.clock, patience, self.meter, self.telemetry.tasks, self._changes
        )
        self._commits: GroupCommit | None = None
        self._cursors: WeakValueDictionary[tuple[str, int, str], TapeCursor] = WeakValueDictionary()
        self._claim_slots: dict[str, ClaimSlot] = {}
        self._due_calls = 0
        self._watcher: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._told: set[tuple[AuditRule, str]] = set()
        self._pid = os.getpid()

    # --- life -------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Connect, and bring the schema up to date. Opening an open store does nothing.

        Raises ``StoreUnavailable``, ``SchemaTooNew``, ``SchemaTooOld``, ``StoreConfigError``.
        """
        if self._commits is None:
            await self._retrying(self._open)
            self._commits = GroupCommit(
                self._context,
                self._write,
                self._load_state,
                lanes=[f"{self.instance}/{n}" for n in range(self.write_lanes)],
                batch=self.limits.batch,
                queue=self.limits.queue,
            )
        return self

    async def aclose(self) -> None:
        """Answer every call taken, end every subscription, disconnect. May be called twice."""
        commits, self._commits = self._commits, None
        if commits is None:
            return
        try:
            await commits.aclose()
        finally:
            self._context.drops.summarise()
            self._changes.close()
            self._interest(False)
            if self._leaving:
                await asyncio.wait(self._leaving)
            await self._close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    # --- writing ----------------------------------------------------------------------------------

    async def create(self, new_task: NewTask) -> tuple[Task, bool]:
        """Insert a pending task; says whether it is new.

        The same op and idempotency key again answer with the task that exists. Raises ``BadOp``,
        ``BadParams``, ``BadSetting``, and ``IdempotencyConflict`` when that task has other params.
        """
        row, params = check_new_task(new_task, self.limits)
        call = PendingCreate(self.clock.monotonic(), row, params)
        created: tuple[Task, bool] = await self._written("create", call)
        return created

    async def claim_if_pending(self, task: Task, owner: str, lease: float) -> Claim | None:
        """pending → running for ``owner``: attempt + 1 and ``task_started``, in one transaction.

        ``lease`` is in seconds. ``None`` when the task is no longer pending, not yet due, or was
        run since ``task`` was read.
        """
        if lease <= 0:
            raise BadSetting("lease", lease, "a number of seconds over 0")
        started = encode({"attempt": task.attempt + 1, "owner": owner}, "owner")
        row = ClaimRow(
            task.task_id,
            task.key,
            task.attempt,
            owner,
            round(lease * 1_000_000),
            self.clock.now(),
            started,
        )
        call = PendingClaim(self.clock.monotonic(), row, task)
        self.meter.ledger.offer(1)
        won: ClaimAnswer | None = await self._written("claim", call)
        if won is None:
            return None
        cursor = call.cursor
        self._cursors[task.task_id, cursor.attempt, owner] = cursor
        running = as_running(task, owner, won)
        return Claim(running, Attempt(task.task_id, cursor.attempt, owner, cursor))

    async def append(self, attempt: Attempt, events: Sequence[NewEvent]) -> Appended:
        """Put events on the attempt's tape, in order; return after the commit (invariant I6).

        Events of an attempt that is no longer the task's, or for a closed tape, are dropped:
        counted, quarantined, and answered for. Raises ``BadEventType``, ``NotJson``,
        ``EventTooLarge`` and ``TapeFull``, and then nothing was written.
        """
        commits = self._require_open()
        call = self._check_events(attempt, events)
        if call is None:
            return Appended(range(0), None, self._cursor(attempt).tail)
        if commits.full:
            try:
                await commits.make_room()
            except asyncio.CancelledError as error:
                fail(self._context, call, error)
                raise
        appended: Appended = await self._written("append", call, commits)
        return appended

    def append_nowait(
        self, attempt: Attempt, events: Sequence[NewEvent]
    ) -> asyncio.Future[Appended]:
        """``append`` without waiting: keeps the order, and the future tells the events' fate.

        There is no back-pressure here: the caller bounds what it has outstanding. Raises what
        ``append`` raises for bad input.
        """
        commits = self._require_open()
        call = self._check_events(attempt, events)
        if call is None:
            done: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
            done.set_result(Appended(range(0), None, self._cursor(attempt).tail))
            return done
        self._enqueue(call, commits)
        appended: asyncio.Future[Appended] = call.future
        return appended

    async def finish_if_running(self, attempt: Attempt, final: FinalEvent) -> Finished:
        """End the task: its status **and** its ``final`` in one transaction (invariant I2).

        Says who won; the same call again gets the same answer. Raises ``NotJson`` or
        ``EventTooLarge`` for a result that a tape cannot hold, and then nothing was written.
        """
        cursor = self._cursor(attempt)
        body = encode_event(FINAL, final.as_json(), self.limits.event_bytes)
        call = PendingFinish(self.clock.monotonic(), cursor, final, body, self.clock.now())
        self.meter.ledger.offer(1)
        finished: Finished = await self._written("finish", call)
        return finished

    async def request_cancel(
        self,
        task_id: str,
        reason: CancelReason = CancelReason.USER,
        message: str = "",
        by: str | None = None,
    ) -> CancelAnswer:
        """pending → cancelled with its ``final``; running → recorded, its owner told; ended →
        nothing.

        Returns once the request is durable. Asking again is no error: the first reason stays.
        Raises ``UnknownTask``.
        """
        at = self.clock.now()
        final = FinalEvent.cancelled(CancelRequest(reason, message, by, at))
        body = encode(final.as_json(), "message")
        row = CancelRow(task_id, reason.value, message, by, at, body)
        if not is_task_id(task_id):
            raise UnknownTask(task_id)
        call = PendingCancel(self.clock.monotonic(), row)
        self.meter.ledger.offer(1)
        answer: CancelAnswer | None = await self._written("cancel", call)
        if answer is None:
            raise UnknownTask(task_id)
        return answer

    def attach_span(self, attempt: Attempt, trace_id: str | None, context: object) -> None:
        """Say which run span the attempt's late events point to, on metrics and in quarantine."""
        cursor = self._cursor(attempt)
        cursor.trace_id, cursor.context = trace_id, context

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, task_id: str) -> Task:
        """The task as its row stands. Raises ``UnknownTask``."""
        task = None
        if is_task_id(task_id):
            task = await self._read("get", lambda: self._get(task_id))
        if task is None:
            raise UnknownTask(task_id)
        return task

    async def list(
        self,
        *,
        status: TaskStatus | None = None,
        op: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> TaskPage:
        """A page of tasks, newest first, by keyset: ``before`` is the page before's ``next``."""
        check_page_size(limit)
        tasks = await self._read("list", lambda: self._list(status, op, limit + 1, before))
        return TaskPage(
            tuple(tasks[:limit]), tasks[limit - 1].task_id if len(tasks) > limit else None
        )

    async def count(self, *, op: str | None = None) -> Mapping[TaskStatus, int]:
        """How many tasks there are of each status; every status is a key."""
        found = await self._read("count", lambda: self._count(op))
        return {status: found.get(status, 0) for status in TaskStatus}

    async def read_tape(self, task_id: str, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of a tape, in ``seq`` order, after ``after_seq``. Raises ``UnknownTask``."""
        check_page_size(limit)
        page = None
        if is_task_id(task_id):
            page = await self._read("read_tape", lambda: self._read_tape(task_id, after_seq, limit))
        if page is None:
            raise UnknownTask(task_id)
        return page

    async def read_quarantine(
        self, task_id: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> QuarantinePage:
        """Dropped events, oldest first: one task's, or (``None``) the whole store's."""
        check_page_size(limit)
        return await self._read(
            "read_quarantine", lambda: self._read_quarantine(task_id, after, limit)
        )

    # --- shared by the verbs ----------------------------------------------------------------------

    def _require_open(self) -> GroupCommit:
        if self._commits is None:
            raise StoreClosed
        if os.getpid() != self._pid:
            raise UsedAfterFork("store")
        return self._commits

    def _cursor(self, attempt: Attempt) -> TapeCursor:
        if isinstance(attempt.cursor, TapeCursor):
            return attempt.cursor
        name = (attempt.task_id, attempt.number, attempt.owner)
        cursor = self._cursors.get(name)
        if cursor is None:
            cursor = self._cursors[name] = TapeCursor(*name)
        return cursor

    def _check_events(self, attempt: Attempt, events: Sequence[NewEvent]) -> PendingEvents | None:
        ledger, limit = self.meter.ledger, self.limits.event_bytes
        now = self.clock.now()
        checked: list[tuple[str, str, int]] = []
        ledger.offer(len(events))
        try:
            cursor = self._cursor(attempt)
            for event in events:
                if event.type in RESERVED_EVENT_TYPES or not is_event_type(event.type):
                    raise BadEventType(event.type, reserved=event.type in RESERVED_EVENT_TYPES)
                checked.append((event.type, encode_event(event.type, event.body, limit), now))
            if cursor.tail + len(checked) + self.limits.queue > self.limits.tape_events:
                queued = cursor.flying + sum(call.size for call in cursor.queue)
                if cursor.tail + queued + len(checked) > self.limits.tape_events:
                    raise TapeFull(attempt.task_id, self.limits.tape_events)
        except Exception as error:
            for event in events:
                ledger.fail(str(event.type), error_type_of(error), 1)
            raise
        return PendingEvents(self.clock.monotonic(), cursor, checked) if checked else None

    def _enqueue(self, call: PendingWrite, commits: GroupCommit | None) -> GroupCommit:
        try:
            commits = commits or self._require_open()
            commits.enqueue(call)
        except TapescopeError as error:
            fail(self._context, call, error)
            raise
        return commits

    async def _written(
        self, name: str, call: PendingWrite, commits: GroupCommit | None = None
    ) -> Any:
        """Queue a call and wait for its flush; a caller that is cancelled before it withdraws."""
        try:
            commits = self._enqueue(call, commits)
            try:
                answer = await call.future
            except asyncio.CancelledError:
                commits.withdraw(call)
                raise
        except TapescopeError as error:
            waited = self.clock.monotonic() - call.since
            self.meter.operation(name, waited, error_type_of(error))
            raise
        self.meter.operation(name, self.clock.monotonic() - call.since)
        return answer

    async def _read(self, name: str, primitive: Callable[[], Awaitable[T]]) -> T:
        self._require_open()
        start = self.clock.monotonic()
        try:
            answer = await self._retrying(primitive)
        except TapescopeError as error:
            self.meter.operation(name, self.clock.monotonic() - start, error_type_of(error))
            raise
        self.meter.operation(name, self.clock.monotonic() - start)
        return answer

    async def _retrying(
        self, primitive: Callable[[], Awaitable[T]], since: float | None = None
    ) -> T:
        """Try while the store is away, as long as its patience lasts, then ``StoreUnavailable``.

        Raises ``StoreRefused`` for what the database would refuse again.
        """
        deadline = (self.clock.monotonic() if since is None else since) + self.patience
        backoff = Backoff()
        while True:
            try:
                return await primitive()
            except FlushRefused as error:
                raise StoreRefused(str(error)) from error
            except StoreAway as error:
                left = deadline - self.clock.monotonic()
                if left <= 0:
                    raise as_unavailable(self.name, error) from error
                await backoff.wait(left)

    async def _load_state(self, cursor: TapeCursor, since: float) -> AttemptState | None:
        if not is_task_id(cursor.task_id):
            return None
        return await self._retrying(
            lambda: self._load(cursor.task_id, cursor.attempt, cursor.owner), since
        )
