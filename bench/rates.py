"""A store's own rates: events appended by many tasks at once, and no-op tasks from end to end."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import psutil

from bench.drivers import BODY
from tapescope import (
    NewEvent,
    NewTask,
    Reporter,
    TaskHandle,
    TaskManager,
    TaskStore,
    find_store,
)
from tapescope.model.tasks import Claim
from tapescope.store.validation import new_task_id

_MESSAGE = {"message": BODY[len('{"message":"') : -len('"}')]}


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[TaskStore]:
    async with find_store(url) as store:
        yield store


async def _claims(store: TaskStore, tasks: int) -> list[Claim]:
    made = await asyncio.gather(
        *(store.create(NewTask(new_task_id(), "bench")) for _ in range(tasks))
    )
    claims = await asyncio.gather(
        *(store.claim_if_pending(task, "bench", 3_600) for task, _ in made)
    )
    return [claim for claim in claims if claim is not None]


async def append_rate(
    url: str, tasks: int, total: int, prepare: Callable[[], Awaitable[None]] | None = None
) -> float:
    """Events a second, each awaited until it is durable, by so many tasks at once."""
    async with _opened(url) as store:
        claims = await _claims(store, tasks)
        if prepare is not None:
            await prepare()

        async def report(claim: Claim) -> None:
            for _ in range(total // tasks):
                await store.append(claim.attempt, [NewEvent("log", _MESSAGE)])

        begun = time.perf_counter()
        await asyncio.gather(*map(report, claims))
        return (total // tasks * tasks) / (time.perf_counter() - begun)


async def append_times(url: str, tasks: int, total: int) -> list[float]:
    """Seconds from each offer to its acknowledgement, with so many tasks at once."""
    took: list[float] = []
    async with _opened(url) as store:

        async def report(claim: Claim) -> None:
            for _ in range(total // tasks):
                begun = time.perf_counter()
                await store.append(claim.attempt, [NewEvent("log", _MESSAGE)])
                took.append(time.perf_counter() - begun)

        await asyncio.gather(*map(report, await _claims(store, tasks)))
    return took


async def follow_times(url: str, total: int) -> list[float]:
    """Seconds from an offer to its event at a follower of this process, one at a time."""
    took: list[float] = []
    offered: list[float] = []

    async def report(reporter: Reporter) -> None:
        for _ in range(total):
            seen.clear()
            offered.append(time.perf_counter())
            await reporter.emit("log.line", _MESSAGE)
            await seen.wait()

    seen = asyncio.Event()
    async with TaskManager(url) as manager:
        handle = await manager.submit("bench", report)
        async for event in handle.follow():
            if event.type == "log.line":
                took.append(time.perf_counter() - offered[-1])
                seen.set()
    return took


async def _nothing(report: object) -> None:
    """The runner of a no-op task."""


async def _finish(manager: TaskManager, tasks: int, at_once: int) -> None:
    """Submit no-op tasks one by one and wait for each, ``at_once`` of them at a time."""

    async def keep_going(mine: int) -> None:
        for _ in range(mine):
            handle = await manager.submit("noop", _nothing)
            await handle.result()

    await asyncio.gather(*(keep_going(tasks // at_once) for _ in range(at_once)))


async def task_rate(url: str, tasks: int) -> float:
    """No-op tasks a second, 100 at once, each until its ``final`` is durable."""
    async with TaskManager(url) as manager:
        await _finish(manager, 500, 100)
        begun = time.perf_counter()
        await _finish(manager, tasks, 100)
        return tasks / (time.perf_counter() - begun)


async def memory_after(url: str, counts: tuple[int, ...]) -> list[tuple[int, float, int]]:
    """(finished tasks, resident MiB, live objects) of one manager after so many tasks."""
    process = psutil.Process(os.getpid())
    found: list[tuple[int, float, int]] = []
    async with TaskManager(url) as manager:
        done = 0
        for count in counts:
            await _finish(manager, count - done, 100)
            done = count
            gc.collect()
            found.append((count, process.memory_info().rss / 2**20, len(gc.get_objects())))
    return found


async def memory_pending(url: str, tasks: int) -> float:
    """KiB that a pending task holds in its manager."""
    process = psutil.Process(os.getpid())
    release = asyncio.Event()
    handles: deque[TaskHandle] = deque()

    async def wait(report: object) -> None:
        await release.wait()

    async with TaskManager(url, max_running=1) as manager:
        await _finish(manager, 1, 1)
        gc.collect()
        before = process.memory_info().rss
        for _ in range(tasks):
            handles.append(await manager.submit("wait", wait))
        gc.collect()
        held = process.memory_info().rss - before
        release.set()
    return held / 1024 / tasks
