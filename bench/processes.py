"""What passes between two processes on one store: followed events, and cancels.

``python -m bench.processes URL follow|cancel N`` is the other one. ``time.monotonic`` is the same
clock in both.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tapescope import Reporter, TaskCancelled, TaskManager

__all__ = ["cancel_times", "follow_times"]

_ROOT = Path(__file__).parents[1]


async def follow_times(url: str, total: int) -> list[float]:
    """Seconds from an offer in one process to its event at a follower in another, one at a time."""
    async with TaskManager(url) as manager, _other(url, "follow", total) as other:
        task = manager.handle(await _read(other))
        return [
            time.monotonic() - event.body async for event in task.follow() if event.type == "tick"
        ]


async def cancel_times(url: str, total: int) -> tuple[list[float], list[float]]:
    """Seconds from a cancel in one process to the runner of another, and to the task's end here."""
    heard: list[float] = []
    ended: list[float] = []
    async with TaskManager(url) as manager, _other(url, "cancel", total) as other:
        for task_id in json.loads(await _read(other)):
            task = manager.handle(task_id)
            await asyncio.sleep(random.uniform(0.0, 0.03))  # at any moment of a poll
            asked = time.monotonic()
            await task.cancel()
            with suppress(TaskCancelled):
                await task.result()
            ended.append(time.monotonic() - asked)
            heard.append(float(await _read(other)) - asked)
    return heard, ended


@asynccontextmanager
async def _other(url: str, part: str, total: int) -> AsyncGenerator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.processes", url, part, str(total)),
        cwd=_ROOT,
        stdout=PIPE,
        limit=1 << 20,
    )
    try:
        yield process
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _read(process: Process) -> str:
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, "the other process has ended"
    return line.decode().strip()


async def _emit(url: str, total: int) -> None:
    async def work(report: Reporter) -> None:
        for _ in range(total):
            await asyncio.sleep(random.uniform(0.02, 0.05))
            await report.emit("tick", time.monotonic())

    async with TaskManager(url) as manager:
        task = await manager.submit("bench", work, delay=0.3)  # until a follower listens
        print(task.task_id, flush=True)
        await task.result()


async def _wait(url: str, total: int) -> None:
    async def work(report: Reporter) -> None:
        await report.log("info", "here")
        begun.append(report.task_id)
        if len(begun) == total:
            print(json.dumps(begun), flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print(time.monotonic(), flush=True)

    begun: list[str] = []
    async with TaskManager(url, max_running=total) as manager:
        tasks = [await manager.submit("bench", work) for _ in range(total)]
        for task in tasks:
            with suppress(TaskCancelled):
                await task.result()


if __name__ == "__main__":
    parts = {"follow": _emit, "cancel": _wait}
    asyncio.run(parts[sys.argv[2]](sys.argv[1], int(sys.argv[3])))
