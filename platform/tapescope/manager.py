"""``TaskManager``: takes tasks, runs them, and leaves no tape of its own open when it is closed."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from tapescope._caretaker import Caretaker
from tapescope._checks import new_task_id
from tapescope._heartbeat import Heartbeat
from tapescope._owner import name_owner
from tapescope._pool import RunPool
from tapescope._runner import Runner, resolve_runner
from tapescope._stores import find_store
from tapescope.audit import AUDIT_GRACE, AuditReport, audit_store
from tapescope.errors import BadOp, BadSetting, ManagerClosed, TapescopeError, UsedAfterFork
from tapescope.handle import TaskHandle
from tapescope.retention import Retention
from tapescope.store import TaskStore
from tapescope.tape import QuarantinePage, TapePage
from tapescope.tasks import CancelReason, NewTask, TaskStatus, is_op
from tapescope_telemetry import Telemetry

__all__ = ["Submission", "TaskManager"]

_log = logging.getLogger("tapescope")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Submission:
    """One task for ``TaskManager.submit_many``; the fields are those of ``submit``."""

    op: str
    runner: Callable[..., Any]
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout: float | None = None
    idempotency_key: str | None = None
    retries: int = 0
    delay: float | None = None
    run_at: datetime | None = None


class TaskManager:
    """Runs tasks in this process, each with a durable tape that ends in exactly one ``final``.

    Use it inside ``async with``, or call ``open`` and ``aclose``; it belongs to one event loop.
    A store given by its URL is opened and closed with the manager. A ``TaskStore`` that is handed
    in must be open, and stays open: whoever made it closes it.

    The settings, in seconds where they are times:

    * ``max_running``: runs at once; the others wait in the order they came.
    * ``lease``: how long a claim holds; also how long a ``final`` is tried while the store is away.
    * ``heartbeat``: how often leases are extended; less than ``lease``.
    * ``cancel_grace``: how long a cancelled runner may clean up before it is fenced: its task ends
      without it, its slot is free, and what it still writes is dropped.
    * ``drain``: how long ``aclose`` lets tasks run on before it cancels them.
    * ``max_zombies``: fenced runners that may go on at once before no task is started any more;
      as many as ``max_running`` by default, and at least 10.
    * ``retry_delay``: how long a failed task waits for its first retry; doubled each time, up to
      five minutes, less up to a half by chance.
    * ``coalesce_progress``: within this time the newest ``progress`` of a phase replaces the one
      before it; 0 stores every one.
    * ``audit_every``: how often every tape of the store is audited; tapes that closed are audited
      about a minute later. One manager of many does it. ``None`` for never.
    * ``audit_rate``: rows a second that this audit reads at most.
    * ``retention``: how long what has ended is kept; nothing is deleted unless it is set.

    At every heartbeat, and at ``open``, it also takes the tasks of managers that are dead, or did
    not renew their leases, whoever they were: these fail as ``worker_lost``, for nobody else can
    run a callable.

    Attempts are at-least-once, the ``final`` is exactly-once.
    """

    def __init__(
        self,
        store: TaskStore | str,
        *,
        max_running: int = 100,
        lease: float = 30.0,
        heartbeat: float = 10.0,
        cancel_grace: float = 10.0,
        drain: float = 30.0,
        telemetry: Telemetry | None = None,
        max_zombies: int | None = None,
        coalesce_progress: float = 0.0,
        retry_delay: float = 1.0,
        audit_every: float | None = 3_600.0,
        audit_rate: float = 20_000.0,
        retention: Retention | None = None,
    ) -> None:
        """Check the settings; connect to nothing.

        Raises ``BadSetting``; for a URL ``BadStoreUrl``, ``UnknownStoreScheme``, ``MissingExtra``.
        """
        max_zombies = max(max_running, 10) if max_zombies is None else max_zombies
        _check_count("max_running", max_running)
        _check_count("max_zombies", max_zombies)
        _check_seconds("lease", lease, over_zero=True)
        _check_seconds("heartbeat", heartbeat, over_zero=True)
        _check_seconds("cancel_grace", cancel_grace)
        _check_seconds("drain", drain)
        _check_seconds("coalesce_progress", coalesce_progress)
        _check_seconds("retry_delay", retry_delay)
        if heartbeat >= lease:
            raise BadSetting("heartbeat", heartbeat, f"less than the lease of {lease:g} s")
        self._owns_store = isinstance(store, str)
        self.store = find_store(store, telemetry=telemetry) if isinstance(store, str) else store
        self.telemetry = telemetry or self.store.telemetry
        self.owner = name_owner()
        """This manager in this process, as the rows of its running tasks name it; never reused."""
        self._max_running = max_running
        self._drain = drain
        self._pool = RunPool(
            self.store,
            self.telemetry,
            self.owner,
            max_running=max_running,
            max_zombies=max_zombies,
            lease=lease,
            cancel_grace=cancel_grace,
            coalesce_progress=coalesce_progress,
            retry_delay=retry_delay,
        )
        self._heartbeat = Heartbeat(self._pool, heartbeat)
        self._caretaker = Caretaker(
            self.store,
            self.owner,
            audit_every=audit_every,
            rows_per_second=audit_rate,
            retention=retention,
        )
        self._opened = False
        self._closed = False
        self._closer: asyncio.Task[None] | None = None
        self._drain_limit: asyncio.Timeout | None = None
        self._hurry = False
        self._pid = os.getpid()

    # --- life -------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Open the store, if it is the manager's own, and take tasks. A second call does nothing.

        Raises what ``TaskStore.open`` raises, and ``ManagerClosed`` after ``aclose``.
        """
        self._check_process()
        if self._closed:
            raise ManagerClosed
        if self._owns_store:
            await self.store.open()
        if not self._opened:
            self._opened = True
            self.telemetry.tasks.limit(self._max_running)
            self._heartbeat.start()
            self._caretaker.start()
        return self

    async def aclose(self) -> None:
        """Take no more tasks, let those submitted run for ``drain`` seconds, cancel what is left.

        The rest is cancelled with the reason ``shutdown``, pending tasks too, for nobody else can
        run a callable; runners get their grace. When this returns, every task has its ``final`` and
        only runners that ignore their cancel go on. May be called twice, or while one call waits.
        Cancelled itself, it skips the drain, ends what it has begun, and then raises the
        ``CancelledError``. Raises ``StoreUnavailable`` when a ``final`` could not be written.
        """
        self._check_process()
        self._closed = self._pool.closing = True
        if not self._opened:
            return
        first = self._closer is None
        if self._closer is None:
            self._closer = asyncio.get_running_loop().create_task(
                self._close(), name="tapescope-close", context=contextvars.Context()
            )
        cancelled: asyncio.CancelledError | None = None
        while not self._closer.done():
            try:
                await asyncio.wait([self._closer])
            except asyncio.CancelledError as error:
                cancelled = error
                self._skip_drain()
        self._closer.result()
        if cancelled is not None:
            raise cancelled
        if first and self._pool.lost is not None:
            raise self._pool.lost

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
            # What the body raised goes first.
            _log.exception("The manager could not close as it should.")

    # --- tasks ------------------------------------------------------------------------------------

    async def submit(
        self,
        op: str,
        runner: Callable[..., Any],
        *,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the attempt's, not this call's
        idempotency_key: str | None = None,
        retries: int = 0,
        delay: float | None = None,
        run_at: datetime | None = None,
    ) -> TaskHandle:
        """Create a task, to be run here as ``runner(report, **params)``; returns once it is stored.

        ``runner`` is an ``async def``, which gets a ``Reporter``, or a plain function, which runs
        in a thread with a ``ThreadReporter``; what it returns must be JSON. ``timeout`` is in
        seconds of one attempt. The same op and ``idempotency_key`` again give the task that exists,
        and do not run it twice.

        ``retries`` is how often an attempt that raised or timed out is made again, later each time
        (``retry_delay``). The first waits ``delay`` seconds, or until ``run_at``, an aware time.

        Raises ``BadOp``, ``BadRunner``, ``BadParams``, ``BadSetting``, ``IdempotencyConflict``,
        ``ManagerClosed``, ``UsedAfterFork``. A submit that is cancelled in mid-commit may have made
        the task: the idempotency key finds it; without one it ends as cancelled.
        """
        return await self._submit(
            *self._check(
                Submission(
                    op, runner, params or {}, timeout, idempotency_key, retries, delay, run_at
                )
            )
        )

    async def submit_many(self, submissions: Sequence[Submission]) -> list[TaskHandle]:
        """``submit`` for many at once, in one flush of the store; the handles are in this order.

        Raises before anything is created for what can be seen beforehand. When the store refuses
        one (``BadParams``, ``IdempotencyConflict``), the others are submitted all the same.
        """
        checked = [self._check(submission) for submission in submissions]
        made = await asyncio.gather(
            *(self._submit(*one) for one in checked), return_exceptions=True
        )
        handles: list[TaskHandle] = []
        for one in made:
            if isinstance(one, BaseException):
                raise one
            handles.append(one)
        return handles

    def handle(self, task_id: str) -> TaskHandle:
        """A handle on any task of the store, wherever it runs; whether it exists is seen later."""
        self._check_process()
        return TaskHandle(self._pool, task_id, self._pool.ending_of(task_id))

    async def tape(self, task_id: str, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of a task's tape. Raises ``UnknownTask``."""
        return await self.handle(task_id).tape(after_seq=after_seq, limit=limit)

    async def drops(
        self, task_id: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> QuarantinePage:
        """A page of the late events of one task, or of all."""
        self._check_process()
        return await self.store.read_quarantine(task_id, after=after, limit=limit)

    async def audit(
        self, *, grace: float = AUDIT_GRACE, rows_per_second: float | None = None
    ) -> AuditReport:
        """Check every tape of the store; see ``tapescope.audit.audit_store``."""
        self._check_process()
        return await audit_store(self.store, grace=grace, rows_per_second=rows_per_second)

    # --- the steps of the above -------------------------------------------------------------------

    def _check(self, submission: Submission) -> tuple[Submission, Runner]:
        self._check_process()
        if self._closed or not self._opened:
            raise ManagerClosed
        if not is_op(submission.op):
            raise BadOp(submission.op)
        if submission.delay is not None:
            _check_seconds("delay", submission.delay)
            if submission.run_at is not None:
                raise BadSetting("delay", submission.delay, "None beside run_at")
        if submission.run_at is not None and submission.run_at.tzinfo is None:
            raise BadSetting("run_at", submission.run_at, "an aware time, with its zone")
        return submission, resolve_runner(submission.runner)

    async def _submit(self, submission: Submission, runner: Runner) -> TaskHandle:
        task_id, op, pool = new_task_id(), submission.op, self._pool
        key = submission.idempotency_key
        pool.expect(1)
        try:
            with self.telemetry.submit_span(op, task_id, self.store.adapter) as span:
                task, created = await self.store.create(
                    NewTask(
                        task_id,
                        op,
                        submission.params,
                        timeout=submission.timeout,
                        retries=submission.retries,
                        run_at=self._find_due(submission),
                        idempotency_key=key,
                        traceparent=span.traceparent,
                    )
                )
            # A pending task that was submitted before may have lost its submitter in mid-commit. To
            # run it is safe: only one claim can win.
            if created or task.status is TaskStatus.PENDING:
                return TaskHandle(pool, task.task_id, pool.admit(task, runner))
            return TaskHandle(pool, task.task_id, pool.ending_of(task.task_id))
        except asyncio.CancelledError:
            if key is None:
                pool.keep(self._cancel_orphan(task_id))
            raise
        finally:
            pool.expect(-1)

    def _find_due(self, submission: Submission) -> int | None:
        """When it may run first, in microseconds since the epoch; ``None`` for at once."""
        if submission.delay is not None:
            return self.store.clock.now() + round(submission.delay * 1_000_000)
        if submission.run_at is not None:
            return (submission.run_at - _EPOCH) // timedelta(microseconds=1)
        return None

    async def _cancel_orphan(self, task_id: str) -> None:
        """A submit was cancelled in mid-commit: if it made the task, nobody will ever run it."""
        try:
            await self.store.request_cancel(
                task_id, CancelReason.USER, "its submit was cancelled", None
            )
        except TapescopeError as error:
            _log.debug("The submit of %s left no task behind: %s", task_id, error)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(0 if self._hurry else self._drain) as self._drain_limit:
                await self._pool.wait_idle()
        except TimeoutError:
            _log.info("The drain of %g s is over; what still runs is cancelled.", self._drain)
        finally:
            self._drain_limit = None
        await self._pool.stop()
        await self._heartbeat.stop()
        await self._caretaker.stop()
        self.telemetry.tasks.limit(-self._max_running)
        if self._owns_store:
            await self.store.aclose()

    def _skip_drain(self) -> None:
        self._hurry = True
        if self._drain_limit is not None and not self._drain_limit.expired():
            self._drain_limit.reschedule(asyncio.get_running_loop().time())

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise UsedAfterFork("manager")


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
        raise BadSetting(name, value, "a whole number over 0")


def _check_seconds(name: str, value: float, *, over_zero: bool = False) -> None:
    if not math.isfinite(value) or value < 0 or (over_zero and value == 0):
        raise BadSetting(name, value, f"a number of seconds{' over 0' if over_zero else ''}")
