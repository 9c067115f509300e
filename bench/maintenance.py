"""Maintenance beside a writer: what an audit and a prune take, and how long an append waits."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from statistics import median, quantiles

import asyncpg
import psutil

from bench.drivers import BODY
from tapescope import NewEvent, NewTask, Retention, TaskStore, find_store
from tapescope.maintenance.audit import audit_pages
from tapescope.maintenance.maintainer import Maintainer
from tapescope.model.tasks import Claim, FinalEvent
from tapescope.store.validation import new_task_id

_EVENT = NewEvent("log", {"message": BODY[len('{"message":"') : -len('"}')]})
_AT_ONCE = 100
_TURN = 4.0
"""Seconds that the writer is measured at a time, alone and beside, by turns."""
RATE = 20_000.0
"""Rows a second: the manager's own default."""


@dataclass
class Beside:
    """A writer's p99 in seconds, alone and beside something, by turns in one run."""

    alone: list[float] = field(default_factory=list[float])
    beside: list[float] = field(default_factory=list[float])

    @property
    def ratio(self) -> float:
        """The median of beside, of the median of alone."""
        return median(self.beside) / median(self.alone)

    def __str__(self) -> str:
        """Both, and the ratio."""
        alone, beside = median(self.alone) * 1e3, median(self.beside) * 1e3
        return f"append p99 {alone:.2f} ms alone, {beside:.2f} ms beside it: × {self.ratio:.2f}"


@dataclass
class AuditFigures:
    """What the audit of a large store took."""

    tapes: int
    rows: int
    seconds: float
    grown: float
    """MiB of resident memory at most, beyond what there was before."""
    violations: int
    writer: Beside


@dataclass
class PruneFigures:
    """What a prune of many tapes took."""

    tapes: int
    seconds: float
    violations: int
    writer: Beside


async def fill(store: TaskStore, tasks: int, events: int, op: str) -> None:
    """So many tapes that are closed, with so many events of a run each."""

    async def make(mine: int) -> None:
        for _ in range(mine):
            task, _ = await store.create(NewTask(new_task_id(), op))
            claim = await store.claim_if_pending(task, "bench", 3_600)
            assert claim is not None
            await store.append(claim.attempt, [_EVENT] * events)
            await store.finish_if_running(claim.attempt, FinalEvent.succeeded())

    await asyncio.gather(*(make(tasks // _AT_ONCE) for _ in range(_AT_ONCE)))


async def measure_audit(url: str, tasks: int, events: int, rounds: int) -> AuditFigures:
    """Audit a store of so many tapes, alone at full speed, then at the manager's rate."""
    process = psutil.Process(os.getpid())
    async with find_store(url) as store:
        await fill(store, tasks, events, "old")
        before = most = process.memory_info().rss
        tapes = rows = violations = 0
        began = time.perf_counter()
        async for page in audit_pages(store):
            tapes, rows = tapes + page.checked, rows + page.rows
            violations += len(page.violations)
            most = max(most, process.memory_info().rss)
        seconds = time.perf_counter() - began
        audited = _audit_for_ever(store)
        writer = await _measure_beside(store, rounds, lambda: anext(audited))
        await audited.aclose()
    return AuditFigures(tapes, rows, seconds, (most - before) / 2**20, violations, writer)


async def _audit_for_ever(store: TaskStore) -> AsyncGenerator[None]:
    """A page each time, at the manager's rate and in its size."""
    while True:
        async for page in audit_pages(store, limit=200):
            await asyncio.sleep(page.rows / RATE)
            yield


async def measure_prune(url: str, tapes: int, rounds: int) -> PruneFigures:
    """Prune so many tapes by a policy, beside a writer."""
    async with find_store(url) as store:
        await fill(store, tapes, 3, "old")
        maintainer = Maintainer(
            store,
            "bench",
            audit_every=None,
            rows_per_second=RATE,
            retention=Retention(ops={"old": 0.0}),
        )
        seconds = 0.0
        pruning: asyncio.Task[None] | None = None

        async def prune() -> None:
            nonlocal seconds
            began = time.perf_counter()
            await maintainer.run_once()
            seconds = time.perf_counter() - began

        async def go_on() -> None:
            nonlocal pruning
            pruning = pruning or asyncio.create_task(prune())
            await asyncio.wait([pruning], timeout=0.1)

        writer = Beside()
        async with _writer(store) as measure:
            await measure(1.0)
            for _ in range(rounds):
                writer.alone.append(await measure(_TURN))
            await go_on()
            assert pruning is not None
            while not pruning.done():
                writer.beside.append(await measure(_TURN))
            await pruning
            for _ in range(rounds):
                writer.alone.append(await measure(_TURN))
        violations = 0
        async for page in audit_pages(store):
            violations += len(page.violations)
    return PruneFigures(tapes, seconds, violations, writer)


async def measure_space(url: str, dsn: str | None, tapes: int) -> dict[str, int]:
    """Bytes of a store that is filled, pruned, and filled again."""
    sizes: dict[str, int] = {}
    async with find_store(url) as store:
        await fill(store, tapes, 3, "old")
        sizes["full"] = await _measure_size(url, dsn)
        await store.maintenance.prune(older_than=0)
        await _give_back(url, dsn)
        sizes["pruned"] = await _measure_size(url, dsn)
        await fill(store, tapes, 3, "old")
        sizes["filled again"] = await _measure_size(url, dsn)
    return sizes


async def _measure_beside(
    store: TaskStore, rounds: int, step: Callable[[], Awaitable[None]]
) -> Beside:
    """The writer's p99 by turns, alone and while ``step`` is done again and again."""
    found = Beside()

    async def go_on() -> None:
        while True:
            await step()

    async with _writer(store) as measure:
        await measure(1.0)
        for _ in range(rounds):
            found.alone.append(await measure(_TURN))
            going = asyncio.create_task(go_on())
            found.beside.append(await measure(_TURN))
            going.cancel()
            await asyncio.wait([going])
    return found


@asynccontextmanager
async def _writer(
    store: TaskStore,
) -> AsyncGenerator[Callable[[float], Awaitable[float]]]:
    """A hundred tasks that append without a pause; gives the p99 of so many seconds."""
    made = await asyncio.gather(
        *(store.create(NewTask(new_task_id(), "new")) for _ in range(_AT_ONCE))
    )
    claims = await asyncio.gather(
        *(store.claim_if_pending(task, "bench", 3_600) for task, _ in made)
    )
    took: list[float] = []

    async def report(claim: Claim | None) -> None:
        assert claim is not None
        for _ in range(90_000):
            began = time.perf_counter()
            await store.append(claim.attempt, [_EVENT])
            took.append(time.perf_counter() - began)

    async def measure(seconds: float) -> float:
        took.clear()
        await asyncio.sleep(seconds)
        return quantiles(took, n=100)[98]

    reports = asyncio.gather(*map(report, claims))
    try:
        yield measure
    finally:
        reports.cancel()
        await asyncio.gather(reports, return_exceptions=True)


async def _measure_size(url: str, dsn: str | None) -> int:
    """Bytes of the file without its log; of the tables with their indexes."""
    if dsn is None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            (pages,) = file.execute("PRAGMA page_count").fetchone()
            (size,) = file.execute("PRAGMA page_size").fetchone()
            return int(pages * size)
    schema = url.partition("schema=")[2]
    conn = await asyncpg.connect(dsn)
    try:
        size = await conn.fetchval(
            "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c"
            " WHERE c.relnamespace = to_regnamespace($1) AND c.relname IN ('tasks', 'events')",
            schema,
        )
        return int(size)
    finally:
        await conn.close()


async def _give_back(url: str, dsn: str | None) -> None:
    """What autovacuum does when its time has come."""
    if dsn is not None:
        conn = await asyncpg.connect(dsn)
        try:
            schema = url.partition("schema=")[2]
            await conn.execute(f'VACUUM "{schema}".tasks, "{schema}".events')
        finally:
            await conn.close()
