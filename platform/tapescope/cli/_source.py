"""Where a command reads and acts: a store, or a server of one. One port, two sources.

A command prints what a ``Source`` gives and does not know which one it is, so that its output is
the same (docs/decisions/0076).
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import click

from tapescope.cli._caller import continue_callers_trace
from tapescope.cli._output import say
from tapescope.cli._settings import find_named_engine, find_named_server, name_caller
from tapescope.cli._store import choose_store, open_store, prepare_store
from tapescope.errors import ScopeMissing
from tapescope.model.backlog import find_pauses
from tapescope.store.opening import OpenMode

if TYPE_CHECKING:
    from tapescope.client import Client
    from tapescope.client.client import ClientSchedules
    from tapescope.manager.schedules import ManagerSchedules
    from tapescope.manager.submission import Submission
    from tapescope.model.audit import AuditReport
    from tapescope.model.backlog import Backlog
    from tapescope.model.leases import TracedAttempt
    from tapescope.model.messages import InboxPage, Sent
    from tapescope.model.ops import Drain, Pause, PausePage, WorkerPage
    from tapescope.model.schedules import Schedule, SchedulePage
    from tapescope.model.tape import Event, QuarantinePage, TapePage
    from tapescope.model.tasks import CancelRequest, Task, TaskPage, TaskStatus
    from tapescope.store.flush import CancelState
    from tapescope.store.port import TaskStore

__all__ = [
    "CancelSeen",
    "Handle",
    "Lister",
    "Place",
    "Scheduler",
    "Source",
    "Submitter",
    "choose_place",
]

_PATIENCE: Final = 3.0
"""Seconds that a command waits for its server: as for its store."""
_PLAIN_HTTP: Final = "TAPESCOPE_PLAIN_HTTP"
_TRACED: Final = 10_000
"""Attempts of one trace that are shown."""


class CancelSeen(NamedTuple):
    """What became of a request to cancel."""

    state: CancelState
    request: CancelRequest | None
    """The request on record; ``None`` only for a task that ended without one."""
    lost: str | None
    """Why the owner of the task was taken to be gone; the task was then taken from it."""


class Handle(Protocol):
    """A task that was submitted."""

    @property
    def task_id(self) -> str:
        """Its id."""
        ...

    async def status(self) -> Task:
        """Its row."""
        ...

    async def result(self) -> Any:
        """Its result, once it has ended."""
        ...


class Submitter(ABC):
    """Submits tasks: a manager that runs none, or a client."""

    @abstractmethod
    async def submit(self, submission: Submission) -> Handle:
        """Submit a task by the name of its op."""

    @abstractmethod
    async def resubmit(self, task_id: str) -> Handle:
        """Submit an ended task again.

        Raises ``UnknownTask``, ``TaskNotEnded``, ``OpNotRegistered``, ``OpFull``.
        """


class Scheduler(ABC):
    """Changes schedules: a manager that runs none of their tasks, or a client."""

    @abstractmethod
    async def add(self, name: str, submission: Submission, **settings: Any) -> Schedule:
        """Add one. Raises ``ScheduleTaken``."""

    @abstractmethod
    async def pause(self, name: str) -> Schedule:
        """Have one make no tasks. Raises ``UnknownSchedule``."""

    @abstractmethod
    async def resume(self, name: str) -> Schedule:
        """Have one make tasks again. Raises ``UnknownSchedule``."""

    @abstractmethod
    async def trigger(self, name: str) -> Handle:
        """Make a task of one now. Raises ``UnknownSchedule``."""

    @abstractmethod
    async def remove(self, name: str) -> None:
        """Delete one. Raises ``UnknownSchedule``."""


class Lister(Protocol):
    """What lists tasks: a store, or what stands for one."""

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
        """A page of tasks, newest first; it may have fewer than ``limit``, and yet a next."""
        ...


class Source(Lister, ABC):
    """What commands read of a store, and do with it. The values are those of the store's port."""

    name: str
    """Where it is, without a secret."""

    @abstractmethod
    async def get(self, task_id: str) -> Task:
        """A task's row. Raises ``UnknownTask``."""

    @abstractmethod
    def find_lost(self, tasks: Iterable[Task]) -> dict[str, str]:
        """Why each of these tasks, which were read here, is lost; only those that are."""

    @abstractmethod
    async def read_tape(self, task_id: str, *, after_seq: int = 0, limit: int) -> TapePage:
        """A page of a tape."""

    @abstractmethod
    def follow(self, task_id: str) -> AsyncGenerator[Event, None]:
        """A tape, live, to its ``final``."""

    @abstractmethod
    async def read_traced(self, task_id: str) -> Sequence[TracedAttempt]:
        """The attempts of a task whose run spans were recorded."""

    @abstractmethod
    async def find_traced(self, trace_id: str) -> Sequence[TracedAttempt]:
        """The attempts of a trace."""

    @abstractmethod
    async def read_quarantine(
        self,
        task_id: str | None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        limit: int,
        counted: bool = True,
    ) -> QuarantinePage:
        """A page of late events; without ``counted`` its ``overflow`` is 0."""

    @abstractmethod
    async def read_backlog(self) -> Backlog:
        """What waits and runs, as it is now."""

    @abstractmethod
    async def read_pauses(self) -> Mapping[str, Pause]:
        """The first 1,000 ops that are paused, by name."""

    @abstractmethod
    async def read_ops(self) -> Iterable[str]:
        """The ops that workers have registered."""

    @abstractmethod
    async def pause_op(self, op: str, reason: str) -> Pause:
        """Have no worker claim its tasks; gives the pause that is in force."""

    @abstractmethod
    async def resume_op(self, op: str) -> Pause | None:
        """Have the workers claim its tasks again; gives the pause that ended, if any."""

    @abstractmethod
    async def list_paused(self, *, limit: int) -> PausePage:
        """The first page of the ops that are paused, by name."""

    @abstractmethod
    async def list_workers(self, *, after: str | None = None, limit: int) -> WorkerPage:
        """A page of who works on the store, by owner."""

    @abstractmethod
    async def drain_worker(self, owner: str, reason: str) -> Drain:
        """Have a worker claim no more; gives the drain in force. Raises ``UnknownWorker``."""

    @abstractmethod
    async def undrain_worker(self, owner: str) -> None:
        """Have a worker claim again. Raises ``UnknownWorker``."""

    @abstractmethod
    async def audit(self, *, grace: float, rows_per_second: float | None) -> AuditReport:
        """Check every tape, thoroughly."""

    @abstractmethod
    async def cancel(self, task_id: str, message: str) -> CancelSeen:
        """Request a cancel; a task whose owner is lost is taken from it."""

    @abstractmethod
    async def send(self, task_id: str, body: Any, key: str | None) -> Sent:
        """Send a message to a task. Raises ``TaskEnded``, ``InboxFull``."""

    @abstractmethod
    async def read_messages(self, task_id: str, *, after: int, limit: int) -> InboxPage:
        """A page of what was sent to a task."""

    @abstractmethod
    def submitting(self) -> AbstractAsyncContextManager[Submitter]:
        """Submits tasks inside."""

    @abstractmethod
    async def list_schedules(self, *, after: str | None, limit: int) -> SchedulePage:
        """A page of schedules, by name."""

    @abstractmethod
    async def get_schedule(self, name: str) -> Schedule:
        """A schedule. Raises ``UnknownSchedule``."""

    @abstractmethod
    def scheduling(self) -> AbstractAsyncContextManager[Scheduler]:
        """Changes schedules inside."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which store or server a command was told to use."""

    store: str | None
    server: str | None

    @asynccontextmanager
    async def open(self, mode: OpenMode | None = OpenMode.READ) -> AsyncGenerator[Source]:
        """The source, open; on a terminal stderr says which one it is. A store as ``mode`` says."""
        if self.server is not None:
            async with _open_server(self.server) as source:
                yield source
            return
        async with open_store(choose_store(self.store), mode) as store:
            yield _StoreSource(store)

    @asynccontextmanager
    async def make(self) -> AsyncGenerator[Source]:
        """The source, open; a store is made where there is none."""
        mode = None if self.server is not None else prepare_store(choose_store(self.store))
        async with self.open(mode) as source:
            yield source


def choose_place(store: str | None, server: str | None) -> Place:
    """What the options say, else ``TAPESCOPE_SERVER``, else ``TAPESCOPE_STORE`` and its default.

    Raises a usage error where both options are given.
    """
    if store and server:
        raise click.BadParameter("name a store or a server, not both", param_hint="--server")
    return Place(store, None if store else find_named_server(server))


class _StoreSource(Source):
    """A store, and what this process can say of its owners."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self.name = store.name

    async def list(self, **wanted: Any) -> TaskPage:
        return await self._store.list(**wanted)

    async def get(self, task_id: str) -> Task:
        return await self._store.get(task_id)

    def find_lost(self, tasks: Iterable[Task]) -> dict[str, str]:
        from tapescope.cli._wording import now_us
        from tapescope.manager.lost_tasks import find_lost

        return find_lost(self._store, tasks, now_us())

    async def read_tape(self, task_id: str, *, after_seq: int = 0, limit: int) -> TapePage:
        return await self._store.read_tape(task_id, after_seq=after_seq, limit=limit)

    def follow(self, task_id: str) -> AsyncGenerator[Event, None]:
        from tapescope.store.follow import follow_tape

        return follow_tape(self._store, task_id)

    async def read_traced(self, task_id: str) -> Sequence[TracedAttempt]:
        return await self._store.read_traced([task_id])

    async def find_traced(self, trace_id: str) -> Sequence[TracedAttempt]:
        return await self._store.find_traced(trace_id, limit=_TRACED)

    async def read_quarantine(self, task_id: str | None, **wanted: Any) -> QuarantinePage:
        return await self._store.read_quarantine(task_id, **wanted)

    async def read_backlog(self) -> Backlog:
        return await self._store.backlog.read(max_age=0)

    async def read_pauses(self) -> Mapping[str, Pause]:
        return find_pauses(await self._store.backlog.read())

    async def read_ops(self) -> Iterable[str]:
        return await self._store.ops.read()

    async def pause_op(self, op: str, reason: str) -> Pause:
        return await self._store.ops.pause(op, reason=reason, by=name_caller())

    async def resume_op(self, op: str) -> Pause | None:
        return await self._store.ops.resume(op)

    async def list_paused(self, *, limit: int) -> PausePage:
        return await self._store.ops.list_paused(limit=limit)

    async def list_workers(self, *, after: str | None = None, limit: int) -> WorkerPage:
        return await self._store.ops.list_workers(after=after, limit=limit)

    async def drain_worker(self, owner: str, reason: str) -> Drain:
        return await self._store.ops.drain(owner, reason=reason, by=name_caller())

    async def undrain_worker(self, owner: str) -> None:
        await self._store.ops.undrain(owner)

    async def audit(self, *, grace: float, rows_per_second: float | None) -> AuditReport:
        from tapescope.maintenance.audit import audit_store

        return await audit_store(
            self._store, grace=grace, rows_per_second=rows_per_second, thorough=True
        )

    async def cancel(self, task_id: str, message: str) -> CancelSeen:
        from tapescope.manager.lost_tasks import rescue_lost
        from tapescope.model.tasks import CancelReason

        with continue_callers_trace():
            answer = await self._store.request_cancel(
                task_id, CancelReason.USER, message, by=name_caller()
            )
        lost = self.find_lost([await self._store.get(task_id)]).get(task_id)
        if lost is not None:
            await rescue_lost(self._store)
        return CancelSeen(answer.state, answer.request, lost)

    async def send(self, task_id: str, body: Any, key: str | None) -> Sent:
        return await self._store.messages.send(task_id, body, key=key)

    async def read_messages(self, task_id: str, *, after: int, limit: int) -> InboxPage:
        return await self._store.messages.read(task_id, after=after, limit=limit)

    @asynccontextmanager
    async def submitting(self) -> AsyncGenerator[Submitter]:
        from tapescope.manager.manager import TaskManager

        async with TaskManager(self._store, work=False, engine=find_named_engine(None)) as manager:
            yield _ManagerSubmitter(manager, self._store)

    async def list_schedules(self, *, after: str | None, limit: int) -> SchedulePage:
        return await self._store.schedules.list(after=after, limit=limit)

    async def get_schedule(self, name: str) -> Schedule:
        return await self._store.schedules.get(name)

    @asynccontextmanager
    async def scheduling(self) -> AsyncGenerator[Scheduler]:
        from tapescope.manager.manager import TaskManager

        async with TaskManager(self._store, work=False, engine=find_named_engine(None)) as manager:
            yield _ManagerScheduler(manager.schedules, self._store)


class _ManagerSubmitter(Submitter):
    def __init__(self, manager: Any, store: TaskStore) -> None:
        self._manager, self._store = manager, store

    async def submit(self, submission: Submission) -> Handle:
        with continue_callers_trace():
            (handle,) = await self._manager.submit_many([submission])
        if submission.op not in await self._store.ops.read():
            say(f"no worker of this store has registered {submission.op!r} yet; the task waits")
        if submission.op in find_pauses(await self._store.backlog.read()):
            say(f"{submission.op} is paused: 'tapescope resume {submission.op}' ends that")
        made: Handle = handle
        return made

    async def resubmit(self, task_id: str) -> Handle:
        with continue_callers_trace():
            made: Handle = await self._manager.resubmit(task_id)
        return made


class _ManagerScheduler(Scheduler):
    def __init__(self, schedules: ManagerSchedules, store: TaskStore) -> None:
        self._schedules, self._store = schedules, store

    async def add(self, name: str, submission: Submission, **settings: Any) -> Schedule:
        added = await self._schedules.add(name, submission, **settings)
        if submission.op not in await self._store.ops.read():
            say(f"no worker of this store has registered {submission.op!r} yet; it waits for one")
        return added

    async def pause(self, name: str) -> Schedule:
        return await self._schedules.pause(name)

    async def resume(self, name: str) -> Schedule:
        return await self._schedules.resume(name)

    async def trigger(self, name: str) -> Handle:
        with continue_callers_trace():
            return await self._schedules.trigger(name)

    async def remove(self, name: str) -> None:
        await self._schedules.remove(name)


class _ClientScheduler(Scheduler):
    def __init__(self, schedules: ClientSchedules) -> None:
        self._schedules = schedules

    async def add(self, name: str, submission: Submission, **settings: Any) -> Schedule:
        return await self._schedules.add(name, submission, **settings)

    async def pause(self, name: str) -> Schedule:
        return await self._schedules.pause(name)

    async def resume(self, name: str) -> Schedule:
        return await self._schedules.resume(name)

    async def trigger(self, name: str) -> Handle:
        with continue_callers_trace():
            return await self._schedules.trigger(name)

    async def remove(self, name: str) -> None:
        await self._schedules.remove(name)


@asynccontextmanager
async def _open_server(url: str) -> AsyncGenerator[Source]:
    from tapescope.client import Client

    client = Client(
        url,
        patience=_PATIENCE,
        plain_http=os.environ.get(_PLAIN_HTTP) == "1",
        on_lost=say,
    )
    async with client:
        if sys.stderr.isatty():
            say(f"server {client.server}")
        yield _ServerSource(client)


class _ServerSource(Source, Submitter):
    """A server, and what it says of its owners."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.name = client.server
        self._lost: dict[str, str] = {}
        """What was said of the tasks that were read, by their ids."""

    async def list(self, *, params: bool = True, **wanted: Any) -> TaskPage:
        page = await self._client.list(**wanted)
        for task in page.tasks:
            self._note(task.task_id, page.lost.get(task.task_id))
        return page

    async def get(self, task_id: str) -> Task:
        seen = await self._client.see(task_id)
        self._note(task_id, seen.lost)
        return seen.task

    def _note(self, task_id: str, lost: str | None) -> None:
        if lost is None:
            self._lost.pop(task_id, None)
        else:
            self._lost[task_id] = lost

    def find_lost(self, tasks: Iterable[Task]) -> dict[str, str]:
        ids = (task.task_id for task in tasks)
        return {task_id: self._lost[task_id] for task_id in ids if task_id in self._lost}

    async def read_tape(self, task_id: str, *, after_seq: int = 0, limit: int) -> TapePage:
        return await self._client.tape(task_id, after_seq=after_seq, limit=limit)

    def follow(self, task_id: str) -> AsyncGenerator[Event, None]:
        return self._client.follow(task_id)

    async def read_traced(self, task_id: str) -> Sequence[TracedAttempt]:
        return await self._client.read_traced(task_id)

    async def find_traced(self, trace_id: str) -> Sequence[TracedAttempt]:
        return await self._client.find_traced(trace_id)

    async def read_quarantine(
        self, task_id: str | None, *, counted: bool = True, **wanted: Any
    ) -> QuarantinePage:
        page = await self._client.drops(task_id, **wanted)
        return page if counted else replace(page, overflow=0)

    async def read_backlog(self) -> Backlog:
        return await self._client.stats(max_age=0)

    async def read_pauses(self) -> Mapping[str, Pause]:
        try:
            return find_pauses(await self._client.stats())
        except ScopeMissing:  # of tags alone: what is of a whole op is not told to such a token
            return {}

    async def read_ops(self) -> Iterable[str]:
        return [one.op for one in (await self._client.stats()).ops if one.registered]

    async def pause_op(self, op: str, reason: str) -> Pause:
        return await self._client.pause(op, reason=reason)

    async def resume_op(self, op: str) -> Pause | None:
        before = find_pauses(await self.read_backlog()).get(op)
        ended = await self._client.resume(op)
        return ended or before  # where a reply was lost, the try behind it finds no pause

    async def list_paused(self, *, limit: int) -> PausePage:
        return await self._client.list_paused(limit=limit)

    async def list_workers(self, *, after: str | None = None, limit: int) -> WorkerPage:
        page = await self._client.workers.list(after=after, limit=limit)
        while page.next is not None and (left := limit - len(page.workers)) > 0:
            more = await self._client.workers.list(after=page.next, limit=left)
            page = replace(more, workers=page.workers + more.workers)
        return page

    async def drain_worker(self, owner: str, reason: str) -> Drain:
        return await self._client.workers.drain(owner, reason=reason)

    async def undrain_worker(self, owner: str) -> None:
        await self._client.workers.undrain(owner)

    async def audit(self, *, grace: float, rows_per_second: float | None) -> AuditReport:
        return await self._client.audit(thorough=True, grace=grace, rows_per_second=rows_per_second)

    async def cancel(self, task_id: str, message: str) -> CancelSeen:
        with continue_callers_trace():
            told = await self._client.cancel(task_id, message)
        return CancelSeen(told.state, told.request, told.lost)

    async def send(self, task_id: str, body: Any, key: str | None) -> Sent:
        with continue_callers_trace():
            return await self._client.send(task_id, body, key=key)

    async def read_messages(self, task_id: str, *, after: int, limit: int) -> InboxPage:
        return await self._client.messages(task_id, after=after, limit=limit)

    async def list_schedules(self, *, after: str | None, limit: int) -> SchedulePage:
        page = await self._client.schedules.list(after=after, limit=limit)
        while page.next is not None and (left := limit - len(page.schedules)) > 0:
            more = await self._client.schedules.list(after=page.next, limit=left)
            page = replace(more, schedules=page.schedules + more.schedules)
        return page

    async def get_schedule(self, name: str) -> Schedule:
        return await self._client.schedules.get(name)

    @asynccontextmanager
    async def scheduling(self) -> AsyncGenerator[Scheduler]:
        yield _ClientScheduler(self._client.schedules)

    @asynccontextmanager
    async def submitting(self) -> AsyncGenerator[Submitter]:
        yield self

    async def submit(self, submission: Submission) -> Handle:
        with continue_callers_trace():
            return await self._client.submit(
                submission.op,
                params=submission.params,
                delay=submission.delay,
                run_at=submission.run_at,
                timeout=submission.timeout,
                retries=submission.retries,
                priority=submission.priority,
                tags=submission.tags,
                unique_key=submission.unique_key,
                concurrency_key=submission.concurrency_key,
                queue=submission.queue,
                expires_in=submission.expires_in,
                idempotency_key=submission.idempotency_key,
            )

    async def resubmit(self, task_id: str) -> Handle:
        with continue_callers_trace():
            return await self._client.retry(task_id)
