"""``Client``: the tasks of a server, for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from tapescope.client.address import Address
from tapescope.client.shapes import CancelTold, SeenTask, SeenTasks
from tapescope.client.verbs import Lost, Verbs, pass_outcomes
from tapescope.client.wire import AsyncioWire
from tapescope.errors import ScheduleTaken, TapescopeError
from tapescope.model.audit import AUDIT_GRACE, AuditReport
from tapescope.model.backlog import Backlog
from tapescope.model.leases import TracedAttempt
from tapescope.model.messages import InboxPage, Sent
from tapescope.model.ops import Drain, Pause, PausePage, WorkerPage
from tapescope.model.schedules import Schedule, SchedulePage, ScheduleTimes
from tapescope.model.tape import Event, QuarantinePage, TapePage
from tapescope.model.tasks import Task, TaskStatus

if TYPE_CHECKING:
    from tapescope.manager import Op, Submission

__all__ = ["Client", "ClientSchedules", "ClientTask", "ClientWorkers"]


class Client:
    """Submits, reads, follows and cancels the tasks of a server, from an event loop.

    Its methods raise the errors of ``TaskHandle`` and of the store, as if the store were here; and
    ``ServerUnavailable``, ``ServerNotUnderstood``, ``ServerFailed``, ``TokenRefused``,
    ``ScopeMissing``, ``RequestRefused`` and ``ClientClosed``.

    A request whose reply was lost is made again: a submit then has the same ``Idempotency-Key``,
    so it submits once. Nothing is asked of the server before the first call.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        patience: float = 10.0,
        reconnect: float = 300.0,
        plain_http: bool = False,
        on_lost: Lost | None = None,
    ) -> None:
        """Times are in seconds.

        * ``server``: its URL, with the path under which a proxy has it.
        * ``token``: else that of ``TAPESCOPE_TOKEN``. It is sent to this server alone.
        * ``timeout``: how long a server may be silent in the midst of an answer.
        * ``patience``: how long a call is tried again that a server cannot answer for now; a
          ``Retry-After`` is kept to.
        * ``reconnect``: the same, for who follows a task or waits for its end.
        * ``plain_http``: send the token over http to another machine, for all of the network to
          see.
        * ``on_lost``: told in words when a follower has lost the server.

        Raises ``BadSetting``.
        """
        address = Address.check(server, token, plain_http=plain_http)
        self._wire = AsyncioWire(address)
        self._verbs = Verbs(
            self._wire,
            timeout=timeout,
            patience=patience,
            reconnect=reconnect,
            on_lost=on_lost,
        )
        self.schedules = ClientSchedules(self._verbs)
        """The schedules of the server's store: added, listed, paused, triggered, removed."""
        self.workers = ClientWorkers(self._verbs)
        """Who works on the server's store: listed, drained."""

    def __repr__(self) -> str:
        return f"Client({self.server!r})"

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._verbs.server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections; who follows then gets ``ClientClosed``. May be called twice."""
        await self._wire.close()

    # --- tasks ------------------------------------------------------------------------------------

    async def submit(
        self,
        op: str,
        *,
        params: Mapping[str, Any] | None = None,
        delay: float | None = None,
        run_at: datetime | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the task's
        retries: int | None = None,
        idempotency_key: str | None = None,
        priority: int | None = None,
        tags: Collection[str] = (),
        unique_key: str | None = None,
        concurrency_key: str | None = None,
        queue: str | None = None,
        expires_in: float | None = None,
    ) -> ClientTask:
        """Submit a task by the name of its op, which the server or a worker has registered.

        As ``TaskManager.submit``. The key, which is made here where none is given, must be
        printable ASCII. Raises ``OpNotRegistered``, ``IdempotencyConflict``, ``BadParams``,
        ``OpFull``.
        """
        task_id, created = await self._verbs.submit(
            op,
            params=params,
            delay=delay,
            run_at=run_at,
            timeout=timeout,
            retries=retries,
            idempotency_key=idempotency_key,
            priority=priority,
            tags=tags,
            unique_key=unique_key,
            concurrency_key=concurrency_key,
            queue=queue,
            expires_in=expires_in,
        )
        return ClientTask(self._verbs, task_id, created=created)

    @overload
    async def submit_many(
        self, submissions: Sequence[Submission[Any]], *, return_exceptions: Literal[False] = False
    ) -> Sequence[ClientTask]: ...

    @overload
    async def submit_many(
        self, submissions: Sequence[Submission[Any]], *, return_exceptions: Literal[True]
    ) -> Sequence[ClientTask | TapescopeError]: ...

    async def submit_many(
        self, submissions: Sequence[Submission[Any]], *, return_exceptions: bool = False
    ) -> Sequence[ClientTask | TapescopeError]:
        """``submit`` for many at once, in few requests; the handles are in this order.

        Each has a key of its own, which is made here where it has none, so one whose reply was lost
        is submitted once. Raises, before any is sent, for errors that can be seen here. One that
        the server refuses stops no other.

        With ``return_exceptions``, as of ``asyncio.gather``, the answer has a handle, or the error,
        in the place of each, and nothing that a server does is raised: where it is lost in the
        midst, those that it did not answer for have that error, and may have been submitted. Else
        the first error is raised, and the handles of the others are not given.
        """
        outcomes = await self._verbs.submit_many(submissions)
        return [
            ClientTask(self._verbs, one[0], created=one[1]) if isinstance(one, tuple) else one
            for one in pass_outcomes(outcomes, raising=not return_exceptions)
        ]

    def handle(self, task_id: str) -> ClientTask:
        """A handle on any task of the server; its methods see if it exists."""
        return ClientTask(self._verbs, task_id, created=None)

    async def get(self, task_id: str) -> Task:
        """The task as its row stands now. Raises ``UnknownTask``."""
        return (await self._verbs.see(task_id)).task

    async def see(self, task_id: str) -> SeenTask:
        """``get``, with what the server knows of the task's owner. Raises ``UnknownTask``."""
        return await self._verbs.see(task_id)

    async def list(
        self,
        *,
        status: TaskStatus | str | None = None,
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
    ) -> SeenTasks:
        """A page of tasks, newest first, of at most 1,000; ``before`` is a page's ``next``."""
        return await self._verbs.list(
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
        )

    async def result(self, task_id: str, timeout: float | None = None) -> Any:  # noqa: ASYNC109  # a limit of this wait
        """Wait for the task's end and give its result: see ``ClientTask.result``."""
        return await self._verbs.result(task_id, timeout)

    async def cancel(self, task_id: str, message: str = "") -> CancelTold:
        """Request a cancel; returns once it is recorded, not once the task has ended.

        ``message`` is for people. Who asks is the name of the token. Raises ``UnknownTask``.
        """
        return await self._verbs.cancel(task_id, message)

    async def send(self, task_id: str, body: Any, *, key: str | None = None) -> Sent:
        """Send a message to a task; returns once it is durable. Raises ``UnknownTask``,
        ``TaskEnded``, ``InboxFull``, ``MessageTooLarge``, ``MessageConflict``."""
        return await self._verbs.send(task_id, body, key=key)

    async def messages(self, task_id: str, *, after: int = 0, limit: int = 100) -> InboxPage:
        """A page of what was sent to a task, of at most 1,000. Raises ``UnknownTask``."""
        return await self._verbs.messages(task_id, after=after, limit=limit)

    async def retry(self, task_id: str, *, idempotency_key: str | None = None) -> ClientTask:
        """Submit an ended task again: a new one. Raises ``TaskNotEnded``, ``OpNotRegistered``,
        ``OpFull``."""
        again, created = await self._verbs.retry(task_id, idempotency_key=idempotency_key)
        return ClientTask(self._verbs, again, created=created)

    # --- tapes ------------------------------------------------------------------------------------

    def follow(self, task_id: str, after_seq: int = 0) -> AsyncGenerator[Event, None]:
        """The task's events, live, to its ``final``: see ``ClientTask.follow``."""
        return self._verbs.follow(task_id, after_seq)

    async def tape(self, task_id: str, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of a task's tape, of at most 1,000 events. Raises ``UnknownTask``."""
        return await self._verbs.tape(task_id, after_seq=after_seq, limit=limit)

    async def drops(
        self,
        task_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        limit: int = 1_000,
    ) -> QuarantinePage:
        """A page of the late events of one task, or of all, of at most 1,000.

        Its ``counts`` are empty: a server does not tell them.
        """
        return await self._verbs.drops(task_id, since=since, until=until, after=after, limit=limit)

    # --- pauses -----------------------------------------------------------------------------------

    async def pause(self, op: str, *, reason: str = "") -> Pause:
        """Have no worker of the server's store claim tasks of an op until ``resume``.

        As ``TaskManager.pause``; who asks is the name of the token. Gives the pause that is in
        force, which is the first one. It takes the scope ``admin``. Raises ``BadOp``,
        ``BadSetting``.
        """
        return await self._verbs.pause_op(op, reason)

    async def resume(self, op: str) -> Pause | None:
        """Have the workers claim tasks of an op again; gives the pause that ended.

        ``None``: the op was not paused, or a reply was lost, and the try behind it found that. It
        takes the scope ``admin``. Raises ``BadOp``.
        """
        return await self._verbs.resume_op(op)

    async def list_paused(self, *, after: str | None = None, limit: int = 100) -> PausePage:
        """A page of the ops that are paused, by name, of at most 1,000: ``after`` is the page
        before's ``next``.

        With a token for some ops it has theirs alone, and may have fewer than ``limit`` and yet a
        next.
        """
        return await self._verbs.list_pauses(after=after, limit=limit)

    # --- the store --------------------------------------------------------------------------------

    async def stats(self, *, max_age: float = 7.5) -> Backlog:
        """What waits and runs by op, read at most ``max_age`` seconds ago."""
        return await self._verbs.stats(max_age=max_age)

    async def find_traced(self, trace_id: str) -> Sequence[TracedAttempt]:
        """The attempts whose run spans are in a trace."""
        return await self._verbs.find_traced(trace_id)

    async def read_traced(self, task_id: str) -> Sequence[TracedAttempt]:
        """The attempts of a task whose run spans were recorded. Raises ``UnknownTask``."""
        return await self._verbs.read_traced(task_id)

    async def audit(
        self,
        *,
        thorough: bool = False,
        grace: float = AUDIT_GRACE,
        rows_per_second: float | None = None,
    ) -> AuditReport:
        """Check every tape of the server's store; it takes the scope ``admin``.

        However long it takes, it is waited for. One that was broken off is not begun again.
        """
        return await self._verbs.audit(
            thorough=thorough, grace=grace, rows_per_second=rows_per_second
        )


class ClientTask:
    """One task of a server: the verbs of ``TaskHandle``. Holding one keeps nothing open."""

    __slots__ = ("_verbs", "created", "task_id")

    def __init__(self, verbs: Verbs, task_id: str, *, created: bool | None) -> None:
        self._verbs = verbs
        self.task_id = task_id
        self.created = created
        """Whether the submit that gave this made the task; ``False`` where its idempotency key led
        to one that was there, ``None`` for that of ``Client.handle``."""

    def __repr__(self) -> str:
        return f"ClientTask({self.task_id!r})"

    async def status(self) -> Task:
        """The task as its row stands now."""
        return (await self._verbs.see(self.task_id)).task

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109  # a limit of this wait
        """Wait for the ``final``, across restarts of the server, and give what the runner returned.

        It is as JSON has it: no codec and no types of an op are known here. Raises ``TaskFailed``,
        ``TaskCancelled`` (ordinary exceptions), and ``ResultTimeout``, which is a
        ``TimeoutError``, after ``timeout`` seconds. To stop waiting does nothing to the task.
        """
        return await self._verbs.result(self.task_id, timeout)

    def follow(self, after_seq: int = 0) -> AsyncGenerator[Event, None]:
        """The task's events after ``after_seq``, live, to its ``final``, for ``async for``.

        Every ``seq`` comes once and in order (invariant I9), across lost connections and restarts
        of the server. Raises ``TapeGap`` for an event that is missing, and ``ServerUnavailable``
        for a server that has not come back in time; its text says which event was the last.
        """
        return self._verbs.follow(self.task_id, after_seq)

    async def cancel(self, message: str = "") -> CancelTold:
        """Request a cancel; returns once it is recorded, not once the task has ended."""
        return await self._verbs.cancel(self.task_id, message)

    async def send(self, body: Any, *, key: str | None = None) -> Sent:
        """Send a message to the task: see ``Client.send``."""
        return await self._verbs.send(self.task_id, body, key=key)

    async def messages(self, *, after: int = 0, limit: int = 100) -> InboxPage:
        """A page of what was sent to the task, of at most 1,000."""
        return await self._verbs.messages(self.task_id, after=after, limit=limit)

    async def retry(self, *, idempotency_key: str | None = None) -> ClientTask:
        """Submit it again, once it has ended: a new task."""
        again, created = await self._verbs.retry(self.task_id, idempotency_key=idempotency_key)
        return ClientTask(self._verbs, again, created=created)

    async def tape(self, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of the task's tape, of at most 1,000 events."""
        return await self._verbs.tape(self.task_id, after_seq=after_seq, limit=limit)

    async def drops(self, *, after: int = 0, limit: int = 1_000) -> QuarantinePage:
        """A page of the task's late events, kept off its tape."""
        return await self._verbs.drops(self.task_id, after=after, limit=limit)


class ClientSchedules:
    """The schedules of a server's store, which its workers fire: ``Client.schedules``.

    To read them takes the scope ``read``, to trigger one ``submit``, and to change them ``admin``.
    Each verb may be asked for again: what was done by a try whose reply was lost is not done twice,
    and is no error.
    """

    def __init__(self, verbs: Verbs) -> None:
        """Made by the client."""
        self._verbs = verbs

    async def add(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> Schedule:
        """Add a schedule of an op that the server or a worker of its store has registered.

        As ``ManagerSchedules.add``. Raises ``ScheduleTaken``, ``OpNotRegistered``, ``BadSetting``,
        ``BadOp``, ``BadParams``.
        """
        schedule, added = await self.ensure(name, what, params=params, **times)
        if not added:
            raise ScheduleTaken(name)
        return schedule

    async def ensure(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> tuple[Schedule, bool]:
        """Add a schedule, unless the store has it as it is given here; says whether it was added.

        Raises what ``add`` raises; ``ScheduleTaken`` where another one has the name.
        """
        return await self._verbs.ensure_schedule(name, what, params, **times)

    async def list(self, *, after: str | None = None, limit: int = 100) -> SchedulePage:
        """A page of schedules, by name, of at most 1,000: ``after`` is the page before's ``next``.

        With a token for some ops it has theirs alone, and may have fewer than ``limit`` and yet a
        next.
        """
        return await self._verbs.list_schedules(after=after, limit=limit)

    async def get(self, name: str) -> Schedule:
        """A schedule by its name. Raises ``UnknownSchedule``."""
        return await self._verbs.get_schedule(name)

    async def pause(self, name: str) -> Schedule:
        """Have it make no tasks until ``resume``. Raises ``UnknownSchedule``."""
        return await self._verbs.pause_schedule(name)

    async def resume(self, name: str) -> Schedule:
        """Have it make tasks again, at its times from now on. Raises ``UnknownSchedule``."""
        return await self._verbs.resume_schedule(name)

    async def trigger(self, name: str, *, idempotency_key: str | None = None) -> ClientTask:
        """Make a task of it now, paused or not. A key is made here where none is given.

        Raises ``UnknownSchedule``, ``OpNotRegistered``.
        """
        task_id, created = await self._verbs.trigger_schedule(name, idempotency_key=idempotency_key)
        return ClientTask(self._verbs, task_id, created=created)

    async def remove(self, name: str) -> None:
        """Delete it; the tasks that it made stay. Raises ``UnknownSchedule``.

        One that code declares comes back with the next worker that opens: pause it.
        """
        await self._verbs.remove_schedule(name)


class ClientWorkers:
    """Who works on a server's store: ``Client.workers``.

    To list them takes the scope ``read`` for every op, to drain one ``admin``.
    """

    def __init__(self, verbs: Verbs) -> None:
        """Made by the client."""
        self._verbs = verbs

    async def list(self, *, after: str | None = None, limit: int = 100) -> WorkerPage:
        """A page of who works on the store, by owner, of at most 1,000: its workers, and other
        owners of tasks that run. ``after`` is the page before's ``next``."""
        return await self._verbs.list_workers(after=after, limit=limit)

    async def drain(self, owner: str, *, reason: str = "") -> Drain:
        """Have a worker claim no more tasks by name, until ``undrain`` or its end.

        What it runs goes on. Gives the drain that is in force, which is the first one. Raises
        ``UnknownWorker``, ``BadSetting``.
        """
        return await self._verbs.drain_worker(owner, reason)

    async def undrain(self, owner: str) -> None:
        """Have a worker claim tasks again. Raises ``UnknownWorker``."""
        await self._verbs.undrain_worker(owner)
