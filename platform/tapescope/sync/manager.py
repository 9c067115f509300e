"""``SyncManager``: the verbs of ``TaskManager`` as plain calls, from any thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from tapescope.errors import TapescopeError
from tapescope.maintenance import Retention
from tapescope.manager import Check, Ops, Submission, TaskHandle, TaskManager
from tapescope.manager.hooks import SubmitHook
from tapescope.manager.ops import OpSettings, Registering, RegisteringWith
from tapescope.model.audit import AUDIT_GRACE, AuditReport
from tapescope.model.messages import Sent
from tapescope.model.ops import Pause, PausePage
from tapescope.model.redaction import Redact
from tapescope.model.tape import QuarantinePage, TapePage
from tapescope.model.tasks import Task, TaskPage, TaskStatus
from tapescope.run import ResourceMap, RetryPolicy, RunHook
from tapescope.store.lent import LentConnection
from tapescope.store.port import TaskStore
from tapescope.sync.door import Door
from tapescope.sync.handle import SyncHandle
from tapescope.sync.schedules import SyncSchedules
from tapescope.values import Codec
from tapescope_telemetry import Telemetry
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.engine import Engine

__all__ = ["ManagerSettings", "SyncManager"]

R = TypeVar("R")
V = TypeVar("V")

_log = Logger("tapescope")


class ManagerSettings(TypedDict, total=False):
    """The settings of ``TaskManager`` that ``SyncManager`` passes on as they are."""

    max_running: int
    lease: float
    heartbeat: float
    settle_within: float | None
    cancel_grace: float
    drain: float
    telemetry: Telemetry | None
    max_zombies: int | None
    max_lent: int
    coalesce_progress: float
    retry_delay: float
    poll: float
    audit_every: float | None
    audit_rate: float
    retention: Retention | None
    redact: Redact | None
    codec: Codec | None
    around_run: Sequence[RunHook]
    around_submit: Sequence[SubmitHook]
    resources: ResourceMap | None
    engine: Engine | str | None
    work_ops: Collection[str] | None
    queues: Collection[str] | None


class SyncManager:
    """A ``TaskManager`` for programs without an event loop: Django, Flask, scripts, notebooks.

    Its loop runs in a thread of its own, which begins with the first call, or with ``open``. Every
    call waits for its end, may come from any thread, and is part of the caller's span. At the
    program's exit the manager is closed as by ``close``.

    It **submits only**: tasks of registered ops are left to the workers of the store, which are
    processes of their own (``tapescope worker``). ``work=True`` has this process work on them, too:
    ``async def`` runners in the thread of the loop, plain functions in a thread each.

    A process that is forked from one that has it open opens a manager of its own with its first
    call. So it may be made at the top of a module. A SQLite file that was open at the fork
    cannot be opened in the child, which is told so.

    In a thread in which an event loop runs a call raises ``WouldBlockLoop``. ``block_loop=True``
    has it wait all the same, for a notebook, whose cells run in a loop: nothing else goes on there
    meanwhile.

    A ``TaskStore`` that is handed in is opened and closed with the manager: nobody else has its
    loop. The other settings are those of ``TaskManager``.
    """

    _manager_class: ClassVar[type[TaskManager]] = TaskManager
    """What it opens: overridden by one for tests."""

    def __init__(
        self,
        store: TaskStore | str,
        *,
        work: bool = False,
        ops: Ops | Iterable[Ops] = (),
        block_loop: bool = False,
        **settings: Unpack[ManagerSettings],
    ) -> None:
        """Check the settings; connect to nothing. Raises what ``TaskManager`` raises."""
        self._registry = Ops(*([ops] if isinstance(ops, Ops) else ops))
        self._make = partial(self._manager_class, store, work=work, ops=self._registry, **settings)
        given = None if isinstance(store, str) else store
        self._door = Door(lambda: self._make(), given, block_loop=block_loop)
        self.schedules = SyncSchedules(self._door)
        """When tasks are made by themselves: added, listed, paused, triggered, removed."""

    # --- life -------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Open the manager now, and not with the first call; again where it was closed.

        Raises what ``TaskManager.open`` raises.
        """
        self._door.open()
        self._door.call(_see)
        return self

    def close(self) -> None:
        """Close the manager as ``TaskManager.aclose`` does; calls raise ``ManagerClosed`` then.

        A Ctrl-C meanwhile skips the drain, and is raised when what was begun has its end; one more
        is raised at once. May be called twice, and from two threads: each waits for the end.
        """
        self._door.close()

    def reconfigure(
        self,
        *,
        store: TaskStore | str | None = None,
        max_running: int | None = None,
        drain: float | None = None,
        work: bool | None = None,
        work_ops: Collection[str] | None = None,
        queues: Collection[str] | None = None,
    ) -> None:
        """Change settings while it is not open, as tests do: see ``TaskManager.reconfigure``.

        Raises ``ManagerOpen``, and what the constructor raises.
        """
        self._door.require_closed()
        changes: dict[str, Any] = {"max_running": max_running, "drain": drain, "work": work}
        changes |= {"work_ops": work_ops, "queues": queues}
        changes = {name: value for name, value in changes.items() if value is not None}
        given = self._door.store
        if store is None:
            self._make = partial(self._make, **changes)
        else:
            made = self._make
            self._make = partial(made.func, store, **{**made.keywords, **changes})
            given = None if isinstance(store, str) else store
        self._door.renew(given)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except TapescopeError:
            if error is None:
                raise
            # The error of the body goes first.
            _log.exception("The manager could not be closed without an error.")

    @property
    def is_open(self) -> bool:
        """Whether it has a loop in this process by now."""
        return self._door.is_open

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
        """Make the function below the runner of an op: ``Ops.op``, in this manager's registry."""
        # ``Ops.op`` tells the two kinds apart by itself; a checker has to be told one.
        return self._registry.op(name, resource=cast("None", resource), **settings)

    @property
    def ops(self) -> tuple[str, ...]:
        """The names of the registered ops."""
        return tuple(self._registry)

    @property
    def work_ops(self) -> tuple[str, ...]:
        """The names of the registered ops whose tasks it takes."""
        return self._door.manager.work_ops

    @property
    def queues(self) -> tuple[str, ...] | None:
        """The queues that it takes tasks from; ``None``: from all."""
        return self._door.manager.queues

    # --- tasks ------------------------------------------------------------------------------------

    def submit(
        self,
        op: str,
        runner: Callable[..., Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
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
    ) -> SyncHandle:
        """Create a task and return once it is stored: see ``TaskManager.submit``.

        With a ``runner`` the task is run in this process, whatever ``work`` is. Interrupted, as by
        Ctrl-C, it leaves what a submit does that is cancelled: with a key the task may be there;
        without one it ends as cancelled, should the store have it.

        With a ``connection`` of your own to the store's database the task is part of its
        transaction: from psycopg 3, ``sqlite3``, SQLAlchemy (``Session`` or ``Connection``) or
        Django (``django.db.connection``). It is used in the caller's thread alone.
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
        return self.submit_bound(submission, connection=connection)

    def submit_bound(
        self, submission: Submission[R], *, connection: object | None = None
    ) -> SyncHandle[R]:
        """``submit`` for what ``Op.bind`` made: ``submit_bound(resize.bind("photos"))``.

        The handle knows the type of the result. Options of the submit are the op's:
        ``resize.options(delay=2).bind("photos")``.
        """

        async def submit(
            manager: TaskManager, connection: LentConnection | None = None
        ) -> SyncHandle[R]:
            handle = await manager.submit_bound(submission, connection=connection)
            return self._wrap(manager, handle)

        if connection is None:
            return self._door.call(submit)
        return self._door.find().lend(connection, submit)

    @overload
    def submit_many(
        self,
        submissions: Sequence[Submission[R]],
        *,
        return_exceptions: Literal[False] = False,
    ) -> list[SyncHandle[R]]: ...

    @overload
    def submit_many(
        self, submissions: Sequence[Submission[R]], *, return_exceptions: Literal[True]
    ) -> list[SyncHandle[R] | TapescopeError]: ...

    def submit_many(
        self, submissions: Sequence[Submission[R]], *, return_exceptions: bool = False
    ) -> Sequence[SyncHandle[R] | TapescopeError]:
        """``submit`` for many at once, in one flush: see ``TaskManager.submit_many``."""

        async def submit(manager: TaskManager) -> list[SyncHandle[R] | TapescopeError]:
            if not return_exceptions:
                return [self._wrap(manager, one) for one in await manager.submit_many(submissions)]
            made = await manager.submit_many(submissions, return_exceptions=True)
            return [
                one if isinstance(one, TapescopeError) else self._wrap(manager, one) for one in made
            ]

        return self._door.call(submit)

    def announce(self) -> None:
        """Tell the workers that tasks have come: see ``TaskManager.announce``."""
        self._door.call(TaskManager.announce)

    def knows_op(self, op: str) -> bool:
        """Whether this manager or a worker of the store has registered the op."""
        return self._door.call(lambda manager: manager.knows_op(op))

    def resubmit(self, task_id: str, *, idempotency_key: str | None = None) -> SyncHandle:
        """Submit an ended task again by name: see ``TaskManager.resubmit``."""

        async def submit(manager: TaskManager) -> SyncHandle:
            again = await manager.resubmit(task_id, idempotency_key=idempotency_key)
            return self._wrap(manager, again)

        return self._door.call(submit)

    # --- pauses -----------------------------------------------------------------------------------

    def pause(self, op: str, *, reason: str = "", by: str | None = None) -> Pause:
        """Have no worker claim tasks of an op until ``resume``: see ``TaskManager.pause``."""
        return self._door.call(lambda manager: manager.pause(op, reason=reason, by=by))

    def resume(self, op: str) -> Pause | None:
        """Have the workers claim tasks of an op again: see ``TaskManager.resume``."""
        return self._door.call(lambda manager: manager.resume(op))

    def list_paused(self, *, after: str | None = None, limit: int = 100) -> PausePage:
        """A page of the ops that are paused, by name: see ``TaskManager.list_paused``."""
        return self._door.call(lambda manager: manager.list_paused(after=after, limit=limit))

    # --- any task of the store --------------------------------------------------------------------

    def handle(self, task_id: str) -> SyncHandle:
        """A handle on any task of the store, wherever it runs; its methods see if it exists."""
        return SyncHandle(self._door, task_id, None, "")

    def get(self, task_id: str) -> Task:
        """The task as its row stands now. Raises ``UnknownTask``."""
        return self._door.call(lambda manager: manager.store.get(task_id))

    def list(
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
        """A page of tasks, newest first: see ``TaskStore.list``."""
        return self._door.call(
            lambda manager: manager.store.list(
                status=status,
                op=op,
                owner=owner,
                queue=queue,
                idempotency_key=idempotency_key,
                tag=tag,
                parent_id=parent_id,
                since=since,
                until=until,
                limit=limit,
                before=before,
                params=params,
            )
        )

    def count(self, *, op: str | None = None, tag: str | None = None) -> Mapping[TaskStatus, int]:
        """How many tasks have each status: see ``TaskStore.count``."""
        return self._door.call(lambda manager: manager.store.count(op=op, tag=tag))

    def send(self, task_id: str, body: Any, *, key: str | None = None) -> Sent:
        """Send a message to a task: see ``TaskHandle.send``. Raises ``UnknownTask``."""
        return self.handle(task_id).send(body, key=key)

    def tape(self, task_id: str, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of a task's tape. Raises ``UnknownTask``."""
        return self.handle(task_id).tape(after_seq=after_seq, limit=limit)

    def drops(
        self, task_id: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> QuarantinePage:
        """A page of the late events of one task, or of all."""
        return self._door.call(lambda manager: manager.drops(task_id, after=after, limit=limit))

    def audit(
        self,
        *,
        grace: float = AUDIT_GRACE,
        rows_per_second: float | None = None,
        thorough: bool = False,
    ) -> AuditReport:
        """Check every tape of the store; see ``tapescope.maintenance.audit_store``."""
        return self._door.call(
            lambda manager: manager.audit(
                grace=grace, rows_per_second=rows_per_second, thorough=thorough
            )
        )

    def decode(self, stored: Any) -> Any:
        """A value of a row or a tape as it was before the codec: see ``TaskManager.decode``."""
        return self._door.manager.decode(stored)

    def check_health(self) -> tuple[Check, ...]:
        """Whether it can do its work: see ``TaskManager.check_health``."""
        return self._door.manager.check_health()

    def _wrap(self, manager: TaskManager, handle: TaskHandle[R]) -> SyncHandle[R]:
        return SyncHandle(self._door, handle.task_id, handle, manager.owner)


async def _see(_: TaskManager) -> None:
    """Nothing: the manager is opened before it is asked."""
