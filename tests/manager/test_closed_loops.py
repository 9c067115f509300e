"""A manager whose event loop is closed under it, as a program that stops its loop does."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from tapescope import NewTask, Reporter, Task, TaskManager, find_store
from tapescope.model.tasks import Claim
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryBackend, MemoryStore, settle_loop
from tapescope.testing._tables import Record

Story = Callable[[TaskManager], Awaitable[None]]


async def work(report: Reporter) -> None:
    """Wait, and report that the wait is over however it ends."""
    try:
        await asyncio.Event().wait()
    finally:
        await report.log("info", "cleaned up")


async def swallow(report: Reporter) -> None:
    """Take the end of the loop for an answer."""
    try:
        await asyncio.Event().wait()
    except GeneratorExit:
        return


async def idle(manager: TaskManager) -> None:
    """A worker that waits for tasks."""
    manager.op("shared")(work)
    await settle_loop()


async def follow(manager: TaskManager) -> None:
    """A follower."""
    task = await manager.submit("later", work, delay=60)
    following = asyncio.ensure_future(anext(task.follow()))
    await settle_loop()
    assert not following.done()


async def run(manager: TaskManager) -> None:
    """Runs that cannot clean up, and one that waits for its slot."""
    for runner in (work, swallow, work):
        await manager.submit("work", runner)
    await settle_loop()


async def run_cancelled(manager: TaskManager) -> None:
    """The same, and one of them was just told to stop."""
    task = await manager.submit("work", work)
    await run(manager)
    await task.cancel()


async def submit(manager: TaskManager) -> None:
    """A submit that has no answer yet, after a run that has ended meanwhile."""
    ends = asyncio.Event()

    async def wait(_: Reporter) -> None:
        await ends.wait()

    async def never(new_task: NewTask, *claimed: object) -> tuple[Task, bool]:
        await asyncio.Event().wait()
        raise AssertionError(new_task)

    task = await manager.submit("ended", wait)
    manager.store.create = never  # type: ignore[method-assign]  # a store that does not answer
    manager.store.create_claimed = never  # type: ignore[method-assign,assignment]
    submitting = asyncio.ensure_future(manager.submit("work", work))
    await settle_loop()
    ends.set()
    await task.result()
    await settle_loop()
    assert not submitting.done()


async def claim(manager: TaskManager) -> None:
    """A worker that claims, and a run that waits for one of the slots it has taken."""
    claiming = asyncio.Event()

    async def never(*order: object, **_: object) -> list[Claim]:
        claiming.set()
        await asyncio.Event().wait()
        raise AssertionError(order)

    manager.store.claim_due = never  # type: ignore[method-assign]  # a store that does not answer
    manager.op("shared")(work)
    await claiming.wait()
    await manager.submit("work", work)
    await settle_loop()


def close_under(live: Callable[[], Coroutine[Any, Any, None]], patch: pytest.MonkeyPatch) -> Any:
    """Close the loop when ``live`` is over, and collect it; gives what was raised where nobody can
    catch it."""
    said: list[object] = []

    async def live_and_stop() -> None:
        await live()
        loop.stop()
        await asyncio.Event().wait()

    def hear(what: sys.UnraisableHookArgs) -> None:
        said.append(what.exc_value)

    patch.setattr(sys, "unraisablehook", hear)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: None)  # of tasks that are destroyed
    living = loop.create_task(live_and_stop())
    loop.run_forever()
    loop.close()
    del living
    gc.collect()
    return said


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # nobody could close its connections
def test_a_store_whose_loop_is_closed_while_it_closes_ends_in_silence(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for no connection any more: there is no loop in which it could."""

    async def close() -> None:
        store = await find_store(store_url).open()
        creating = asyncio.ensure_future(store.create(NewTask(new_task_id(), "work")))
        closing = asyncio.ensure_future(store.aclose())
        await settle_loop(2)
        assert not creating.done()
        assert not closing.done()

    assert close_under(close, monkeypatch) == []


@pytest.mark.parametrize("story", [idle, follow, run, run_cancelled, submit, claim])
def test_what_a_closed_loop_leaves_ends_in_silence(
    story: Story, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised in its coroutines, and none of them goes on or begins another run."""
    kept: list[dict[int, Record]] = []

    async def live() -> None:
        backend = MemoryBackend()
        kept.append(backend.records)  # the backend itself would hold all that the loop leaves
        store = await MemoryStore(backend=backend).open()
        await story(await TaskManager(store, max_running=2).open())

    assert close_under(live, monkeypatch) == []
    assert [one.getMessage() for one in caplog.records if one.name.startswith("tapescope")] == []
    tasks = (record.task for record in kept[0].values())
    assert not any(task.status.terminal for task in tasks if task.op != "ended")
