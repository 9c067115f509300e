"""Submits and cancels over HTTP: a real server, the client, and followers of its live streams."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from tapescope import Reporter, TaskManager
from tapescope.client import Client, ClientTask
from tapescope.errors import TaskCancelled, TaskFailed
from tapescope.http.api import make_app
from tapescope.testing import History, until
from tests.http.client import serving
from tests.stress.actors import Actor, Plan
from tests.stress.benches import Bench
from tests.stress.delays import Delays, pause
from tests.stress.harness import GRACE, Result, judge, read_events
from tests.stress.kinds import cancel_emitting_runner, cancel_soon

__all__ = ["OVER_HTTP", "play_over_http"]

OVER_HTTP: Final = "cancel-over-http"
"""Cancelled 0 to 20 ms after the answer to the submit, all of it over HTTP."""
_AT_ONCE: Final = 8
"""Scenarios at once: with more of them the answers take so long that most tasks have ended."""


async def play_over_http(bench: Bench, runs: int, seed: int, *, patience: float = 30.0) -> Result:
    """At least ``runs`` scenarios, ``_AT_ONCE`` at the same time on one server, all judged.

    What the client was told is judged as well: its result against the row, and what a follower was
    told against the tape.
    """
    result = Result(OVER_HTTP, bench.name, seed)
    delays = Delays(seed)
    began = time.perf_counter()
    while result.runs < runs:
        history = bench.store.history = History()
        history.began_with = bench.store.meter.ledger.read()
        actors = [Actor(_draw(delays)) for _ in range(min(_AT_ONCE, runs - result.runs))]
        async with (
            _make_manager(bench, actors, patience) as manager,
            serving(make_app(manager)) as (server, _),
            Client(server.url) as client,
        ):
            await asyncio.gather(
                *(
                    _play_one(bench, client, n, one, result, patience)
                    for n, one in enumerate(actors)
                )
            )
            await until(partial(_are_at_rest, actors), within=60)
        await judge(bench, history, result)
    result.seconds = time.perf_counter() - began
    result.delays = delays.describe()
    return result


def _draw(delays: Delays) -> Plan:
    """Work that may have ended before its cancel comes, or what goes on until then."""
    return delays.random.choice((cancel_soon, cancel_emitting_runner))(delays)


def _make_manager(bench: Bench, actors: list[Actor], patience: float) -> TaskManager:
    manager = TaskManager(
        bench.store,
        cancel_grace=GRACE,
        drain=patience,
        max_running=max(1, len(actors) * 3 // 4),  # some are cancelled while they wait for a slot
        max_zombies=2 * _AT_ONCE,
    )

    @manager.op("stress-work", retries=0)
    async def work(report: Reporter, actor: int) -> str:  # pyright: ignore[reportUnusedFunction]  # an op
        return await actors[actor].run(report)

    return manager


def _are_at_rest(actors: list[Actor]) -> bool:
    return all(actor.at_rest for actor in actors)


async def _play_one(
    bench: Bench, client: Client, n: int, actor: Actor, result: Result, patience: float
) -> None:
    plan = actor.plan
    task = await client.submit("stress-work", params={"actor": n})
    following = asyncio.ensure_future(_follow(task)) if plan.follow else None
    assert plan.cancel_after is not None
    await pause(plan.cancel_after)
    await task.cancel("stress")
    told = "succeeded"
    try:
        await task.result(timeout=patience)
    except TaskCancelled:
        told = "cancelled"
    except TaskFailed:
        told = "failed"
    except TimeoutError:
        told = "no end"
    row = await bench.store.get(task.task_id)
    if row.status.value != told:
        result.blame(task.task_id, f"the client was told {told}, the row says {row.status.value}")
    if following is None:
        return
    try:
        heard = await asyncio.wait_for(following, patience)
    except TimeoutError:
        result.blame(task.task_id, "I9: a follower did not hear of the end")
        return
    tape = [(one.seq, one.type) async for one in read_events(bench.store, task.task_id)]
    if heard != tape:
        result.blame(task.task_id, f"I9: a follower was told {heard}, the tape is {tape}")


async def _follow(task: ClientTask) -> list[tuple[Any, ...]]:
    async with aclosing(task.follow()) as tape:
        return [(one.seq, one.type) async for one in tape]
