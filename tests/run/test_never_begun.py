"""An asyncio task of ours that ends before its work: by a cancel from outside, or by an exit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from tapescope import Reporter, Submission, TaskCancelled, TaskFailed, TaskManager, TaskStatus
from tapescope.model.tasks import Attempt, NewTask
from tapescope.testing import settle_loop, until
from tests.support.memory_stores import FaultyBackend, FaultyStore
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.workbench import GRACE, Workbench, started, working


@contextmanager
def cancelling(of: str, most: int = 1, *, begun: bool = False) -> Generator[list[str]]:
    """Cancel the first asyncio tasks that are made of such a coroutine: before its first step, or
    after it. Gives the names of the tasks that were."""
    loop = asyncio.get_running_loop()
    before, struck = loop.get_task_factory(), list[str]()

    def make(loop: asyncio.AbstractEventLoop, coroutine: object, **settings: object) -> object:
        task: asyncio.Task[object] = asyncio.Task(coroutine, loop=loop, **settings)  # type: ignore[arg-type]
        if len(struck) < most and getattr(coroutine, "__qualname__", "") == of:
            struck.append(task.get_name())
            if begun:
                loop.call_soon(task.cancel)
            else:
                task.cancel()
        return task

    loop.set_task_factory(make)  # type: ignore[arg-type]
    try:
        yield struck
    finally:
        loop.set_task_factory(before)


@pytest.mark.parametrize("by_name", [False, True], ids=["callable", "by name"])
async def test_a_cancel_before_the_first_step_is_one_at_the_claim(
    any_url: str, by_name: bool
) -> None:
    """The task fails as unrequested, its runner is not begun, and its slot is free again."""
    begun: list[int] = []

    async def work(report: Reporter) -> str:
        begun.append(report.attempt)
        return "done"

    async with working(any_url, max_running=1, drain=2.0) as bench:
        manager = bench.manager
        with cancelling("Run._run") as struck:
            if by_name:
                manager.op("work", retries=2)(work)
            task = await manager.submit("work", None if by_name else work)
            with pytest.raises(TaskFailed, match="unrequested_cancel"):
                await task.result(5)
        again = await manager.submit("work", None if by_name else work)
        result = await again.result(5)
        row = await task.status()

    assert len(struck) == 1
    assert (row.status.value, row.attempt) == ("failed", 1)
    assert result == "done"
    assert begun == [1]


async def _deaf(report: Reporter) -> str:
    await report.log("info", "here")
    for _ in range(2):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(3 * GRACE)
            return "late"
    return ""


async def _waits(report: Reporter) -> None:
    await report.log("info", "here")
    await asyncio.Event().wait()


async def _end_fenced(bench: Workbench) -> str:
    task = await bench.manager.submit("work", _deaf)
    await started(task)
    await task.cancel()
    with pytest.raises(TaskCancelled):
        await task.result(5)
    return task.task_id


async def _cancel_at_the_shutdown(bench: Workbench) -> str:
    task = await bench.manager.submit("work", _waits)
    await started(task)
    await bench.manager.aclose()
    return task.task_id


async def _cancel_what_waits_at_the_shutdown(bench: Workbench) -> str:
    task = await bench.manager.submit("work", _waits, delay=600)
    await bench.manager.aclose()
    return task.task_id


async def _cancel_an_orphan(bench: Workbench) -> str:
    submit = asyncio.ensure_future(bench.manager.submit("work", _waits))
    await settle_loop(3)  # its create is in a flush
    submit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submit
    await bench.store.orphans_ended()
    (task,) = (await bench.store.list()).tasks
    return task.task_id


async def _cancel_those_of_a_submit_many(bench: Workbench) -> str:
    create, calls = bench.store.create_claimed, list[object]()

    async def make_the_first(new_task: NewTask, *claim: Any) -> Any:
        calls.append(new_task)
        return await create(new_task, *claim) if len(calls) == 1 else await asyncio.Event().wait()

    bench.store.create_claimed = make_the_first  # type: ignore[method-assign, assignment]
    both = [Submission("work", _waits), Submission("work", _waits)]
    submit = asyncio.ensure_future(bench.manager.submit_many(both))
    await until(lambda: bench.captured.points("tapescope.task.active", task_op="work"))
    await settle_loop(20)  # it has its handle
    submit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submit
    (task,) = (await bench.store.list()).tasks
    with pytest.raises(TaskCancelled):
        await bench.manager.handle(task.task_id).result(5)
    return task.task_id


@pytest.mark.parametrize("begun", [False, True], ids=["before", "in the midst"])
@pytest.mark.parametrize(
    ("act", "work"),
    [
        (_end_fenced, "Run._settle_fenced"),
        (_cancel_at_the_shutdown, "RunPool._cancel_for_shutdown"),
        (_cancel_at_the_shutdown, "Service.stop"),
        (_cancel_at_the_shutdown, "TaskManager._close"),
        (_cancel_what_waits_at_the_shutdown, "RunPool._cancel_for_shutdown"),
        (_cancel_an_orphan, "Orphans._end"),
        (_cancel_those_of_a_submit_many, "TaskManager._cancel_unseen"),
    ],
)
async def test_what_ends_a_task_is_begun_again(
    act: Callable[[Workbench], Awaitable[str]], work: str, begun: bool
) -> None:
    """Cancelled from outside, by who cancels all tasks of a loop, it still ends the task once."""
    async with working("memory:", cancel_grace=GRACE, drain=0.0) as bench:
        with cancelling(work, 3, begun=begun) as struck:
            async with asyncio.timeout(5):
                task_id = await act(bench)
        row = await bench.store.get(task_id)

    assert struck
    assert row.status is TaskStatus.CANCELLED


class Exits:
    """Has a primitive of a memory tell the process to end, once, when the time has come."""

    def __init__(self, faults: FaultyBackend, primitive: str, leave: type[BaseException]) -> None:
        self.due = False
        self.happened = False
        self._leave = leave
        self._primitive = getattr(faults, primitive)
        setattr(faults, primitive, self)

    async def __call__(self, *arguments: Any) -> Any:
        """Raise it, as a second Ctrl-C does wherever the interpreter stands."""
        if self.due and not self.happened:
            self.happened = True
            raise self._leave
        return await self._primitive(*arguments)


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    ("primitive", "of"),
    [("write", "lane"), ("read_owners", "heartbeat")],
)
def test_an_exit_in_the_midst_of_our_tasks_ends_the_program(
    primitive: str, of: str, leave: type[BaseException]
) -> None:
    """``asyncio.run`` cancels what is left, hears of it once, and the program cleans up."""
    told: list[str] = []
    faults = FaultyBackend()
    exits = Exits(faults, primitive, leave)

    async def work(report: Reporter) -> None:
        exits.due = True
        await report.log("info", "here")

    async def main() -> None:
        try:
            async with FaultyStore(faults=faults) as store, TaskManager(store) as manager:
                manager.op("by-name")(work)
                await manager.submit("by-name")
                await (await manager.submit("work", work)).result()
                await asyncio.Event().wait()
        finally:
            told.append("closed")

    with pytest.raises(leave), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())

    assert exits.happened, of
    assert told == ["closed"]


class ExitingStore(FaultyStore):
    """A store under which the process is told to end, in what a run asks of it first."""

    def __init__(self, leave: type[BaseException]) -> None:
        super().__init__()
        self._leave = leave

    def attach_span(
        self, attempt: Attempt, trace_id: str | None, context: object, span_id: str | None = None
    ) -> None:
        """Raise it."""
        raise self._leave


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_an_exit_in_the_midst_of_a_run_ends_the_program(leave: type[BaseException]) -> None:
    """``asyncio.run`` cancels what is left, and the closing manager waits for no such run."""
    told: list[str] = []

    async def work(report: Reporter) -> None:
        return

    async def main() -> None:
        try:
            async with ExitingStore(leave) as store, TaskManager(store, drain=600.0) as manager:
                await (await manager.submit("work", work)).result()
        finally:
            told.append("closed")

    with pytest.raises(leave), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())

    assert told == ["closed"]


class ExitingAtCancel(FaultyStore):
    """A store under which the process is told to end when it records the cancel of one task."""

    def __init__(self, leave: type[BaseException]) -> None:
        super().__init__()
        self._leave = leave
        self.exits_at = ""

    async def request_cancel(self, task_id: str, *arguments: Any, **options: Any) -> Any:
        """Raise it."""
        if task_id == self.exits_at:
            self.exits_at = ""
            raise self._leave
        return await super().request_cancel(task_id, *arguments, **options)


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_an_exit_in_the_midst_of_a_close_does_not_keep_it_from_its_end(
    leave: type[BaseException],
) -> None:
    """Of a program that goes on after it: no task that waits for a slot is waited for."""
    loop = VirtualTimeLoop()
    store = ExitingAtCancel(leave)

    async def wait(report: Reporter) -> None:
        await asyncio.Event().wait()

    async def begin() -> TaskManager:
        manager = await TaskManager(await store.open(), max_running=1, drain=0.0).open()
        await manager.submit("work", wait)
        store.exits_at = (await manager.submit("work", wait)).task_id
        return manager

    manager = loop.run_until_complete(begin())
    closing = loop.create_task(manager.aclose())
    with pytest.raises(leave):
        loop.run_until_complete(closing)
    loop.run_until_complete(asyncio.wait([closing], timeout=60))
    closed = closing.done()
    loop.run_until_complete(store.aclose())
    loop.close()

    assert closed
