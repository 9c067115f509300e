"""A caller with a database connection and a transaction of his own, on either dialect."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import unquote

import aiosqlite

from tests.support.postgres_sessions import session

__all__ = ["Caller", "calling"]


class Caller(Protocol):
    """A user who works in the store's database, with statements of his own."""

    connection: Any

    async def execute(self, sql: str) -> Any: ...

    async def count_orders(self) -> int: ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Commits at the end, or rolls back when an error passes."""
        ...


class _OnSqlite:
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self.connection = connection

    async def execute(self, sql: str) -> Any:
        return await (await self.connection.execute(sql)).fetchone()

    async def count_orders(self) -> int:
        return int((await self.execute("SELECT count(*) FROM orders"))[0])

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        await self.connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            await self.connection.rollback()
            raise
        await self.connection.commit()


class _OnPostgres:
    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def execute(self, sql: str) -> Any:
        return await self.connection.execute(sql)

    async def count_orders(self) -> int:
        return int(await self.connection.fetchval("SELECT count(*) FROM orders"))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        async with self.connection.transaction():
            yield


@asynccontextmanager
async def calling(url: str) -> AsyncGenerator[Caller]:
    """A caller with a connection of his own and a table of orders."""
    if url.startswith("sqlite"):
        path = unquote(url.removeprefix("sqlite:///"))
        async with aiosqlite.connect(path, isolation_level=None) as connection:
            caller: Caller = _OnSqlite(connection)
            await caller.execute("CREATE TABLE IF NOT EXISTS orders (n INTEGER)")
            yield caller
        return
    async with session(url) as raw:
        await raw.execute("SET search_path = pg_temp")  # not the store's
        await raw.execute("CREATE TEMP TABLE orders (n integer)")
        yield _OnPostgres(raw)
