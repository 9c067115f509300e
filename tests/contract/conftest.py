"""Every test of the contract runs on every store, and ends before the judge."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, Protocol, Self, runtime_checkable

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from tapescope.store.port import TaskStore
from tapescope.testing import History, MemoryStore, Recording, check
from tapescope_telemetry import Telemetry


class RecordedMemory(Recording, MemoryStore):
    """A memory store whose calls are noted."""


class Stores(Protocol):
    """Makes stores on one database that only this test uses."""

    history: History

    async def open(self, **settings: Any) -> TaskStore:
        """Another instance on the same database, open; it is closed at the end of the test."""
        ...


@runtime_checkable
class Disposable(Protocol):
    """A store with a pool of its caller's, which is to be closed after it."""

    async def dispose(self) -> None: ...


class _Stores:
    def __init__(self, make: Callable[..., TaskStore]) -> None:
        self.history = History()
        self.opened: list[TaskStore] = []
        self._make = make
        # One ledger for all instances of the test, and for nothing else.
        self._telemetry = Telemetry(meter_provider=NoOpMeterProvider())

    async def open(self, **settings: Any) -> TaskStore:
        store = self._make(history=self.history, telemetry=self._telemetry, **settings)
        self.opened.append(store)
        return await store.open()


def make_sqlite(request: pytest.FixtureRequest) -> Callable[..., TaskStore]:
    """Stores in one SQLite file."""
    from tapescope_adapters.sqlite import SqliteStore

    class RecordedSqlite(Recording, SqliteStore):
        pass

    url = request.getfixturevalue("sqlite_url")
    return partial(RecordedSqlite, url)


def make_postgres(request: pytest.FixtureRequest) -> Callable[..., TaskStore]:
    """Stores in one PostgreSQL schema."""
    from tapescope_adapters.postgres import PostgresStore

    class RecordedPostgres(Recording, PostgresStore):
        pass

    url = request.getfixturevalue("postgres_url")
    return partial(RecordedPostgres, url)


def make_pooled(request: pytest.FixtureRequest) -> Callable[..., TaskStore]:
    """Stores in one PostgreSQL schema, on pools of the caller's whose sessions keep nothing."""
    import asyncpg

    from tapescope_adapters.postgres import PostgresStore

    url: str = request.getfixturevalue("postgres_url")
    dsn, _, schema = url.partition("&schema=")

    class RecordedPooled(Recording, PostgresStore):
        def __init__(self, **settings: Any) -> None:
            self.pool = asyncpg.create_pool(dsn, min_size=0, max_size=5, statement_cache_size=0)
            super().__init__(pool=self.pool, schema=schema, **settings)

        async def open(self) -> Self:
            _ = await self.pool  # it connects; the second time it has done so
            return await super().open()

        async def dispose(self) -> None:
            await self.pool.close()

    return RecordedPooled


def make_memory(request: pytest.FixtureRequest) -> Callable[..., TaskStore]:
    """Stores in memory: each its own."""
    return RecordedMemory


@pytest.fixture(
    params=[make_memory, make_sqlite, make_postgres, make_pooled],
    ids=["memory", "sqlite", "postgresql", "pool"],
)
async def stores(request: pytest.FixtureRequest) -> AsyncGenerator[Stores]:
    """Opens stores of one kind; at the end the first is at rest, judged, and all are closed."""
    opened = _Stores(request.param(request))
    yield opened
    violations = await check(opened.history, opened.opened[0]) if opened.opened else []
    for store in reversed(opened.opened):
        await store.aclose()
        if isinstance(store, Disposable):
            await store.dispose()

    assert violations == []


@pytest.fixture
async def store(stores: Stores) -> TaskStore:
    """An open store of each kind, with its own settings' defaults."""
    return await stores.open()


@pytest.fixture
async def second_store(store: TaskStore, stores: Stores) -> TaskStore:
    """Another instance on the database of ``store``, as another process would open it."""
    if not store.outlives_process:
        pytest.skip("no other process can open this store")
    return await stores.open()
