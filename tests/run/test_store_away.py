"""A store that is away: a claim and a ``final`` are insisted on, and a loss is never silent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from tapescope import Reporter, StoreUnavailable, TaskCancelled, TaskHandle, TaskManager
from tapescope.model.leases import HeldLease
from tapescope.model.tasks import Attempt, TaskStatus
from tapescope.store.flush import FateUnknown, Flush, StoreAway
from tapescope.testing import until
from tests.support.memory_stores import FaultyBackend, FaultyStore, at_rest
from tests.support.outages import Outage, managing, outcomes
from tests.support.virtual_time import advance, in_virtual_time
from tests.support.workbench import started, wait_for_cancel


async def succeed(report: Reporter) -> str:
    """A runner with nothing to do."""
    return "done"


@in_virtual_time
async def test_a_final_waits_for_the_store() -> None:
    """While the store is away a ``final`` is tried again, past the store's patience, and stored."""
    outage = Outage(StoreAway)

    async def work(report: Reporter) -> str:
        outage.on = True
        asyncio.get_running_loop().call_later(20, setattr, outage, "on", False)
        return "done"

    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.before = outage
        async with managing(store, lease=60) as (manager, captured):
            task = await manager.submit("work", work)
            result = await task.result()

            assert result == "done"
            assert outcomes(captured) == [("UNSET", "succeeded")]
            assert (await task.status()).status.value == "succeeded"


@in_virtual_time
async def test_a_final_whose_reply_is_lost_is_stored_once() -> None:
    """A ``final`` whose fate stays unknown is sent again later, and the tape has it once."""
    outage = Outage(FateUnknown)

    async def work(report: Reporter) -> str:
        outage.on = True
        asyncio.get_running_loop().call_later(20, setattr, outage, "on", False)
        return "done"

    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.after = outage
        async with managing(store, lease=60) as (manager, captured):
            task = await manager.submit("work", work)
            result = await task.result()
            events = (await task.tape()).events

            assert result == "done"
            assert [event.type for event in events] == ["task_started", "final"]
            assert outcomes(captured) == [("UNSET", "succeeded")]


@in_virtual_time
async def test_a_final_waits_as_long_as_the_lease_was_renewed_for() -> None:
    """A run that has outlived its first lease has the lease of its last heartbeat."""
    outage = Outage(StoreAway)

    async def work(report: Reporter) -> str:
        await asyncio.sleep(100)
        outage.on = True
        asyncio.get_running_loop().call_later(20, setattr, outage, "on", False)
        return "done"

    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.before = outage
        async with managing(store, lease=60, heartbeat=10) as (manager, _):
            task = await manager.submit("work", work)
            result = await task.result(200)

    assert result == "done"


class DefectiveStore(FaultyStore):
    """A store with a defect of ours in what a run asks of it first."""

    def attach_span(
        self,
        attempt: Attempt,
        trace_id: str | None,
        context: object,
        span_id: str | None = None,
    ) -> None:
        """Fail as no store should."""
        raise ZeroDivisionError("a defect")


@in_virtual_time
async def test_a_defect_of_ours_ends_no_task_unseen() -> None:
    """Who waits for the task is told of it, and the manager closes."""
    async with DefectiveStore() as store, TaskManager(store) as manager:
        task = await manager.submit("work", succeed)
        with pytest.raises(ZeroDivisionError):
            await task.result(100)
        with suppress(ZeroDivisionError):  # as the close says, too
            await manager.aclose()


def lose_give_ups(store: FaultyStore) -> None:
    """From now on the replies to retries and releases are lost, for 20 s."""

    async def lose(flush: Flush) -> None:
        if flush.give_ups:
            raise FateUnknown("the cable was pulled")

    store.faults.after = lose
    asyncio.get_running_loop().call_later(20, setattr, store.faults, "after", FaultyBackend().after)


@in_virtual_time
async def test_a_retry_whose_reply_is_lost_is_made_once() -> None:
    """The row says that the attempt handed its task back: it is not told as lost."""
    async with at_rest(FaultyStore(patience=5)) as store:

        async def work(report: Reporter) -> str:
            if report.attempt == 1:
                lose_give_ups(store)
                raise ValueError("once")
            return "done"

        async with managing(store, lease=60) as (manager, captured):
            task = await manager.submit("work", work, retries=1)
            result = await task.result(100)
            events = (await task.tape()).events

            assert result == "done"
            assert [event.type for event in events] == [
                "task_started",
                "attempt_failed",
                "task_started",
                "final",
            ]
            assert outcomes(captured) == [("ERROR", "retried"), ("UNSET", "succeeded")]


@in_virtual_time
async def test_a_release_whose_reply_is_lost_is_made_once() -> None:
    """So it is for the task that a worker gives back when it is closed."""
    async with (
        at_rest(FaultyStore(patience=5)) as store,
        managing(store, lease=60, drain=0) as (manager, captured),
    ):
        running = asyncio.Event()

        @manager.op("work")
        async def work(report: Reporter) -> None:
            running.set()
            await wait_for_cancel(report)

        await manager.submit("work")
        await running.wait()
        lose_give_ups(store)
        await manager.aclose()

        assert outcomes(captured) == [("UNSET", "released")]
        assert (await store.count())[TaskStatus.PENDING] == 1
        await store.claim_due("another", ["work"], 1, 60)


@in_virtual_time
async def test_a_final_that_cannot_be_written_is_reported_as_lost() -> None:
    """When the lease has run out the span is ``lost``, and ``result`` and ``aclose`` say why."""
    outage = Outage(StoreAway)
    outage.kinds = {"final"}
    outage.on = True
    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.before = outage
        async with managing(store, lease=30) as (manager, captured):
            task = await manager.submit("work", succeed)
            waiting = asyncio.ensure_future(task.result())
            await asyncio.sleep(0)
            with pytest.raises(StoreUnavailable):
                await manager.aclose()
            with pytest.raises(StoreUnavailable):
                await waiting
            outage.on = False
            row = await task.status()

            assert outcomes(captured) == [("ERROR", "lost")]
            assert row.status.value == "running"  # its tape is open, for a rescue


@in_virtual_time
async def test_a_final_is_tried_no_longer_than_is_said() -> None:
    """However long the lease, the end of a run is given up after ``settle_within``."""
    outage = Outage(StoreAway)
    outage.kinds = {"final"}
    outage.on = True
    async with at_rest(FaultyStore(patience=1)) as store:
        store.faults.before = outage
        async with managing(store, lease=86_400, settle_within=10) as (manager, captured):
            task = await manager.submit("work", succeed)
            began = store.clock.monotonic()
            with pytest.raises(StoreUnavailable):
                await task.result()

            assert 10 <= store.clock.monotonic() - began < 13  # virtual seconds
            assert outcomes(captured) == [("ERROR", "lost")]


@in_virtual_time
async def test_a_claim_waits_for_the_store() -> None:
    """A task whose claim met an outage starts when the store is back."""
    outage = Outage(StoreAway)
    outage.kinds = {"claims"}
    outage.on = True
    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.before = outage
        async with managing(store, lease=60) as (manager, captured):
            asyncio.get_running_loop().call_later(20, setattr, outage, "on", False)
            task = await manager.submit("work", succeed, idempotency_key="k")
            result = await task.result()

            assert result == "done"
            assert outcomes(captured) == [("UNSET", "succeeded")]


@in_virtual_time
async def test_a_claim_whose_reply_is_lost_is_found() -> None:
    """A claim that won, and whose answer was lost for good, is known by the owner in the row."""
    outage = Outage(FateUnknown)
    outage.kinds = {"claims"}
    outage.on = True
    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.after = outage
        async with managing(store, lease=60) as (manager, captured):
            asyncio.get_running_loop().call_later(7, setattr, outage, "on", False)
            task = await manager.submit("work", succeed, idempotency_key="k")
            result = await task.result()
            row = await task.status()

            assert result == "done"
            assert (row.status.value, row.attempt) == ("succeeded", 1)
            assert outcomes(captured) == [("UNSET", "succeeded")]


@in_virtual_time
async def test_a_claim_is_given_up_when_its_manager_closes() -> None:
    """When the store stays away the task is not begun: ``result`` says why, no span is made."""
    outage = Outage(StoreAway)
    outage.kinds = {"claims"}
    outage.on = True
    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.before = outage
        async with managing(store, lease=30, drain=0.0) as (manager, captured):
            task = await manager.submit("work", succeed, idempotency_key="k")
            outage.kinds = set()
            with pytest.raises(StoreUnavailable):
                await manager.aclose()
            with pytest.raises(StoreUnavailable):
                await task.result()

            assert outcomes(captured) == []
            assert (await task.status()).status.value == "pending"


class SlowWrites:
    """A hook that makes each flush take so long: of a store, or of a machine that is busy."""

    def __init__(self, seconds: float, *, busy: bool) -> None:
        self.seconds = seconds
        self.busy = busy
        self.on = False

    async def __call__(self, flush: Flush) -> None:
        """Take the time; a busy machine lets nothing else go on meanwhile."""
        if self.on and self.busy:
            advance(self.seconds)
        await asyncio.sleep(self.seconds if self.on and not self.busy else 0)


@pytest.mark.parametrize("busy", [False, True])
@in_virtual_time
async def test_a_slow_shutdown_ends_what_has_not_begun(busy: bool) -> None:
    """What waits for a slot or for its time, or is being claimed, is cancelled on record.

    However slowly the store answers within its patience: nothing else would end such a task.
    """
    slow = SlowWrites(4.0, busy=busy)
    async with at_rest(FaultyStore(patience=10)) as store:
        store.faults.before = slow
        async with managing(store, lease=60, drain=0.0, max_running=2) as (manager, _):
            running = await manager.submit("work", wait_for_cancel)
            await started(running)
            later = await manager.submit("work", wait_for_cancel, delay=3_600)
            slow.on = True
            submits = [asyncio.ensure_future(manager.submit("work", wait_for_cancel)) for _ in "ab"]
            claimed, waiting = await asyncio.gather(*submits)
            await manager.aclose()
            tasks = [running, later, claimed, waiting]
            rows = [(await task.status()).status.value for task in tasks]

            assert rows == ["cancelled"] * 4
            for task in tasks:
                with pytest.raises(TaskCancelled, match="shutdown"):
                    await task.result()


@in_virtual_time
async def test_a_shutdown_without_a_store_still_stops_the_runners() -> None:
    """Where the shutdown cannot be put on record, runners are cancelled all the same."""
    outage = Outage(StoreAway)
    begun = asyncio.Event()
    cancelled: list[float] = []

    async def work(report: Reporter) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(asyncio.get_running_loop().time())
            outage.on = False
            raise

    async with at_rest(FaultyStore(patience=5)) as store:
        store.faults.before = outage
        async with managing(store, lease=30, drain=0.0) as (manager, captured):
            task = await manager.submit("work", work)
            await begun.wait()
            outage.on = True
            start = asyncio.get_running_loop().time()
            await manager.aclose()
            row = await task.status()

            assert cancelled[0] - start < 2
            assert row.status.value == "cancelled"
            assert outcomes(captured) == [("UNSET", "cancelled")]


async def second() -> None:
    """Let a second of virtual time pass."""
    await asyncio.sleep(1)


async def is_ended(task: TaskHandle) -> bool:
    """Whether the task has ended."""
    return (await task.status()).status.terminal


class NoHeartbeats(FaultyBackend):
    """A backend whose heartbeats fail."""

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str] | None
    ) -> Sequence[HeldLease]:
        raise StoreAway("the cable was pulled")


@in_virtual_time
async def test_a_lease_that_is_over_by_our_own_clock_is_lost() -> None:
    """Without a heartbeat for as long as a lease the runner is stopped, and its task is left."""
    async with (
        at_rest(FaultyStore(faults=NoHeartbeats(), patience=5)) as store,
        managing(store, lease=30, heartbeat=10) as (manager, captured),
    ):
        begun = asyncio.get_running_loop().time()
        task = await manager.submit("work", wait_for_cancel)
        await until(lambda: outcomes(captured), pause=second)
        lasted = asyncio.get_running_loop().time() - begun
        await until(lambda: is_ended(task), pause=second)
        row = await task.status()

        assert outcomes(captured) == [("ERROR", "lost")]
        assert 30 <= lasted <= 50
        assert row.error_code == "worker_lost"
