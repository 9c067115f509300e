"""What is bound to its owner is claimed by it while it lives and wants it; what it cannot claim, it
lets go, and the task ends at once."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence

import pytest

from tapescope import (
    Reporter,
    StoreRefused,
    StoreUnavailable,
    TaskFailed,
    TaskHandle,
    TaskManager,
)
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import TaskStatus
from tapescope.store.flush import Flush, FlushRefused, StoreAway
from tapescope.store.orders import RescuedRow, RescueOrder
from tests.support.memory_stores import FaultyBackend, FaultyStore, at_rest
from tests.support.outages import Outage, managing, outcomes
from tests.support.postgres_sessions import session
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import started, wait_for_cancel, working

HOUR = 3_600

REFUSED = "new.status = 'running' AND (new.op = 'refused' OR new.op = 'again' AND new.attempt = 2)"
SQLITE = f"""
CREATE TRIGGER no_claims BEFORE UPDATE ON tasks WHEN {REFUSED}
BEGIN SELECT RAISE(ABORT, 'claims are refused'); END
"""
POSTGRES = f"""
CREATE FUNCTION no_claims() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'claims are refused'; END $$;
CREATE TRIGGER no_claims BEFORE UPDATE ON tasks FOR EACH ROW WHEN ({REFUSED})
EXECUTE FUNCTION no_claims()
"""


async def refuse_claims(url: str) -> None:
    """From now on the database itself refuses some claims."""
    if url.startswith("sqlite"):
        conn = sqlite3.connect(url.removeprefix("sqlite:///"))
        conn.execute(SQLITE)
        conn.close()
        return
    async with session(url) as raw:
        await raw.execute(POSTGRES)


async def work(report: Reporter) -> str:
    """A runner with nothing to do."""
    return "done"


async def fail(report: Reporter) -> None:
    """A runner that wants another attempt."""
    raise ValueError("once")


async def types(task: TaskHandle) -> list[str]:
    """The events of a tape, by its follower, who hears of its end."""
    return [event.type async for event in task.follow()]


async def test_a_claim_that_is_refused_ends_the_task(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At once and for all who wait: a first attempt that is claimed on its own, and a retry."""
    async with working(store_url, lease=HOUR, heartbeat=HOUR / 3, retry_delay=0.001) as bench:
        await refuse_claims(store_url)
        manager = bench.manager
        first = await manager.submit("refused", work, delay=0)
        keyed = await manager.submit("refused", work, idempotency_key="key")
        again = await manager.submit("again", fail, retries=1, delay=0)
        other = await manager.submit("other", work, delay=0)
        lost = (first, keyed, again)
        tapes = [await types(task) for task in lost]
        rows = [await task.status() for task in lost]
        for task in lost:
            with pytest.raises(TaskFailed, match="worker_lost"):
                await task.result()

        assert tapes == [["final"], ["final"], ["task_started", "attempt_failed", "final"]]
        assert [row.status for row in rows] == [TaskStatus.FAILED] * 3
        assert await other.result() == "done"
        assert caplog.text.count("could not be claimed, and has failed: ") == 3
        assert caplog.text.count("claims are refused") == 3


@in_virtual_time
async def test_a_store_that_is_away_for_longer_than_a_lease_loses_no_task() -> None:
    """Its owner goes on claiming, holds its slot, and runs it when the store is back."""
    outage = Outage(StoreAway)
    outage.kinds = {"claims"}
    outage.on = True
    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.before = outage
        async with managing(store, lease=30, max_running=1) as (manager, captured):
            tasks = [await manager.submit("work", work, delay=0) for _ in range(2)]
            asyncio.get_running_loop().call_later(300, setattr, outage, "on", False)
            results = [await task.result() for task in tasks]

            assert results == ["done", "done"]
            assert outcomes(captured) == [("UNSET", "succeeded")] * 2
            assert len(store.faults.flushes) < 300 * 5  # it backs off


class Refusing(FaultyBackend):
    """A backend that refuses claims and cancels, and letting go as often as is said."""

    def __init__(self, letting_go: int = 0) -> None:
        super().__init__()
        self.before = self.refuse
        self._refusals = letting_go
        self.on = True

    async def refuse(self, flush: Flush) -> None:
        """Refuse what holds a claim or a cancel."""
        if self.on and (flush.claims or flush.cancels):
            raise FlushRefused("not here")

    async def let_go(self, task_id: str, attempt: int, owner: str) -> None:
        if self._refusals:
            self._refusals -= 1
            raise FlushRefused("nor this")
        await super().let_go(task_id, attempt, owner)


@in_virtual_time
async def test_a_shutdown_whose_cancel_is_refused_lets_go() -> None:
    """What waits for its time has no other end."""
    async with at_rest(FaultyStore(faults=Refusing())) as store, managing(store) as (manager, _):
        task = await manager.submit("work", work, delay=HOUR)
        await manager.aclose()

        assert (await task.status()).error_code == "worker_lost"


@in_virtual_time
async def test_what_cannot_be_let_go_waits_for_its_owners_death(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who waits is told what the store said, and so is the log; the next rescue ends the task."""
    faults = Refusing(letting_go=1)
    async with at_rest(FaultyStore(faults=faults)) as store, managing(store) as (manager, _):
        task = await manager.submit("work", work, delay=0)
        with pytest.raises(StoreRefused, match="not here"):
            await task.result()
        row = await task.status()
        await store.leases.rescue_expired(dead_owners=[manager.owner])

        assert row.status is TaskStatus.PENDING
        assert (await task.status()).error_code == "worker_lost"
        assert "could not let it go" in caplog.text


class SlowToLetGo(Refusing):
    """A backend that takes its time, of which a test is told."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.tries = 0

    async def read_ops(self, within: int) -> Sequence[KnownOp]:
        if any(record.task.op == "work" for record in self.records.values()):
            self.tries += 1
            self.reached.set()
            await asyncio.sleep(1)
        return await super().read_ops(within)


@in_virtual_time
async def test_a_cancel_from_outside_does_not_keep_it_from_letting_go() -> None:
    """As it does not keep it from claiming: the task has no other end."""
    faults = SlowToLetGo()
    async with (
        at_rest(FaultyStore(faults=faults)) as store,
        managing(store, lease=86_400, heartbeat=3_600) as (manager, _),
    ):
        task = await manager.submit("work", work, delay=0)
        await faults.reached.wait()
        for one in asyncio.all_tasks():
            if one.get_name().startswith("tapescope-run-"):
                one.cancel()
        with pytest.raises(TaskFailed, match="worker_lost"):
            await task.result(60)  # long before the next heartbeat

        assert faults.tries == 2


class Racing(Refusing):
    """A backend whose rescues pass over everything so often: another rescuer holds it just now."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.passes = passes

    async def rescue(self, order: RescueOrder) -> Sequence[RescuedRow]:
        if self.passes and self.records:
            self.passes -= 1
            return ()
        return await super().rescue(order)


@in_virtual_time
async def test_what_another_rescuer_holds_is_looked_at_again() -> None:
    """A rescue that finds nothing to take proves nothing of the task's end."""
    faults = Racing(passes=3)
    async with at_rest(FaultyStore(faults=faults)) as store, managing(store) as (manager, _):
        task = await manager.submit("work", work, delay=0)
        with pytest.raises(TaskFailed, match="worker_lost"):
            await task.result()

        assert faults.passes == 0


@in_virtual_time
async def test_an_op_that_workers_know_is_left_to_them() -> None:
    """Its owner cannot claim it; who waits is told, and the worker that can runs the task."""
    faults = Refusing()
    async with at_rest(FaultyStore(faults=faults)) as store, managing(store) as (manager, _):
        await store.ops.register([KnownOp("work")])
        task = await manager.submit("work", work, delay=0)
        with pytest.raises(StoreRefused, match="not here"):
            await task.result()
        async with TaskManager(store) as other:
            other.op("work")(work)
            result = await manager.handle(task.task_id).result()

        assert result == "done"


@in_virtual_time
async def test_what_a_closed_manager_left_is_its_successors_to_end() -> None:
    """A process that lives on is no proof that its manager does: the next one ends what is left."""
    outage = Outage(StoreAway)
    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.before = outage
        async with managing(store, lease=30, drain=0.0, max_running=1) as (manager, _):
            running = await manager.submit("work", wait_for_cancel)
            await started(running)
            waiting = await manager.submit("work", work)
            later = await manager.submit("work", work, delay=HOUR)
            outage.on = True
            with pytest.raises(StoreUnavailable):
                await manager.aclose()
            outage.on = False
            left = [(await task.status()).status.value for task in (waiting, later)]
            loop = asyncio.get_running_loop()
            closed = loop.time()
            async with TaskManager(store, lease=30) as successor:
                for task in (running, waiting, later):
                    with pytest.raises(TaskFailed, match="worker_lost"):
                        await successor.handle(task.task_id).result()
                took = loop.time() - closed

            assert left == ["pending", "pending"]
            assert took < 30  # virtual seconds, of a day


@in_virtual_time
async def test_a_living_managers_tasks_are_not_its_neighbours_to_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another manager of the process that was closed beside it proves nothing of this one."""
    caplog.set_level(logging.ERROR)
    async with at_rest(FaultyStore(patience=5)) as store, managing(store) as (manager, _):
        async with TaskManager(store) as other:
            await (await other.submit("work", work)).result()
        task = await manager.submit("work", work, delay=HOUR)
        async with TaskManager(store):
            result = await task.result()

        assert result == "done"
