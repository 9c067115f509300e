"""Submits through the sync door: one after the other, and from many threads, on SQLite.

    python -m bench.sync [THREADS] [SUBMITS]

Beside the same number of submits of a ``TaskManager`` in a loop, one after the other and as many at
once, on the same disk: what is to be read is the ratio. Nothing is worked on.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tapescope import TaskManager
from tapescope.sync import SyncManager


def time_calls(call: Callable[[], object], count: int) -> float:
    """Seconds for so many calls, one after the other."""
    began = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - began


def time_threads(call: Callable[[], object], count: int, threads: int) -> float:
    """Seconds for so many calls from so many threads."""
    ready = threading.Barrier(threads + 1)

    def work() -> None:
        ready.wait()
        for _ in range(count // threads):
            call()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


async def time_loop(url: str, count: int, at_once: int) -> tuple[float, float]:
    """Seconds for so many submits in a loop: one after the other, and so many at once."""
    async with TaskManager(url, work=False) as manager:

        async def submit(count: int) -> None:
            for _ in range(count):
                await manager.submit("work", params={"n": 1})

        await submit(50)
        began = time.perf_counter()
        await submit(count)
        alone = time.perf_counter() - began
        began = time.perf_counter()
        await asyncio.gather(*(submit(count // at_once) for _ in range(at_once)))
        return alone, time.perf_counter() - began


def main(threads: int = 32, count: int = 6_400) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as folder:
        loop_alone, loop_many = asyncio.run(
            time_loop(f"sqlite:///{Path(folder, 'loop.db')}", count, threads)
        )
        with SyncManager(f"sqlite:///{Path(folder, 'sync.db')}") as tasks:

            def submit() -> object:
                return tasks.submit("work", params={"n": 1})

            time_calls(submit, 50)
            alone = time_calls(submit, count)
            many = time_threads(submit, count, threads)
    print(f"{'':28}{'sync':>10}{'in a loop':>12}{'ratio':>8}")
    ours, theirs = alone / count * 1e3, loop_alone / count * 1e3
    print(f"{'one submit alone, ms':28}{ours:10.2f}{theirs:12.2f}{ours / theirs:8.2f}")
    ours, theirs = count / many, count / loop_many
    what = f"submits/s, {threads} at once"
    print(f"{what:28}{ours:10.0f}{theirs:12.0f}{ours / theirs:8.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
