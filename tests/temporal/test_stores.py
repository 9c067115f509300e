"""What an engine is set up with: stores, namespaces, servers, and what it says of itself."""

from __future__ import annotations

import pytest
from temporalio.client import Client

from tapescope import EngineUnfit, Reporter, TaskManager
from tapescope.testing import until
from tapescope_adapters.temporal import TemporalEngine
from tests.support.services import Postgres
from tests.temporal.looks import ended_there, list_types

pytestmark = pytest.mark.temporal


async def test_two_stores_share_a_namespace(postgres_server: Postgres, engine_url: str) -> None:
    """Of the same op: each worker is brought the tasks of its own store."""
    managers = [
        TaskManager(postgres_server.url(), engine=engine_url, drain=0.1, audit_every=None)
        for _ in range(2)
    ]
    for n, manager in enumerate(managers):

        async def who(report: Reporter, answer: int = n) -> int:
            return answer

        manager.op("who")(who)
    async with managers[0], managers[1]:
        handles = [await manager.submit("who") for manager in managers * 5]
        results = [await handle.result(timeout=40) for handle in handles]
        names = {await manager.store.engines.read_store_id() for manager in managers}

        assert results == [0, 1] * 5
        assert len(names) == 2
        for handle, manager in zip(handles, managers * 5, strict=True):
            assert await list_types(manager, handle.task_id) == ["task_started", "final"]


async def test_a_namespace_that_is_not_there_is_told_at_the_opening(
    postgres_url: str, engine_url: str
) -> None:
    """And the store is closed again."""
    url = engine_url.replace("/default", "/nowhere")
    manager = TaskManager(postgres_url, engine=url, audit_every=None)

    with pytest.raises(EngineUnfit, match="no namespace 'nowhere'"):
        await manager.open()
    manager.reconfigure(engine=engine_url)
    async with manager:
        assert manager.is_open


async def test_a_close_waits_for_no_server_that_was_never_reached(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing was brought: there is nobody to say a last word to."""
    manager = TaskManager(
        postgres_url, engine="temporal://127.0.0.1:1/shop", drain=0.1, audit_every=None
    )

    @manager.op("one")
    async def one(report: Reporter) -> int:
        return 1

    async with manager:
        handle = await manager.submit("one")

    said = [record.getMessage() for record in caplog.records if record.name == "tapescope"]
    assert any("127.0.0.1:1" in line for line in said)
    assert [line for line in said if "did not end in time" in line] == []
    async with TaskManager(postgres_url, work=False, audit_every=None) as plain:
        assert (await plain.handle(handle.task_id).status()).engine == "temporal"


async def test_an_engine_reports_who_asks_for_tasks(postgres_url: str, engine_url: str) -> None:
    """What it can do, and how many workers ask on each queue."""
    engine = TemporalEngine(engine_url)
    manager = TaskManager(postgres_url, engine=engine, drain=0.1, audit_every=None)

    @manager.op("one")
    async def one(report: Reporter) -> int:
        return 1

    async with manager:
        assert await (await manager.submit("one")).result(timeout=30) == 1
        report = await engine.report(manager.ops)

        assert report.able["standalone_activities"]
        assert report.version
        assert list(report.pollers.values()) == [1]


async def test_only_ids_travel(postgres_url: str, engine_url: str, client: Client) -> None:
    """Params, results and the text of an error stay in the store."""
    manager = TaskManager(postgres_url, engine=engine_url, drain=0.1, audit_every=None)

    @manager.op("secret", retries=0)
    async def secret(report: Reporter, word: str) -> None:
        raise ValueError(f"of {word}")

    async with manager:
        handle = await manager.submit("secret", params={"word": "xyzzy"})
        with pytest.raises(Exception, match="xyzzy"):
            await handle.result(timeout=30)
        there = client.get_activity_handle(handle.task_id)
        await until(lambda: ended_there(client, handle.task_id), within=30)
        told = await there.describe(
            include_input=True, include_outcome=True, include_last_failure=True
        )

        assert "xyzzy" not in str(told.raw_info)
        assert await told.input() == [handle.task_id]
