"""Background work with one life: ``Service``, and ``LoopService`` for an asyncio task.

A loop survives whatever it meets, and shows signs of life (``Vitals``): no row and no defect ends
it unseen.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from tapescope.clock import Backoff
from tapescope.shielded import raise_defect, wait_shielded
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.model.telemetry import LoopName

__all__ = ["LoopService", "Service", "Vitals", "keep_alive"]

_log = Logger("tapescope")

_TOLD_EVERY: Final = 60.0
"""Seconds between two lines about the defects of one loop."""
_LONGEST_PAUSE: Final = 1.0
"""Seconds between two tries of a loop that meets a defect each time."""


class Vitals:
    """The signs of life of one background loop. Any thread may give them, and read them."""

    def __init__(
        self, loop: LoopName, count: Callable[[LoopName], object], stuck_after: float = 0.0
    ) -> None:
        """``count`` is told of each defect. A loop that gave a sign of life is stuck when it gives
        no other one for ``stuck_after`` seconds; 0: that is not asked."""
        self.loop = loop
        self._count = count
        self._stuck_after = stuck_after
        self._beat_at: float | None = None
        self._dead = False
        self._untold = 0
        self._tell_at = 0.0

    def beat(self) -> None:
        """The loop moves."""
        self._beat_at = time.monotonic()

    def rest(self) -> None:
        """The loop is not wanted for now."""
        self._beat_at = None

    def die(self) -> None:
        """The loop has ended, and was not asked to."""
        self._dead = True

    def failed(self, error: Exception) -> None:
        """The loop met what is not an error of a store, and goes on: count it, tell it at times."""
        self._count(self.loop)
        self._untold += 1
        now = time.monotonic()
        if now < self._tell_at:
            return
        more = f" ({self._untold} times by now)" if self._untold > 1 else ""
        self._untold, self._tell_at = 0, now + _TOLD_EVERY
        _log.error(
            "The loop %s of this process met a defect, and goes on%s: %s",
            self.loop.value,
            more,
            type(error).__name__,
            error=error,
        )

    def find_trouble(self) -> str:
        """What is wrong with the loop, as a person may read it; empty where nothing is."""
        if self._dead:
            return f"{self.loop.value} has ended"
        beat_at = self._beat_at
        silent = 0.0 if beat_at is None else time.monotonic() - beat_at
        if self._stuck_after and silent > self._stuck_after:
            return f"{self.loop.value} has not moved for {silent:.0f} s"
        return ""


async def keep_alive(vitals: Vitals, work: Callable[[], Awaitable[None]]) -> None:
    """Do this work until it returns or is cancelled; begin it anew when it raises."""
    backoff, loop = Backoff(), asyncio.get_running_loop()
    while True:
        try:
            return await work()
        except Exception as error:  # noqa: BLE001  # whatever it is, the next round may go well
            if loop.is_closed():
                return  # it ends with its loop
            vitals.failed(error)
        await backoff.wait(_LONGEST_PAUSE)


class Service(ABC):
    """Background work from ``start`` to ``stop``, which may each be called at any time.

    A second ``start`` does nothing. A ``stop`` before the start does nothing, and the service may
    still start. A second ``stop`` waits for the first, also at the same time, and goes on with one
    that was cancelled. A service has one life: ``start`` after ``stop`` raises ``RuntimeError``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        """Names its asyncio task or its thread."""
        self._started = False
        self._stopped = False
        self._ended = False
        self._stopping = asyncio.Lock()

    def start(self) -> None:
        """Begin, in the running event loop. Raises ``RuntimeError`` after a stop."""
        if self._stopped:
            raise RuntimeError(f"{self.name} was stopped: it does not start again")
        if not self._started:
            self._begin()
            self._started = True

    async def stop(self) -> None:
        """End, and return when it has ended."""
        async with self._stopping:
            self._stopped = self._started
            if self._started and not self._ended:
                await self._end()
                self._ended = True

    @abstractmethod
    def _begin(self) -> None:
        """Begin the work; called once."""

    @abstractmethod
    async def _end(self) -> None:
        """End the work and wait for its end; called again only after a call that was cancelled."""


class LoopService(Service):
    """A service that is one asyncio task, with an empty context, which a stop cancels."""

    _loop_task: asyncio.Task[None]

    def __init__(self, name: str, vitals: Vitals) -> None:
        super().__init__(name)
        self.vitals = vitals

    @abstractmethod
    def _run(self) -> Coroutine[Any, Any, None]:
        """The work; cancelled by the stop, wherever it waits, and begun anew when it raises."""

    async def _live(self) -> None:
        await keep_alive(self.vitals, self._run)
        self.vitals.die()

    def _begin(self) -> None:
        self.vitals.beat()
        self._loop_task = asyncio.get_running_loop().create_task(
            self._live(), name=self.name, context=contextvars.Context()
        )

    async def _end(self) -> None:
        self._loop_task.cancel()
        await wait_shielded(self._loop_task)
        raise_defect(self._loop_task)
        self.vitals.rest()
