"""Memory stores for tests: with faults on demand, with an account of their flushes, recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

from opentelemetry.metrics import NoOpMeterProvider

from tapescope.clock import Clock
from tapescope.store.flush import Flush, FlushAnswer
from tapescope.store.validation import StoreLimits
from tapescope.testing import MemoryBackend, MemoryStore, Recording, check
from tapescope_telemetry import Telemetry
from tests.support.virtual_time import VirtualClock

Hook = Callable[[Flush], Awaitable[None]]


async def _nothing(_: Flush) -> None:
    pass


class FaultyBackend(MemoryBackend):
    """A memory backend whose flushes a test may hold up, refuse or lose."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        self.flushes: list[Flush] = []
        """Every flush that was tried, in order; one that was resent is there again."""
        self.under_way = 0
        self.most_under_way = 0

    async def write(self, flush: Flush) -> FlushAnswer:
        self.flushes.append(flush)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.before(flush)
            answer = await super().write(flush)
            await self.after(flush)
        finally:
            self.under_way -= 1
        return answer


class TwoLaneBackend(FaultyBackend):
    """The same with two lanes."""

    write_lanes: ClassVar[int] = 2


class FaultyStore(Recording, MemoryStore):
    """A recorded memory store; its faults are its backend's."""

    def __init__(
        self,
        *,
        limits: StoreLimits | None = None,
        patience: float = 10.0,
        clock: Clock | None = None,
        faults: FaultyBackend | None = None,
    ) -> None:
        self.faults = faults or FaultyBackend()
        own = Telemetry(meter_provider=NoOpMeterProvider())  # its ledger counts this store alone
        super().__init__(
            telemetry=own,
            clock=clock or VirtualClock(),
            limits=limits,
            patience=patience,
            backend=self.faults,
        )


class Gate:
    """A ``before`` hook that holds flushes back until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, flush: Flush) -> None:
        """Wait at the gate."""
        self.reached.set()
        await self.opened.wait()


@asynccontextmanager
async def at_rest(store: FaultyStore) -> AsyncGenerator[FaultyStore]:
    """The store, opened; at the end it is closed and judged: nothing lost, all accounted for."""
    async with store:
        yield store
    await store.open()  # memory is kept: read it once more, at rest
    violations = await check(store.history, store)
    await store.aclose()

    assert violations == []


def holds(flush: Flush, word: str) -> bool:
    """Whether a row of the flush has this word in its body."""
    return any(word in row.body for row in flush.rows)


async def bodies(store: FaultyStore, task_id: str) -> list[object]:
    """The messages of the ``log`` events of a tape."""
    page = await store.read_tape(task_id)
    return [event.body["message"] for event in page.events if event.type == "log"]
