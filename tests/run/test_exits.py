"""An exit of the process that is raised inside a task of ours, which other code of ours awaits.

asyncio raises it out of the loop at once, and keeps it in the task. Raised from there as well, it
would end whatever cleans up after the first.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tapescope import Reporter, ShellCommand, Submission, TaskManager
from tapescope.maintenance.maintainer import Maintainer
from tapescope.model.ops import KnownOp
from tapescope.testing.tasks import create
from tapescope_adapters.sqlite import SqliteStore
from tests.support.memory_stores import FaultyStore
from tests.support.virtual_time import VirtualTimeLoop


class Exit:
    """Has a method tell the process to end the next time that it is called, once."""

    def __init__(self, leave: type[BaseException]) -> None:
        self._leave = leave
        self.happened = False

    def strike(self, of: object, method: str) -> None:
        """Let it be this method of this object."""
        whole = getattr(of, method)

        async def struck(*arguments: Any, **named: Any) -> Any:
            if not self.happened:
                self.happened = True
                await asyncio.sleep(0)
                raise self._leave
            return await whole(*arguments, **named)

        setattr(of, method, struck)


async def _work(report: Reporter) -> None:
    await report.log("info", "here")


async def _claim(exits: Exit, _: Path) -> None:
    async with FaultyStore() as store:
        exits.strike(store.faults, "claim_due")
        await store.claim_due("me", ["x"], 1, 60.0)


async def _give_claims_back(exits: Exit, _: Path) -> None:
    async with FaultyStore() as store:
        await create(store, "x")
        claims = store._claims  # pyright: ignore[reportPrivateUsage]  # the release it was given
        exits.strike(claims, "_release")
        claiming = asyncio.ensure_future(store.claim_due("me", ["x"], 1, 60.0))
        await asyncio.sleep(0)
        claiming.cancel()
        await claiming


async def _change(exits: Exit, _: Path) -> None:
    async with FaultyStore() as store:
        exits.strike(store.faults, "register_ops")
        await store.ops.register([KnownOp("x", None, 0)])


async def _open(exits: Exit, _: Path) -> None:
    store = FaultyStore()
    exits.strike(store.faults, "open")
    await store.open()


async def _close(exits: Exit, _: Path) -> None:
    store = await FaultyStore().open()
    exits.strike(store.faults, "close")
    await store.aclose()


async def _submit_many(exits: Exit, _: Path) -> None:
    async with FaultyStore() as store, TaskManager(store) as manager:
        exits.strike(store, "create_claimed")
        await manager.submit_many([Submission("x", _work), Submission("x", _work)])


async def _close_manager(exits: Exit, _: Path) -> None:
    async with FaultyStore() as store:
        manager = await TaskManager(store).open()
        heartbeat = manager._heartbeat  # pyright: ignore[reportPrivateUsage]  # the closing stops it
        exits.strike(heartbeat, "stop")
        await manager.aclose()


async def _lead(exits: Exit, _: Path) -> None:
    async with FaultyStore() as store:
        exits.strike(store.faults, "acquire_leadership")
        maintainer = Maintainer(store, "me", audit_every=1, rows_per_second=1e6, retention=None)
        await maintainer.run_once()


async def _checkpoint(exits: Exit, folder: Path) -> None:
    async with SqliteStore(f"sqlite:///{folder / 'tasks.db'}") as store:
        backend: Any = store._core.backend  # pyright: ignore[reportPrivateUsage]  # its checkpoints
        exits.strike(backend._checkpointer, "run")
        backend._begin_checkpoint()
        await asyncio.Event().wait()


async def _pass_on(exits: Exit, _: Path) -> None:
    class Sink:
        async def take(self, name: str, chunk: bytes) -> None:
            """Take it."""

    sink = Sink()
    exits.strike(sink, "take")
    command = ShellCommand([sys.executable, "-c", "print(1)"], sink=sink.take)
    async with FaultyStore() as store, TaskManager(store) as manager:
        await (await manager.submit("x", command)).result()


PLACES = [
    _claim,
    _give_claims_back,
    _change,
    _open,
    _close,
    _submit_many,
    _close_manager,
    _lead,
    _checkpoint,
    _pass_on,
]
REAL = [_checkpoint, _pass_on]
"""What needs a loop of real time: a driver's thread, or a process."""


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("by_hand", [False, True], ids=["asyncio.run", "by hand"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__[1:])
def test_an_exit_in_a_task_of_ours_is_raised_once(
    place: Callable[[Exit, Path], Awaitable[None]],
    by_hand: bool,
    leave: type[BaseException],
    tmp_path: Path,
) -> None:
    """Who awaits the task is cancelled, and cleans up, whether or not the loop cancels it too."""
    exits, told = Exit(leave), list[str]()

    async def main() -> None:
        try:
            await place(exits, tmp_path)
        finally:
            await asyncio.sleep(0)
            told.append("cleaned up")

    loop_factory = asyncio.new_event_loop if place in REAL else VirtualTimeLoop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            if by_hand:
                loop = runner.get_loop()
                running = loop.create_task(main())
                with pytest.raises(leave):
                    loop.run_until_complete(running)
                loop.run_until_complete(asyncio.sleep(0.01))
                running.cancel()
                loop.run_until_complete(asyncio.wait([running], timeout=10))
            else:
                with pytest.raises(leave):
                    runner.run(main())
    except leave:  # here, for pytest would end all tests
        told.append("raised again")

    assert exits.happened
    assert told == ["cleaned up"]
