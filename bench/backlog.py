"""What it costs to read how much waits, where much does: ``python -m bench.backlog``.

Fills a store of its own with tasks that wait, by a few statements, then prints how long a read of
the numbers takes, and what an append waits, alone and beside a reader that reads all the time.
Compare ratios within one run. ``PYTHONPATH=. .venv/bin/python -m bench.backlog --pending 1000000``
on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import asyncpg

from tapescope import NewEvent, NewTask, TaskStore, find_store
from tapescope.model.tasks import Claim
from tapescope.store.validation import new_task_id
from tests.support.services import running_postgres

_OPS: Final = 20
_AT_ONCE: Final = 100
"""Tasks that append."""
_STATEMENT: Final = 100_000
"""Tasks that one statement makes."""
_EVENT: Final = NewEvent("log", {"message": "x" * 180})

_FILL_FILE: Final = """
WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)
INSERT INTO tasks (task_id, op, created_at, run_at)
SELECT printf('0198c0de-0000-7000-8000-%012x', i), 'op' || (i % ?),
       1, iif(i % 10 = 0, 4000000000000000 + i * 1000000, 1) FROM n
"""
_FILL_SCHEMA: Final = """
INSERT INTO tasks (task_id, op, created_at, run_at)
SELECT ('0198c0de-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, 'op' || (i % $3::int),
       1, CASE WHEN i % 10 = 0 THEN 4000000000000000 + i * 1000000 ELSE 1 END
  FROM generate_series($1::bigint, $2::bigint - 1) i
"""
"""A tenth waits for a time, each for another second; the others are due."""


@dataclass(frozen=True)
class Waits:
    """What appends waited, in milliseconds."""

    p50: float
    p99: float


async def fill(url: str, dsn: str | None, pending: int) -> None:
    """So many tasks that wait, with the numbers kept by the store's own triggers."""
    async with find_store(url):
        pass  # it makes the schema
    steps = [(at, min(at + _STATEMENT, pending)) for at in range(0, pending, _STATEMENT)]
    if dsn is None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            for begin, end in steps:
                file.execute(_FILL_FILE, (begin, end, _OPS))
                file.commit()
        return
    conn = await asyncpg.connect(dsn, server_settings={"search_path": url.partition("schema=")[2]})
    try:
        for begin, end in steps:
            await conn.execute(_FILL_SCHEMA, begin, end, _OPS)
        await conn.execute("ANALYZE tasks")
    finally:
        await conn.close()


@asynccontextmanager
async def appending(
    store: TaskStore,
) -> AsyncGenerator[Callable[[float], Awaitable[Waits]]]:
    """A hundred tasks that append without a pause; gives what they waited in so many seconds."""
    made = [await store.create(NewTask(new_task_id(), "new")) for _ in range(_AT_ONCE)]
    claims = [await store.claim_if_pending(task, "bench", 3_600) for task, _ in made]
    took: list[float] = []

    async def report(claim: Claim | None) -> None:
        assert claim is not None
        while True:
            began = time.perf_counter()
            await store.append(claim.attempt, [_EVENT])
            took.append(time.perf_counter() - began)

    async def measure(seconds: float) -> Waits:
        took.clear()
        await asyncio.sleep(seconds)
        cuts = quantiles(took, n=100)
        return Waits(cuts[49] * 1e3, cuts[98] * 1e3)

    reports = asyncio.gather(*map(report, claims))
    try:
        yield measure
    finally:
        reports.cancel()
        await asyncio.gather(reports, return_exceptions=True)


async def measure(url: str, dsn: str | None, pending: int, rounds: int, turn: float) -> None:
    """Fill a store, and print what was found."""
    began = time.perf_counter()
    await fill(url, dsn, pending)
    print(f"  {pending:,} tasks of {_OPS} ops wait, filled in {time.perf_counter() - began:.1f} s")
    async with find_store(url) as store:
        reads: list[float] = []

        async def read() -> None:
            began = time.perf_counter()
            await store.backlog.read(max_age=0)
            reads.append((time.perf_counter() - began) * 1e3)

        await read()  # takes together what the filling moved
        print(f"  the first read, which folds: {reads.pop():.1f} ms")
        for _ in range(50):
            await read()
        cuts = quantiles(reads, n=100)
        print(f"  a read alone: {cuts[49]:.2f} ms (p50), {cuts[98]:.2f} ms (p99)")
        reads.clear()

        async def read_for_ever() -> None:
            while True:
                await read()
                await asyncio.sleep(0)

        alone: list[Waits] = []
        beside: list[Waits] = []
        async with appending(store) as wait:
            await wait(1.0)
            for _ in range(rounds):
                alone.append(await wait(turn))
                reading = asyncio.ensure_future(read_for_ever())
                beside.append(await wait(turn))
                reading.cancel()
                await asyncio.wait([reading])
    print(f"  a read beside appends: {median(reads):.2f} ms (p50), {len(reads):,} of them")
    for name, of in (("p50", [w.p50 for w in alone]), ("p99", [w.p99 for w in alone])):
        also = [w.p50 if name == "p50" else w.p99 for w in beside]
        ratio = median(also) / median(of)
        print(
            f"  append {name}: {median(of):.2f} ms alone, {median(also):.2f} ms beside reads "
            f"without a pause: x {ratio:.2f}"
        )


def main() -> None:
    """Read the options, and measure each store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "postgresql", "all"], default="all")
    parser.add_argument("--pending", type=int, default=1_000_000, help="tasks that wait")
    parser.add_argument("--rounds", type=int, default=5, help="turns alone, and beside reads")
    parser.add_argument("--turn", type=float, default=4.0, help="seconds of a turn")
    chosen = parser.parse_args()
    given = chosen.pending, chosen.rounds, chosen.turn
    if chosen.store != "postgresql":
        print("sqlite")
        with tempfile.TemporaryDirectory(prefix="tapescope-bench-") as folder:
            asyncio.run(measure(f"sqlite:///{Path(folder) / 'tasks.db'}", None, *given))
    if chosen.store != "sqlite":
        print("postgresql")
        with running_postgres() as server:
            asyncio.run(measure(server.url(), server.dsn, *given))


if __name__ == "__main__":
    main()
