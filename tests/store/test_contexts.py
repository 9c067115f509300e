"""What works for many callers is in the context of none: no span of one is another's."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from tapescope import Reporter, TaskManager
from tapescope.model.tasks import NewTask
from tapescope.store.flush import Flush, FlushBlocked
from tapescope.store.validation import new_task_id
from tapescope.testing import settle_loop, until
from tapescope.testing.tasks import log, start
from tests.support.memory_stores import FaultyBackend, FaultyStore, Gate, at_rest

CALLER: ContextVar[str | None] = ContextVar("caller", default=None)


class Looking(FaultyBackend):
    """A backend that notes whose context it is called in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str | None] = []
        self.before = self._look
        self.blocked = 0
        self.watched: list[str | None] = []

    async def _look(self, _: Flush) -> None:
        self.seen.append(CALLER.get())
        if self.blocked:
            self.blocked -= 1
            raise FlushBlocked("another session holds the row")

    async def watch(self) -> None:
        """Note it, and watch."""
        self.watched.append(CALLER.get())
        await super().watch()


class LookingStore(FaultyStore):
    """A store that notes in whose context a cancel is asked for, and where it is closed."""

    def __init__(self) -> None:
        self.looking = Looking()
        self.cancels: list[str | None] = []
        super().__init__(faults=self.looking)

    async def request_cancel(self, *arguments: Any, **named: Any) -> Any:
        """Note it, and ask."""
        self.cancels.append(CALLER.get())
        return await super().request_cancel(*arguments, **named)


async def test_a_flush_is_in_no_callers_context() -> None:
    """Neither the flush that a caller has begun, nor one that waits for a lock."""
    async with at_rest(store := LookingStore()):
        attempt = await start(store)
        await settle_loop()  # the lane has ended, and the next call begins another
        CALLER.set("me")
        await store.append(attempt, [log("at once")])
        await settle_loop()
        store.looking.blocked = 2
        await store.append(attempt, [log("after a lock")])

    assert len(store.looking.seen) >= 5
    assert set(store.looking.seen) == {None}


async def test_a_watch_is_in_no_followers_context() -> None:
    """It goes on for others when the follower who began it is gone."""
    async with at_rest(store := LookingStore()):
        CALLER.set("me")
        with store.changes() as changes:
            await anext(changes)  # it watches

    assert store.looking.watched == [None]


async def test_the_cancel_of_an_orphan_is_in_no_callers_context() -> None:
    """Its caller is gone."""
    async with at_rest(store := LookingStore()):
        gate = Gate()
        store.looking.before = gate
        CALLER.set("me")
        create = asyncio.ensure_future(store.create(NewTask(new_task_id(), "work")))
        await gate.reached.wait()
        create.cancel()
        with pytest.raises(asyncio.CancelledError):
            await create
        gate.opened.set()
        await store.orphans_ended()

    assert store.cancels == [None]


async def test_a_run_and_its_shutdown_are_in_no_callers_context() -> None:
    """Neither that of who submits the task, nor that of who closes the manager."""
    seen: list[str | None] = []

    async def work(report: Reporter) -> None:
        seen.append(CALLER.get())
        await asyncio.get_running_loop().create_future()

    async with at_rest(store := LookingStore()):
        manager = await TaskManager(store, drain=0).open()
        CALLER.set("me")
        await manager.submit("work", work)
        await until(lambda: bool(seen))
        await manager.aclose()

    assert seen == [None]
    assert store.cancels == [None]
