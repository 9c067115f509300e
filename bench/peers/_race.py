"""What every peer's program shares: its arguments, its answer, and how tasks are submitted.

A program is called as ``python PROGRAM DATABASE WORK TASKS CAP`` in an environment of its own, so
it has nothing but the standard library from here. Its answer is one line of JSON on stdout.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

WARM_UP = 200
"""Tasks before the clock starts: connections, plans and code are there then."""
LOOK_EVERY = 0.002
"""Seconds between two looks at what a peer has recorded, once all its tasks have run."""


@dataclass(frozen=True)
class Race:
    """What is to be run."""

    database: str
    """A libpq URL of an empty database, or the path of a SQLite file that is not there yet."""
    work: str
    """``one``: each task submitted by itself; ``bulk``; ``events``: 10 of them a task."""
    tasks: int
    cap: int
    """Tasks that may run at once, and submits that may wait at once."""


def read() -> Race:
    """The race of this process."""
    database, work, tasks, cap = sys.argv[1:]
    return Race(database, work, int(tasks), int(cap))


def tell(seconds: float, settings: str, durability: str) -> None:
    """Answer the harness: how long it took, and what it was run with."""
    answer: dict[str, Any] = {
        "seconds": seconds,
        "settings": settings,
        "durability": durability,
        "python": sys.version.split()[0],
    }
    print(json.dumps(answer), flush=True)


async def submit_in_turn(submit: Callable[[int], Awaitable[object]], race: Race) -> None:
    """``cap`` callers, each of which submits one task after the other."""
    numbers = iter(range(race.tasks))

    async def call() -> None:
        for number in numbers:
            await submit(number)

    await asyncio.gather(*(call() for _ in range(race.cap)))


async def time_it(
    run: Callable[[Race], Awaitable[None]], race: Race, worker: asyncio.Task[None] | None = None
) -> float:
    """Seconds of a run of so many tasks, after a smaller one that warms up.

    Raises what the worker that is beside it raises.
    """

    async def time_both() -> float:
        await run(Race(race.database, race.work, WARM_UP, race.cap))
        gc.collect()
        began = time.perf_counter()
        await run(race)
        return time.perf_counter() - began

    timing = asyncio.create_task(time_both())
    await asyncio.wait(
        [timing] if worker is None else [timing, worker], return_when=asyncio.FIRST_COMPLETED
    )
    if not timing.done():
        assert worker is not None
        timing.cancel()
        worker.result()
        raise RuntimeError("the worker ended by itself")
    return timing.result()


async def until(seen: Callable[[], Awaitable[object]]) -> None:
    """Look until it is so."""
    while not await seen():  # noqa: ASYNC110  # it is another program's record
        await asyncio.sleep(LOOK_EVERY)
