"""A SQLite store's watch for the commits of other processes, when its looks fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tapescope.model.tasks import CancelRequest
from tapescope.store import FlushRefused, StoreAway, TaskStore
from tapescope_adapters.sqlite import SqliteStore
from tapescope_adapters.sqlite._backend import SqliteBackend
from tests.support.postgres_sessions import start_task


class ForgetfulBackend(SqliteBackend):
    """A backend whose look for cancels fails once in each way."""

    failures: list[Exception]

    async def read_cancels(self, owners: Sequence[str]) -> Sequence[tuple[str, str, CancelRequest]]:
        if self.failures:
            raise self.failures.pop()
        return await super().read_cancels(owners)


@pytest.mark.parametrize("failure", [StoreAway("locked"), FlushRefused("no such table")])
async def test_watch_survives_a_failed_look(sqlite_url: str, failure: Exception) -> None:
    """A cancel of another process is heard although the first look for it failed."""
    told = asyncio.Event()

    def hear(task_id: str, request: CancelRequest) -> None:
        told.set()

    path = sqlite_url.removeprefix("sqlite:///")
    forgetful = ForgetfulBackend(path, durability="commit")
    forgetful.failures = [failure]
    async with TaskStore(forgetful) as store, SqliteStore(sqlite_url) as other:
        claim = await start_task(store)
        store.listen_for_cancels("me", hear)
        await other.request_cancel(claim.task.task_id)
        async with asyncio.timeout(10):
            await told.wait()
        store.stop_listening("me")

    assert forgetful.failures == []
