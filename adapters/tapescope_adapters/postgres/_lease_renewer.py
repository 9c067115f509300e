"""Extends leases in a PostgreSQL schema from the lease thread, over a connection of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tapescope.model import HeldLease
from tapescope.store import LeaseRenewer, StoreAway
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._connection import (
    DRIVER_ERRORS,
    Connector,
    close,
    drop,
    is_gone,
    translate,
)
from tapescope_adapters.postgres._leases import extend_leases

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["PostgresLeaseRenewer"]


class PostgresLeaseRenewer(LeaseRenewer):
    """One connection, made in the loop that uses it."""

    def __init__(self, connector: Connector, sql: Queries) -> None:
        self._connector, self._sql = connector, sql
        self._conn: Connection | None = None

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str]
    ) -> Sequence[HeldLease]:
        if self._conn is None or is_gone(self._conn):
            self._conn = await self._connector.connect()
        try:
            patience = self._connector.patience
            return await extend_leases(self._conn, self._sql, owner, lease, task_ids, patience)
        except DRIVER_ERRORS as error:
            self._hang_up()
            raise StoreAway(str(translate(error, sent=False))) from error
        except BaseException:  # cancelled in mid-call: the reply must not meet the next one
            self._hang_up()
            raise

    async def aclose(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await close(conn)

    def _hang_up(self) -> None:
        if self._conn is not None:
            drop(self._conn)
        self._conn = None
