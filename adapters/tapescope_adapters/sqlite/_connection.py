"""SQLite connections: aiosqlite's thread, a whole function at a time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite

from tapescope.errors import StoreConfigError
from tapescope.store import FlushRefused, StoreAway, StoreOutOfRoom

__all__ = [
    "Connection",
    "check_folder",
    "connect",
    "read_transaction",
    "set_up",
    "translate",
    "write_transaction",
]

T = TypeVar("T")

_REFUSED = {
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_ERROR,
}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
"""The second: no room for the index of the log, which is made when the file is opened."""
_UNUSABLE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


class Connection(aiosqlite.Connection):
    """A connection with its thread, which never keeps the interpreter from ending."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._thread.daemon = True

    async def ended(self) -> None:
        """Wait for the thread of a connection that could not be made: aiosqlite only tells it to.

        Left alone it would speak to a loop that may be closed by then.
        """
        await asyncio.to_thread(self._thread.join)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in the connection's thread: one hop, however many statements it takes.

        Raises ``StoreAway`` and ``FlushRefused`` for the driver's errors.
        """
        try:
            done: T = await self._execute(  # type: ignore[no-untyped-call]  # aiosqlite's own
                work,  # pyright: ignore[reportUnknownMemberType]
                self._conn,
            )
        except sqlite3.Error as error:
            raise translate(error) from error
        return done


def translate(error: sqlite3.Error) -> Exception:
    """The port's error for one of the driver's."""
    extended: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended & 0xFF
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.DataError) or code in _REFUSED:
        return FlushRefused(str(error))
    if code in _UNUSABLE:
        return StoreConfigError(
            f"The file is not a usable SQLite database ({error}). Name another file, or restore a "
            "backup."
        )
    if extended in _NO_ROOM:
        return StoreOutOfRoom(str(error))
    return StoreAway(str(error))  # locked, input/output: it may pass


async def connect(path: str, *, synchronous: str, writes: bool) -> Connection:
    """Open a connection and set it up. ``path`` may be ``:memory:``.

    Raises ``StoreConfigError`` for a path that cannot be used.
    """
    connection = Connection(
        partial(
            sqlite3.connect,
            path,
            timeout=2.0,
            isolation_level=None,  # transactions are begun by hand: BEGIN IMMEDIATE
            cached_statements=256,
            check_same_thread=False,
        )
    )
    try:
        _ = await connection
    except sqlite3.Error as error:
        await connection.ended()
        raise StoreConfigError(
            f"The SQLite file {path} cannot be opened ({error}). Check that its folder exists and "
            "that this user may write there."
        ) from error

    try:
        await connection.run(
            lambda conn: set_up(conn, path, synchronous=synchronous, writes=writes)
        )
    except FlushRefused as error:
        await connection.close()
        raise StoreConfigError(f"The SQLite file {path} cannot be set up ({error}).") from error
    except BaseException:  # cancelled, or away: its thread would be left behind
        await connection.close()
        raise
    return connection


def set_up(conn: sqlite3.Connection, path: str, *, synchronous: str, writes: bool) -> None:
    """Give a new connection its settings."""
    if path != ":memory:":
        # for a file that is made now: this comes before its first page, which WAL writes
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
        conn.execute("PRAGMA journal_mode = WAL").fetchone()
        conn.execute("PRAGMA wal_autocheckpoint = 0")  # a thread of its own does it
        conn.execute("PRAGMA journal_size_limit = 67108864")
    conn.execute(f"PRAGMA synchronous = {synchronous}")
    conn.execute("PRAGMA temp_store = MEMORY")
    if not writes:
        conn.execute("PRAGMA query_only = ON")


@contextmanager
def write_transaction(conn: sqlite3.Connection) -> Generator[None]:
    """One transaction that has the write lock from its start; it is committed at the end, unless
    the block raised or has rolled it back."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        if conn.in_transaction:
            conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


@contextmanager
def read_transaction(conn: sqlite3.Connection) -> Generator[None]:
    """One transaction that only reads: all its queries see the same moment."""
    conn.execute("BEGIN")
    try:
        yield
    finally:
        conn.execute("COMMIT")


def check_folder(path: str) -> None:
    """Raises ``StoreConfigError`` when the file's folder is not there."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise StoreConfigError(
            f"The folder {str(folder)!r} of the SQLite file does not exist. Make it, or name "
            "another."
        )
