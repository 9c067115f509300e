"""``SyncClient``: the tasks of a server, with plain calls."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from tapescope.client.address import Address
from tapescope.client.shapes import CancelTold, SeenTask, SeenTasks
from tapescope.client.verbs import Lost, Verbs, pass_outcomes
from tapescope.client.wire import BlockingWire, iterate_blocking, run_blocking
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

__all__ = ["SyncClient", "SyncClientSchedules", "SyncClientTask", "SyncClientWorkers"]


class SyncClient:
    """The verbs of ``Client`` as plain calls, from any thread.

    It needs no event loop and no thread of its own: each call blocks the thread that makes it.
    Where an event loop runs in that thread it raises ``WouldBlockLoop``.
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
        block_loop: bool = False,
    ) -> None:
        """As for ``Client``; ``block_loop`` has calls wait in a thread whose event loop then stands
        still, for a notebook. Raises ``BadSetting``."""
        address = Address.check(server, token, plain_http=plain_http)
        self._wire = BlockingWire(address, block_loop=block_loop)
        self._verbs = Verbs(
            self._wire,
            timeout=timeout,
            patience=patience,
            reconnect=reconnect,
            on_lost=on_lost,
        )
        self.schedules = SyncClientSchedules(self._verbs)
        """The schedules of the server's store: see ``Client.schedules``."""
        self.workers = SyncClientWorkers(self._verbs)
        """Who works on the server's store: see ``Client.workers``."""

    def __repr__(self) -> str:
        return f"SyncClient({self.server!r})"

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._verbs.server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections. May be called twice."""
        run_blocking(self._wire.close())

    # --- tasks ------------------------------------------------------------------------------------

    def submit(
        self,
        op: str,
        *,
        params: Mapping[str, Any] | None = None,
        delay: float | None = None,
        run_at: datetime | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        idempotency_key: str | None = None,
        priority: int | None = None,
        tags: Collection[str] = (),
        unique_key: str | None = None,
        concurrency_key: str | None = None,
        queue: str | None = None,
        expires_in: float | None = None,
    ) -> SyncClientTask:
        """Submit a task by the name of its op: see ``Client.submit``."""
        task_id, created = run_blocking(
            self._verbs.submit(
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
        )
        return SyncClientTask(self._verbs, task_id, created=created)

    @overload
    def submit_many(
        self, submissions: Sequence[Submission[Any]], *, return_exceptions: Literal[False] = False
    ) -> Sequence[SyncClientTask]: ...

    @overload
    def submit_many(
        self, submissions: Sequence[Submission[Any]], *, return_exceptions: Literal[True]
    ) -> Sequence[SyncClientTask | TapescopeError]: ...

    def submit_many(
        self, submissions: Sequence[Submission[Any]], *, return_exceptions: bool = False
    ) -> Sequence[SyncClientTask | TapescopeError]:
        """``submit`` for many at once: see ``Client.submit_many``."""
        outcomes = run_blocking(self._verbs.submit_many(submissions))
        return [
            SyncClientTask(self._verbs, one[0], created=one[1]) if isinstance(one, tuple) else one
            for one in pass_outcomes(outcomes, raising=not return_exceptions)
        ]

    def handle(self, task_id: str) -> SyncClientTask:
        """A handle on any task of the server; its methods see if it exists."""
        return SyncClientTask(self._verbs, task_id, created=None)

    def get(self, task_id: str) -> Task:
        """The task as its row stands now. Raises ``UnknownTask``."""
        return run_blocking(self._verbs.see(task_id)).task

    def see(self, task_id: str) -> SeenTask:
        """``get``, with what the server knows of the task's owner."""
        return run_blocking(self._verbs.see(task_id))

    def list(
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
        return run_blocking(
            self._verbs.list(
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
        )

    def result(self, task_id: str, timeout: float | None = None) -> Any:
        """Wait for the task's end and give its result: see ``ClientTask.result``."""
        return run_blocking(self._verbs.result(task_id, timeout))

    def cancel(self, task_id: str, message: str = "") -> CancelTold:
        """Request a cancel: see ``Client.cancel``."""
        return run_blocking(self._verbs.cancel(task_id, message))

    def send(self, task_id: str, body: Any, *, key: str | None = None) -> Sent:
        """Send a message to a task: see ``Client.send``."""
        return run_blocking(self._verbs.send(task_id, body, key=key))

    def messages(self, task_id: str, *, after: int = 0, limit: int = 100) -> InboxPage:
        """A page of what was sent to a task: see ``Client.messages``."""
        return run_blocking(self._verbs.messages(task_id, after=after, limit=limit))

    def retry(self, task_id: str, *, idempotency_key: str | None = None) -> SyncClientTask:
        """Submit an ended task again: see ``Client.retry``."""
        again, created = run_blocking(self._verbs.retry(task_id, idempotency_key=idempotency_key))
        return SyncClientTask(self._verbs, again, created=created)

    # --- tapes ------------------------------------------------------------------------------------

    def follow(self, task_id: str, after_seq: int = 0) -> Generator[Event, None, None]:
        """The task's events, live, to its ``final``, for ``for``: see ``ClientTask.follow``."""
        return iterate_blocking(self._verbs.follow(task_id, after_seq))

    def tape(self, task_id: str, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of a task's tape, of at most 1,000 events. Raises ``UnknownTask``."""
        return run_blocking(self._verbs.tape(task_id, after_seq=after_seq, limit=limit))

    def drops(
        self,
        task_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        limit: int = 1_000,
    ) -> QuarantinePage:
        """A page of late events: see ``Client.drops``."""
        return run_blocking(
            self._verbs.drops(task_id, since=since, until=until, after=after, limit=limit)
        )

    # --- pauses -----------------------------------------------------------------------------------

    def pause(self, op: str, *, reason: str = "") -> Pause:
        """Have no worker claim tasks of an op until ``resume``: see ``Client.pause``."""
        return run_blocking(self._verbs.pause_op(op, reason))

    def resume(self, op: str) -> Pause | None:
        """Have the workers claim tasks of an op again: see ``Client.resume``."""
        return run_blocking(self._verbs.resume_op(op))

    def list_paused(self, *, after: str | None = None, limit: int = 100) -> PausePage:
        """A page of the ops that are paused, by name: see ``Client.list_paused``."""
        return run_blocking(self._verbs.list_pauses(after=after, limit=limit))

    # --- the store --------------------------------------------------------------------------------

    def stats(self, *, max_age: float = 7.5) -> Backlog:
        """What waits and runs by op, read at most ``max_age`` seconds ago."""
        return run_blocking(self._verbs.stats(max_age=max_age))

    def find_traced(self, trace_id: str) -> Sequence[TracedAttempt]:
        """The attempts whose run spans are in a trace."""
        return run_blocking(self._verbs.find_traced(trace_id))

    def read_traced(self, task_id: str) -> Sequence[TracedAttempt]:
        """The attempts of a task whose run spans were recorded. Raises ``UnknownTask``."""
        return run_blocking(self._verbs.read_traced(task_id))

    def audit(
        self,
        *,
        thorough: bool = False,
        grace: float = AUDIT_GRACE,
        rows_per_second: float | None = None,
    ) -> AuditReport:
        """Check every tape of the server's store: see ``Client.audit``."""
        return run_blocking(
            self._verbs.audit(thorough=thorough, grace=grace, rows_per_second=rows_per_second)
        )


class SyncClientTask:
    """One task of a server: the verbs of ``ClientTask`` as plain calls."""

    __slots__ = ("_verbs", "created", "task_id")

    def __init__(self, verbs: Verbs, task_id: str, *, created: bool | None) -> None:
        self._verbs = verbs
        self.task_id = task_id
        self.created = created
        """As of ``ClientTask``."""

    def __repr__(self) -> str:
        return f"SyncClientTask({self.task_id!r})"

    def status(self) -> Task:
        """The task as its row stands now."""
        return run_blocking(self._verbs.see(self.task_id)).task

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the ``final`` and give what the runner returned: see ``ClientTask.result``."""
        return run_blocking(self._verbs.result(self.task_id, timeout))

    def follow(self, after_seq: int = 0) -> Generator[Event, None, None]:
        """The task's events, live, to its ``final``, for ``for``: see ``ClientTask.follow``."""
        return iterate_blocking(self._verbs.follow(self.task_id, after_seq))

    def cancel(self, message: str = "") -> CancelTold:
        """Request a cancel; returns once it is recorded, not once the task has ended."""
        return run_blocking(self._verbs.cancel(self.task_id, message))

    def send(self, body: Any, *, key: str | None = None) -> Sent:
        """Send a message to the task: see ``Client.send``."""
        return run_blocking(self._verbs.send(self.task_id, body, key=key))

    def messages(self, *, after: int = 0, limit: int = 100) -> InboxPage:
        """A page of what was sent to the task, of at most 1,000."""
        return run_blocking(self._verbs.messages(self.task_id, after=after, limit=limit))

    def retry(self, *, idempotency_key: str | None = None) -> SyncClientTask:
        """Submit it again, once it has ended: a new task."""
        again, created = run_blocking(
            self._verbs.retry(self.task_id, idempotency_key=idempotency_key)
        )
        return SyncClientTask(self._verbs, again, created=created)

    def tape(self, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of the task's tape, of at most 1,000 events."""
        return run_blocking(self._verbs.tape(self.task_id, after_seq=after_seq, limit=limit))

    def drops(self, *, after: int = 0, limit: int = 1_000) -> QuarantinePage:
        """A page of the task's late events, kept off its tape."""
        return run_blocking(self._verbs.drops(self.task_id, after=after, limit=limit))


class SyncClientSchedules:
    """The verbs of ``ClientSchedules`` as plain calls: ``SyncClient.schedules``."""

    def __init__(self, verbs: Verbs) -> None:
        """Made by the client."""
        self._verbs = verbs

    def add(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> Schedule:
        """Add a schedule: see ``ClientSchedules.add``."""
        schedule, added = self.ensure(name, what, params=params, **times)
        if not added:
            raise ScheduleTaken(name)
        return schedule

    def ensure(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> tuple[Schedule, bool]:
        """Add a schedule, unless the store has it so: see ``ClientSchedules.ensure``."""
        return run_blocking(self._verbs.ensure_schedule(name, what, params, **times))

    def list(self, *, after: str | None = None, limit: int = 100) -> SchedulePage:
        """A page of schedules, by name: ``after`` is the page before's ``next``."""
        return run_blocking(self._verbs.list_schedules(after=after, limit=limit))

    def get(self, name: str) -> Schedule:
        """A schedule by its name. Raises ``UnknownSchedule``."""
        return run_blocking(self._verbs.get_schedule(name))

    def pause(self, name: str) -> Schedule:
        """Have it make no tasks until ``resume``. Raises ``UnknownSchedule``."""
        return run_blocking(self._verbs.pause_schedule(name))

    def resume(self, name: str) -> Schedule:
        """Have it make tasks again, at its times from now on. Raises ``UnknownSchedule``."""
        return run_blocking(self._verbs.resume_schedule(name))

    def trigger(self, name: str, *, idempotency_key: str | None = None) -> SyncClientTask:
        """Make a task of it now, paused or not: see ``ClientSchedules.trigger``."""
        task_id, created = run_blocking(
            self._verbs.trigger_schedule(name, idempotency_key=idempotency_key)
        )
        return SyncClientTask(self._verbs, task_id, created=created)

    def remove(self, name: str) -> None:
        """Delete it; the tasks that it made stay. Raises ``UnknownSchedule``."""
        run_blocking(self._verbs.remove_schedule(name))


class SyncClientWorkers:
    """The verbs of ``ClientWorkers`` as plain calls: ``SyncClient.workers``."""

    def __init__(self, verbs: Verbs) -> None:
        """Made by the client."""
        self._verbs = verbs

    def list(self, *, after: str | None = None, limit: int = 100) -> WorkerPage:
        """A page of who works on the store, by owner: see ``ClientWorkers.list``."""
        return run_blocking(self._verbs.list_workers(after=after, limit=limit))

    def drain(self, owner: str, *, reason: str = "") -> Drain:
        """Have a worker claim no more tasks by name: see ``ClientWorkers.drain``."""
        return run_blocking(self._verbs.drain_worker(owner, reason))

    def undrain(self, owner: str) -> None:
        """Have a worker claim tasks again. Raises ``UnknownWorker``."""
        run_blocking(self._verbs.undrain_worker(owner))
