"""``TaskManager``: takes tasks, runs them, and leaves no tape of theirs open when it is closed."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, Unpack, cast, overload

from tapescope.errors import (
    BadSetting,
    IdempotencyConflict,
    ManagerClosed,
    ManagerOpen,
    OpNotRegistered,
    OpTaken,
    RightsMissing,
    TapescopeError,
    TaskNotEnded,
    UniqueKeyTaken,
    UnknownTask,
    UsedAfterFork,
    UsedInAnotherLoop,
)
from tapescope.maintenance import Maintainer, Retention, audit_store
from tapescope.manager.backlog_reader import BacklogReader, describe_backlog
from tapescope.manager.declared_schedules import tell_schedule
from tapescope.manager.handle import FoundBy, TaskHandle
from tapescope.manager.heartbeat import Heartbeat
from tapescope.manager.hooks import SubmitHook, call_submit_hook
from tapescope.manager.identity import name_owner, retire_owner
from tapescope.manager.known_ops import KnownOps
from tapescope.manager.loop_lag import LoopLag
from tapescope.manager.ops import (
    Op,
    Ops,
    OpSettings,
    OpsOfManager,
    Registering,
    RegisteringWith,
)
from tapescope.manager.pool import RunPool
from tapescope.manager.readiness import Check, check_readiness
from tapescope.manager.schedules import ManagerSchedules
from tapescope.manager.submission import Submission
from tapescope.manager.waiting_bound import WaitingBound
from tapescope.manager.worker import Worker
from tapescope.model.audit import AUDIT_GRACE, AuditReport
from tapescope.model.internals import ManagerSigns
from tapescope.model.messages import Sent
from tapescope.model.ops import KnownOp, Pause, PausePage
from tapescope.model.redaction import Redact, ToldKind
from tapescope.model.schedules import Schedule
from tapescope.model.tape import QuarantinePage, TapePage
from tapescope.model.tasks import DEFAULT_QUEUE, Claim, NewTask, Task, TaskStatus
from tapescope.model.times import format_time
from tapescope.model.wording import describe_stop
from tapescope.run import (
    Nested,
    Redactor,
    ResourceMap,
    Resources,
    RetryPolicy,
    RunHook,
    Runner,
    RunSettings,
    TypedValues,
    check_replacements,
    find_parent,
    resolve_runner,
)
from tapescope.schedules import Scheduler
from tapescope.shielded import await_child, begin_insisting, wait_shielded
from tapescope.store.home import Home
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore
from tapescope.store.validation import (
    check_count,
    check_key,
    check_op,
    check_queues,
    check_seconds,
    is_task_id,
    new_task_id,
)
from tapescope.values import Codec, Values
from tapescope_telemetry import Telemetry
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.engine import Engine, EngineServer, Reconciler

__all__ = ["TaskManager"]

R = TypeVar("R")
V = TypeVar("V")

_log = Logger("tapescope")

_UNCOMMITTED: Final = 1_000
"""Tasks in callers' transactions that are remembered for ``announce``; the reconciler finds them
all the same."""


class TaskManager:
    """Runs tasks in this process, each with a durable tape that ends in exactly one ``final``.

    Use it inside ``async with``, or call ``open`` and ``aclose``. While it is open, it belongs to
    one event loop of one process; another one that uses it is told so, with ``UsedInAnotherLoop``
    or ``UsedAfterFork``. Once it is closed it may be opened again, in any loop and process.

    A store given by its URL is opened and closed with the manager. A ``TaskStore`` that is handed
    in must be open, and stays open: the caller that opened it closes it.

    The settings, in seconds where they are times:

    * ``max_running``: runs at once; the others wait, by their priority and in the order they came.
    * ``lease``: how long a claim holds.
    * ``settle_within``: how long an attempt's last write, such as its ``final``, is tried while the
      store is away; as long as its lease holds by default.
    * ``heartbeat``: how often leases are extended; less than ``lease``.
    * ``cancel_grace``: how long a cancelled runner may clean up before it is fenced: its task ends
      without it, its slot is free, and what it still writes is dropped.
    * ``drain``: how long ``aclose`` lets tasks run on before it cancels them.
    * ``max_zombies``: fenced runners that may go on at once before no task is started any more;
      as many as ``max_running`` by default, and at least 10.
    * ``max_lent``: runners that wait for a task (``TaskHandle.result``) whose slots other tasks may
      have meanwhile, at once. By default none: a runner keeps its slot. Once the task has ended the
      runner waits for a slot again, and gets the next one, before any task begins; one that is
      cancelled, or whose wait runs out, goes on without. An op's own ``max_running`` is never lent.
    * ``work``: whether a manager that has registered ops takes their tasks. ``False`` is for a
      process that only submits: it imports the ops, and leaves the work to the workers.
    * ``work_ops``: the names of the ops whose tasks it takes; of all that are registered by
      default. The others it submits alone, as with ``work=False``. Of a name that is not
      registered when it is opened it warns.
    * ``queues``: the queues that it takes tasks from, 100 at most; from all by default.
    * ``poll``: how often it looks for due tasks although no notification came; every 30 seconds at
      the least, for then it tells the store that it lives.
    * ``retry_delay``: how long a failed task waits for its first retry; doubled each time, up to
      five minutes, less up to a half by chance.
    * ``coalesce_progress``: within this time the newest ``progress`` of a phase replaces the one
      before it; 0 stores every one.
    * ``audit_every``: how often every tape of the store is audited; tapes that closed are audited
      about a minute later. One manager of many does it. ``None`` for never.
    * ``audit_rate``: rows a second that this audit reads at most.
    * ``retention``: how long ended tasks and late events are kept; nothing is deleted unless it is
      set.
    * ``redact``: asked before an event, a result, a text of an exception or a message of a cancel
      is kept or told, in any form: tape, late events, spans, logs. It is given a ``Telling`` and
      the value, and gives what takes its place, for good; the codec encodes that. It is called in
      the event loop, and for a ``ThreadReporter`` in the runner's thread: it must not block. Params
      are what the runner is given, and are not asked about (docs/howto/what-is-kept.md).
    * ``ops``: registries whose ops it runs, beside those registered with its own ``op``.
    * ``around_run``: hooks around each run here, of an op or of a callable: async functions, the
      first one outermost (``RunHook``). They are around those of its registries.
    * ``around_submit``: hooks around each ``submit``, ``submit_bound`` and task of a
      ``submit_many`` (``SubmitHook``); not around what a schedule makes, nor around ``resubmit``.
    * ``resources``: what is opened in the place of a resource, by what its op was registered with,
      for tests.
    * ``engine``: what brings the tasks of ops to workers, beside their own claims: an ``Engine`` or
      its URL, as in ``temporal://host:7233/namespace``. What is submitted by name here is its task
      then; what was submitted without one is claimed as ever, and tasks with a callable of their
      own stay in this process (docs/howto/temporal.md).
    * ``codec``: how values that JSON cannot carry are stored: see ``tapescope.Codec``. All managers
      of a store that run the same ops have the same one.

    An op that is registered, with ``op`` or in a registry of ``ops``, makes the manager a
    **worker**: it takes the due tasks of that op from the store, of any submitter. Tasks with a
    callable of their own are run here alone.

    At every heartbeat, and at ``open``, the manager also rescues the tasks of managers that are
    dead, or did not renew their leases. Where a worker of the store has registered the op and a
    retry is left, another attempt is made, by any worker; else the task fails as ``worker_lost``.
    So does a callable that waited in a process that died, for a slot or for its time: at once where
    that can be seen, else a day after it was due. One with an idempotency key waits that long for
    who submits it again.

    Attempts are at-least-once, the ``final`` is exactly-once.
    """

    def __init__(
        self,
        store: TaskStore | str,
        *,
        max_running: int = 100,
        lease: float = 30.0,
        heartbeat: float = 10.0,
        settle_within: float | None = None,
        cancel_grace: float = 10.0,
        drain: float = 30.0,
        telemetry: Telemetry | None = None,
        max_zombies: int | None = None,
        max_lent: int = 0,
        coalesce_progress: float = 0.0,
        retry_delay: float = 1.0,
        work: bool = True,
        work_ops: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        poll: float = 1.0,
        audit_every: float | None = 3_600.0,
        audit_rate: float = 20_000.0,
        retention: Retention | None = None,
        redact: Redact | None = None,
        codec: Codec | None = None,
        ops: Ops | Iterable[Ops] = (),
        around_run: Sequence[RunHook] = (),
        around_submit: Sequence[SubmitHook] = (),
        resources: ResourceMap | None = None,
        engine: Engine | str | None = None,
    ) -> None:
        """Check the settings; connect to nothing.

        Raises ``BadSetting``; for a URL what ``find_store`` raises, or ``find_engine``; and
        ``EngineUnfit`` for an engine beside a store that its workers cannot share.
        """
        max_running = check_count("max_running", max_running)
        max_zombies = check_count(
            "max_zombies", max(max_running, 10) if max_zombies is None else max_zombies
        )
        max_lent = check_count("max_lent", max_lent, least=0)
        lease = check_seconds("lease", lease, over_zero=True)
        heartbeat = check_seconds("heartbeat", heartbeat, over_zero=True)
        if settle_within is not None:
            settle_within = check_seconds("settle_within", settle_within)
        cancel_grace = check_seconds("cancel_grace", cancel_grace)
        drain = check_seconds("drain", drain)
        coalesce_progress = check_seconds("coalesce_progress", coalesce_progress)
        retry_delay = check_seconds("retry_delay", retry_delay)
        poll = check_seconds("poll", poll, over_zero=True)
        if heartbeat >= lease:
            raise BadSetting("heartbeat", heartbeat, f"less than the lease of {lease:g} s")
        if redact is not None and not callable(redact):
            raise BadSetting("redact", redact, "a function of a Telling and a value")
        self._replacements = check_replacements({} if resources is None else resources)
        self._opened = False
        self._closed = False
        others = [ops] if isinstance(ops, Ops) else ops
        self._registry = OpsOfManager(self, self._note_op, others, around_run, around_submit)
        self._owns_store = isinstance(store, str)
        if isinstance(store, str):
            store = find_store(store, telemetry=telemetry, thorough=True)
        self.store = store
        self.telemetry = telemetry or self.store.telemetry
        self._max_running = max_running
        self._max_zombies = max_zombies
        self._max_lent = max_lent
        self._lease = lease
        self._heartbeat_every = heartbeat
        self._poll = poll
        self._drain = drain
        self._audit_every = audit_every
        self._audit_rate = audit_rate
        self._retention = retention
        self._settings = RunSettings(
            self.store,
            self.telemetry,
            name_owner(),
            lease=lease,
            settle_within=settle_within,
            cancel_grace=cancel_grace,
            coalesce_progress=coalesce_progress,
            retry_delay=retry_delay,
            redactor=None if redact is None else Redactor(redact),
            values=Values(codec),
            hooks=self._registry,
        )
        self._engine = _find_engine(engine)
        self._check_engine()
        self._server: EngineServer | None = None
        self._reconciler: Reconciler | None = None
        self._uncommitted: deque[str] = deque(maxlen=_UNCOMMITTED)
        """Tasks in callers' transactions, whose engine is told of them after the commit."""
        self._works = work
        self._work_ops = None if work_ops is None else _check_names(work_ops)
        self._queues = None if queues is None else check_queues(queues)
        self._lived = False
        """Whether it was opened before."""
        self._fresh = False
        """Whether what has one life was made anew since then."""
        self._home: Home | None = None
        self._closer: asyncio.Future[None] | None = None
        self._drain_limit: asyncio.Timeout | None = None
        self._hurry = False
        self._pid = os.getpid()
        self.schedules = ManagerSchedules(
            self._open_store,
            encode=self._encode_scheduled,
            changed=lambda: self._scheduler.wake(),
            trigger=self._trigger,
        )
        """When tasks are made by themselves: added, listed, paused, triggered, removed."""
        self._assemble()

    @property
    def owner(self) -> str:
        """This manager, from its opening to its end, as the rows of its tasks name it: of this
        process, and never used again."""
        return self._settings.owner

    def _assemble(self) -> None:
        """Make what has one life, on one store and in one event loop."""
        self._known = KnownOps(self._registry)
        self._bound = WaitingBound()
        resources = Resources(self._replacements, self._settings.cancel_grace)
        self._settings = settings = replace(self._settings, resources=resources)
        self._pool = RunPool(
            settings,
            max_running=self._max_running,
            max_zombies=self._max_zombies,
            max_lent=self._max_lent,
        )
        self._pool.limit_of = self._limit_of
        self._pool.has_slots = self._has_slots
        self._pool.types_of = self._types_of
        self._heartbeat = Heartbeat(self._pool, self._heartbeat_every)
        self._loop_lag = LoopLag(settings.store.clock.monotonic)
        self._maintainer = Maintainer(
            settings.store,
            settings.owner,
            audit_every=self._audit_every,
            rows_per_second=self._audit_rate,
            retention=self._retention,
        )
        self._backlog = BacklogReader(settings.store)
        self._worker = Worker(self._pool, self._registry, self._poll, self._work_ops, self._queues)
        self._server = None
        self._reconciler = None
        self._engine_lock = asyncio.Lock()
        self._engine_opened = False
        self._told_schedules: object = {}
        """The schedules of the registry as the store was told of them."""
        self._scheduler = Scheduler(
            settings.store,
            settings.owner,
            fire=self._fire,
            knows=self.knows_op,
            declare=self._tell_schedules,
        )

    def _limit_of(self, op: str) -> int | None:
        registered = self._registry.get(op) if self._works else None
        if registered is None:
            return -1
        return registered.max_running

    def _has_slots(self, op: str) -> bool:
        registered = self._registry.get(op)
        return registered is not None and registered.max_concurrent is not None

    def _types_of(self, op: str | None) -> TypedValues | None:
        ops = self._registry.all()
        if op is not None:
            return ops[op].runner.types if op in ops else None
        found = (known.runner.types for known in ops.values())
        return next((types for types in found if types is not None and types.has_result), None)

    # --- life -------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Open the store, if it is the manager's own, and take tasks. A second call does nothing.

        After ``aclose`` it begins a new life, with another ``owner``. Raises what
        ``TaskStore.open`` raises, ``ManagerClosed`` while it is being closed, and ``RightsMissing``
        where it has registered ops and the store's role could not run them.
        """
        self._check_home()
        if self._opened and self._closed:
            raise ManagerClosed
        if self._owns_store:
            await self.store.open()
        if not self._opened:
            await self._check_rights()
            await self._declare_schedules()
            if (self._lived and not self._fresh) or os.getpid() != self._pid:
                self._pid = os.getpid()
                self._settings = replace(self._settings, owner=name_owner())
                self._assemble()
                self._fresh = True
            await self._open_resources()
            await self._open_engine()
            if self._opened:  # by another call, meanwhile
                return self
            self._fresh = False
            self._closed, self._closer, self._hurry = False, None, False
            self._opened = self._lived = True
            self._home = self._pool.home = Home("manager")
            self.telemetry.tasks.limit(self._max_running)
            self.telemetry.tasks.watch_ages(self._pool.read_ages)
            self._heartbeat.start()
            self._loop_lag.start()
            self.telemetry.managers.watch(self._read_signs)
            self._maintainer.start()
            self._backlog.start()
            if self._works:
                self._warn_of_absent_ops()
                self._work_on()
        return self

    def _warn_of_absent_ops(self) -> None:
        """A name in ``work_ops`` may be wrong: it would take nothing, and say nothing."""
        if absent := sorted((self._work_ops or frozenset()) - set(self._registry.all())):
            _log.warning(
                "The manager is to take tasks of %s, and has no such op registered. Its ops: %s.",
                ", ".join(absent),
                ", ".join(self._registry.all()) or "none",
            )

    async def _check_rights(self) -> None:
        if not (self._works and self._worker.find_ops()):
            return
        try:
            await self.store.probe()
        except RightsMissing:
            if self._owns_store:
                await self.store.aclose()
            raise
        except TapescopeError:
            pass  # what else hinders a write may pass: readiness tells of it, and the work waits

    async def _open_resources(self) -> None:
        """Open what the ops need that are registered by now: a worker that cannot take tasks says
        so at once. Raises ``ResourceFailed``."""
        if not self._works:
            return
        resources = self._settings.resources
        try:
            for op in self._worker.find_ops().values():
                if op.resource is not None:
                    await resources.find(op.resource)
        except GeneratorExit:  # with its loop: nothing can be closed in that any more
            raise
        except BaseException:
            await self._leave_closed()
            raise

    async def _leave_closed(self) -> None:
        """What an opening has opened is closed again, for it did not come to its end."""
        closing = begin_insisting(self._settings.resources.aclose, "tapescope-close")
        await wait_shielded(closing)
        self._assemble()
        if self._owns_store:
            await self.store.aclose()

    # --- its engine -------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine | None:
        """What brings tasks of ops to workers beside their own claims, if it has one."""
        return self._engine

    @property
    def _engine_name(self) -> str | None:
        return None if self._engine is None else self._engine.name

    def _check_engine(self) -> None:
        if self._engine is not None:
            self._engine.check_store(self.store)

    async def _open_engine(self) -> None:
        """Raises ``EngineUnfit``, and what ``read_store_id`` raises."""
        if self._engine is not None:
            async with self._engine_lock:  # who opens at the same time finds it open
                if not self._engine_opened:
                    await self._reach_engine(self._engine)
                    self._engine_opened = True

    async def _reach_engine(self, engine: Engine) -> None:
        try:
            store_id = await self.store.engines.read_store_id()
            await engine.open(store_id)
        except GeneratorExit:  # with its loop: nothing can be closed in that any more
            raise
        except BaseException:
            await self._leave_closed()
            raise
        self._pool.on_cancelled = engine.forget
        if self._works:
            from tapescope.engine import Reconciler
            from tapescope.manager.desk import ManagerDesk

            desk = ManagerDesk(self._pool, self._worker, self._max_running, store_id, engine.name)
            self._server = engine.serve(desk)
            self._reconciler = Reconciler(self.store, engine)

    def _dispatch(self, task: Task) -> None:
        """Tell the engine of a task that is committed, if it is one of it."""
        if self._engine is not None and task.engine == self._engine.name:
            self._engine.dispatch(task)

    async def aclose(self) -> None:
        """Take no more tasks, let those submitted run for ``drain`` seconds, end the others.

        Tasks of registered ops are released: another worker goes on with them, and no retry is
        spent; their pending tasks stay pending. All other tasks are cancelled with the reason
        ``shutdown``, pending ones too, for no other process can run a callable; one that is due
        only after the drain is not waited for. Runners get their
        grace, and one that returns within it has done its task. When this returns, nothing runs
        here any more but runners that ignore their cancel.

        May be called twice, or while one call waits. Cancelled itself, it skips the drain, ends
        what it has begun, and then raises the ``CancelledError``. Raises ``StoreUnavailable`` when
        a ``final`` could not be written.
        """
        self._check_home()
        if not self._opened:
            return
        self._closed = self._pool.closing = True
        self._pool.end_following()
        pool, first = self._pool, self._closer is None
        if self._closer is None:
            self._closer = begin_insisting(self._close, "tapescope-close")
        closer = self._closer
        try:
            await asyncio.wait([closer])
        except asyncio.CancelledError:
            self._skip_drain()
            await wait_shielded(closer)
            await await_child(closer)
            raise
        await await_child(closer)
        if first and pool.lost is not None:
            raise pool.lost

    def reconfigure(
        self,
        *,
        store: TaskStore | str | None = None,
        max_running: int | None = None,
        drain: float | None = None,
        work: bool | None = None,
        engine: Engine | str | None = None,
        work_ops: Collection[str] | None = None,
        queues: Collection[str] | None = None,
    ) -> None:
        """Change settings while the manager is not open, as ``tapescope worker`` and tests do.

        ``None`` leaves one as it is; a ``store`` is given as to the constructor. Raises
        ``ManagerOpen``, and what the constructor raises.
        """
        if self._opened:
            raise ManagerOpen
        if max_running is not None:
            max_running = check_count("max_running", max_running)
            self._max_running = max_running
        if drain is not None:
            self._drain = check_seconds("drain", drain)
        if work is not None:
            self._works = work
        if work_ops is not None:
            self._work_ops = _check_names(work_ops)
        if queues is not None:
            self._queues = check_queues(queues)
        if store is not None:
            self._owns_store = isinstance(store, str)
            if isinstance(store, str):
                store = find_store(store, telemetry=self.telemetry, thorough=True)
            self.store = store
            self._settings = replace(self._settings, store=store)
        if engine is not None:
            self._engine = _find_engine(engine)
        self._check_engine()
        self._assemble()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.aclose()
        except TapescopeError:
            if error is None:
                raise
            # The error of the body goes first.
            _log.exception("The manager could not be closed without an error.")

    # --- ops --------------------------------------------------------------------------------------

    @overload
    def op(
        self, name: str, *, resource: None = None, **settings: Unpack[OpSettings]
    ) -> Registering: ...

    @overload
    def op(
        self,
        name: str,
        *,
        resource: Callable[[], AbstractAsyncContextManager[V]],
        **settings: Unpack[OpSettings],
    ) -> RegisteringWith[V]: ...

    def op(self, name: str, *, resource: Any = None, **settings: Unpack[OpSettings]) -> Any:
        """Make the function below the runner of an op: ``Ops.op``, in this manager's own registry.

        Tasks of the op can be submitted by name, from any process on the store, and be run, and run
        again, by every worker that has registered the op. The settings are those of ``Ops.op``.

        Ops may be registered before the manager is open, and after. Raises ``BadOp``, ``BadRunner``
        ``BadSetting``, and ``OpTaken`` for the second runner of an op.
        """
        self._check_home()
        # ``Ops.op`` tells the two kinds apart by itself; a checker has to be told one.
        return self._registry.op(name, resource=cast("None", resource), **settings)

    def _note_op(self) -> None:
        """An op was added, in whatever thread: work on it, if that has begun."""
        if self._opened and self._works and self._home is not None:
            self._home.call(self._work_on)

    def _work_on(self) -> None:
        if self._opened and not self._closed:
            self._worker.start()
            if self._server is not None:
                self._server.start()
            if self._reconciler is not None:
                self._reconciler.start()
            if self._worker.find_ops():
                self._scheduler.start()
            self._scheduler.wake()

    @property
    def is_open(self) -> bool:
        """Whether it takes tasks, in the event loop and the process of who asks."""
        if not self._opened or self._closed:
            return False
        try:
            self._check_home()
        except (UsedAfterFork, UsedInAnotherLoop):
            return False
        return True

    @property
    def ops(self) -> tuple[str, ...]:
        """The names of the registered ops."""
        return tuple(self._registry.all())

    @property
    def work_ops(self) -> tuple[str, ...]:
        """The names of the registered ops whose tasks it takes."""
        return tuple(self._worker.find_ops()) if self._works else ()

    @property
    def queues(self) -> tuple[str, ...] | None:
        """The queues that it takes tasks from; ``None``: from all."""
        return None if self._queues is None else tuple(self._queues)

    # --- tasks ------------------------------------------------------------------------------------

    async def submit(
        self,
        op: str,
        runner: Callable[..., Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the attempt's, not this call's
        idempotency_key: str | None = None,
        retries: int | None = None,
        delay: float | None = None,
        run_at: datetime | None = None,
        connection: object | None = None,
        retry: RetryPolicy | None = None,
        priority: int | None = None,
        tags: Collection[str] = (),
        detached: bool = False,
        cancel_with_parent: bool = False,
        unique_key: str | None = None,
        concurrency_key: str | None = None,
        queue: str | None = None,
        expires_in: float | None = None,
        context: Context | None = None,
    ) -> TaskHandle:
        """Create a task and return once it is stored.

        Without a ``runner`` the task is submitted by the name of its op, for the workers of the
        store, this manager among them where it has registered the op: the worker that claims the
        task first runs it. The op need not be registered here, or yet.

        With a ``runner`` the task is run here, as ``runner(report, **params)``: an ``async def``,
        which gets a ``Reporter``, or a plain function, which runs in a thread with a
        ``ThreadReporter``; its result must be JSON. The same op and ``idempotency_key`` again give
        the task that exists, and do not run it twice; ``created`` of the handle says which it is.

        Where the runner is known here, by this call or because its op is registered, params that
        are not its keyword arguments are refused as ``BadParams``. Elsewhere the worker that
        claims the task meets them: it fails as ``bad_params``.

        ``timeout`` is in seconds of one attempt. ``retries`` is how often another attempt is made
        after one that raised, timed out or lost its worker, later each time (``retry_delay``). For
        an op that is submitted by name, ``None`` means the op's own, as a worker of the store has
        registered it, or no timeout and 3 retries where no worker has; with a ``runner``, no
        timeout and no retry. ``retry`` says more than ``retries``, in its place, of a ``runner``
        that is run here; an op has the policy that it was registered with. The first attempt waits
        ``delay`` seconds, or until ``run_at``, an aware time.

        ``priority``, from -9 to 9, says what goes first of what waits: the higher, then the longest
        due. ``None`` means the op's own, as above, or 0. Workers go by it when they claim; what
        runs is not interrupted. A ``runner`` of your own goes by it among those of this manager.
        ``queue`` says which workers take it: those of this queue, and those of all. ``None`` means
        the op's own, as above, or "default"; with a ``runner`` it is run here, and has none.

        With ``expires_in`` the first attempt begins within so many seconds after the task is due,
        which is at once, or after ``delay``, or at ``run_at``; or none begins, and the task ends as
        cancelled, with the reason ``expired``. What has begun goes on, and so do its retries.
        ``None`` means the op's own, as above, or no limit.

        A ``runner`` has an empty context, as another process would give it. With a ``context``, as
        ``contextvars.copy_context()`` gives, each of its attempts has a copy of that one: what a
        request has set, such as its id, is in what the runner logs. Its span and its baggage are
        what they would be without.

        With a ``unique_key`` no task is made while another one of the op with this key has not
        ended: the handle is of that one, whatever its params are, and ``created`` is false. The
        transaction that ends a task frees its key.

        Of an op with ``max_concurrent`` no more tasks with one ``concurrency_key`` run at once, in
        whatever process, and of one with ``rate_limit`` no more begin in a while; those without a
        key have one together. What may not begin yet waits, and no worker takes it before. That is
        for ops that are run by name.

        ``tags``, at most 10, are words by which the task is found: each 1 to 64 letters, digits and
        ``_ . : / @ = + -``. A task that is submitted in a runner, or in what it has begun, to the
        store that the runner's own task is in, has that one as its parent, unless it is
        ``detached``. A cancel of the parent leaves it alone; with ``cancel_with_parent`` its cancel
        is requested when the parent has ended as cancelled, by a heartbeat of any manager.

        With a ``connection`` of your own to the store's database, from ``asyncpg``, psycopg 3,
        ``aiosqlite`` or SQLAlchemy, the task is part of that connection's transaction: see
        ``TaskStore.create_within``. That is for ops that are run by name; the handle is given at
        once, and the task exists, and may run, after your commit: from the workers' next poll on,
        or at once where you ``announce`` it.

        Raises ``BadOp``, ``BadRunner``, ``BadParams``, ``BadSetting``, ``IdempotencyConflict``,
        ``OpFull`` for an op of which ``max_waiting`` tasks wait, ``CodecFailed``,
        ``ConnectionRefused``, ``OpTaken`` for a runner that is not the registered one,
        ``ManagerClosed``, ``UsedAfterFork``. A submit that is cancelled, or raises
        ``EventFateUnknown``, may have made the task: the idempotency key finds it; without one it
        ends as cancelled, as soon as the store has it.
        """
        submission = Submission(
            op,
            runner,
            {} if params is None else params,
            timeout,
            idempotency_key,
            retries,
            delay,
            run_at,
            retry,
            priority,
            tags,
            detached,
            cancel_with_parent,
            unique_key,
            concurrency_key,
            queue,
            expires_in,
            context,
        )
        if self._registry.around_submits:
            return await self._submit_hooked(submission, connection)
        return await self._submit(*self._check(submission), connection)

    async def submit_bound(
        self, submission: Submission[R], *, connection: object | None = None
    ) -> TaskHandle[R]:
        """``submit`` for what ``Op.bind`` made, or a ``Submission`` of your own."""
        if self._registry.around_submits:
            return await self._submit_hooked(submission, connection)
        return await self._submit(*self._check(submission), connection)

    async def announce(self) -> None:
        """Tell the workers that tasks have come: after the commit of a transaction of your own.

        They poll, so it may be left out. Raises ``StoreUnavailable``.
        """
        self._check_home()
        await self.store.announce()
        while self._uncommitted and self._engine is not None:
            with suppress(UnknownTask):  # its transaction was rolled back, or goes on
                self._dispatch(await self.store.get(self._uncommitted.popleft()))

    async def knows_op(self, op: str) -> bool:
        """Whether this manager or a worker of the store has registered the op.

        The store's list is read every few seconds at most. Raises ``StoreUnavailable``.
        """
        self._check_home()
        return await self._known.find(self.store, op) is not None

    async def resubmit(self, task_id: str, *, idempotency_key: str | None = None) -> TaskHandle:
        """Submit an ended task again by name, with its op, params, timeout, retries, priority,
        tags, parent, unique key, concurrency key, queue and ``expires_in``.

        ``idempotency_key`` is the new task's: asked twice with it, there is one new task.
        Raises ``UnknownTask``, ``TaskNotEnded``, ``UniqueKeyTaken`` where another task with its
        unique key is open, ``OpNotRegistered`` for an op that neither this manager nor a worker of
        the store has registered, and ``OpFull``.
        """
        task = await self.handle(task_id).status()
        if not task.status.terminal:
            raise TaskNotEnded(task_id, task.status.value)
        if not await self.knows_op(task.op):
            raise OpNotRegistered(task.op)
        submission = Submission(
            task.op,
            params=task.params,
            timeout=task.timeout,
            idempotency_key=idempotency_key,
            retries=task.retries,
            priority=task.priority,
            tags=task.tags,
            unique_key=task.unique_key,
            concurrency_key=task.concurrency_key or None,  # "": its op's, which may have changed
            queue=task.queue,
            expires_in=task.expires_in,
        )
        again = await self._submit(*self._check(submission, stored=True), retried=task)
        if again.found_by == "unique_key":
            raise UniqueKeyTaken(task.op, task.unique_key or "", again.task_id)
        return again

    @overload
    async def submit_many(
        self,
        submissions: Sequence[Submission[R]],
        *,
        return_exceptions: Literal[False] = False,
    ) -> list[TaskHandle[R]]: ...

    @overload
    async def submit_many(
        self, submissions: Sequence[Submission[R]], *, return_exceptions: Literal[True]
    ) -> list[TaskHandle[R] | TapescopeError]: ...

    async def submit_many(
        self, submissions: Sequence[Submission[R]], *, return_exceptions: bool = False
    ) -> Sequence[TaskHandle[R] | TapescopeError]:
        """``submit`` for many at once, in one flush of the store; the handles are in this order.

        Raises, before any task is created, for errors that can be seen without the store. When the
        store refuses one (``BadParams``, ``IdempotencyConflict``), or its op has as many tasks that
        wait as may (``OpFull``), the others are submitted all the same, as they are when a hook
        refuses one; then the first of these errors is raised. With ``return_exceptions`` each error
        of ours stands in the place of its handle, and nothing of it is raised.

        Cancelled, it leaves what a ``submit`` does: tasks with keys, the others cancelled.
        """
        checked = [self._check(submission) for submission in submissions]
        if self._registry.around_submits:
            hooked = [self._submit_hooked(submission, None) for submission in submissions]
            submits = [asyncio.ensure_future(one) for one in hooked]
        else:
            submits = [asyncio.ensure_future(self._submit(*one)) for one in checked]
        try:
            await asyncio.gather(*submits, return_exceptions=True)
        except asyncio.CancelledError:
            for (submission, _), submit in zip(checked, submits, strict=True):
                if not _may_be_others(submission) and not submit.cancelled():
                    self._pool.spawn(partial(self._cancel_unseen, submit))
            raise
        made: list[TaskHandle[R] | TapescopeError] = []
        for submit in submits:
            try:
                handle = await await_child(submit)
                made.append(handle)
            except TapescopeError as error:
                if not return_exceptions:
                    raise
                made.append(error)
        return made

    # --- pauses -----------------------------------------------------------------------------------

    async def pause(self, op: str, *, reason: str = "", by: str | None = None) -> Pause:
        """Have no worker of the store claim tasks of an op until ``resume``: ``StoreOps.pause``.

        What runs goes on, and what is submitted waits. Tasks with a callable of their own are not
        paused. ``by`` is this manager, unless it is said. Raises ``BadOp``, ``BadSetting``,
        ``StoreRefused``, ``ManagerClosed``.
        """
        store = self._open_store()
        return await store.ops.pause(op, reason=reason, by=self.owner if by is None else by)

    async def resume(self, op: str) -> Pause | None:
        """Have the workers claim tasks of an op again; gives the pause that ended, if any.

        Raises ``BadOp``, ``StoreRefused``, ``ManagerClosed``.
        """
        return await self._open_store().ops.resume(op)

    async def list_paused(self, *, after: str | None = None, limit: int = 100) -> PausePage:
        """A page of the ops that are paused, by name: ``after`` is the page before's ``next``."""
        return await self._open_store().ops.list_paused(after=after, limit=limit)

    # --- schedules --------------------------------------------------------------------------------

    def _open_store(self) -> TaskStore:
        """The store of a manager that is open. Raises ``ManagerClosed``."""
        self._check_home()
        if self._closed or not self._opened:
            raise ManagerClosed
        return self.store

    def _encode_scheduled(self, submission: Submission) -> Mapping[str, Any]:
        """The params of what a schedule submits, as they are stored. Raises ``BadParams``."""
        registered = self._registry.get(submission.op)
        runner = None if registered is None else registered.runner
        return self._encode(submission, runner, stored=False).params

    async def _trigger(self, schedule: Schedule, caller_key: str | None) -> TaskHandle:
        """Make a task of a schedule now, apart from its times; one for a key of the caller's."""
        now = self.store.due_clock.now()
        key = schedule.key_of_trigger(now, None if caller_key is None else check_key(caller_key))
        task_id, created = await self._make_scheduled(schedule, key, format_time(now))
        types = self._types_of(schedule.op)
        completion = self._pool.completion_of(task_id)
        found_by: FoundBy | None = None if created else "idempotency_key"
        return TaskHandle(
            self._pool, task_id, completion, types, created=created, found_by=found_by
        )

    async def _fire(self, schedule: Schedule, at: int) -> tuple[str, bool]:
        """Make the task of a firing time, or find the one that is there."""
        return await self._make_scheduled(schedule, schedule.key_of(at), format_time(at))

    async def _make_scheduled(self, schedule: Schedule, key: str, at: str) -> tuple[str, bool]:
        """Past the check of the params: where they do not fit the runner any more, the task says
        so on its tape."""
        submission = Submission(
            schedule.op,
            params=schedule.params,
            timeout=schedule.timeout,
            idempotency_key=key,
            retries=schedule.retries,
            priority=schedule.priority,
            tags=schedule.tags,
            queue=schedule.queue,
            expires_in=schedule.expires_in,
        )
        known = await self._known.fill_in(self.store, submission)
        slots = _find_slots(None, known)
        task_id, store = new_task_id(), self.store
        with self.telemetry.submit_span(
            schedule.op,
            task_id,
            store.adapter,
            schedule=(schedule.name, at),
            tags=self._tell_tags(submission),
        ) as span:
            new_task = NewTask(
                task_id,
                schedule.op,
                schedule.params,
                timeout=known.timeout,
                retries=known.retries,
                idempotency_key=key,
                traceparent=span.trace_context,
                priority=known.priority,
                tags=schedule.tags,
                concurrency_key=slots,
                engine=self._find_engine_of(None, slots, known.queue, asked=False),
                queue=known.queue,
                expires_in=known.expires_in,
            )
            try:
                task, created = await store.create(new_task)
                self._dispatch(task)
            except IdempotencyConflict as conflict:  # made before the schedule's params changed
                return conflict.task_id, False
        return task.task_id, created

    async def _declare_schedules(self) -> None:
        """Tell the store, before the first task is taken, what the code declares.

        Raises what shows that a schedule cannot be right, such as ``BadParams``.
        """
        if not self._works:
            return
        try:
            for declared in self._registry.schedules.values():
                declared.encoded(self._encode_scheduled(declared.submission))
        except TapescopeError:
            if self._owns_store:
                await self.store.aclose()
            raise
        try:
            await self._tell_schedules()
        except TapescopeError as error:  # the scheduler tries again
            _log.warning("The schedules of the code are not in the store yet: %s", error)

    async def _tell_schedules(self) -> None:
        wanted = self._registry.schedules
        if wanted is self._told_schedules:
            return
        for name, declared in wanted.items():
            try:
                schedule = declared.encoded(self._encode_scheduled(declared.submission))
            except TapescopeError as error:  # it came after the opening, which would have raised
                _log.error("The schedule %s is left out: %s", name, error)
                continue
            await tell_schedule(self.store, schedule)
        self._told_schedules = wanted

    # --- any task of the store --------------------------------------------------------------------

    def handle(self, task_id: str) -> TaskHandle:
        """A handle on any task of the store, wherever it runs; its methods see if it exists."""
        self._check_home()
        completion = self._pool.completion_of(task_id) if is_task_id(task_id) else None
        return TaskHandle(self._pool, task_id, completion)

    async def send(self, task_id: str, body: Any, *, key: str | None = None) -> Sent:
        """Send a message to a task: see ``TaskHandle.send``. Raises ``UnknownTask``."""
        return await self.handle(task_id).send(body, key=key)

    async def tape(self, task_id: str, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of a task's tape. Raises ``UnknownTask``."""
        return await self.handle(task_id).tape(after_seq=after_seq, limit=limit)

    async def drops(
        self, task_id: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> QuarantinePage:
        """A page of the late events of one task, or of all."""
        self._check_home()
        return await self.store.read_quarantine(task_id, after=after, limit=limit)

    async def audit(
        self,
        *,
        grace: float = AUDIT_GRACE,
        rows_per_second: float | None = None,
        thorough: bool = False,
    ) -> AuditReport:
        """Check every tape of the store; see ``tapescope.maintenance.audit_store``."""
        self._check_home()
        return await audit_store(
            self.store, grace=grace, rows_per_second=rows_per_second, thorough=thorough
        )

    def decode(self, stored: Any) -> Any:
        """The value that a row or a tape has in this form: a param of a ``Task``, the body of an
        event of your own, the ``payload`` of a ``partial``, the ``detail`` of a ``progress``.

        What no codec encoded comes back as it is. Raises ``CodecMissing``, ``CodecFailed``.
        """
        return self._settings.values.decode(stored, "value")

    def check_health(self) -> tuple[Check, ...]:
        """The checks of whether it can do its work: it is ready when all of them are ``ok``.

        They go by what the manager remembers and ask no store, so any thread may call this. Made
        for ``tapescope.http.serve_health``.
        """
        return check_readiness(
            self._heartbeat.last,
            opened=self._lived,
            closing=self._closed,
            now=self.store.clock.monotonic(),
            lease=self._lease,
            waits=self._heartbeat.describe_wait(),
            troubles=self._find_troubles(),
            backlog=describe_backlog(self._backlog.last),
            worker=self._describe_drain(),
        )

    # --- the steps of the above -------------------------------------------------------------------

    def _describe_drain(self) -> str | None:
        if (drain := self._worker.drain) is None:
            return None
        since = format_time(drain.at_us)
        return f"draining since {since}: it claims no tasks{describe_stop(drain.by, drain.reason)}"

    def _read_signs(self) -> ManagerSigns:
        """Its signs of life, from memory, for any thread."""
        now = self.store.clock.monotonic()
        return ManagerSigns(
            self._loop_lag.read(),
            now - self._heartbeat.answered_at,
            self._lease,
            self._pool.find_first_lapse(now + self._lease) - now,
        )

    def _find_troubles(self) -> list[str]:
        vitals = [
            *self._heartbeat.all_vitals,
            self._worker.vitals,
            self._scheduler.vitals,
            *(() if self._reconciler is None else (self._reconciler.vitals,)),
            self._maintainer.vitals,
            self._backlog.vitals,
            *self.store.vitals,
        ]
        return [trouble for one in vitals if (trouble := one.find_trouble())]

    def _check(
        self, submission: Submission[R], *, stored: bool = False
    ) -> tuple[Submission[R], Runner | None]:
        """Check a submission; the answer has no runner where the task is for the workers.

        ``stored`` says that its params are a task's: as they are stored.
        """
        self._open_store()
        submission = submission.checked()
        registered = self._registry.get(submission.op)
        if submission.retry is not None and (submission.runner is None or registered is not None):
            expected = "None for an op that workers run: it has the policy it was registered with"
            raise BadSetting("retry", submission.retry, f"{expected}. Give 'retries' for a number")
        if submission.context is not None and registered is not None:
            expected = "None for an op that workers run: another process may run it"
            raise BadSetting("context", submission.context, expected)
        if submission.runner is None:
            known = None if registered is None else registered.runner
            return self._encode(submission, known, stored=stored), None
        given = submission.runner
        runner = given.runner if isinstance(given, Op) else resolve_runner(given)
        submission = self._encode(submission, runner, stored=stored)
        if registered is None:
            if submission.queue is not None:
                expected = "None beside a runner that is run here: workers take ops from queues"
                raise BadSetting("queue", submission.queue, expected)
            if submission.retry is not None or submission.context is not None:
                runner = replace(runner, retry=submission.retry, context=submission.context)
            return submission, runner
        if registered.runner.call != runner.call:
            raise OpTaken(submission.op, registered.runner.call, runner.call)
        return submission, None

    def _encode(
        self, submission: Submission[R], runner: Runner | None, *, stored: bool
    ) -> Submission[R]:
        """The submission with its params as they are stored: by the types first, then the codec."""
        params, types = submission.params, submission.types
        if runner is not None:
            runner.check(params)
            types = types or runner.types
        if not stored:
            params = params if types is None else types.encode_params(params)
            params = self._settings.values.encode_params(params)
        if params is submission.params and types is submission.types:
            return submission
        return replace(submission, params=params, types=types)

    async def _submit_hooked(
        self, submission: Submission[R], connection: object | None
    ) -> TaskHandle[R]:
        """Submit inside of hooks: they are told of what is right so far, as it was handed in."""
        self._check(submission)

        async def submit(last: Submission[R]) -> TaskHandle[R]:
            if last.op != submission.op:
                expected = f"{submission.op!r}, that of the submit, whose hooks were asked"
                raise BadSetting("op", last.op, expected)
            return await self._submit(*self._check(last), connection)

        hooks = self._registry.find_submit_hooks(submission.op)
        return await Nested(hooks, submit, call_submit_hook).begin(submission)

    async def _submit(
        self,
        submission: Submission[R],
        runner: Runner | None,
        connection: object | None = None,
        *,
        retried: Task | None = None,
    ) -> TaskHandle[R]:
        if connection is not None and runner is not None:  # others see it after the commit alone
            raise BadSetting("connection", connection, "None unless the op is run by its name")
        if runner is not None and submission.concurrency_key is not None:
            expected = (
                "None unless the op is run by its name: a runner of your own waits for nobody"
            )
            raise BadSetting("concurrency_key", submission.concurrency_key, expected)
        task_id, op, pool = new_task_id(), submission.op, self._pool
        if retried is not None:
            parent_id = retried.parent_id
        else:
            parent_id = None if submission.detached else find_parent(self.store)
        slots: str | None = None
        pool.expect_submits(1)
        bound, bounded, made = self._bound, False, True
        try:
            if runner is None:
                known = await self._known.fill_in(self.store, submission)
                timeout, retries, priority = known.timeout, known.retries, known.priority
                slots = _find_slots(submission.concurrency_key, known)
                queue, most, expires_in = known.queue, known.max_waiting, known.expires_in
                if most is not None:
                    await bound.enter(self.store, op, most, submission.idempotency_key)
                    bounded = True
            else:
                timeout, retries = submission.timeout, submission.retries or 0
                priority, queue = submission.priority or 0, DEFAULT_QUEUE
                expires_in = submission.expires_in
            if submission.delay is not None and self.store.due_clock.doubtful:
                await self.store.measure_skew()
            with self.telemetry.submit_span(
                op,
                task_id,
                self.store.adapter,
                tags=self._tell_tags(submission),
                parent_id=parent_id,
            ) as span:
                new_task = NewTask(
                    task_id,
                    op,
                    submission.params,
                    timeout=timeout,
                    retries=retries,
                    run_at=submission.find_due(self.store.due_clock),
                    idempotency_key=submission.idempotency_key,
                    traceparent=span.trace_context,
                    only_by=None if runner is None else self.owner,
                    priority=priority,
                    tags=tuple(submission.tags),
                    parent_id=parent_id,
                    cancel_with_parent=submission.cancel_with_parent and parent_id is not None,
                    unique_key=submission.unique_key,
                    concurrency_key=slots,
                    engine=self._find_engine_of(
                        runner,
                        slots,
                        queue,
                        asked=retried is None and submission.concurrency_key is not None,
                    ),
                    queue=queue,
                    expires_in=expires_in,
                )
                if runner is not None and _begins_now(submission) and pool.reserve_for(task_id):
                    claim: Claim | None = None
                    try:
                        task, created, claim = await self.store.create_claimed(
                            new_task, self.owner, self._lease
                        )
                    finally:
                        if claim is None:
                            pool.unreserve(task_id)
                    if claim is not None:
                        begun = pool.begin(claim, runner)
                        return TaskHandle(pool, task_id, begun, submission.types, created=created)
                elif connection is None:
                    task, created = await self.store.create(new_task)
                else:
                    task, created = await self.store.create_within(connection, new_task)
            made = created
            found_by = None if created else _find_key(submission, task)
            if runner is not None and found_by != "unique_key":
                # A pending task that was submitted before may have lost its submitter in
                # mid-commit. To run it is safe: only one claim can win.
                waits = created or task.status is TaskStatus.PENDING
                completion = pool.admit(task, runner) if waits else pool.completion_of(task.task_id)
            else:  # by its name, or another's, with a runner of its own
                if connection is None:
                    self._dispatch(task)
                elif created and task.engine is not None:
                    self._uncommitted.append(task.task_id)
                completion = pool.completion_of(task.task_id)
            return TaskHandle(
                pool,
                task.task_id,
                completion,
                submission.types,
                created=created,
                found_by=found_by,
            )
        except asyncio.CancelledError:
            pool.spawn(self.store.orphans_ended)  # the manager is closed after that
            raise
        finally:
            pool.expect_submits(-1)
            if bounded:
                bound.leave(self.store, op, made=made)

    def _find_engine_of(
        self, runner: Runner | None, slots: str | None, queue: str, *, asked: bool
    ) -> str | None:
        """What is to bring a task. One that needs a slot is claimed, engine or not; where its
        submit asked for the slot, the store refuses it, as who gave that key can leave it out.
        One with a queue is claimed from it: an engine brings an op to each of its workers."""
        claimed = runner is not None or queue != DEFAULT_QUEUE or (slots is not None and not asked)
        return None if claimed else self._engine_name

    def _tell_tags(self, submission: Submission) -> Sequence[str]:
        """Its tags as its submit span is told them: the redaction hook is asked about each."""
        redactor = self._pool.redactor
        if redactor is None or not submission.tags:
            return tuple(submission.tags)
        op, kind = submission.op, ToldKind.TAG
        return [redactor.redact_text(kind, op, "tags", tag) for tag in submission.tags]

    async def _cancel_unseen(self, submit: asyncio.Future[TaskHandle]) -> None:
        """Cancel the task of a submit that has ended, whose caller was cancelled beside it."""
        with suppress(TapescopeError):  # it was refused, or the store is away: its owner's rescue
            await (await await_child(submit)).cancel("its submit was cancelled")

    async def _close(self) -> None:
        again = False
        try:
            await self._end_life()
        except asyncio.CancelledError:  # from outside: it is begun again, and waits for no drain
            task = asyncio.current_task()
            again = self._hurry = task is not None and task.cancelling() > 0
            raise
        finally:
            if not again:
                self._note_closed()

    def _note_closed(self) -> None:
        self._loop_lag.stop()
        self.telemetry.managers.unwatch(self._read_signs)
        self.telemetry.tasks.limit(-self._max_running)
        self.telemetry.tasks.unwatch_ages(self._pool.read_ages)
        self._opened = False
        self._home = self._pool.home = None
        if self._pool.lost is not None:
            retire_owner(self.owner)

    async def _end_life(self) -> None:
        if self._server is not None:
            self._server.stop_taking()
        if self._reconciler is not None:
            self._pool.spawn(self._reconciler.stop)
        self._pool.spawn(self._worker.stop)
        self._pool.spawn(self._scheduler.stop)
        self._pool.begin_drain(0 if self._hurry else self._drain)
        try:
            async with asyncio.timeout(0 if self._hurry else self._drain) as self._drain_limit:
                await self._pool.wait_idle()
        except TimeoutError:
            if self._pool.holds_tasks:
                _log.info("The drain is over; the tasks that still run are ended.")
        finally:
            self._drain_limit = None
        await self._pool.stop()
        if self._server is not None:
            await self._server.stop()
        if self._reconciler is not None:
            await self._reconciler.stop()
        if self._engine is not None:
            await self._engine.aclose()
            self._engine_opened = False
        self._pool.end_following()
        await self._heartbeat.stop()
        await self._maintainer.stop()
        await self._scheduler.stop()
        await self._backlog.stop()
        await self._settings.resources.aclose()
        if self._owns_store:
            await self.store.aclose()

    def _skip_drain(self) -> None:
        self._hurry = True
        if self._drain_limit is not None and not self._drain_limit.expired():
            self._drain_limit.reschedule(asyncio.get_running_loop().time())

    def _check_home(self) -> None:
        if self._home is not None:
            self._home.check()


def _check_names(ops: Collection[str]) -> frozenset[str]:
    """The names of ops that a manager takes tasks of. Raises ``BadSetting``, ``BadOp``."""
    if isinstance(ops, str) or not ops:
        raise BadSetting("work_ops", ops, "names of ops, one at least, or None for all")
    return frozenset(map(check_op, ops))


def _begins_now(submission: Submission) -> bool:
    """Whether the task may begin with its creation; one with a key may be there already."""
    return (
        submission.delay is None
        and submission.run_at is None
        and submission.idempotency_key is None
        and submission.unique_key is None
    )


def _find_engine(engine: Engine | str | None) -> Engine | None:
    """Imported where there is one, as what serves it is: most managers have none."""
    if not isinstance(engine, str):
        return engine
    from tapescope.engine import find_engine

    return find_engine(engine)


def _find_slots(concurrency_key: str | None, known: KnownOp) -> str | None:
    """The key of which a task needs a slot, or a place in the window: that of its submit, else
    that of all without one."""
    if concurrency_key is None and (known.max_concurrent, known.rate_times) != (None, None):
        return ""
    return concurrency_key


def _may_be_others(submission: Submission) -> bool:
    """Whether the task may be the answer of other submits, too, and outlives the cancel of one."""
    by_name = submission.runner is None
    return submission.idempotency_key is not None or (submission.unique_key is not None and by_name)


def _find_key(submission: Submission, standing: Task) -> FoundBy:
    """Which key led a submit to a task that was there."""
    key = submission.idempotency_key
    if key is not None and standing.idempotency_key == key:
        return "idempotency_key"
    return "unique_key"
