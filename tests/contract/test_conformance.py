"""The conformance suite on every store of ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tapescope.testing import MemoryBackend
from tapescope.testing.conformance import MakeBackend, StoreConformance
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite import SqliteStore
from tests.support.hostile_names import hostile_pools
from tests.support.postgres_sessions import schema_of


class TestMemory(StoreConformance):
    """The model in memory: a backend is a database of its own."""

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        """Backends in this process's memory."""
        return MemoryBackend


class TestSqlite(StoreConformance):
    """A SQLite file."""

    @pytest.fixture
    def make_backend(self, made_sqlite_url: str) -> MakeBackend:
        """Backends on one file."""
        return lambda: SqliteStore(made_sqlite_url).backend


class TestPostgres(StoreConformance):
    """A schema of a PostgreSQL database."""

    @pytest.fixture
    def make_backend(self, postgres_url: str) -> MakeBackend:
        """Backends on one schema."""
        return lambda: PostgresStore(postgres_url).backend


@pytest.mark.slow
@pytest.mark.unmade  # its pools' role makes the store
class TestCallersPool(StoreConformance):
    """A schema of a PostgreSQL database, on pools of the caller's whose sessions keep nothing.

    Every name leads elsewhere in them, unless its schema stands before it.
    """

    @pytest.fixture
    async def make_backend(self, postgres_url: str) -> AsyncGenerator[MakeBackend]:
        """Backends on one schema, each with a pool of its own; no test opens more than two."""
        async with hostile_pools(postgres_url) as make:
            unused = iter([await make(), await make()])
            yield lambda: PostgresStore(pool=next(unused), schema=schema_of(postgres_url)).backend
