"""The conformance suite on every store of ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from tapescope.testing import MemoryBackend
from tapescope.testing.conformance import MakeBackend, StoreConformance
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite import SqliteStore


class TestMemory(StoreConformance):
    """The model in memory: a backend is a database of its own."""

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        """Backends in this process's memory."""
        return MemoryBackend


class TestSqlite(StoreConformance):
    """A SQLite file."""

    @pytest.fixture
    def make_backend(self, sqlite_url: str) -> MakeBackend:
        """Backends on one file."""
        return lambda: SqliteStore(sqlite_url).backend


class TestPostgres(StoreConformance):
    """A schema of a PostgreSQL database."""

    @pytest.fixture
    def make_backend(self, postgres_url: str) -> MakeBackend:
        """Backends on one schema."""
        return lambda: PostgresStore(postgres_url).backend


@pytest.mark.slow
class TestCallersPool(StoreConformance):
    """A schema of a PostgreSQL database, on pools of the caller's whose sessions keep nothing."""

    @pytest.fixture
    async def make_backend(self, postgres_url: str) -> AsyncGenerator[MakeBackend]:
        """Backends on one schema, each with a pool of its own; no test opens more than two."""
        dsn, _, schema = postgres_url.partition("&schema=")
        async with AsyncExitStack() as stack:
            pools = [await stack.enter_async_context(make_pool(dsn)) for _ in range(2)]
            unused = iter(pools)
            yield lambda: PostgresStore(pool=next(unused), schema=schema).backend


def make_pool(dsn: str) -> asyncpg.Pool[asyncpg.Record]:
    """A pool that connects when a connection is first asked for, and prepares no statement."""
    return asyncpg.create_pool(dsn, min_size=0, max_size=5, statement_cache_size=0)
