"""How a task of this process ended, for those who hold a handle on it."""

from __future__ import annotations

import asyncio

from tapescope.model.tasks import FinalEvent

__all__ = ["Completion"]


class Completion:
    """Resolved once, after the write that makes it true. The handles keep it, not the manager."""

    __slots__ = ("_waiters", "done", "error", "final")

    def __init__(self) -> None:
        self.done = False
        self.final: FinalEvent | None = None
        """What the tape says; ``None`` when only the store knows."""
        self.error: Exception | None = None
        """Why the ``final`` could not be written."""
        self._waiters: set[asyncio.Future[None]] = set()

    def resolve(self, final: FinalEvent | None, error: Exception | None) -> None:
        """Say how it ended and wake who waits."""
        self.done, self.final, self.error = True, final, error
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        """Wait until it is resolved."""
        if not self.done:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
