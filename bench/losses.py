"""What becomes of the tasks of a process that ends: killed, or asked to with SIGTERM.

``python -m bench.losses URL`` is that process. Both have heartbeats of ``HEARTBEAT`` seconds and
leases that are far longer, on one host.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tapescope import Reporter, TaskFailed, TaskManager

__all__ = ["HEARTBEAT", "Losses", "measure"]

HEARTBEAT: Final = 1.0
_LEASE: Final = 600.0
_KNOWN: Final = "bench-known"
_CALLABLE: Final = "bench-callable"
_ROOT: Final = Path(__file__).parents[1]


@dataclass
class Losses:
    """Seconds from the signal, of each round."""

    retried: list[float] = field(default_factory=list[float])
    """SIGKILL: to the next attempt's start here, of a task whose op is registered."""
    failed: list[float] = field(default_factory=list[float])
    """SIGKILL: to the end as ``worker_lost`` of a task that only that process could run."""
    released: list[float] = field(default_factory=list[float])
    """SIGTERM: to the next attempt's start here."""


async def measure(url: str, rounds: int) -> Losses:
    """So many processes that are killed, and as many that are told to end."""
    losses = Losses()
    for _ in range(rounds):
        for number in (signal.SIGKILL, signal.SIGTERM):
            await _lose_one(url, number, losses)
    return losses


async def _lose_one(url: str, number: signal.Signals, losses: Losses) -> None:
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.losses", url), cwd=_ROOT, stdout=PIPE
    )
    began: list[tuple[float, int]] = []

    async def go_on(report: Reporter) -> str:
        began.append((time.monotonic(), report.attempt))
        return "done"

    try:
        assert other.stdout is not None
        line = await other.stdout.readline()
        assert line, "the other process has ended"
        known, callable_ = json.loads(line)
        async with TaskManager(url, heartbeat=HEARTBEAT, lease=_LEASE) as manager:
            manager.op(_KNOWN)(go_on)
            await asyncio.sleep(random.uniform(0.0, HEARTBEAT))  # at any moment between two
            sent = time.monotonic()
            other.send_signal(number)
            assert await manager.handle(known).result(60) == "done"
            spent = (await manager.handle(known).status()).retries_spent
            ((start, attempt),) = began
            assert (attempt, spent) == (2, 1 if number == signal.SIGKILL else 0)
            if number == signal.SIGTERM:
                losses.released.append(start - sent)
                return
            losses.retried.append(start - sent)
            with suppress(TaskFailed):  # as it shall
                await manager.handle(callable_).result(60)
            losses.failed.append(time.monotonic() - sent)
            assert (await manager.handle(callable_).status()).error_code == "worker_lost"
    finally:
        if other.returncode is None:
            if number == signal.SIGKILL:
                other.kill()
            await other.wait()


async def _run(url: str) -> None:
    """Run a task of each kind until told to end; with no drain what is registered is released."""
    both = asyncio.Barrier(3)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)

    async def wait(report: Reporter) -> None:
        await report.log("info", "here")
        await both.wait()
        await asyncio.Event().wait()

    async with TaskManager(url, heartbeat=HEARTBEAT, lease=_LEASE, drain=0) as manager:
        manager.op(_KNOWN, retries=3)(wait)
        tasks = [await manager.submit(_KNOWN), await manager.submit(_CALLABLE, wait)]
        await both.wait()
        print(json.dumps([task.task_id for task in tasks]), flush=True)
        await told.wait()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1]))
