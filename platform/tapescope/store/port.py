"""The store port: what a task's life may ask of a database, in the words of that life.

``TaskStore`` validates, times, counts and translates errors once, for every database; the
``StoreBackend`` that it holds reaches one. The port never speaks SQL. What is not a verb of one
task's life is in a part: ``leases``, ``ops``, ``schedules``, ``messages``, ``backlog``,
``leadership``, ``maintenance``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from tapescope.clock import Clock
from tapescope.codec import decode, encode
from tapescope.errors import (
    BadEventType,
    BadSetting,
    EventFateUnknown,
    StoreRefused,
    TapeFull,
    TapescopeError,
    UnknownTask,
)
from tapescope.model.answers import Appended, Finished
from tapescope.model.leases import GivenUp, TracedAttempt
from tapescope.model.messages import MessageTaken
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    ATTEMPT_RELEASED,
    FINAL,
    RESERVED_EVENT_TYPES,
    TASK_STARTED,
    DropFilter,
    Event,
    NewEvent,
    QuarantinePage,
    TapePage,
    is_event_type,
)
from tapescope.model.tasks import (
    DEFAULT_QUEUE,
    Attempt,
    CancelReason,
    CancelRequest,
    Claim,
    ErrorInfo,
    FinalEvent,
    NewTask,
    Task,
    TaskFilter,
    TaskPage,
    TaskStatus,
)
from tapescope.model.times import format_time
from tapescope.service import Vitals
from tapescope.store._claims import DueClaims
from tapescope.store._expiries import Expiries
from tapescope.store._followers import Followers
from tapescope.store._orphans import Orphans
from tapescope.store._pending import (
    PendingBirth,
    PendingCancel,
    PendingClaim,
    PendingCreate,
    PendingEvents,
    PendingFinish,
    PendingGiveUp,
    TapeCursor,
)
from tapescope.store._results import fail, match_existing
from tapescope.store.backend import StoreBackend
from tapescope.store.backlog import StoreBacklog
from tapescope.store.core import StoreCore
from tapescope.store.database_clock import DatabaseClock
from tapescope.store.engines import StoreEngines
from tapescope.store.flush import (
    CancelAnswer,
    CancelRow,
    ClaimAnswer,
    ClaimRow,
    CreateRow,
    FlushRefused,
    StoreAway,
    TraceRow,
    as_unavailable,
)
from tapescope.store.leadership import StoreLeadership
from tapescope.store.leases import StoreLeases
from tapescope.store.maintenance import StoreMaintenance
from tapescope.store.messages import StoreMessages
from tapescope.store.notifications import CancelListener, Change, Subscription
from tapescope.store.opening import OpenMode
from tapescope.store.ops import StoreOps
from tapescope.store.orders import DueOrder, DueRow, Expired, Follower, body_of_first
from tapescope.store.schedules import StoreSchedules
from tapescope.store.task_rows import as_pending, as_running
from tapescope.store.validation import (
    StoreLimits,
    bind,
    check_choice,
    check_moment,
    check_new_task,
    check_page_size,
    check_parent,
    check_place,
    check_queue,
    check_queues,
    check_seconds,
    check_tag,
    check_text,
    check_time,
    check_trace_id,
    check_whole,
    encode_event,
    first_id_of,
    is_task_id,
)
from tapescope_telemetry import Telemetry, error_type_of
from tapescope_telemetry.spans import read_caller

__all__ = ["TaskStore"]

_MESSAGE_BYTES: Final = 16_384
"""Bytes of a cancel's message: with the error of a runner's cleanup it fits into a ``final``."""

_CLOCKS_DIFFER: Final = 3_600_000_000
"""Microseconds by which the clock that made an id may differ from the store's."""


class TaskStore:
    """Where tasks and their tapes are kept. Use it inside ``async with``, or ``open`` and
    ``aclose``.

    While it is open, a store belongs to one event loop of one process: another one that uses it
    is told so, with ``UsedInAnotherLoop`` or ``UsedAfterFork``. Once it is closed it may be opened
    again, anywhere. ``open_mode`` says what opening may do to
    the database: by itself it makes a store where there is none, and migrates nothing. Every verb
    raises ``StoreClosed`` when it is not open, ``StoreUnavailable`` when the database cannot be
    reached within ``patience`` seconds (nothing was written); a verb that writes also
    ``StoreReadOnly`` when it was opened to be read, and ``EventFateUnknown`` when it was lost in
    mid-commit.
    """

    def __init__(
        self,
        backend: StoreBackend,
        *,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        limits: StoreLimits | None = None,
        patience: float = 10.0,
        open_mode: OpenMode = OpenMode.CREATE,
    ) -> None:
        patience = check_seconds("patience", patience, over_zero=True)
        self.open_mode = OpenMode.checked(open_mode)
        """What the next ``open`` may do to the database. It may be set until then."""
        core = StoreCore(
            backend,
            telemetry or Telemetry.shared(),
            clock or Clock(),
            limits or StoreLimits(),
            patience,
        )
        self._core = core
        self.meter = core.meter
        self.leases = self._make_leases(core)
        """The heartbeat, and the rescue of lost runs."""
        self.ops = StoreOps(core, self.announce)
        """What the workers of the store can run by name."""
        self.backlog = StoreBacklog(core)
        """How much waits and runs, and for how long."""
        self.leadership = StoreLeadership(core)
        """Which manager of many does the store's maintenance."""
        self.engines = StoreEngines(core)
        """The tasks that something else than the claim brings to a worker."""
        self.schedules = StoreSchedules(core)
        """When tasks are made by themselves."""
        self.messages = StoreMessages(core)
        """What is sent to tasks, and waits until their runs take it."""
        self.maintenance = StoreMaintenance(core, self.leases, self.ops)
        """The audit, repairs, retention, and the schema's version."""
        self._followers = Followers(core, self._cancel_follower)
        self._expiries = Expiries(core, self._cancel_expired)
        self._claims = DueClaims(core, self._deliver_claim, self.release, self._expiries)
        # By name at each call: a store that records overrides the verb.
        self._orphans = Orphans(
            core,
            lambda task_id, reason, message: self.request_cancel(task_id, reason, message),
            lambda attempt, message: self.release(attempt, message),
        )

    def _make_leases(self, core: StoreCore) -> StoreLeases:
        """Overridden by a store that records what is rescued."""
        return StoreLeases(core)

    # The settings are given once: the parts of the store have them, too.

    @property
    def vitals(self) -> Sequence[Vitals]:
        """The signs of life of its background loops."""
        return [self._core.watch_vitals]

    @property
    def backend(self) -> StoreBackend:
        """The database."""
        return self._core.backend

    @property
    def name(self) -> str:
        """The store as a person may see it: without a password."""
        return self._core.name

    @property
    def telemetry(self) -> Telemetry:
        """Where spans and metrics go."""
        return self._core.telemetry

    @property
    def clock(self) -> Clock:
        """The time that the store goes by."""
        return self._core.clock

    @property
    def due_clock(self) -> DatabaseClock:
        """The time that due times go by: the database's, where it has a clock of its own."""
        return self._core.due_clock

    @property
    def limits(self) -> StoreLimits:
        """How much a tape, an event and a queue may hold."""
        return self._core.limits

    @property
    def patience(self) -> float:
        """Seconds that a call waits for a database that cannot be reached."""
        return self._core.patience

    @property
    def adapter(self) -> str:
        """The metric label of this kind of store: ``sqlite``, ``postgresql``."""
        return self.backend.adapter

    @property
    def on_one_host(self) -> bool:
        """Whether every process that has the store open runs on this host: a file is of one."""
        return self.backend.on_one_host

    @property
    def outlives_process(self) -> bool:
        """Whether another process can open the same store, now or later."""
        return self.backend.outlives_process

    @property
    def joins_transactions(self) -> bool:
        """Whether a task can be created in a transaction of the caller's: ``create_within``."""
        return self.backend.joins_transactions

    @property
    def instance(self) -> str:
        """Names this store among those of all processes, for as long as the object lives."""
        return self._core.instance

    @property
    def waiting(self) -> int:
        """Calls and events that wait for a flush."""
        return self._core.waiting

    # --- life -------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Connect, and do with the schema what ``open_mode`` allows.

        Opening an open store does nothing. Raises ``StoreUnavailable``, ``StoreNotFound``,
        ``SchemaTooNew``, ``SchemaTooOld``, ``StoreConfigError``.
        """
        await self._core.open(self.open_mode)
        return self

    async def aclose(self) -> None:
        """Answer every call taken, end every subscription, disconnect. May be called twice."""
        self._core.check_home()
        await self.orphans_ended()
        await self._core.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def probe(self) -> None:
        """Ask whether a write would be carried out now, for who says whether a process is ready.

        Raises ``StoreUnavailable``, ``StoreRefused`` and ``StoreConfigError``, as a submit or the
        end of a run would find the store.
        """
        await self._core.probe()

    async def measure_size(self) -> None:
        """Measure how large the store has become, and when it was last audited, for the metrics.

        Raises ``StoreUnavailable`` and ``StoreRefused``.
        """
        await self._core.measure_size()

    @property
    def away(self) -> str | None:
        """Why the database could not be used when it was last read or changed; ``None``: it could.

        A call that was made meanwhile may be waiting for it still. Any thread may ask.
        """
        return self._core.away

    async def measure_skew(self) -> float | None:
        """Seconds by which the database's clock is ahead of this process's, at least; asks it.

        ``None`` where the store goes by this process's. ``due_clock`` is set by the answer.
        """
        return await self._core.measure_skew()

    # --- writing ----------------------------------------------------------------------------------

    async def create(self, new_task: NewTask) -> tuple[Task, bool]:
        """Insert a pending task; says whether it is new.

        The same op and idempotency key again answer with the task that exists. Raises ``BadOp``,
        ``BadParams``, ``BadSetting``, and ``IdempotencyConflict`` when that task has other params.

        A create that is cancelled, or raises ``EventFateUnknown``, leaves no task behind that
        nobody knows of: one with a key is found by the key, one without is cancelled by the store
        as soon as it is there.
        """
        row, params = self._check_new(new_task)
        call = PendingCreate(self.clock.monotonic(), row, params)
        try:
            created: tuple[Task, bool] = await self._core.submit("create", call)
        except (asyncio.CancelledError, EventFateUnknown):
            self._orphans.adopt(call)
            raise
        return created

    async def create_claimed(
        self, new_task: NewTask, owner: str, lease: float
    ) -> tuple[Task, bool, Claim | None]:
        """``create`` and ``claim_if_pending`` in one transaction, for who can begin the task now.

        Gives the task, whether it is new, and the claim: ``None`` where it was not made, and the
        task may be pending. ``lease`` is in seconds. The task has no key of any kind and no due
        time. Raises what ``create`` raises.

        One that is cancelled, or raises ``EventFateUnknown``, leaves no task behind that nobody
        runs: the store cancels it as soon as it is there, and ends its attempt.
        """
        lease = check_seconds("lease", lease, over_zero=True)
        owner = check_text("owner", owner)
        for name in ("idempotency_key", "unique_key", "concurrency_key", "run_at"):
            if getattr(new_task, name) is not None:
                raise BadSetting(name, getattr(new_task, name), "None of a task that begins now")
        row, params = self._check_new(new_task)
        clock = self._core.clock
        started = body_of_first(owner)
        claim_row = ClaimRow(
            row.task_id, 0, 0, owner, round(lease * 1_000_000), clock.now(), started
        )
        call = PendingBirth(clock.monotonic(), row, params, claim_row)
        self.meter.ledger.offer(1)
        try:
            task, created, won = await self._core.submit("create_claimed", call)
        except (asyncio.CancelledError, EventFateUnknown):
            self._orphans.adopt(call)
            raise
        if won is not None:
            cursor = self._core.hold_cursor(call.cursor)
            return task, created, Claim(as_running(task, owner, won), cursor)
        if created and (task.status, task.owner, task.attempt) == (TaskStatus.RUNNING, owner, 1):
            # Its claim won, too, in the try whose answer was lost.
            return task, created, Claim(task, Attempt(task.task_id, 1, owner))
        return task, created, None

    def _check_new(self, new: NewTask) -> tuple[CreateRow, Mapping[str, Any]]:
        if new.engine is not None and not self.engines.are_kept:
            expected = f"None: the store {self.name} keeps no engines, its workers claim every task"
            raise BadSetting("engine", new.engine, expected)
        if new.engine is not None and new.concurrency_key is not None:
            expected = "None beside a concurrency key: slots over the whole store are a claim's"
            raise BadSetting("engine", new.engine, expected)
        if new.engine is not None and new.queue != DEFAULT_QUEUE:
            expected = (
                f"{DEFAULT_QUEUE!r} beside an engine, which brings an op to each of its workers"
            )
            raise BadSetting("queue", new.queue, expected)
        return check_new_task(new, self.limits)

    async def orphans_ended(self) -> None:
        """Wait for the tasks of creates that were cancelled: each has ended, or was never there.

        One that could not be ended within the store's patience is warned of.
        """
        await self._orphans.ended()

    async def create_within(self, connection: object, new_task: NewTask) -> tuple[Task, bool]:
        """``create`` in the caller's own transaction: committed with it, or never there.

        ``connection`` is an ``asyncpg`` or psycopg 3 one for a PostgreSQL store, an ``aiosqlite``
        one for a SQLite store, or SQLAlchemy's on one of these, to the same database, with a
        transaction that is begun, or begins with its first statement. One whose calls block
        (``sqlite3``, Django's) comes as a ``LentConnection``. Nothing else of the
        transaction is touched, and no other session sees the task before its commit. Workers find
        it with their next poll, or when you ``announce`` it after the commit. While the transaction
        holds a key, another ``create`` with that key waits for it to end. On SQLite there is one
        cursor: from here to the commit all other writes of the store wait, so commit soon and ask
        nothing of the store before.

        The metric ``tapescope.task.submitted`` counts the call, because the store never learns of
        the commit: a task that is rolled back was counted. It is not an offer of an event, so
        invariant I7 is untouched.

        Raises what ``create`` raises; ``ConnectionRefused`` for a connection that cannot take the
        task; ``StoreUnavailable`` when the connection is lost or waits too long for a lock, and
        ``StoreRefused`` when the database refuses the task: roll back then, and begin anew.
        """
        self._core.require_writable()
        if new_task.only_by is not None:
            raise BadSetting("only_by", new_task.only_by, "None in a transaction of the caller's")
        row, params = self._check_new(new_task)
        start = self.clock.monotonic()
        try:
            try:
                placed = await self.backend.create_within(connection, row)
            except StoreAway as error:
                raise as_unavailable(self.name, error) from error
            except FlushRefused as error:
                raise StoreRefused(str(error)) from error
            if isinstance(placed, Task):
                answer = match_existing(placed, row), False
            else:
                self.telemetry.tasks.submitted(row.op)
                answer = as_pending(row, params, placed.created_us, placed.key), True
        except TapescopeError as error:
            waited = self.clock.monotonic() - start
            self.meter.operation("create_within", waited, error_type_of(error))
            raise
        self.meter.operation("create_within", self.clock.monotonic() - start)
        return answer

    async def announce(self) -> None:
        """Tell the workers that tasks have come: after the commit of a transaction of your own.

        They poll, so it may be left out. Raises ``StoreUnavailable``.
        """
        await self._core.read("announce", self.backend.announce)
        self._core.changes.publish_arrival()

    async def claim_if_pending(self, task: Task, owner: str, lease: float) -> Claim | None:
        """pending → running for ``owner``: attempt + 1 and ``task_started``, in one transaction.

        ``lease`` is in seconds. ``None`` when the task is no longer pending, not yet due, or was
        run since ``task`` was read; when it has a concurrency key, for ``claim_due`` alone counts
        those that begin; or when it has expired, and then it is ended.
        """
        lease = check_seconds("lease", lease, over_zero=True)
        owner = check_text("owner", owner)
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
        won: ClaimAnswer | None = await self._core.submit("claim", call)
        if won is None:
            if task.has_expired(self.due_clock.now()):
                await self._expiries.end([Expired.of(task)])
            return None
        return Claim(as_running(task, owner, won), self._core.hold_cursor(call.cursor))

    async def claim_due(
        self,
        owner: str,
        ops: Collection[str],
        limit: int,
        lease: float,
        *,
        queues: Collection[str] | None = None,
    ) -> list[Claim]:
        """pending and due → running for ``owner``: attempt + 1 and ``task_started``, all at once.

        At most ``limit`` tasks of these ops, and of these ``queues`` or of all, the highest
        priority first, then the longest due, for ``lease`` seconds each, in one transaction that
        waits behind no append. A task that another session holds just now is left out, so fewer
        than there are may come while ``next_due`` says that one is due. The slots of a concurrency
        key, and the places in the window of its rate, go in the same order to the tasks of all
        queues: one may go to a task of a queue that is not asked for, and waits with it for a
        worker of that one. What has expired is not claimed;
        what of it was met is ended, and others are looked for in its place.

        No claim is lost on its way: when the caller is cancelled, what was claimed for it is given
        back before this returns; after an ``EventFateUnknown`` the next call of this owner hands
        out what that one claimed, while its lease lasts (docs/decisions/0008).
        """
        lease = check_seconds("lease", lease, over_zero=True)
        limit = check_whole("limit", limit, "a number of tasks, 0 or more", 0, 2**31 - 1)
        owner = check_text("owner", owner)
        asked = None if queues is None else check_queues(queues)
        self._core.require_writable()
        if not ops or not limit:
            return []
        length = round(lease * 1_000_000)
        return await self._claims.claim(owner, sorted(ops), limit, length, asked)

    async def next_due(
        self, ops: Collection[str], *, queues: Collection[str] | None = None
    ) -> int | None:
        """When the next pending task of these ops and queues is due; ``None``: none is pending.

        In microseconds since the epoch, by the store's clock; it may be past.
        """
        asked = None if queues is None else check_queues(queues)
        if not ops:
            return None
        return await self._core.read("next_due", lambda: self.backend.next_due(sorted(ops), asked))

    async def append(self, attempt: Attempt, events: Sequence[NewEvent]) -> Appended:
        """Put events on the attempt's tape, in order; return after the commit (invariant I6).

        Events of an attempt that is no longer the task's, or for a closed tape, are dropped:
        counted, quarantined, and answered for. Raises ``BadEventType``, ``NotJson``,
        ``EventTooLarge`` and ``TapeFull``, and then nothing was written.
        """
        commits = self._core.require_writable()
        call = self._check_events(attempt, events)
        if call is None:
            return Appended(range(0), None, self._core.find_cursor(attempt).tail)
        if commits.full:
            try:
                await commits.make_room()
            except asyncio.CancelledError as error:
                fail(self._core.context, call, error)
                raise
        appended: Appended = await self._core.submit("append", call, commits)
        return appended

    def append_nowait(
        self, attempt: Attempt, events: Sequence[NewEvent]
    ) -> asyncio.Future[Appended]:
        """``append`` without waiting: keeps the order, and the future tells the events' fate.

        There is no back-pressure here: the caller bounds what it has outstanding. Raises what
        ``append`` raises for bad input.
        """
        commits = self._core.require_writable()
        call = self._check_events(attempt, events)
        if call is None:
            done: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
            done.set_result(Appended(range(0), None, self._core.find_cursor(attempt).tail))
            return done
        self._core.enqueue(call, commits)
        appended: asyncio.Future[Appended] = call.future
        return appended

    async def finish_if_running(self, attempt: Attempt, final: FinalEvent) -> Finished:
        """End the task: its status **and** its ``final`` in one transaction (invariant I2).

        Says who won; the same call again gets the same answer. Raises ``NotJson`` or
        ``EventTooLarge`` for a result that a tape cannot hold, and then nothing was written.
        """
        cursor = self._core.find_cursor(attempt)
        body = encode_event(FINAL, final.as_json(), self.limits.event_bytes)
        call = PendingFinish(self.clock.monotonic(), cursor, final, body, self.clock.now())
        self.meter.ledger.offer(1)
        finished: Finished = await self._core.submit("finish", call)
        return finished

    async def retry_later(
        self,
        attempt: Attempt,
        error: ErrorInfo,
        run_at: int,
        *,
        only_here: Task | None = None,
        why: str = "",
    ) -> GivenUp:
        """The attempt failed: ``attempt_failed`` on the tape, running → pending until ``run_at``.

        ``only_here`` is the task where its owner alone can run it again: see ``NewTask.only_by``.
        ``why`` says to people why another attempt follows, and goes on the tape.
        ``run_at`` is in microseconds since the epoch; one retry is spent. When a cancel is on
        record the task ends as cancelled instead, in the same transaction. Raises ``NotJson`` and
        ``EventTooLarge`` for an error that a tape cannot hold, and then nothing was written.
        """
        run_at = check_moment("run_at", run_at, run_at)
        failure = {"error": error.as_json(), "run_at": format_time(run_at)}
        if why:
            failure["why"] = why
        event = NewEvent(ATTEMPT_FAILED, failure)
        bound: tuple[str | None, int | None] = (None, None)
        if only_here is not None:
            bound = bind(attempt.owner, only_here.idempotency_key)
        return await self._give_up("retry_later", attempt, event, error, run_at, bound)

    async def release(self, attempt: Attempt, message: str = "") -> GivenUp:
        """Give the task back, for another worker to run at once; no retry is spent.

        ``message`` goes into the ``attempt_released``. When a cancel is on record the task ends as
        cancelled instead, in the same transaction. Raises ``NotJson`` and ``EventTooLarge`` for a
        message that a tape cannot hold, and then nothing was written.
        """
        event = NewEvent(ATTEMPT_RELEASED, {"message": message})
        return await self._give_up("release", attempt, event, None, None)

    async def request_cancel(
        self,
        task_id: str,
        reason: CancelReason | str = CancelReason.USER,
        message: str = "",
        by: str | None = None,
    ) -> CancelAnswer:
        """pending → cancelled with its ``final``; running → recorded, its owner notified; ended →
        nothing.

        Returns once the request is durable. Asking again is not an error: the first reason stays.
        The caller's span, where it is recorded, is kept with the request, and the span that tells
        of the end leads to it. Raises ``UnknownTask``; ``BadSetting`` for a reason that is not a
        ``CancelReason``, and for a ``message`` or ``by`` that is not text, or is longer than 16,384
        and 1,024 bytes. With the reason ``expired`` it is heeded where the task has expired, as the
        store sees it, and changes nothing where not (``CancelState.NOT_EXPIRED``).
        """
        reason = check_choice("reason", CancelReason, reason)
        message = check_text("message", message, most=_MESSAGE_BYTES)
        by = None if by is None else check_text("by", by)
        at = self.clock.now()
        final = FinalEvent.cancelled(CancelRequest(reason, message, by, at))
        if not is_task_id(task_id):
            raise UnknownTask(task_id)
        body = encode(final.as_json(), "message")
        asked_in = read_caller()
        row = CancelRow(task_id, reason.value, message, by, at, body, asked_in.trace_context)
        call = PendingCancel(self.clock.monotonic(), row, asked_in)
        self.meter.ledger.offer(1)
        answer: CancelAnswer | None = await self._core.submit("cancel", call)
        if answer is None:
            raise UnknownTask(task_id)
        return answer

    async def cancel_followers(self, limit: int = 100) -> int:
        """Request the cancel of tasks that are to be cancelled with their parents, whose parents
        have ended as cancelled; says of how many that is on record now.

        One call looks at ten times ``limit`` parents, of which it cancels ``limit`` children at
        most, and the next call goes on from there, round and round. A child that cannot be
        cancelled, for a session holds its row, say, is warned of and left for the next round; it
        holds up no other one. Asked at each heartbeat of each manager, and so of another one where
        one dies in the midst. It writes no end of its own: each is a ``request_cancel``, with the
        reason and the caller of the parent's, and a message that says so (decision 0096).
        """
        return await self._followers.cancel(check_page_size(limit))

    async def end_expired(self, limit: int = 100) -> int:
        """End tasks of which no attempt began in the time that they had (``NewTask.expires_in``);
        says how many have ended by it.

        At most ``limit``, whatever they wait for: a worker, a slot, an engine, the end of a pause.
        The next call goes on from there, round and round; one that cannot be ended, for a session
        holds its row, say, is warned of and left for the next round, and holds up no other one.
        Asked at each heartbeat of each manager. It writes no end of its own: each is a
        ``request_cancel``, with the reason ``expired`` (decision 0104).
        """
        return await self._expiries.look(check_page_size(limit))

    def _cancel_expired(self, one: Expired) -> Coroutine[Any, Any, CancelAnswer]:
        return self.request_cancel(one.task_id, CancelReason.EXPIRED, _tell_of_expiry(one))

    def _cancel_follower(self, one: Follower) -> Coroutine[Any, Any, CancelAnswer]:
        reason = next((known for known in CancelReason if known == one.reason), CancelReason.USER)
        if reason is CancelReason.EXPIRED:  # its parent's time was over, and not its own
            reason = CancelReason.SUPERSEDED
        return self.request_cancel(one.task_id, reason, _tell_of_parent(one), one.by)

    def attach_span(
        self,
        attempt: Attempt,
        trace_id: str | None,
        context: object,
        span_id: str | None = None,
    ) -> None:
        """Say which run span the attempt's late events point to, on metrics and in quarantine.

        With ``span_id``, for a span that is recorded, both ids are kept with the task: with the
        attempt's first event, or by ``note_traces``.
        """
        cursor = self._core.find_cursor(attempt)
        cursor.trace_id, cursor.context = trace_id, context
        if trace_id is not None and span_id is not None:
            cursor.untraced = trace_id, span_id

    async def note_traces(self, attempts: Sequence[Attempt]) -> None:
        """Keep the spans of those of these attempts that have one and have written nothing yet."""
        noted: list[TapeCursor] = []
        rows: list[TraceRow] = []
        for cursor in map(self._core.find_cursor, attempts):
            if cursor.untraced is not None and cursor.key:  # else with its first event
                noted.append(cursor)
                rows.append(TraceRow(cursor.key, cursor.attempt, *cursor.untraced))
        if rows:
            await self._core.change("note_traces", lambda: self.backend.note_traces(rows))
            for cursor in noted:
                cursor.untraced = None

    # --- reading ----------------------------------------------------------------------------------

    async def find_traced(self, trace_id: str, *, limit: int = 1_000) -> Sequence[TracedAttempt]:
        """The attempts whose run spans are in this trace, the oldest tasks first.

        Only those of runs whose span was recorded. Raises ``BadSetting`` for what is not 32
        hexadecimal digits.
        """
        limit = check_page_size(limit)
        trace_id = check_trace_id(trace_id)
        return await self._core.read(
            "find_traced", lambda: self.backend.find_traced(trace_id, limit)
        )

    async def read_traced(self, task_ids: Sequence[str]) -> Sequence[TracedAttempt]:
        """The attempts of these tasks whose run spans were recorded, in their order."""
        known = [task_id for task_id in task_ids if is_task_id(task_id)]
        return await self._core.read("read_traced", lambda: self.backend.read_traced(known))

    async def get(self, task_id: str) -> Task:
        """The task as its row stands. Raises ``UnknownTask``."""
        task = None
        if is_task_id(task_id):
            task = await self._core.read("get", lambda: self.backend.get(task_id))
        if task is None:
            raise UnknownTask(task_id)
        return task

    async def list(
        self,
        *,
        status: TaskStatus | None = None,
        op: str | None = None,
        owner: str | None = None,
        queue: str | None = None,
        idempotency_key: str | None = None,
        tag: str | None = None,
        parent_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        before: str | None = None,
        params: bool = True,
    ) -> TaskPage:
        """A page of tasks, newest first, by keyset: ``before`` is the page before's ``next``.

        ``tag`` is one of a task's tags, and ``parent_id`` names the task whose runner submitted
        it: an index leads to either, however many tasks there are.

        ``since`` and ``until`` are aware times, between which a task was created. No page looks at
        more than ``limits.looked_at`` tasks: one of what is rare may have none, and yet a ``next``.
        Without ``params`` those of the tasks may be empty: who does not show them need not read
        them, up to 256 KiB a task.
        """
        limit = check_page_size(limit)
        if status is not None:
            status = check_choice("status", TaskStatus, status)
        queue = None if queue is None else check_queue(queue)
        op, owner, idempotency_key = (
            None if text is None else check_text(name, text)
            for name, text in (("op", op), ("owner", owner), ("idempotency_key", idempotency_key))
        )
        tag = None if tag is None else check_tag(tag)
        parent_id = None if parent_id is None else check_parent(parent_id)
        if before is not None and not is_task_id(before):
            raise BadSetting("before", before, "the 'next' of another page")
        since_us = None if since is None else check_time("since", since)
        until_us = None if until is None else check_time("until", until)
        # By its id a task is an hour older or newer than by its row, if clocks differ that much.
        from_id = None if since_us is None else first_id_of(since_us - _CLOCKS_DIFFER)
        if until_us is not None:
            end = first_id_of(until_us + _CLOCKS_DIFFER)
            before = end if before is None else min(before, end)
        times = since_us, until_us, from_id
        wanted = TaskFilter(
            status, op, owner, queue, idempotency_key, *times, tag, parent_id, params
        )
        found = await self._core.read(
            "list",
            lambda: self.backend.list(wanted, limit + 1, before, self.limits.looked_at),
        )
        tasks = found.tasks
        goes_on = tasks[limit - 1].task_id if len(tasks) > limit else found.looked_to
        return TaskPage(tuple(tasks[:limit]), goes_on)

    async def count(
        self, *, op: str | None = None, tag: str | None = None
    ) -> Mapping[TaskStatus, int]:
        """How many tasks of an op, or with a tag, there are of each status; every status is a key,
        and so is one of a newer version that occurs. Raises ``BadSetting``."""
        op = None if op is None else check_text("op", op)
        tag = None if tag is None else check_tag(tag)
        counts = await self._core.read("count", lambda: self.backend.count(op, tag))
        return dict.fromkeys(TaskStatus, 0) | dict(counts)

    async def read_tape(self, task_id: str, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of a tape, in ``seq`` order, after ``after_seq``.

        Raises ``UnknownTask``, ``BadSetting``.
        """
        limit = check_page_size(limit)
        after_seq = check_place("after_seq", after_seq, of_tape=True)
        page = None
        if is_task_id(task_id):
            page = await self._core.read(
                "read_tape", lambda: self.backend.read_tape(task_id, after_seq, limit)
            )
        if page is None:
            raise UnknownTask(task_id)
        return page

    async def read_quarantine(
        self,
        task_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        limit: int = 1_000,
        counted: bool = True,
    ) -> QuarantinePage:
        """Dropped events, oldest first: one task's, or (``None``) the whole store's.

        ``since`` and ``until`` are aware times, between which an event was offered. A page of a
        time looks at ``limits.looked_at`` events at most: it may have none, and yet a ``next``.
        ``overflow`` and ``counts`` are those of all drops, for which all are read: who reads page
        after page asks for them once, and for the others says ``counted=False``. Raises
        ``BadSetting``.
        """
        limit, after = check_page_size(limit), check_place("after", after)
        wanted = DropFilter(
            None if task_id is None else check_text("task_id", task_id),
            None if since is None else check_time("since", since),
            None if until is None else check_time("until", until),
            counted,
        )
        return await self._core.read(
            "read_quarantine",
            lambda: self.backend.read_quarantine(wanted, after, limit, self.limits.looked_at),
        )

    # --- notifications ----------------------------------------------------------------------------

    def changes(self, task_id: str | None = None) -> Subscription:
        """Be told of commits, of one task's or of every one, from this moment on (invariant I9).

        Of every one there is also a ``RESYNC`` where tasks were created.
        """
        self._core.require_open()
        return self._core.changes.subscribe(task_id)

    def arrivals(self) -> Subscription:
        """Be told, with a ``RESYNC``, when tasks come to wait for a claim, here or elsewhere.

        They were created, or given back by a retry, a release or a rescue; when they are due is
        what ``next_due`` says. Costs a worker less than to hear of every commit.
        """
        self._core.require_open()
        return self._core.changes.await_arrivals()

    def listen_for_cancels(self, owner: str, listener: CancelListener) -> None:
        """Have ``listener`` told of cancels of ``owner``'s running tasks, perhaps repeatedly."""
        self._core.require_open()
        self._core.changes.listen_for_cancels(owner, listener)

    def stop_listening(self, owner: str) -> None:
        """Undo ``listen_for_cancels``."""
        self._core.changes.stop_listening(owner)

    def tape_room(self, attempt: Attempt) -> int:
        """Events that the attempt's tape still takes before ``TapeFull``, as far as is known."""
        cursor = self._core.find_cursor(attempt)
        queued = cursor.flying + sum(call.size for call in cursor.queue)
        return max(self.limits.tape_events - cursor.tail - queued, 0)

    # --- shared by the verbs ----------------------------------------------------------------------

    def _check_events(self, attempt: Attempt, events: Sequence[NewEvent]) -> PendingEvents | None:
        core, limits, ledger = self._core, self._core.limits, self.meter.ledger
        limit = limits.event_bytes
        now = core.clock.now()
        checked: list[tuple[str, str, int]] = []
        ledger.offer(len(events))
        try:
            cursor = core.find_cursor(attempt)
            for event in events:
                type_ = event.type
                if type(type_) is not str:
                    type_ = _as_plain_type(type_)
                reserved = type_ in RESERVED_EVENT_TYPES and not isinstance(event, MessageTaken)
                if reserved or not is_event_type(type_):
                    raise BadEventType(type_, reserved=reserved)
                checked.append((type_, encode_event(type_, event.body, limit), now))
            may_be_full = cursor.tail + len(checked) + limits.queue > limits.tape_events
            if may_be_full and len(checked) > self.tape_room(attempt):
                raise TapeFull(attempt.task_id, limits.tape_events)
        except Exception as error:  # whatever it is: what was offered is accounted for (I7)
            for event in events:
                named = event.type if type(event.type) is str else type(event.type).__name__
                ledger.fail(named, error_type_of(error), 1)
            raise
        return PendingEvents(core.clock.monotonic(), cursor, checked) if checked else None

    async def _give_up(
        self,
        name: str,
        attempt: Attempt,
        event: NewEvent,
        error: ErrorInfo | None,
        run_at: int | None,
        bound: tuple[str | None, int | None] = (None, None),
    ) -> GivenUp:
        cursor = self._core.find_cursor(attempt)
        body = encode_event(event.type, event.body, self.limits.event_bytes)
        offer = event.type, body, self.clock.now()
        call = PendingGiveUp(self.clock.monotonic(), cursor, offer, error, run_at, bound)
        self.meter.ledger.offer(1)
        given_up: GivenUp = await self._core.submit(name, call)
        return given_up

    def _deliver_claim(self, order: DueOrder, row: DueRow) -> Claim:
        """Count what the database says it wrote, tell who follows here, and give a live attempt."""
        task, seq = row.task, row.started_seq
        self.meter.ledger.offer(1)
        self.meter.ledger.store(TASK_STARTED, 1)
        cursor = TapeCursor(task.task_id, row.attempt, order.owner)
        cursor.key, cursor.op, cursor.tail, cursor.offers = task.key, task.op, seq, 1
        cursor.claimed = self.clock.monotonic()
        if self._core.changes.follows(task.task_id):
            body = decode(order.body(row.attempt))
            started = Event(seq, TASK_STARTED, order.ts, row.attempt, body)
            self._core.changes.publish(Change(task.task_id, seq, (started,)))
        return Claim(task, self._core.hold_cursor(cursor))


def _as_plain_type(type: object) -> str:
    """An event type as plain text: what is compared must be what is written."""
    if not isinstance(type, str):
        raise BadEventType(type, reserved=False)
    return str.__str__(type)


def _tell_of_expiry(one: Expired) -> str:
    """Why a task has ended, for people."""
    return f"no attempt began within the {one.expires_in / 1e6:g} s after it was due"


def _tell_of_parent(one: Follower) -> str:
    """Why a task is cancelled, for people: whose cancel it is, and the words of that."""
    said = f": {one.message}" if one.message else ""
    text = f"its parent {one.parent_id} was cancelled{said}"
    return text.encode()[:_MESSAGE_BYTES].decode(errors="ignore")
