"""A loop in a thread, and who waits for it when it ends."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from tapescope import ManagerClosed, TaskManager
from tapescope.sync.loop_thread import LoopThread
from tapescope.testing import MemoryStore, until


async def count(manager: TaskManager) -> int:
    """How many tasks the store has."""
    return sum((await manager.store.count()).values())


def begin() -> LoopThread:
    """A life on a store in memory."""
    store = MemoryStore()
    return LoopThread(TaskManager(store), store)


def test_no_call_waits_for_a_loop_that_has_ended() -> None:
    """It is told that the manager is closed."""
    life = begin()
    before = life.call(count)
    life.close()
    with pytest.raises(ManagerClosed):
        life.call(count)

    assert before == 0
    assert life.over


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the exit leaves the store open
async def test_an_exit_in_the_loop_leaves_no_caller_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that a callback raises ends the loop, as it would end a program's: whoever waits is told,
    also where what is waited for ignores its cancel."""
    monkeypatch.setattr("tapescope.sync.loop_thread.STUBBORN_WAIT", 0.01)
    life = begin()
    life.loop.set_exception_handler(lambda _, context: None)  # of a task that is destroyed
    waiting = asyncio.Event()
    here = asyncio.get_running_loop()

    async def wait(_: TaskManager) -> None:
        here.call_soon_threadsafe(waiting.set)
        while not life.over:
            with suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()

    def leave() -> None:
        raise SystemExit(3)

    def call() -> None:
        try:
            life.call(wait)
        except ManagerClosed as error:
            told.append(error)

    told: list[ManagerClosed] = []
    threading.Thread(target=call, daemon=True).start()
    await waiting.wait()
    life.loop.call_soon_threadsafe(leave)
    await until(lambda: told, within=5)

    assert life.over
