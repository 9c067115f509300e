"""Workers' claims: tasks that are pending already, drained by owners of one process."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing

import asyncpg

from tapescope import NewTask, TaskStore, find_store
from tapescope.model.tasks import FinalEvent
from tapescope.store.validation import new_task_id

BATCH = 100
"""Tasks a claim, and a driver's UPDATE, takes at most."""

_DONE = FinalEvent.succeeded()

_ENDED_POSTGRES = """
    ALTER TABLE tasks DISABLE TRIGGER USER;
    INSERT INTO tasks (task_id, op, status, attempt, created_at, run_at, finished_at)
    SELECT gen_random_uuid(), 'noop', 'succeeded', 1, n, n, n FROM generate_series(1, {n}) AS n;
    ALTER TABLE tasks ENABLE TRIGGER USER
"""
_ENDED_SQLITE = """
    WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {n})
    INSERT INTO tasks (task_id, op, status, attempt, created_at, run_at, finished_at)
    SELECT lower(hex(randomblob(16))), 'noop', 'succeeded', 1, n, n, n FROM series
"""
_CLAIM = """
    UPDATE {schema}tasks
       SET status = 'running', attempt = attempt + 1, owner = 'driver', claimed_at = 2,
           lease_expires_at = 3
     WHERE id IN (SELECT id FROM {schema}tasks
                   WHERE status = 'pending' AND op = 'noop' AND run_at <= 9e18
                   ORDER BY run_at, id LIMIT {batch} {lock})
    RETURNING *
"""


async def add_ended(url: str, count: int) -> None:
    """Put ended tasks into a new store by hand: the guards would have each one live its life."""
    async with find_store(url):
        pass
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
            found = conn.execute("SELECT sql FROM sqlite_master WHERE name = 'tasks_begin_pending'")
            (guard,) = found.fetchone()
            conn.execute("DROP TRIGGER tasks_begin_pending")
            conn.execute(_ENDED_SQLITE.format(n=count))
            conn.execute(guard)
            conn.commit()
        return
    dsn, _, schema = url.partition("&schema=")
    session = await asyncpg.connect(dsn, server_settings={"search_path": schema})
    try:
        await session.execute(_ENDED_POSTGRES.format(n=count), timeout=600)
    finally:
        await session.close()


async def _fill(store: TaskStore, tasks: int) -> None:
    for start in range(0, tasks, 1_000):
        some = range(min(1_000, tasks - start))
        await asyncio.gather(*(store.create(NewTask(new_task_id(), "noop")) for _ in some))


async def claim_rate(url: str, owners: int, tasks: int, *, finish: bool) -> float:
    """Tasks a second that ``owners`` claim, ``BATCH`` at a time, and finish as no-ops."""
    async with find_store(url) as store:
        await _fill(store, tasks)

        async def work(owner: str) -> int:
            taken = 0
            while claims := await store.claim_due(owner, ["noop"], BATCH, 3_600):
                taken += len(claims)
                if finish:
                    ends = (store.finish_if_running(claim.attempt, _DONE) for claim in claims)
                    await asyncio.gather(*ends)
            return taken

        begun = time.perf_counter()
        taken = await asyncio.gather(*(work(f"bench-{n}") for n in range(owners)))
        took = time.perf_counter() - begun
    assert sum(taken) == tasks, f"{sum(taken)} of {tasks} were claimed"
    return tasks / took


async def driver_claim_rate(url: str, tasks: int) -> float:
    """Rows a second of the driver's own UPDATE … RETURNING, in a store's table without guards."""
    async with find_store(url) as store:
        await _fill(store, tasks)
    if url.startswith("sqlite"):
        return _sqlite_claim_rate(url, tasks)
    dsn, _, schema = url.partition("&schema=")
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(f'ALTER TABLE "{schema}".tasks DISABLE TRIGGER USER')
        lock = "FOR UPDATE SKIP LOCKED"
        claim = await conn.prepare(_CLAIM.format(schema=f'"{schema}".', batch=BATCH, lock=lock))
        begun = time.perf_counter()
        while await claim.fetch():
            pass
        return tasks / (time.perf_counter() - begun)
    finally:
        await conn.close()


def _sqlite_claim_rate(url: str, tasks: int) -> float:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as conn:
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        found = conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in found.fetchall():
            conn.execute(f"DROP TRIGGER {name}")
        claim = _CLAIM.format(schema="", batch=BATCH, lock="")
        begun = time.perf_counter()
        while True:
            conn.execute("BEGIN IMMEDIATE")
            claimed = conn.execute(claim).fetchall()
            conn.execute("COMMIT")
            if not claimed:
                return tasks / (time.perf_counter() - begun)
