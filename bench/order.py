"""Claims with priorities, queues and concurrency keys beside plain ones: ``python -m bench.order``.

A worker drains tasks, a hundred a claim, and ends each as a no-op. The cases take turns on one
store, first as it is made, then beside 1,000,000 tasks of other ops that wait, and those of one
key without a free slot. What is told is tasks a second, and the ratio to plain tasks of the turn.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from bench.backlog import fill
from tapescope import NewTask, TaskStore, find_store
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import FinalEvent
from tapescope.store.validation import new_task_id
from tests.support.services import running_postgres

_BATCH: Final = 100
_KEYS: Final = 1_000
_SLOTS: Final = 3
_PARKED: Final = 10_000
"""Tasks of a key whose slots are taken."""
_DONE: Final = FinalEvent.succeeded()

_CASES: Final[dict[str, Callable[[int, NewTask], NewTask]]] = {
    "plain": lambda n, one: one,
    "priorities": lambda n, one: replace(one, priority=n % 19 - 9),
    "queues": lambda n, one: replace(one, queue=f"q{n % 5}"),
    "keys": lambda n, one: replace(one, op="keyed", concurrency_key=f"k{n % _KEYS}"),
}


async def _create(store: TaskStore, news: list[NewTask]) -> None:
    for start in range(0, len(news), 1_000):
        await asyncio.gather(*map(store.create, news[start : start + 1_000]))


async def _drain(store: TaskStore, case: str, tasks: int) -> float:
    """Tasks a second."""
    make = _CASES[case]
    await _create(store, [make(n, NewTask(new_task_id(), "noop")) for n in range(tasks)])
    queues = [f"q{n}" for n in range(5)] if case == "queues" else None
    began, taken = time.perf_counter(), 0
    while claims := await store.claim_due("bench", ["noop", "keyed"], _BATCH, 3_600, queues=queues):
        taken += len(claims)
        await asyncio.gather(*(store.finish_if_running(claim.attempt, _DONE) for claim in claims))
    took = time.perf_counter() - began
    assert taken == tasks, f"{taken} of {tasks} were claimed"
    return tasks / took


async def _measure(store: TaskStore, rounds: int, tasks: int) -> None:
    found: dict[str, list[float]] = {case: [] for case in _CASES}
    for turn in range(rounds + 1):  # the first one warms up
        for case in _CASES:
            rate = await _drain(store, case, tasks)
            if turn:
                found[case].append(rate)
    for case, rates in found.items():
        ratios = sorted(one / plain for one, plain in zip(rates, found["plain"], strict=True))
        print(
            f"    {case:<11} {median(rates):7,.0f} a second, x {median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


async def measure(url: str, dsn: str | None, pending: int, rounds: int, tasks: int) -> None:
    """Print what was found on one store."""
    async with find_store(url) as store:
        await store.ops.register([KnownOp("keyed", max_concurrent=_SLOTS)])
        print("  alone")
        await _measure(store, rounds, tasks)
        full = [
            NewTask(new_task_id(), "keyed", concurrency_key="full") for _ in range(_SLOTS + _PARKED)
        ]
        await _create(store, full)
        taken = await store.claim_due("other", ["keyed"], _BATCH, 36_000)
        assert len(taken) == _SLOTS
    await fill(url, dsn, pending)
    async with find_store(url) as store:
        await store.backlog.read(max_age=0)  # takes together what the filling moved
        print(f"  beside {pending:,} tasks that wait, and {_PARKED:,} of a key without a slot")
        await _measure(store, rounds, tasks)


def main() -> None:
    """Read the options, and measure each store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=1_000_000, help="tasks that wait")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=3_000, help="of each case in a round")
    chosen = parser.parse_args()
    given = chosen.pending, chosen.rounds, chosen.tasks
    print("sqlite")
    with tempfile.TemporaryDirectory(prefix="tapescope-bench-") as folder:
        asyncio.run(measure(f"sqlite:///{Path(folder) / 'tasks.db'}", None, *given))
    print("postgresql")
    with running_postgres() as server:
        asyncio.run(measure(server.url(), server.dsn, *given))


if __name__ == "__main__":
    main()
