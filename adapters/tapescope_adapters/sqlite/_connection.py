"""SQLite connections: aiosqlite's thread, a whole function at a time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import aiosqlite
from aiosqlite.core import (
    _STOP_RUNNING_SENTINEL,  # pyright: ignore[reportPrivateUsage]  # what ends its threads
)

from tapescope.errors import StoreConfigError
from tapescope.store import FlushRefused, StoreAway, StoreLocked, StoreOutOfRoom
from tapescope_adapters.sqlite._read_access import file_uri, may_write

__all__ = [
    "Connection",
    "blames_row",
    "check_folder",
    "check_version",
    "check_writable",
    "connect",
    "make_file",
    "read_transaction",
    "reading_any_text",
    "set_up",
    "set_up_reader",
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
_TURN: Final = 2.0
"""Seconds that a statement waits for its turn while another connection holds the lock."""
_NO_TEXT = "Could not decode to UTF-8"
"""How the driver's error for a text that is not UTF-8 begins."""
_open: set[tuple[int, int, int, int]] = set()
"""Of each connection of this process its file (device, inode), its process, and which it is. In a
child that was forked, those of the parent stay: SQLite has them open there, too."""
_UNUSABLE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


class Connection(aiosqlite.Connection):
    """A connection with its thread, which never keeps the interpreter from ending.

    The thread outlives its callers: aiosqlite's own ends with the first answer to a loop that is
    closed by then, and every later call would wait for ever.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._held: tuple[int, int, int, int] | None = None
        self._loop = asyncio.get_running_loop()
        calls: Any = self._tx  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # aiosqlite's own
        self._thread = threading.Thread(
            target=_serve, args=(calls,), name="tapescope-sqlite", daemon=True
        )

    def hold(self, path: str) -> None:
        """Note which file is open here.

        Raises ``StoreConfigError`` where it was open when this process was forked. SQLite keeps the
        locks of a file by process, and takes in the child the parent's for its own: it would read
        while the log begins anew, and write to a log that the parent has removed.
        """
        try:
            file = os.stat(path)
        except OSError as error:
            raise StoreConfigError(
                f"The SQLite file {path} is gone since it was opened ({error.strerror}). Open it "
                "again."
            ) from error
        place = file.st_dev, file.st_ino
        if any(held[:2] == place and held[2] != os.getpid() for held in tuple(_open)):
            raise StoreConfigError(
                f"The SQLite file {path} was open when this process was forked, and its locks are "
                "the parent's. Open it after the fork, close it before, or begin the process "
                "with multiprocessing's method 'spawn'."
            )
        self._held = (*place, os.getpid(), id(self))
        _open.add(self._held)

    async def ended(self) -> None:
        """Wait for the thread of a connection that could not be made: aiosqlite only tells it to.

        Left alone it would speak to a loop that may be closed by then.
        """
        await asyncio.to_thread(self._thread.join)

    async def close(self) -> None:
        """Close the connection; where its thread has ended, nobody else can use it.

        Where its loop is closed, and what was left there is collected, nobody waits for that.
        """
        try:
            if asyncio._get_running_loop() is not self._loop:
                self.stop()
            elif self._thread.is_alive():
                await super().close()
            elif self._connection is not None:
                self._connection.close()
                self._connection = None
        finally:
            if self._held is not None:
                _open.discard(self._held)

    def stop(self) -> Any:
        """As aiosqlite has it, for ``close`` and where a connection is collected that is open."""
        if self._held is not None:
            _open.discard(self._held)
        return super().stop()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # aiosqlite's own

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in the connection's thread: one hop, however many statements it takes.

        Raises ``StoreAway`` and ``FlushRefused`` for the driver's errors, ``StoreAway`` also where
        the thread has ended, and ``FlushRefused`` for a number or a text that SQLite has no place
        for.
        """
        if not self._thread.is_alive():
            raise StoreAway("the thread of its connection has ended: open the store again")
        try:
            done: T = await self._execute(  # type: ignore[no-untyped-call]  # aiosqlite's own
                _read_whatever,  # pyright: ignore[reportUnknownMemberType]
                work,
                self._conn,
            )
        except sqlite3.Error as error:
            raise translate(error) from error
        except (OverflowError, UnicodeError) as error:
            raise FlushRefused(f"{type(error).__name__}: {error}") from error
        return done


def _read_whatever(work: Callable[[sqlite3.Connection], T], conn: sqlite3.Connection) -> T:
    """Do the work; once more where it met a text that is none, which it rolled back for."""
    try:
        return work(conn)
    except sqlite3.OperationalError as error:
        if not str(error).startswith(_NO_TEXT):
            raise
    with reading_any_text(conn):
        return work(conn)


@contextmanager
def reading_any_text(conn: sqlite3.Connection) -> Generator[None]:
    """In here a text that is not UTF-8, as a flipped bit makes one, is read as bytes.

    Elsewhere the driver refuses the whole result for it. Not always: it costs a call for each text.
    """
    before, conn.text_factory = conn.text_factory, _as_any_text
    try:
        yield
    finally:
        conn.text_factory = before


def _as_any_text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def blames_row(error: Exception) -> bool:
    """Whether an error may be the fault of a row that was written past tapescope."""
    if isinstance(error, sqlite3.OperationalError):  # not that of a disk, or of a lock
        code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return code & 0xFF == sqlite3.SQLITE_ERROR
    return isinstance(
        error, sqlite3.IntegrityError | sqlite3.DataError | ValueError | OverflowError
    )


def _serve(calls: SimpleQueue[tuple[asyncio.Future[Any] | None, Callable[[], Any]]]) -> None:
    """The work of a connection's thread, as aiosqlite has it in ``_connection_worker_thread``."""
    while True:
        future, function = calls.get()
        tell: Callable[[asyncio.Future[Any], Any], None] = _answer
        try:
            said: Any = function()
        except BaseException as error:  # noqa: BLE001  # it is the caller's
            tell, said = _reject, error
        if future is not None:
            with suppress(RuntimeError):  # the caller's loop is closed: nobody waits
                future.get_loop().call_soon_threadsafe(tell, future, said)
        if said is _STOP_RUNNING_SENTINEL:
            return
        # A call holds the store that it is of: kept here until the next one, a store that its loop
        # left open would never be collected, and its thread and its file would stay for ever.
        del future, function, tell, said


def _answer(future: asyncio.Future[Any], answer: Any) -> None:
    if not future.done():
        future.set_result(answer)


def _reject(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


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
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreLocked(str(error))
    return StoreAway(str(error))  # input/output: it may pass


async def connect(path: str, query: str) -> Connection:
    """Open a connection; ``query`` is that of the SQLite URI. ``path`` may be ``:memory:``.

    Nothing is set on it yet. Raises ``StoreConfigError`` for a path that cannot be used, and for a
    file that was open when this process was forked.
    """
    in_memory = path == ":memory:"
    connection = Connection(
        partial(
            sqlite3.connect,
            path if in_memory else file_uri(path, query),
            uri=not in_memory,
            timeout=_TURN,
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
            f"The SQLite file {path} cannot be opened ({error}). Check that this user may read it, "
            "and may write in its folder."
        ) from error
    if not in_memory:
        try:
            connection.hold(path)
        except BaseException:  # it is known only here
            await connection.close()
            raise
    return connection


def make_file(path: str, mode: int) -> None:
    """Make an empty file, where there is none, with these permissions whatever the umask.

    SQLite would make it readable for everybody, and gives its log and index the file's own.
    """
    try:
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:  # it is there, or cannot be made: the driver says why
        return
    try:
        os.fchmod(made, mode)
    finally:
        os.close(made)


def check_version() -> None:
    """Raises ``StoreConfigError`` where the SQLite of this Python is too old."""
    if sqlite3.sqlite_version_info < (3, 38):
        raise StoreConfigError(
            f"SQLite {sqlite3.sqlite_version} is too old: 3.38 or newer is needed. "
            "Use a newer Python build, or the PostgreSQL store."
        )


def set_up(conn: sqlite3.Connection, path: str, *, synchronous: str, writes: bool) -> None:
    """Give a new connection to a store that may be written its settings."""
    if path != ":memory:":
        # for a file that is made now: this comes before its first page, which WAL writes
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
        conn.execute("PRAGMA journal_mode = WAL").fetchone()
        conn.execute("PRAGMA wal_autocheckpoint = 0")  # a thread of its own does it
        conn.execute("PRAGMA journal_size_limit = 67108864")
    conn.execute(f"PRAGMA synchronous = {synchronous}")
    set_up_reader(conn, writes=writes)


def set_up_reader(conn: sqlite3.Connection, *, writes: bool = False) -> None:
    """Give a new connection the settings that change nothing in the file."""
    conn.execute("PRAGMA temp_store = MEMORY")
    if not writes:
        conn.execute("PRAGMA query_only = ON")
        # What stands in the file's schema may call no function that does more than compute. Not for
        # writers: before 3.41 SQLite takes those of JSON, which the guards call, for such.
        conn.execute("PRAGMA trusted_schema = OFF")


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


def check_writable(path: str) -> None:
    """Raises ``StoreConfigError`` for a file that is there and may not be written by this user."""
    if Path(path).exists() and not may_write(path):
        raise StoreConfigError(
            f"This user may not write to the SQLite file {path}, or not in its folder, where the "
            "file's log is. Commands that only read can use it."
        )
