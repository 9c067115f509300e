"""Background work with one life: ``Service``, and ``LoopService`` for an asyncio task."""

from __future__ import annotations

import asyncio
import contextvars
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

__all__ = ["LoopService", "Service"]


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

    @abstractmethod
    def _run(self) -> Coroutine[Any, Any, None]:
        """The work; cancelled by the stop, wherever it waits."""

    def _begin(self) -> None:
        self._loop_task = asyncio.get_running_loop().create_task(
            self._run(), name=self.name, context=contextvars.Context()
        )

    async def _end(self) -> None:
        self._loop_task.cancel()
        with suppress(asyncio.CancelledError):  # the stop's own
            await self._loop_task
