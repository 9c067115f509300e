"""Submits that are cancelled at any moment: none may leave a task that nobody will run."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, closing, nullcontext, suppress
from typing import Final

from tapescope import Reporter, TaskManager
from tapescope.errors import TapescopeError
from tapescope.model.tasks import TaskStatus
from tapescope.testing import History, check
from tests.stress.benches import Bench
from tests.stress.delays import Delays, pause
from tests.stress.harness import Result
from tests.support.postgres_sessions import session

__all__ = ["CANCELLED_SUBMITS", "play_cancelled_submits"]

CANCELLED_SUBMITS: Final = "cancelled-submits"
_CALLERS: Final = (60, 100, 1_000)
"""At once: below and over what opens a second lane."""
_OP: Final = "stress-orphan"


async def play_cancelled_submits(bench: Bench, runs: int, seed: int) -> Result:
    """At least ``runs`` submits, each cancelled up to 30 ms later, on old and fresh stores."""
    result = Result(CANCELLED_SUBMITS, bench.name, seed)
    delays = Delays(seed)
    began = time.perf_counter()
    batch = 0
    counts: Mapping[TaskStatus, int] = {}
    while result.runs < runs:
        history = bench.store.history = History()
        history.began_with = bench.store.meter.ledger.read()
        fresh = bench.beside(history) if batch % 2 else nullcontext(bench.store)
        callers = min(_CALLERS[batch % len(_CALLERS)], max(60, runs - result.runs))
        async with fresh as store, TaskManager(store, drain=60) as manager:
            held = _lock_held(bench, delays) if batch % 4 > 1 else nullcontext()
            async with held:
                submits = [
                    asyncio.ensure_future(_submit(manager, number, delays))
                    for number in range(callers)
                ]
                timers = [
                    asyncio.get_running_loop().call_later(
                        delays.draw("cancel after submit", 0, 30), submit.cancel
                    )
                    for submit in submits
                ]
                await pause(delays.draw("lock held", 0, 60))
            answers = await asyncio.gather(*submits, return_exceptions=True)
            for timer in timers:
                timer.cancel()
        for violation in await check(history, bench.store):
            result.blame(violation.task_id or "store", f"{violation.invariant}: {violation.detail}")
        counts = await bench.store.count(op=_OP)
        for status in (TaskStatus.PENDING, TaskStatus.RUNNING):
            if counts[status]:
                result.blame(f"batch {batch}", f"{counts[status]} tasks are still {status.value}")
        result.runs += callers
        result.cancels["submit cancelled"] += sum(
            isinstance(answer, asyncio.CancelledError) for answer in answers
        )
        batch += 1
    result.outcomes.update({status.value: n for status, n in counts.items()})
    result.seconds = time.perf_counter() - began
    result.delays = delays.describe()
    return result


async def _run(report: Reporter) -> int:
    return 1


async def _submit(manager: TaskManager, number: int, delays: Delays) -> None:
    """Some are by name, for no worker: what is stored and not cancelled is cancelled here."""
    await pause(delays.draw("submit", 0, 10))
    with suppress(TapescopeError):
        if number % 5:
            await manager.submit(_OP, _run)
        else:
            handle = await manager.submit(_OP)
            await asyncio.shield(handle.cancel())


@asynccontextmanager
async def _lock_held(bench: Bench, delays: Delays) -> AsyncGenerator[None]:
    """Another session keeps every write of the store waiting."""
    if bench.url is None:
        yield
    elif bench.name == "postgresql":
        async with session(bench.url) as raw, raw.transaction():
            await raw.execute("LOCK TABLE tasks IN SHARE MODE")  # what CREATE INDEX takes
            yield
    else:
        path = bench.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            yield
            file.execute("ROLLBACK")
