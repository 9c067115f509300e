"""Workers and a store that is away: they wait for it, and a shutdown loses no more than a kill."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from tapescope import Reporter, StoreUnavailable, TaskManager
from tapescope.store.flush import StoreAway
from tapescope.store.orders import DueOrder, DueRow
from tests.support.memory_stores import FaultyBackend, FaultyStore, at_rest
from tests.support.outages import Outage, managing, outcomes
from tests.support.virtual_time import in_virtual_time


class AwayBackend(FaultyBackend):
    """A backend whose claims of due tasks a test may have fail, too."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0

    async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        self.asked += 1
        if self.away:
            raise StoreAway("the cable was pulled")
        return await super().claim_due(order)


class AwayStore(FaultyStore):
    """A store on such a backend."""

    def __init__(self, away: AwayBackend | None = None) -> None:
        self.claims = away or AwayBackend()
        super().__init__(patience=5, faults=self.claims)


@in_virtual_time
async def test_a_worker_waits_for_its_store(caplog: pytest.LogCaptureFixture) -> None:
    """It goes on looking while the store is away, says so once, and works when it is back."""

    async def work(report: Reporter) -> str:
        return "done"

    with caplog.at_level(logging.INFO, "tapescope"):
        store = AwayStore()
        async with at_rest(store), managing(store) as (manager, _):
            store.claims.away = True
            manager.op("work")(work)
            task = await manager.submit("work")
            asyncio.get_running_loop().call_later(60, setattr, store.claims, "away", False)
            result = await task.result()
            tried = store.claims.asked
            row = await task.status()

    assert result == "done"
    assert row.attempt == 1
    assert tried < 60 * 5  # it backs off: no more than a few times a second
    assert caplog.text.count("cannot claim tasks now") == 1
    assert caplog.text.count("can claim tasks again") == 1


@in_virtual_time
async def test_a_shutdown_without_a_store_leaves_the_tape_open() -> None:
    """A release that cannot be written is lost aloud; the rescue then has another worker go on."""
    outage = Outage(StoreAway)
    begun = asyncio.Event()

    async def work(report: Reporter) -> str:
        begun.set()
        if report.attempt == 1:
            await asyncio.Event().wait()
        return "done"

    async with at_rest(AwayStore()) as store:
        store.faults.before = outage
        async with managing(store, lease=30, drain=0.0) as (manager, captured):
            manager.op("work", retries=1)(work)
            task = await manager.submit("work")
            await begun.wait()
            outage.on = True
            with pytest.raises(StoreUnavailable):
                await manager.aclose()
            outage.on = False
            row = await task.status()
            async with TaskManager(store, telemetry=captured.telemetry) as other:
                other.op("work")(work)
                result = await other.handle(task.task_id).result()

            assert row.status.value == "running"
            assert outcomes(captured)[0] == ("ERROR", "lost")
            assert result == "done"


@in_virtual_time
async def test_a_release_waits_for_the_store() -> None:
    """A store that comes back within the lease takes the release, and nothing is lost."""
    outage = Outage(StoreAway)
    begun = asyncio.Event()

    async def work(report: Reporter) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with at_rest(AwayStore()) as store:
        store.faults.before = outage
        async with managing(store, lease=60, drain=0.0) as (manager, captured):
            manager.op("work")(work)
            task = await manager.submit("work")
            await begun.wait()
            outage.on = True
            asyncio.get_running_loop().call_later(20, setattr, outage, "on", False)
            await manager.aclose()
            row = await task.status()

            assert (row.status.value, row.retries_spent) == ("pending", 0)
            assert outcomes(captured) == [("UNSET", "released")]


@in_virtual_time
async def test_a_claim_under_way_at_the_shutdown_is_given_back() -> None:
    """What a claim takes while the manager closes is another worker's; no runner is begun."""
    reached, opened = asyncio.Event(), asyncio.Event()
    began: list[int] = []

    async def work(report: Reporter) -> None:
        began.append(report.attempt)

    class SlowBackend(AwayBackend):
        async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
            rows = await super().claim_due(order)
            if rows and not opened.is_set():
                reached.set()
                await opened.wait()
            return rows

    async with at_rest(AwayStore(SlowBackend())) as store:
        async with managing(store) as (manager, captured):
            manager.op("work")(work)
            task = await manager.submit("work")
            await reached.wait()
            closing = asyncio.ensure_future(manager.aclose())
            await asyncio.sleep(0)
            opened.set()
            await closing
            row = await task.status()

            assert outcomes(captured) == [("UNSET", "released")]
        assert began == []
        assert (row.status.value, row.retries_spent) == ("pending", 0)


@in_virtual_time
async def test_a_worker_whose_store_is_closed_under_it_ends() -> None:
    """A store that is closed first leaves no worker that looks for ever."""

    async def work(report: Reporter) -> None:
        return

    store = AwayStore()
    async with store, managing(store, drain=0.0) as (manager, _):
        manager.op("work")(work)
        await (await manager.submit("work")).result()
        await store.aclose()
