"""Connections that are borrowed from a pool of the caller's, for one call each."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

import asyncpg

from tapescope.store import StoreAway
from tapescope_adapters.postgres._connection import DRIVER_ERRORS, Connector, drop
from tapescope_adapters.postgres._url import Address

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]

__all__ = ["PoolConnector"]


class PoolConnector(Connector):
    """Borrows where others connect. The pool is the caller's: it is never closed here.

    The pool's sessions may have any settings, and none of ours is left in them.
    """

    keeps = False

    def __init__(self, pool: Pool, address: Address, *, patience: float, relaxed: bool) -> None:
        super().__init__(address, patience=patience, relaxed=relaxed)
        self._pool = pool

    async def log_in(self, *, writes: bool = False) -> Connection:
        """A connection of the pool. Raises ``StoreAway``."""
        try:
            conn = await self._pool.acquire(timeout=self.patience)
        except DRIVER_ERRORS as error:
            raise StoreAway(str(error) or "the pool has no connection free") from error
        return cast("Connection", conn)  # a proxy that has all of its methods

    async def let_go(self, conn: Connection) -> None:
        """Give it back; one that does not come clean is replaced by the pool."""
        try:
            await self._pool.release(conn, timeout=self.patience)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as above
        except DRIVER_ERRORS:
            drop(conn)
