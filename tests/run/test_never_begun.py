"""A run's asyncio task that ends before its run: cancelled before its first step, or by an exit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tapescope import Reporter, TaskFailed, TaskManager
from tapescope.model.tasks import Attempt
from tests.support.memory_stores import FaultyBackend, FaultyStore
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.workbench import working


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
        loop = asyncio.get_running_loop()
        before, struck = loop.get_task_factory(), 0

        def make(loop: asyncio.AbstractEventLoop, coroutine: object, **settings: object) -> object:
            nonlocal struck
            task: asyncio.Task[object] = asyncio.Task(coroutine, loop=loop, **settings)  # type: ignore[arg-type]
            if not struck and getattr(coroutine, "__qualname__", "") == "Run._run":
                struck += 1
                task.cancel()
            return task

        loop.set_task_factory(make)  # type: ignore[arg-type]
        try:
            if by_name:
                manager.op("work", retries=2)(work)
            task = await manager.submit("work", None if by_name else work)
            with pytest.raises(TaskFailed, match="unrequested_cancel"):
                await task.result(5)
        finally:
            loop.set_task_factory(before)
        again = await manager.submit("work", None if by_name else work)
        result = await again.result(5)
        row = await task.status()

    assert struck == 1
    assert (row.status.value, row.attempt) == ("failed", 1)
    assert result == "done"
    assert begun == [1]


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
