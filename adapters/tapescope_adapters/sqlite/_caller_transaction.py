"""A task in the transaction of the caller's own connection to the same file."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from tapescope.errors import ConnectionRefused
from tapescope.model import Task
from tapescope.store import CreateRow, Inserted, LentConnection
from tapescope_adapters._callers import (
    advise,
    find_blocking,
    find_waiting,
    require_blocking,
    require_waiting,
)
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import translate
from tapescope_adapters.sqlite._rows import find_standing

__all__ = ["create_within"]

T = TypeVar("T")


async def create_within(
    connection: object, sql: Queries, path: str, row: CreateRow, now: int
) -> Inserted | Task:
    """Insert ``row`` in the transaction that ``connection`` is in.

    Raises ``ConnectionRefused``, and what ``translate`` makes of the driver's errors.
    """
    wanted = {**row._asdict(), "now": now}

    def insert(conn: sqlite3.Connection, given: object) -> Inserted | Task:
        cursor = conn.cursor()
        cursor.row_factory = None  # the caller's may be anything
        _check(conn, cursor, path, given)
        if cursor.execute(sql["create_within"], wanted).rowcount:
            assert cursor.lastrowid is not None
            return Inserted(cursor.lastrowid, now)
        return find_standing(cursor, sql, wanted)

    try:
        if isinstance(connection, LentConnection):
            given = connection.connection
            require_blocking(given)
            return await connection.run(
                lambda: insert(_require(find_blocking(given), sqlite3.Connection), given)
            )
        require_waiting(connection)
        found = _require(await find_waiting(connection), aiosqlite.Connection)
        done: Inserted | Task = await found._execute(  # type: ignore[no-untyped-call]  # pyright: ignore[reportPrivateUsage]  # one hop instead of one a statement
            insert,  # pyright: ignore[reportUnknownMemberType]
            _open(found),
            connection,
        )
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise translate(error) from error
        raise ConnectionRefused("it is closed", "Open another.") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
            raise ConnectionRefused(
                "it may only read, by 'mode=ro' or 'PRAGMA query_only'",
                "Open one that may write.",
            ) from error
        raise translate(error) from error
    return done


def _require(found: Any, kind: type[T]) -> T:
    """Raises ``ConnectionRefused`` for a connection of another driver."""
    if isinstance(found, kind):
        return found
    raise ConnectionRefused(
        "a SQLite store needs a connection of aiosqlite or sqlite3, or one of SQLAlchemy or Django "
        f"that has such a one; not {type(found).__name__!r}",
        "Open one to the store's own file.",
    )


def _open(found: aiosqlite.Connection) -> sqlite3.Connection:
    try:
        return found._conn  # pyright: ignore[reportPrivateUsage]  # as above
    except ValueError as error:
        raise ConnectionRefused("it is closed", "Open another.") from error


def _check(conn: sqlite3.Connection, cursor: sqlite3.Cursor, path: str, given: object) -> None:
    """Raises ``ConnectionRefused`` unless it is on this file, and in a transaction, or begins one
    with its first write, as its driver does unless it is told otherwise."""
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
    if not (conn.in_transaction or _begins_itself(conn)):
        raise ConnectionRefused("it is not in a transaction", advise(given))


def _begins_itself(conn: sqlite3.Connection) -> bool:
    autocommit = getattr(conn, "autocommit", None)  # since Python 3.12; True: nothing is begun
    return autocommit is not True and conn.isolation_level is not None
