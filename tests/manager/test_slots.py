"""Slots, as managers meet them: tasks of one concurrency key wait for each other, wherever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tapescope import BadSetting, Ops, Reporter, Submission, TaskManager, TaskStatus
from tapescope.sync import SyncManager
from tapescope.testing import MemoryStore, until
from tests.support.callers import calling
from tests.support.workbench import working


async def note(report: Reporter, **params: Any) -> None:
    """A runner that is over at once."""


class Counting:
    """A runner that notes how many run at once, of each key, and the most there were."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}

    async def __call__(self, report: Reporter, key: str, fails: bool = False) -> None:
        """Run beside the others for a moment."""
        self.running[key] = self.running.get(key, 0) + 1
        self.most[key] = max(self.most.get(key, 0), self.running[key])
        try:
            await report.log("info", key)
            if fails and self.running[key]:
                raise LookupError
        finally:
            self.running[key] -= 1


async def test_no_more_run_at_once_in_two_managers(store_url: str) -> None:
    """Of a key that the submit names, and of all without one; by name and typed, in bulk, and a
    retry waits for its slot again."""
    ops, runner = Ops(), Counting()
    sync = ops.op("sync", max_concurrent=2, retries=1)(runner)
    async with (
        TaskManager(store_url, ops=ops, retry_delay=0, poll=0.05) as first,
        TaskManager(store_url, ops=ops, retry_delay=0, poll=0.05) as second,
    ):
        handles = [
            *[
                await (first, second)[n % 2].submit(
                    "sync", params={"key": key}, concurrency_key=key
                )
                for n in range(6)
                for key in ("a", "b")
            ],
            *await first.submit_many([Submission("sync", params={"key": ""}) for _ in range(6)]),
            *[
                await sync.options(concurrency_key="a", manager=second, retries=3).submit(
                    "a", fails=n == 0
                )
                for n in range(3)
            ],
        ]
        for handle in handles:
            await until(ended(handle))
        keys = {(await handle.status()).concurrency_key for handle in handles}

    assert sync.max_concurrent == 2
    assert {key: most <= 2 for key, most in runner.most.items()} == dict.fromkeys(
        ("a", "b", ""), True
    )
    assert keys == {"a", "b", ""}


def ended(handle: Any) -> Any:
    """Whether its task has ended."""

    async def has() -> bool:
        return bool((await handle.status()).status.terminal)

    return has


async def test_a_task_is_parked_until_it_has_a_slot(any_url: str) -> None:
    """It is pending, and its cancel ends it at once; the others go on."""
    begun: list[int] = []
    go_on = asyncio.Event()

    async def work(report: Reporter, n: int) -> None:
        begun.append(n)
        await go_on.wait()

    async with working(any_url, poll=0.05) as bench:
        bench.manager.op("sync", max_concurrent=1)(work)
        first, second, third = [
            await bench.manager.submit("sync", params={"n": n}) for n in range(3)
        ]
        await until(lambda: begun == [0])
        waiting = await second.status()
        await second.cancel("not this one")
        ended_as = (await second.status()).status
        go_on.set()
        await first.result(20)
        await third.result(20)

    assert (waiting.status, waiting.parked, waiting.concurrency_key) == (
        TaskStatus.PENDING,
        True,
        "",
    )
    assert ended_as is TaskStatus.CANCELLED
    assert begun == [0, 2]


async def test_a_task_again_and_one_of_a_schedule_need_a_slot(any_url: str) -> None:
    """An ended task that is submitted again keeps its key; a firing has that of all without one."""
    async with working(any_url, work=False) as bench:
        bench.manager.op("sync", max_concurrent=1)(note)
        first = await bench.manager.submit("sync", concurrency_key="k")
        await first.cancel()
        again = await bench.manager.resubmit(first.task_id)
        await bench.manager.schedules.add("nightly", "sync", every=86_400)
        fired = await bench.manager.schedules.trigger("nightly")
        keys = [(await handle.status()).concurrency_key for handle in (again, fired)]
        with pytest.raises(BadSetting, match="concurrency_key"):
            await bench.manager.schedules.add(
                "x", Submission("sync", concurrency_key="k"), every=60
            )

    assert keys == ["k", ""]


async def test_a_task_in_a_callers_transaction_is_parked(store_url: str) -> None:
    """And holds up nobody: while the transaction is open tasks of its key begin and end."""
    async with TaskManager(store_url, poll=0.05) as manager, calling(store_url) as caller:
        manager.op("sync", max_concurrent=1)(note)
        before = await manager.submit("sync", concurrency_key="k")
        await before.result(20)
        async with caller.transaction():
            within = await manager.submit(
                "sync", connection=caller.connection, concurrency_key="k", priority=2
            )
            if store_url.startswith("postgresql"):  # on SQLite a transaction holds the file
                beside = await manager.submit("sync", concurrency_key="k")
                await beside.result(20)
        await within.result(20)
        row = await within.status()

    assert (row.concurrency_key, row.priority, row.parked) == ("k", 2, False)
    assert row.run_us >= row.created_us


async def test_a_runner_of_ones_own_has_no_slot() -> None:
    """It is run by its id, by one process alone: to hold it back would be to have its caller
    wait."""
    async with MemoryStore() as store, TaskManager(store) as manager:
        with pytest.raises(BadSetting, match="run by its name"):
            await manager.submit("work", note, concurrency_key="k")

        assert (await store.count())[TaskStatus.PENDING] == 0


@pytest.mark.parametrize("slots", [0, -1, 1.5, "many"])
async def test_slots_are_one_or_more(slots: Any) -> None:
    """Where an op is registered."""
    with pytest.raises(BadSetting, match="max_concurrent"):
        Ops().op("work", max_concurrent=slots)


def test_slots_without_a_loop(store_url: str) -> None:
    """The sync door says the same."""
    with SyncManager(store_url, work=False) as manager:
        handle = manager.submit("sync", concurrency_key="k")
        row = handle.status()

    assert (row.concurrency_key, row.parked) == ("k", True)
