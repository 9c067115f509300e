"""Extends leases in a SQLite file from the lease thread, between the flushes of others."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Final

from tapescope.model import HeldLease
from tapescope.store import Clock, LeaseRenewer, StoreAway
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite import _leases
from tapescope_adapters.sqlite._connection import (
    reading_any_text,
    set_up,
    translate,
)
from tapescope_adapters.sqlite._opened_file import OpenedFile
from tapescope_adapters.sqlite._read_access import file_uri

__all__ = ["SqliteLeaseRenewer"]

_KNOCK: Final = 0.001
"""Seconds between tries for the write lock.

SQLite's own busy handler sleeps up to 100 ms between its tries, while a busy writer of the same
process lets the lock go for less than one: it would be starved for seconds.
"""


class SqliteLeaseRenewer(LeaseRenewer):
    """One connection, used by the one thread that made it."""

    def __init__(self, path: str, sql: Queries, clock: Clock, opened: OpenedFile) -> None:
        self._path, self._sql, self._clock, self._opened = path, sql, clock, opened
        self._conn: sqlite3.Connection | None = None

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str]
    ) -> Sequence[HeldLease]:
        while True:
            try:
                self._opened.require_before()  # else it would ask another store, or make one
                conn = self._conn or self._connect()
                # One statement is one transaction: the lock is held over nothing else.
                with reading_any_text(conn):
                    return _leases.extend_leases(
                        conn, self._sql, owner, self._clock.now() + lease, task_ids
                    )
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                    self._hang_up()
                    raise StoreAway(str(translate(error))) from error
            await asyncio.sleep(_KNOCK)

    async def aclose(self) -> None:
        self._hang_up()

    def _connect(self) -> sqlite3.Connection:
        uri = file_uri(self._path, "mode=rw")
        conn = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
        try:
            # A lease need not outlive a crash of the machine, for its owner does not: no fsync.
            set_up(conn, self._path, synchronous="NORMAL", writes=True)
        except BaseException:  # whatever it is, a file that is half set up is not left open
            conn.close()
            raise
        self._conn = conn
        return conn

    def _hang_up(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()
