"""A thousand followers at once: each is told every ``seq`` once and in order (invariant I9)."""

from __future__ import annotations

import asyncio
import time

import pytest

from tapescope import Reporter, TaskManager
from tapescope.http.api import ApiLimits, make_app
from tapescope.testing import until
from tests.http.client import serving
from tests.http.followers import AT_ONCE, Follower, tell

FOLLOWERS = 1_000


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("tasks", "ticks"), [(1, 20), (FOLLOWERS, 3)])
async def test_a_thousand_followers_lose_nothing(served_url: str, tasks: int, ticks: int) -> None:
    """All of one task, and each of a task of its own, that write while they are followed."""
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()
    manager = TaskManager(served_url, max_running=FOLLOWERS, drain=0, lease=600, heartbeat=60)

    @manager.op("tick")
    async def tick(report: Reporter) -> None:
        begun.release()
        await go_on.wait()
        for _ in range(ticks):
            await report.emit("tick", time.monotonic())

    app = make_app(manager, limits=ApiLimits(streams=FOLLOWERS))
    async with manager, serving(app) as (server, _):
        handles = [await manager.submit("tick") for _ in range(tasks)]
        for _ in handles:
            await begun.acquire()
        followers = [Follower(server.port, handles[n % tasks].task_id) for n in range(FOLLOWERS)]
        gate = asyncio.Semaphore(AT_ONCE)
        following = [asyncio.ensure_future(one.follow(gate)) for one in followers]
        seats = app.state.tapescope.seats
        assert await until(lambda: seats.taken == FOLLOWERS, within=300)
        go_on.set()
        await asyncio.gather(*following)
        tapes = [await handle.tape() for handle in handles]
        audit = await manager.audit()
    print("\n" + tell(f"{FOLLOWERS:,} followers of {tasks:,} tasks", followers))

    whole = list(range(1, ticks + 3))
    assert [[event.seq for event in tape.events] for tape in tapes] == [whole] * tasks
    assert [one.seqs for one in followers] == [whole] * FOLLOWERS
    assert {one.final_seq for one in followers} == {ticks + 2}
    assert seats.taken == 0
    assert audit.violations == ()
