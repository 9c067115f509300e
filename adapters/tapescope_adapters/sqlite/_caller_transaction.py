"""A task in the transaction of the caller's own connection to the same file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import aiosqlite

from tapescope.errors import ConnectionRefused
from tapescope.model import Task
from tapescope.store import CreateRow, Inserted
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import translate
from tapescope_adapters.sqlite._rows import find_standing

__all__ = ["create_within"]


async def create_within(
    connection: object, sql: Queries, path: str, row: CreateRow, now: int
) -> Inserted | Task:
    """Insert ``row`` in the transaction that ``connection`` is in.

    Raises ``ConnectionRefused``, and what ``translate`` makes of the driver's errors.
    """
    if not isinstance(connection, aiosqlite.Connection):
        raise ConnectionRefused(
            f"a SQLite store needs an aiosqlite connection, not {type(connection).__name__!r}",
            "Open one to the store's own file.",
        )

    def insert(conn: sqlite3.Connection) -> Inserted | Task:
        cursor = conn.cursor()
        cursor.row_factory = None  # the caller's may be anything
        _check(conn, cursor, path)
        wanted = {**row._asdict(), "now": now}
        if cursor.execute(sql["create_within"], wanted).rowcount:
            assert cursor.lastrowid is not None
            return Inserted(cursor.lastrowid, now)
        return find_standing(cursor, sql, wanted)

    try:
        raw = connection._conn  # pyright: ignore[reportPrivateUsage]  # one hop instead of one a statement
    except ValueError as error:
        raise ConnectionRefused("it is closed", "Open another.") from error
    try:
        done: Inserted | Task = await connection._execute(  # type: ignore[no-untyped-call]  # pyright: ignore[reportPrivateUsage]  # as above
            insert,  # pyright: ignore[reportUnknownMemberType]
            raw,
        )
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
            raise ConnectionRefused(
                "it may only read, by 'mode=ro' or 'PRAGMA query_only'",
                "Open one that may write.",
            ) from error
        raise translate(error) from error
    return done


def _check(conn: sqlite3.Connection, cursor: sqlite3.Cursor, path: str) -> None:
    """Raises ``ConnectionRefused`` unless it is in a transaction on this file."""
    files: dict[str, str] = {
        name: file for _, name, file in cursor.execute("PRAGMA database_list").fetchall()
    }
    main = files["main"]
    if not main or not Path(main).samefile(path):
        # Attached would not do: with a write-ahead log each a commit is not one over two files.
        raise ConnectionRefused(
            f"its main database is {main or ':memory:'!r}, the store's is {path!r}",
            "Open one to the store's own file.",
        )
    if not conn.in_transaction:
        raise ConnectionRefused(
            "it is not in a transaction", "Execute 'BEGIN IMMEDIATE' first, and commit at the end."
        )
