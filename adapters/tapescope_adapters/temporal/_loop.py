"""A thread with an event loop for all that is Temporal's: no runner that blocks the manager's loop
keeps a heartbeat of an activity, and none of the SDK's work holds up a runner."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

__all__ = ["EngineLoop"]

T = TypeVar("T")

_END_WITHIN: Final = 5.0
"""Seconds that the thread has to end what it does."""


class EngineLoop:
    """A daemon thread with an event loop, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tapescope-temporal", daemon=True)
        self._stopped = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait_for(_ended(left), _END_WITHIN))
        except TimeoutError:
            pass  # it is a daemon: what does not end, ends with the process
        finally:
            self._loop.close()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Do this in the thread. Any thread may ask."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this in the thread, and wait for it here. Who is cancelled cancels it."""
        return await asyncio.wrap_future(self.begin(work))

    async def stop(self) -> None:
        """End the thread; waits for it for a few seconds. May be called twice."""
        if self._stopped:
            return
        self._stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, 2 * _END_WITHIN)


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
