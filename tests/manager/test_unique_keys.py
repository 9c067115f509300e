"""Unique keys, as managers meet them: by name and typed, in bulk, in a transaction, and again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from tapescope import (
    BadSetting,
    Ops,
    Reporter,
    Submission,
    TaskManager,
    TaskNotEnded,
    TaskStatus,
    UniqueKeyTaken,
)
from tapescope.sync import SyncManager
from tapescope.testing import MemoryStore, until
from tests.support.callers import calling
from tests.support.workbench import working


async def note(report: Reporter, **params: Any) -> None:
    """A runner that is over at once."""


async def test_a_submit_is_given_the_open_task(store_url: str) -> None:
    """One by one, in bulk and typed; which key led there is on the handle, and so is that none
    did."""
    ops = Ops()
    sync = ops.op("sync")(note)
    async with TaskManager(store_url, ops=ops, poll=600) as manager:
        await manager.pause("sync")
        first = await manager.submit("sync", params={"n": 1}, unique_key="ada")
        again = [
            await manager.submit("sync", params={"n": 2}, unique_key="ada"),
            await sync.options(unique_key="ada").submit(n=3),
            *await manager.submit_many(
                [Submission("sync", unique_key="ada"), sync.options(unique_key="ada").bind(n=4)]
            ),
        ]
        others = await manager.submit_many(
            [Submission("sync"), Submission("sync", unique_key="bob", idempotency_key="i")]
        )
        by_idempotency = await manager.submit("sync", unique_key="bob", idempotency_key="i")
        row = await first.status()

    assert (first.created, first.found_by, row.unique_key) == (True, None, "ada")
    assert {(one.task_id, one.created, one.found_by) for one in again} == {
        (first.task_id, False, "unique_key")
    }
    assert [(one.created, one.found_by) for one in others] == [(True, None)] * 2
    assert (by_idempotency.task_id, by_idempotency.found_by) == (
        others[1].task_id,
        "idempotency_key",
    )


async def test_a_retry_of_an_ended_task_keeps_the_key(any_url: str) -> None:
    """Where another task has it by then, the answer says which, and nothing is submitted."""
    async with working(any_url, work=False) as bench:
        manager = bench.manager
        manager.op("sync")(note)
        first = await manager.submit("sync", unique_key="ada")
        await first.cancel()
        second = await manager.submit("sync", unique_key="ada")
        with pytest.raises(UniqueKeyTaken, match=f"belongs to task {second.task_id}, which has"):
            await manager.resubmit(first.task_id)
        pending = (await bench.store.count())[TaskStatus.PENDING]
        with pytest.raises(TaskNotEnded):
            await manager.resubmit(second.task_id)
        await second.cancel()
        third = await manager.resubmit(first.task_id)
        await third.cancel()
        asked_twice = [
            await manager.resubmit(first.task_id, idempotency_key="again") for _ in range(2)
        ]

        assert pending == 1
        assert (await third.status()).unique_key == "ada"
        assert (third.created, asked_twice[0].created, asked_twice[1].created) == (
            True,
            True,
            False,
        )
        assert asked_twice[0].task_id == asked_twice[1].task_id


async def test_a_runner_of_ones_own_is_not_run_for_another_task(any_url: str) -> None:
    """A submit with a callable that meets the open task of another is given that one, and its own
    callable is never called; the next one after its end is."""
    begun: list[int] = []
    go_on = asyncio.Event()

    async def work(report: Reporter, n: int) -> int:
        begun.append(n)
        if n == 1:
            await go_on.wait()
        return n

    async with working(any_url, max_running=1) as bench:
        submit = bench.manager.submit
        holder = await submit("hold", work, params={"n": 1})
        await until(lambda: begun == [1])
        pending = await submit("work", work, params={"n": 2}, unique_key="k")
        met = await submit("work", work, params={"n": 3}, unique_key="k")
        go_on.set()
        results = [await handle.result(20) for handle in (holder, pending, met)]
        after = await submit("work", work, params={"n": 4}, unique_key="k")
        last = await after.result(20)

    assert (met.task_id, met.created, met.found_by) == (pending.task_id, False, "unique_key")
    assert results == [1, 2, 2]
    assert (last, begun) == (4, [1, 2, 4])


async def test_a_key_in_a_callers_transaction(store_url: str) -> None:
    """It is taken with the commit, given back with a rollback, and met in the transaction, too."""
    async with TaskManager(store_url, work=False) as manager, calling(store_url) as caller:

        async def submit(**options: Any) -> Any:
            return await manager.submit(
                "bill", connection=caller.connection, unique_key="ada", **options
            )

        made: list[Any] = []
        with suppress(ZeroDivisionError):
            async with caller.transaction():
                made.append(await submit(priority=3))
                raise ZeroDivisionError
        async with caller.transaction():
            first = await submit()
            met = await submit(params={"n": 1}, priority=2)
        outside = await manager.submit("bill", unique_key="ada")
        await first.cancel()
        async with caller.transaction():
            second = await submit(priority=1)
        row = await second.status()

    assert [undone.created for undone in made] == [True]
    assert (first.created, met.task_id, met.created) == (True, first.task_id, False)
    assert (outside.task_id, met.found_by, outside.found_by) == (
        first.task_id,
        "unique_key",
        "unique_key",
    )
    assert second.task_id != first.task_id
    assert (row.unique_key, row.priority) == ("ada", 1)


async def test_a_schedule_has_its_overlap_in_the_place_of_a_key() -> None:
    """What a schedule submits has no unique key, and the error says so."""
    async with MemoryStore() as store, TaskManager(store, work=False) as manager:
        with pytest.raises(BadSetting, match="unique_key"):
            await manager.schedules.add("x", Submission("sync", unique_key="k"), every=60)


def test_a_key_without_a_loop(store_url: str) -> None:
    """The sync door says and tells the same."""
    with SyncManager(store_url, work=False) as manager:
        first = manager.submit("sync", unique_key="k")
        again = manager.submit("sync", unique_key="k")

    assert (first.found_by, again.found_by) == (None, "unique_key")
    assert (again.task_id, again.created) == (first.task_id, False)
