"""The drivers' own rates: what a store cannot beat. Same table, indexes and rows, and no guards."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, count
from pathlib import Path
from typing import Any

import asyncpg

BODY = '{"message":"' + "x" * 120 + '"}'
"""An event's body: with its other columns a row of about 150 bytes."""

_SQLITE = """
    CREATE TABLE events (
        n INTEGER PRIMARY KEY, task INTEGER NOT NULL, seq INTEGER NOT NULL,
        attempt INTEGER NOT NULL, offer INTEGER NOT NULL, type TEXT NOT NULL, ts INTEGER NOT NULL,
        body TEXT NOT NULL, hash BLOB, prev_hash BLOB, UNIQUE (task, seq))
"""
_POSTGRES = """
    CREATE TABLE driver.events (
        task bigint NOT NULL, seq int NOT NULL, attempt int NOT NULL, offer int NOT NULL,
        type text NOT NULL, ts bigint NOT NULL, body text NOT NULL, hash bytea, prev_hash bytea,
        PRIMARY KEY (task, seq))
"""


def _rows(tasks: int, batch: int) -> Iterator[list[tuple[Any, ...]]]:
    """Batches of rows, round and round the tasks."""
    for start in count(0, batch):
        yield [
            (
                n % tasks + 1,
                n // tasks + 1,
                1,
                n // tasks + 1,
                "log",
                1_700_000_000_000_000 + n,
                BODY,
            )
            for n in range(start, start + batch)
        ]


def sqlite_rate(folder: Path, tasks: int, batch: int, total: int) -> float:
    """Rows a second through ``sqlite3``, WAL and ``synchronous=FULL``, ``batch`` a commit."""
    with closing(
        sqlite3.connect(folder / f"driver-{batch}-{tasks}.db", isolation_level=None)
    ) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        conn.execute(_SQLITE)
        values = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * batch)
        insert = f"INSERT INTO events (task, seq, attempt, offer, type, ts, body) VALUES {values}"
        batches = _rows(tasks, batch)
        begun = time.perf_counter()
        for _ in range(total // batch):
            conn.execute("BEGIN IMMEDIATE")
            conn.execute(insert, tuple(chain.from_iterable(next(batches))))
            conn.execute("COMMIT")
        return (total // batch * batch) / (time.perf_counter() - begun)


async def postgres_rate(dsn: str, tasks: int, batch: int, total: int) -> float:
    """Rows a second through asyncpg's ``unnest`` on one connection, ``batch`` a commit."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("DROP SCHEMA IF EXISTS driver CASCADE; CREATE SCHEMA driver")
        await connection.execute(_POSTGRES)
        insert = await connection.prepare(
            "INSERT INTO driver.events (task, seq, attempt, offer, type, ts, body) SELECT * FROM"
            " unnest($1::bigint[], $2::int[], $3::int[], $4::int[], $5::text[], $6::bigint[],"
            " $7::text[])"
        )
        batches = _rows(tasks, batch)
        begun = time.perf_counter()
        for _ in range(total // batch):
            await insert.fetch(*zip(*next(batches), strict=True))
        return (total // batch * batch) / (time.perf_counter() - begun)
    finally:
        await connection.close()


async def drop_guards(url: str, dsn: str | None) -> None:
    """Take the guards off a store's events, for the price of having them."""
    if dsn is None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
            found = conn.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"
            )
            for (name,) in found.fetchall():
                conn.execute(f"DROP TRIGGER {name}")
        return
    schema = url.partition("schema=")[2]
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f'ALTER TABLE "{schema}".events DISABLE TRIGGER USER')
    finally:
        await connection.close()


def measure(url: str, folder: Path, dsn: str | None, tasks: int, total: int) -> float:
    """The driver's rate for the store at ``url``, as many rows a commit as there are tasks."""
    if dsn is None:
        return sqlite_rate(folder, tasks, tasks, total)
    return asyncio.run(postgres_rate(dsn, tasks, tasks, total))
