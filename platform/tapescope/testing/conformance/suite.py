"""What every test of the suite has: stores on one database, recorded, and checked at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from opentelemetry.metrics import NoOpMeterProvider

from tapescope.store.backend import StoreBackend
from tapescope.store.port import TaskStore
from tapescope.testing._checker import check
from tapescope.testing._history import History, Recording
from tapescope_telemetry import Telemetry

__all__ = ["MakeBackend", "StoreSuite", "Stores"]

MakeBackend = Callable[[], StoreBackend]
"""Each call makes a backend that is not opened yet, on the database of the test that runs."""


class Stores:
    """Opens stores on one database that only this test uses, and closes them at its end."""

    def __init__(self, make_backend: MakeBackend) -> None:
        self.history = History()
        self.opened: list[TaskStore] = []
        """The recorded stores, in the order in which they were opened."""
        self._make_backend = make_backend
        self._all: list[TaskStore] = []
        # One ledger for all recorded stores of the test, and for nothing else.
        self._telemetry = Telemetry(meter_provider=NoOpMeterProvider())

    async def open(self, **settings: Any) -> TaskStore:
        """A store whose calls are in the history; ``settings`` are those of ``TaskStore``."""
        store = Recording(
            self._make_backend(), history=self.history, telemetry=self._telemetry, **settings
        )
        self.opened.append(store)
        self._all.append(store)
        return await store.open()

    async def open_unrecorded(self) -> TaskStore:
        """A store whose calls nobody notes: the checker would miss the tasks that it prunes."""
        return await self.make().open()

    def make(self, **settings: Any) -> TaskStore:
        """A store whose calls nobody notes, and which is not opened: perhaps it cannot be."""
        own = Telemetry(meter_provider=NoOpMeterProvider())
        store = TaskStore(self._make_backend(), telemetry=own, **settings)
        self._all.append(store)
        return store

    async def aclose(self) -> None:
        """Close them all, the last one first."""
        for store in reversed(self._all):
            await store.aclose()


class StoreSuite:
    """The fixtures of a test of the suite. ``make_backend`` is the one that its user gives."""

    # Whatever the user's settings of pytest-asyncio are, a test and its stores share one loop.
    pytestmark: ClassVar = pytest.mark.asyncio(loop_scope="function")

    @pytest_asyncio.fixture(loop_scope="function")
    async def stores(self, make_backend: MakeBackend) -> AsyncGenerator[Stores]:
        """Opens stores; at the end the first recorded one is at rest and checked (I1 to I9)."""
        stores = Stores(make_backend)
        yield stores
        breaches = await check(stores.history, stores.opened[0]) if stores.opened else []
        await stores.aclose()

        assert breaches == []

    @pytest_asyncio.fixture(loop_scope="function")
    async def store(self, stores: Stores) -> TaskStore:
        """An open store with the settings that a store has by itself."""
        return await stores.open()

    @pytest_asyncio.fixture(loop_scope="function")
    async def second_store(self, store: TaskStore, stores: Stores) -> TaskStore:
        """Another store on the database of ``store``, as another process would open it."""
        skip_unless_shared(store)
        return await stores.open()

    @pytest_asyncio.fixture(loop_scope="function")
    async def unrecorded_store(self, stores: Stores) -> TaskStore:
        """An open store that may be pruned: no checker asks for what was there."""
        return await stores.open_unrecorded()


def skip_unless_shared(store: TaskStore) -> None:
    """Skip a test of two processes where no other process can open the store."""
    if not store.outlives_process:
        pytest.skip("no other process can open this store")
