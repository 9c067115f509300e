"""Managers for tests: one that is judged at its end, and one whose submit runs the task."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from opentelemetry.metrics import NoOpMeterProvider

from tapescope.errors import BadSetting, UnknownTask
from tapescope.manager import Ops, Submission, TaskHandle, TaskManager
from tapescope.model.tape import ATTEMPT_FAILED, ATTEMPT_RELEASED, FINAL
from tapescope.model.tasks import CancelReason, Task, TaskStatus
from tapescope.run import Runner
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore
from tapescope.sync.manager import ManagerSettings
from tapescope.testing._checker import check
from tapescope.testing._history import Recording
from tapescope.testing._judged import HistoryBroken, RecordedMemoryStore
from tapescope.testing.cleaning import clean_test_store
from tapescope.testing.clock import ManualClock
from tapescope.testing.polling import until
from tapescope_telemetry import Telemetry

if TYPE_CHECKING:
    from tapescope.engine import Engine

__all__ = ["EagerManager", "JudgedManager", "TasksLeft", "make_recorded_store"]

R = TypeVar("R")

_DRAIN: Final = 2.0
"""Seconds that the tasks of a test may run on at its end."""
_BY_HAND: Final = ManagerSettings(lease=3_600.0, heartbeat=600.0, poll=60.0)
"""What a manager on a ``ManualClock`` has unless it is said: its background work is done for each
of these times that an ``advance`` goes over."""
_NAMED: Final = 20
"""Tasks that an error names."""


class TasksLeft(AssertionError):
    """Tasks still ran at the end of a test, when their manager was closed."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.tasks = tuple(tasks)
        lines = [
            f"    {one.op} {one.task_id}, attempt {one.attempt}" for one in self.tasks[:_NAMED]
        ]
        if len(self.tasks) > _NAMED:
            lines.append(f"    … {len(self.tasks) - _NAMED} more")
        several = "tasks" if len(self.tasks) > 1 else "task"
        super().__init__(
            f"{len(self.tasks)} {several} still ran at the end of the test, and had to be stopped. "
            "Await the result, or cancel the task:\n" + "\n".join(lines)
        )


def make_recorded_store(
    url: str | None = None,
    *,
    telemetry: Telemetry | None = None,
    clock: ManualClock | None = None,
) -> Recording:
    """The store of a URL, which notes its calls in its ``history``; without one, in memory.

    Its counts are its own, unless ``telemetry`` is given: the judge compares them with what was
    done. Raises what ``find_store`` raises, and ``BadSetting`` for a ``clock`` of a store that
    is not in memory: a database's leases and due times go by real time.
    """
    telemetry = telemetry or Telemetry(meter_provider=NoOpMeterProvider())
    if url is None:
        return RecordedMemoryStore(telemetry=telemetry, clock=clock)
    if clock is not None:
        raise BadSetting("clock", clock, "None for a store that is not in memory")
    plain = find_store(url, telemetry=telemetry)
    return Recording(
        plain.backend,
        telemetry=telemetry,
        limits=plain.limits,
        patience=plain.patience,
        open_mode=plain.open_mode,
    )


class JudgedManager(TaskManager):
    """A ``TaskManager`` on a store of its own, which is judged by the invariants at its end.

    Without a ``store`` its tasks are in memory, and go by ``clock`` where one is given. A ``store``
    is the URL of one, or one that notes its calls (``make_recorded_store``); it is opened and
    closed with the manager, also where it was handed in. ``clean`` has the store of a URL emptied
    before: see ``clean_test_store``, which refuses one that others use.

    When it is closed, it raises ``HistoryBroken`` where an invariant does not hold; and at the end
    of an ``async with`` ``TasksLeft`` where a task still ran once ``drain`` was over, 2 s by
    default. Neither where the block has raised by itself. Its store must be used by no other
    process meanwhile: what that did could not be told from what must not happen.

    The other settings are those of ``TaskManager``; it does not audit by itself.
    """

    def __init__(
        self,
        store: Recording | str | None = None,
        *,
        clock: ManualClock | None = None,
        clean: bool = False,
        work: bool = True,
        ops: Ops | Iterable[Ops] = (),
        **settings: Unpack[ManagerSettings],
    ) -> None:
        """Raises what ``TaskManager`` raises, and ``make_recorded_store``."""
        if clean and not isinstance(store, str):
            raise BadSetting("clean", clean, "false for a store that is not given by its URL")
        self._url = store if clean and isinstance(store, str) else None
        """The store that is emptied before each opening."""
        if not _notes_calls(store):
            raise BadSetting("store", store, "a URL, or what make_recorded_store gives")
        if not isinstance(store, Recording):
            store = make_recorded_store(store, telemetry=settings.get("telemetry"), clock=clock)
        elif clock is not None:
            raise BadSetting("clock", clock, "None beside a store, which has its clock")
        self.history = store.history
        """What was done with the store."""
        self.clock = store.clock if isinstance(store.clock, ManualClock) else None
        """The clock that a test moves, if it has one."""
        self._raised = self._names_left = False
        self._to_judge = False
        usual = ManagerSettings(drain=_DRAIN, audit_every=None)
        if self.clock is not None:
            usual |= _BY_HAND
        super().__init__(store, work=work, ops=ops, **(usual | settings))

    @property
    def was_ended(self) -> bool:
        """Whether it is not open, in any loop: nothing that it did is left to be judged."""
        return not self._to_judge

    async def open(self) -> Self:
        """Open the store, and begin: see ``TaskManager.open``."""
        if self._to_judge:
            return await super().open()
        self._attach_clock()
        if self._url is not None:  # by another store: what was there before is not to be judged
            unseen = Telemetry(meter_provider=NoOpMeterProvider())
            async with find_store(self._url, telemetry=unseen) as store:
                await clean_test_store(store)
        await self.store.open()
        try:
            await super().open()
        except BaseException:  # cancelled, too: what is open would stay open
            await self.store.aclose()
            raise
        self._to_judge, self._raised, self._names_left = True, False, False
        return self

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
        """``TaskManager.reconfigure``, but for another store: raises ``BadSetting`` for that."""
        if store is not None:
            raise BadSetting(
                "store", store, "None: the manager is judged on the one it was made with"
            )
        super().reconfigure(
            max_running=max_running,
            drain=drain,
            work=work,
            engine=engine,
            work_ops=work_ops,
            queues=queues,
        )

    def _attach_clock(self) -> None:
        if self.clock is not None:
            self.clock.attach()

    async def aclose(self) -> None:
        """End as ``TaskManager.aclose`` does; then judge what was done, and close the store.

        Raises ``HistoryBroken``, ``TasksLeft``.
        """
        __tracebackhide__ = True  # read by pytest, as below: the reader's own lines are enough
        if not self._to_judge:
            await super().aclose()
            return
        try:
            await super().aclose()
            if self._to_judge and not self._raised:  # not judged by another call meanwhile
                self._to_judge = False
                await self._judge()
        finally:
            self._to_judge = False
            await self.store.aclose()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        self._raised, self._names_left = error is not None, True
        await super().__aexit__(kind, error, trace)

    async def _judge(self) -> None:
        __tracebackhide__ = True
        # What a runner sent and did not wait for may be on its way past its manager's end.
        await until(lambda: self.store.meter.ledger.in_flight == 0)
        breaches = await check(self.history, self.store)
        left = await self._find_left() if self._names_left else []
        if breaches:
            raise HistoryBroken(breaches, self.history)
        if left:
            raise TasksLeft(left)

    async def _find_left(self) -> list[Task]:
        """The tasks that the end of the manager took from their runners."""
        left: list[Task] = []
        for task_id in self.history.task_ids:
            try:
                task = await self.store.get(task_id)
            except UnknownTask:
                continue  # a test may ask for what is not there, and may prune
            stopped = task.cancel is not None and task.cancel.reason is CancelReason.SHUTDOWN
            if task.status is TaskStatus.PENDING and task.attempt:
                stopped = await self._was_released(task_id)
            if task.attempt and (stopped or task.status is TaskStatus.RUNNING):
                left.append(task)
        return left

    async def _was_released(self, task_id: str) -> bool:
        """Whether an attempt gave it back; else it waits for its next one."""
        tape = await self.store.read_tape(task_id, limit=1)
        last = await self.store.read_tape(task_id, after_seq=tape.last_seq - 1)
        return last.events[-1].type == ATTEMPT_RELEASED


class EagerManager(JudgedManager):
    """A ``JudgedManager`` whose submits return once the task has ended.

    For tests of code that submits: the runner runs as always, with a tape, retries and a
    ``final``, and what is submitted is seen to have ended at once. A submit raises nothing of
    what its runner raised: the handle's ``result`` does.

    A task that waits for something is not waited for: one with a ``delay`` or ``run_at``, one of an
    op that is not registered here, and one that is submitted within a ``connection``. Between two
    attempts the manager's clock is moved on, so that no retry is waited for in real time; not where
    its store is a database, or its event loop not asyncio's own.
    """

    def __init__(
        self,
        store: Recording | str | None = None,
        *,
        work: bool = True,
        ops: Ops | Iterable[Ops] = (),
        **settings: Unpack[ManagerSettings],
    ) -> None:
        """``work`` must be true. Raises what ``JudgedManager`` raises."""
        if not work:
            raise BadSetting("work", work, "true: a submit runs the task")
        clock = ManualClock() if store is None else None
        super().__init__(store, clock=clock, ops=ops, **settings)
        self._moves_clock = False

    def _attach_clock(self) -> None:
        try:
            super()._attach_clock()
        except BadSetting:  # its retries take their time
            self._moves_clock = False
        else:
            self._moves_clock = self.clock is not None

    async def _submit(
        self,
        submission: Submission[R],
        runner: Runner | None,
        connection: object | None = None,
        *,
        retried: Task | None = None,
    ) -> TaskHandle[R]:
        handle = await super()._submit(submission, runner, connection, retried=retried)
        if connection is None and (runner is not None or submission.op in self.ops):
            await self._run_to_end(handle)
        return handle

    async def _run_to_end(self, handle: TaskHandle[Any]) -> None:
        seen = 0
        while not (task := await handle.status()).status.terminal:
            wait = (task.run_us - self.store.due_clock.now()) / 1e6
            if task.status is TaskStatus.PENDING and wait > 0:
                if not task.attempt:
                    return
                if self.clock is not None and self._moves_clock:
                    await self.clock.advance(wait)
            async with aclosing(handle.follow(seen)) as events:
                async for event in events:
                    seen = event.seq
                    if event.type in (ATTEMPT_FAILED, ATTEMPT_RELEASED, FINAL):
                        break


def _notes_calls(store: object) -> bool:
    return store is None or isinstance(store, Recording | str)
