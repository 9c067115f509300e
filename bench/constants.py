"""What a task and an event cost PostgreSQL, counted: what docs/scale.md multiplies."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg

from tapescope import Reporter, TaskManager

__all__ = ["Costs", "count_costs"]

_TABLES = "SELECT oid FROM pg_class WHERE relnamespace = current_schema::regnamespace"
_COUNTS = f"""
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xids,
       (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
       (SELECT sum(pg_table_size(oid)) FROM ({_TABLES} AND relkind = 'r') AS t) AS heap,
       (SELECT sum(pg_relation_size(oid)) FROM ({_TABLES} AND relkind = 'i') AS t) AS indexes,
       (SELECT sum(n_dead_tup) FROM pg_stat_user_tables WHERE schemaname = current_schema) AS dead
"""


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one task, all its events included."""

    wal: float
    """Bytes of the write-ahead log."""
    xids: float
    """Transaction ids: a savepoint that writes takes one as well."""
    commits: float
    heap: float
    """Bytes of the tables, before any vacuum."""
    indexes: float
    dead: float
    """Row versions that a vacuum has to remove."""
    connections: int
    """Of the manager, in all."""


async def count_costs(url: str, dsn: str, schema: str, tasks: int, events: int) -> Costs:
    """Run so many tasks of so many events, 100 at once, and count what that took of the server.

    Nothing else may write to the server meanwhile.
    """

    async def work(report: Reporter) -> None:
        for _ in range(events):
            await report.log("info", "x" * 100)

    connection = await asyncpg.connect(dsn, server_settings={"search_path": f'"{schema}"'})
    try:
        async with TaskManager(url) as manager:
            await _run(manager, work, 200)
            before = await _count(connection)
            await _run(manager, work, tasks)
            connections: int = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            after = await _count(connection)
    finally:
        await connection.close()
    spent = {name: (after[name] - before[name]) / tasks for name in after}
    return Costs(**spent, connections=connections)


async def _run(manager: TaskManager, work: Any, tasks: int) -> None:
    handles = await asyncio.gather(*(manager.submit("constants", work) for _ in range(tasks)))
    for handle in handles:
        await handle.result()


async def _count(connection: asyncpg.Connection[Any]) -> dict[str, float]:
    await asyncio.sleep(1.5)  # each session tells its statistics once a second
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    row = await connection.fetchrow(_COUNTS)
    assert row is not None
    return {name: float(value) for name, value in row.items()}
