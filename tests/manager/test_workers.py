"""Workers: limits, what a shutdown gives back, and tasks of workers that are gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from tapescope import (
    DropReason,
    EventDropped,
    Reporter,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    TaskStatus,
    ThreadReporter,
)
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import NewTask
from tapescope.store.orders import DueOrder, DueRow
from tapescope.testing import until
from tests.support.memory_stores import FaultyBackend, FaultyStore, at_rest
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import GRACE, Block, started, wait_for_cancel, working


async def finish(report: Reporter) -> str:
    """A runner that has nothing to wait for."""
    return "done"


async def test_no_more_is_claimed_than_can_run(any_url: str) -> None:
    """What is running on the store has been started: ``max_running`` bounds the claims."""
    go_on = asyncio.Event()
    begun: list[int] = []

    async def work(report: Reporter, n: int) -> None:
        begun.append(n)
        await go_on.wait()

    async with working(any_url, max_running=3, poll=600.0) as bench:
        bench.manager.op("work")(work)
        tasks = [await bench.manager.submit("work", params={"n": n}) for n in range(8)]
        await until(lambda: len(begun) == 3)
        local = await bench.manager.submit("local", work, params={"n": 99})
        counts = await bench.store.count()
        go_on.set()
        for task in [*tasks, local]:
            await task.result()

        assert counts[TaskStatus.RUNNING] == 3
        assert counts[TaskStatus.PENDING] == 6
        assert sorted(begun) == [*range(8), 99]


async def test_an_op_has_a_limit_of_its_own(any_url: str) -> None:
    """``max_running`` of an op holds for that op; others run in the slots that it leaves."""
    go_on = asyncio.Event()
    running: dict[str, int] = {}
    most: dict[str, int] = {}

    async def work(report: Reporter, op: str) -> None:
        running[op] = running.get(op, 0) + 1
        most[op] = max(most.get(op, 0), running[op])
        await go_on.wait()
        running[op] -= 1

    async with working(any_url, max_running=5, poll=600.0) as bench:
        bench.manager.op("narrow", max_running=2)(work)
        bench.manager.op("wide")(work)
        tasks = [await bench.manager.submit("narrow", params={"op": "narrow"}) for _ in range(6)]
        await until(lambda: running.get("narrow") == 2)
        tasks += [await bench.manager.submit("wide", params={"op": "wide"}) for _ in range(6)]
        await until(lambda: sum(running.values()) == 5)
        at_once = dict(running)
        go_on.set()
        for task in tasks:
            await task.result()

        assert at_once == {"narrow": 2, "wide": 3}
        assert most["narrow"] == 2
        assert most["wide"] <= 5


async def test_two_workers_share_the_work(store_url: str) -> None:
    """Two managers on one store run each task once, and both of them run some."""
    ran: list[tuple[str, int]] = []
    both = asyncio.Event()

    def register(manager: TaskManager) -> None:
        @manager.op("work")
        async def work(report: Reporter, n: int) -> None:
            ran.append((manager.owner, n))
            if len({owner for owner, _ in ran}) == 2:
                both.set()
            await both.wait()

    async with working(store_url, max_running=5) as bench, bench.make_other_store() as store:
        async with TaskManager(store, max_running=5) as other:
            register(bench.manager)
            register(other)
            tasks = [await bench.manager.submit("work", params={"n": n}) for n in range(40)]
            for task in tasks:
                await task.result()

        assert sorted(n for _, n in ran) == list(range(40))
        assert len({owner for owner, _ in ran}) == 2


async def test_a_shutdown_releases_what_another_can_run(store_url: str) -> None:
    """A registered task goes back without a retry spent, and another worker finishes it."""
    async with working(store_url, drain=0.0) as bench:
        bench.manager.op("work", retries=0)(wait_for_cancel)
        running = await bench.manager.submit("work")
        await started(running)
        await bench.manager.aclose()
        row = await running.status()
        (span,) = bench.run_spans(running.task_id)
        async with bench.make_other_store() as store, TaskManager(store) as other:
            other.op("work")(finish)
            result = await other.handle(running.task_id).result()
        tape = [(event.type, event.attempt) for event in (await running.tape()).events]
        told: Any = span.attributes

        assert (row.status, row.attempt, row.retries_spent) == (TaskStatus.PENDING, 1, 0)
        assert (span.status.status_code.name, told["tapescope.task.outcome"]) == (
            "UNSET",
            "released",
        )
        assert told["tapescope.cancel.reason"] == "shutdown"
        assert result == "done"
        assert tape == [
            *(("task_started", 1), ("log", 1), ("attempt_released", 1)),
            *(("task_started", 2), ("final", 2)),
        ]


async def test_a_shutdown_leaves_what_waits_for_a_worker(any_url: str) -> None:
    """Pending tasks by name stay pending, while one that only this manager could run ends."""
    async with working(any_url, drain=0.0, max_running=1) as bench:
        bench.manager.op("work")(wait_for_cancel)
        await started(await bench.manager.submit("work"))
        waiting = await bench.manager.submit("work")
        local = await bench.manager.submit("local", wait_for_cancel)
        await bench.manager.aclose()
        status = (await waiting.status()).status.value

        assert status == "pending"
        with pytest.raises(TaskCancelled, match="shutdown"):
            await local.result()


async def test_the_drain_lets_a_task_by_name_finish(any_url: str) -> None:
    """Within the drain a registered runner ends as it would, and no other task is begun."""
    go_on = asyncio.Event()

    async def work(report: Reporter) -> str:
        await report.log("info", "here")
        await go_on.wait()
        return "done"

    async with working(any_url, max_running=1) as bench:
        bench.manager.op("work")(work)
        task = await bench.manager.submit("work")
        await started(task)
        waiting = await bench.manager.submit("work")
        closing = asyncio.ensure_future(bench.manager.aclose())
        await asyncio.sleep(0)
        go_on.set()
        await closing
        row = await waiting.status()

        assert await task.result() == "done"
        assert (row.status.value, row.attempt) == ("pending", 0)


async def test_a_runner_that_ignores_the_shutdown_is_fenced(any_url: str) -> None:
    """After the grace the task is given back all the same; what it still writes is stale."""
    fenced = asyncio.Event()
    reasons: list[DropReason] = []

    async def work(report: Reporter) -> None:
        await report.log("info", "here")
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await fenced.wait()
        with pytest.raises(EventDropped) as refused:
            await report.log("info", "late")
        reasons.append(refused.value.reason)

    async with working(any_url, drain=0.0, cancel_grace=GRACE) as bench:
        bench.manager.op("work")(work)
        task = await bench.manager.submit("work")
        await started(task)
        await bench.manager.aclose()
        fenced.set()
        row = await task.status()
        await bench.zombies_ended()
        drops = await bench.drops(task)

        assert (row.status.value, row.retries_spent) == ("pending", 0)
        assert reasons == [DropReason.STALE_ATTEMPT]
        assert drops == {DropReason.STALE_ATTEMPT: 1}


async def test_a_thread_that_ignores_the_shutdown_is_fenced(any_url: str) -> None:
    """A blocked thread is left behind after the grace, and its task is another worker's."""
    block = Block()
    async with working(any_url, drain=0.0, cancel_grace=GRACE) as bench:
        bench.manager.op("work")(block)
        task = await bench.manager.submit("work")
        await until(block.begun.is_set)
        await bench.manager.aclose()
        row = await task.status()
        block.released.set()
        await bench.zombies_ended()

        assert (row.status.value, row.attempt) == ("pending", 1)


async def test_a_runner_that_returns_during_the_shutdown_has_done_its_task(any_url: str) -> None:
    """A result within the grace is worth more than another attempt."""

    def work(report: ThreadReporter) -> str:
        report.log("info", "here")
        while not report.cancel_requested:
            gone_on.append(1)
        return "done"

    gone_on: list[int] = []
    async with working(any_url, drain=0.0) as bench:
        bench.manager.op("work")(work)
        task = await bench.manager.submit("work")
        await started(task)
        await bench.manager.aclose()

        assert await task.result() == "done"


async def test_a_cleanup_that_raises_is_told_on_the_tape(any_url: str) -> None:
    """What a runner raises instead of its cancel spends no retry; the tape names it."""

    async def work(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        finally:
            raise ValueError("no")

    async with working(any_url, drain=0.0) as bench:
        bench.manager.op("work")(work)
        task = await bench.manager.submit("work")
        await started(task)
        await bench.manager.aclose()
        released = await bench.body(task, "attempt_released")
        row = await task.status()

        assert (row.status.value, row.retries_spent) == ("pending", 0)
        assert list(released) == ["message"]
        assert "cleanup raised ValueError" in released["message"]


async def test_a_cancel_on_record_wins_over_a_release(any_url: str) -> None:
    """A user's cancel that is on record when the task is given back ends it."""

    async def work(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        finally:
            await bench.store.request_cancel(report.task_id, message="enough")

    async with working(any_url, drain=0.0) as bench:
        bench.manager.op("work")(work)
        task = await bench.manager.submit("work")
        await started(task)
        await bench.manager.aclose()
        (span,) = bench.run_spans(task.task_id)
        told: Any = span.attributes

        with pytest.raises(TaskCancelled, match="enough"):
            await task.result()
        assert (told["tapescope.task.outcome"], told["tapescope.cancel.reason"]) == (
            "cancelled",
            "user",
        )


async def lose_a_run(bench: Any, op: str, retries: int) -> str:
    """A task of an op that an owner took, which did not renew its lease; the task's id."""
    created, _ = await bench.store.create(
        NewTask("01980000-0000-7000-8000-000000000000", op, retries=retries)
    )
    (claim,) = await bench.store.claim_due("elsewhere:1:1-1:1", [op], 1, 0.000_001)
    assert claim.task.task_id == created.task_id
    span = bench.captured.telemetry.start_run_span(op, created.task_id, 1, "elsewhere", None)
    span.end("lost", error_type="killed")  # so that the judge, who saw the claim, finds its end
    task_id: str = created.task_id
    return task_id


async def test_a_lost_run_of_a_known_op_is_made_again(any_url: str) -> None:
    """The rescuer need not have the op: the task waits for a worker, which finishes it."""
    async with working(any_url, heartbeat=0.02) as bench:
        await bench.store.ops.register([KnownOp("work")])
        task = bench.manager.handle(await lose_a_run(bench, "work", retries=1))

        async def is_pending() -> bool:
            return (await task.status()).status is TaskStatus.PENDING

        await until(is_pending)
        bench.manager.op("work")(finish)
        result = await task.result()
        row = await task.status()
        tape = [event.type for event in (await task.tape()).events]

        assert result == "done"
        assert (row.attempt, row.retries_spent) == (2, 1)
        assert tape == ["task_started", "attempt_failed", "task_started", "final"]


@pytest.mark.parametrize(("known", "retries"), [(False, 3), (True, 0)])
async def test_a_lost_run_that_cannot_be_made_again_fails(
    any_url: str, known: bool, retries: int
) -> None:
    """Where no worker has the op, or no retry is left, the task fails as ``worker_lost``."""
    async with working(any_url, heartbeat=0.02) as bench:
        if known:
            await bench.store.ops.register([KnownOp("work")])
        task = bench.manager.handle(await lose_a_run(bench, "work", retries=retries))

        with pytest.raises(TaskFailed) as failed:
            await task.result(timeout=30)
        assert failed.value.error.code == "worker_lost"


async def test_zombies_keep_a_worker_from_claiming(caplog: pytest.LogCaptureFixture) -> None:
    """At ``max_zombies`` nothing is claimed, so another worker can take it; that is said once."""
    block = Block()
    with caplog.at_level(logging.WARNING, "tapescope"):
        async with working(
            "memory:", max_zombies=1, cancel_grace=0.01, poll=0.01, max_running=2
        ) as bench:
            bench.manager.op("block")(block)
            bench.manager.op("work")(finish)
            stuck = await bench.manager.submit("block")
            await until(block.begun.is_set)
            await stuck.cancel()
            with pytest.raises(TaskCancelled):
                await stuck.result()
            task = await bench.manager.submit("work")
            with pytest.raises(TimeoutError):
                await task.result(timeout=0.05)
            waiting = (await task.status()).status.value
            block.released.set()
            result = await task.result()

    assert waiting == "pending"
    assert result == "done"
    assert caplog.text.count("max_zombies") == 1


class StirredBackend(FaultyBackend):
    """A backend that can say of itself that there is work, and counts who asks for it."""

    asked = 0

    def stir(self) -> None:
        """Say that tasks have come to wait."""
        self._context.changes.publish_arrival()

    async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        self.asked += 1
        return await super().claim_due(order)


@in_virtual_time
async def test_an_idle_worker_asks_seldom() -> None:
    """Without work a worker asks once a poll, and in vain no more than 200 times a second."""
    stirred = StirredBackend()
    store = FaultyStore(faults=stirred)
    async with at_rest(store), TaskManager(store, poll=10.0) as manager:
        manager.op("work")(finish)
        await (await manager.submit("work")).result()
        await asyncio.sleep(1)
        before = stirred.asked
        await asyncio.sleep(100)
        idle = stirred.asked - before
        for _ in range(1_000):
            stirred.stir()
            await asyncio.sleep(0.001)
        busy = stirred.asked - before - idle

        assert 9 <= idle <= 11
        assert 100 <= busy <= 210
