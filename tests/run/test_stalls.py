"""Stalled runners: one that reports nothing for its op's ``stall_timeout`` is stopped."""

from __future__ import annotations

import asyncio

import pytest

from tapescope import Ops, Reporter, RetryPolicy, TaskFailed, TaskManager
from tapescope.errors import BadSetting
from tests.support.memory_stores import FaultyStore, Gate, at_rest
from tests.support.virtual_time import advance, in_virtual_time
from tests.support.workbench import GRACE, Block, ended, wait_for_cancel, working

LIMIT = 8.0
"""Virtual seconds."""


async def report_often(report: Reporter, kind: str) -> str:
    """A report each 5 s for 50 s."""
    for step in range(10):
        await asyncio.sleep(5)
        if kind == "emit_nowait":
            _ = report.emit_nowait("step", step)
        elif kind == "progress":
            await report.progress("step", step)
        else:
            await report.log("info", str(step))
    return "done"


async def test_a_runner_that_reports_nothing_fails_as_stalled(any_url: str) -> None:
    """Tape, row, span and metric say ``stalled``; the runner was told why it is to stop."""
    ops = Ops()

    @ops.op("work", stall_timeout=0.05, retries=0)
    async def work(report: Reporter) -> None:
        await wait_for_cancel(report)

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        with pytest.raises(TaskFailed, match=r"reported nothing for 0\.05 s"):
            await task.result()
        account = await bench.account(task)

        assert account == ended("failed", error="stalled", tape=account.tape)


async def test_a_stalled_thread_is_fenced() -> None:
    """As one past its timeout: it is asked to stop, and left behind after the grace."""
    block = Block()
    ops = Ops()
    work = ops.op("work", stall_timeout=0.05, retries=0)(block)
    async with working("memory:", cancel_grace=GRACE) as bench:
        task = await bench.manager.submit("work", work)
        with pytest.raises(TaskFailed, match="reported nothing"):
            await task.result()
        block.released.set()
        await bench.zombies_ended()

        assert await bench.account(task) == ended("failed", error="stalled")


@pytest.mark.parametrize("kind", ["log", "progress", "emit_nowait"])
@pytest.mark.parametrize("coalesce", [0, 60])
@in_virtual_time
async def test_reports_keep_it_going(kind: str, coalesce: float) -> None:
    """Each report begins the time anew, also one that a newer one may replace."""
    ops = Ops()
    ops.op("work", stall_timeout=LIMIT)(report_often)
    async with (
        at_rest(FaultyStore()) as store,
        TaskManager(store, ops=ops, coalesce_progress=coalesce) as manager,
    ):
        task = await manager.submit("work", params={"kind": kind})

        assert await task.result() == "done"


@in_virtual_time
async def test_heartbeats_are_no_reports() -> None:
    """The lease of a stalled runner is extended many times: it is stalled all the same, once."""
    ops = Ops()

    @ops.op("work", stall_timeout=60, retry=RetryPolicy(times=1, delay=0))
    async def work(report: Reporter) -> str:
        if report.attempt == 1:
            await wait_for_cancel(report)
        return "done"

    async with at_rest(FaultyStore()) as store, TaskManager(store, ops=ops) as manager:
        task = await manager.submit("work")
        result = await task.result()
        (failed,) = [e for e in (await task.tape()).events if e.type == "attempt_failed"]

        assert result == "done"
        assert failed.body["error"]["code"] == "stalled"
        assert 60 <= (failed.ts_us - (await task.status()).created_us) / 1e6 <= 76


@in_virtual_time
async def test_a_timeout_policy_goes_for_a_stall() -> None:
    """A stall is a ``TimeoutError`` for a retry policy."""
    ops = Ops()
    ops.op("work", stall_timeout=1, retry=RetryPolicy(not_on=TimeoutError))(wait_for_cancel)
    async with at_rest(FaultyStore()) as store, TaskManager(store, ops=ops) as manager:
        task = await manager.submit("work")
        with pytest.raises(TaskFailed):
            await task.result()

        assert (await task.status()).attempt == 1


@in_virtual_time
async def test_a_report_that_waits_for_its_store_is_no_silence() -> None:
    """A runner cannot report anything while its last report is being stored."""
    ops, gate = Ops(), Gate()

    @ops.op("work", stall_timeout=LIMIT, retries=0)
    async def work(report: Reporter) -> str:
        store.faults.before = gate
        await report.log("info", "here")
        await asyncio.sleep(LIMIT - 1)
        return "done"

    async with at_rest(FaultyStore()) as store, TaskManager(store, ops=ops) as manager:
        task = await manager.submit("work")
        await gate.reached.wait()
        await asyncio.sleep(2 * LIMIT)
        gate.opened.set()

        assert await task.result() == "done"


@in_virtual_time
async def test_a_blocked_loop_is_no_silence() -> None:
    """What another task does to the loop is not the fault of a runner that could not run."""
    ops = Ops()

    @ops.op("work", stall_timeout=LIMIT, retries=0)
    async def work(report: Reporter) -> str:
        await asyncio.sleep(LIMIT - 1)
        return "done"

    async with at_rest(FaultyStore()) as store, TaskManager(store, ops=ops) as manager:
        task = await manager.submit("work")
        await asyncio.sleep(1)
        advance(10 * LIMIT)

        assert await task.result() == "done"


def test_a_stall_timeout_is_over_zero() -> None:
    """The setting is named."""
    with pytest.raises(BadSetting, match="stall_timeout"):
        Ops().op("work", stall_timeout=0)
