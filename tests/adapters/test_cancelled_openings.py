"""Stores whose opening or closing is cancelled at each turn of the loop, as anyio does it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tapescope.errors import StoreClosed
from tapescope.store import BackendContext
from tapescope.store.lookup import find_store
from tapescope.testing import MemoryBackend, MemoryStore, until

pytestmark = pytest.mark.unmade


async def cancel_when(
    begun: Callable[[], bool], work: Coroutine[Any, Any, Any]
) -> asyncio.Task[Any]:
    """Let the work run until then, and cancel it at each turn of the loop until its end."""
    task = asyncio.ensure_future(work)
    await until(begun, pause=lambda: asyncio.sleep(0))
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    return task


def find_threads() -> set[threading.Thread]:
    """The threads of SQLite connections."""
    return {one for one in threading.enumerate() if one.name.startswith("tapescope-sqlite")}


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_an_opening_that_is_cancelled_leaves_nothing(store_url: str, nth: int) -> None:
    """No connection, and no thread of one, is left open; the store can be opened after that."""
    before, turns = find_threads(), iter(range(1_000))
    store = find_store(store_url)

    def begun() -> bool:
        if store.adapter == "sqlite":
            return len(find_threads() - before) >= nth  # its nth connection is being made
        return next(turns) >= 8 * nth

    opening = await cancel_when(begun, store.open())
    await until(lambda: find_threads() <= before)
    gc.collect()  # a connection that was left open is told of, and that is an error

    assert opening.cancelled()
    with pytest.raises(StoreClosed):
        await store.count()
    async with store:
        assert not any((await store.count()).values())


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_closing_that_is_cancelled_leaves_nothing(store_url: str, nth: int) -> None:
    """What it has begun it ends: the store is closed, with its connections and their threads."""
    before, turns = find_threads(), iter(range(1_000))
    store = find_store(store_url)
    await store.open()
    await store.count()
    closing = await cancel_when(lambda: next(turns) >= nth, store.aclose())
    await until(lambda: find_threads() <= before)
    gc.collect()  # as above

    assert closing.cancelled()
    async with store:
        assert not any((await store.count()).values())


class OpeningBackend(MemoryBackend):
    """A backend whose opener is cancelled in the moment in which it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.opener: asyncio.Task[object] | None = None
        self.closed = 0

    async def open(self, context: BackendContext) -> None:
        """Open, and have the opener cancelled before it hears of that."""
        await super().open(context)
        if self.opener is not None:
            asyncio.get_running_loop().call_soon(self.opener.cancel)

    async def close(self) -> None:
        """Note it."""
        self.closed += 1
        await super().close()


async def test_an_opening_that_is_cancelled_too_late_is_taken_back() -> None:
    """It is open by then, and nobody else would close it."""
    backend = OpeningBackend()
    store = MemoryStore(backend=backend)
    backend.opener = asyncio.ensure_future(store.open())
    with pytest.raises(asyncio.CancelledError):
        await backend.opener

    assert backend.closed == 1
