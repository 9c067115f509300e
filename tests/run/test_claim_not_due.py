"""A claim that comes too early for the store's clock is made again."""

from __future__ import annotations

from tapescope import Reporter, TaskManager
from tapescope.clock import Clock
from tapescope.model.tasks import Claim, Task
from tapescope_adapters.sqlite import SqliteStore


class _SteppedBack(Clock):
    """A wall clock that is set back by half a second once the first task is created."""

    def __init__(self) -> None:
        self.behind = 0

    def now(self) -> int:
        return super().now() - self.behind


async def test_clock_set_back_between_create_and_claim_loses_no_task(sqlite_url: str) -> None:
    """A pending task that is not due yet by a clock that was set back runs when it is."""
    clock = _SteppedBack()

    async def work(report: Reporter) -> str:
        return "done"

    async def set_back(report: Reporter) -> None:
        clock.behind = 500_000

    async with (
        SqliteStore(sqlite_url, clock=clock) as store,
        TaskManager(store, max_running=1) as m,
    ):
        first = await m.submit("first", set_back)
        second = await m.submit("second", work)
        await first.result(timeout=20)

        assert await second.result(timeout=20) == "done"


class _SteppedStore(SqliteStore):
    """A store whose clock is set back at the first claim of a task by its id."""

    def __init__(self, url: str, clock: _SteppedBack) -> None:
        super().__init__(url, clock=clock)
        self.stepped = clock
        self.asked = 0

    async def claim_if_pending(self, task: Task, owner: str, lease: float) -> Claim | None:
        """Set the clock back, once, and claim."""
        self.asked += 1
        if self.asked == 1:
            self.stepped.behind = 500_000
        return await super().claim_if_pending(task, owner, lease)


async def test_clock_set_back_at_the_claim_loses_no_task(sqlite_url: str) -> None:
    """The task was due a moment before: it is claimed again until it is."""

    async def work(report: Reporter) -> str:
        return "done"

    async with _SteppedStore(sqlite_url, _SteppedBack()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", work, idempotency_key="claimed by its id")

        assert await task.result(timeout=20) == "done"
        assert store.asked > 1
