"""Closing a manager: the drain, what is cancelled after it, and an ``aclose`` that is cancelled."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tapescope import (
    DropReason,
    EventDropped,
    ManagerClosed,
    Reporter,
    TaskCancelled,
    TaskManager,
    ThreadReporter,
)
from tapescope.testing import MemoryStore, until
from tests.support.workbench import Block, working


async def test_the_drain_lets_tasks_finish(any_url: str) -> None:
    """Within the drain everything submitted runs to its end, what waits for a slot, too."""

    async def work(report: Reporter) -> str:
        await report.log("info", "here")
        return "done"

    async with working(any_url, max_running=1) as bench:
        tasks = [await bench.manager.submit("work", work) for _ in range(5)]
        await bench.manager.aclose()

        assert [await task.result() for task in tasks] == ["done"] * 5
        with pytest.raises(ManagerClosed):
            await bench.manager.submit("work", work)


async def test_a_cleanup_may_report_during_shutdown(any_url: str) -> None:
    """A runner that a shutdown cancels may clean up and report, with the reason at hand."""
    begun = asyncio.Event()

    async def work(report: Reporter) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await report.log("info", "saved")

    async with working(any_url, drain=0.0) as bench:
        task = await bench.manager.submit("work", work)
        await begun.wait()
        await bench.manager.aclose()
        page = await task.tape()

        assert [event.type for event in page.events] == ["task_started", "log", "final"]


async def test_closing_again_waits_for_the_first(any_url: str) -> None:
    """Any number of ``aclose`` at once, and one later, end when all is done."""
    block = Block()
    async with working(any_url) as bench:
        task = await bench.manager.submit("work", block)
        closing = [asyncio.ensure_future(bench.manager.aclose()) for _ in range(3)]
        await asyncio.sleep(0)
        undone = [close.done() for close in closing]
        block.released.set()
        await asyncio.gather(*closing)
        await bench.manager.aclose()

        assert undone == [False] * 3
        assert await task.result() == "released"


async def test_a_cancelled_close_skips_the_drain_and_ends_what_it_began(any_url: str) -> None:
    """An ``aclose`` that is cancelled writes every ``final`` all the same, and then raises."""
    begun = asyncio.Event()

    async def work(report: Reporter) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with working(any_url, drain=60.0) as bench:
        task = await bench.manager.submit("work", work)
        await begun.wait()
        close = asyncio.ensure_future(bench.manager.aclose())
        await asyncio.sleep(0)
        close.cancel()
        with pytest.raises(asyncio.CancelledError):
            await close
        row = await task.status()

        assert row.status.value == "cancelled"
        with pytest.raises(TaskCancelled, match="shutdown"):
            await task.result()


async def test_a_close_that_is_cancelled_again_and_again(any_url: str) -> None:
    """No number of cancels keeps an ``aclose`` from ending the tasks it has begun to end."""
    begun = asyncio.Event()

    async def work(report: Reporter) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for n in range(10):
                await report.log("info", f"saving {n}")

    async with working(any_url, drain=0.0) as bench:
        task = await bench.manager.submit("work", work)
        await begun.wait()
        close = asyncio.ensure_future(bench.manager.aclose())
        await asyncio.sleep(0)
        while not close.done():
            close.cancel()
            await asyncio.sleep(0)
        page = await task.tape()

        assert close.cancelled()
        assert page.final_seq == page.last_seq == 12


async def test_shutdown_leaves_only_a_blocked_thread(any_url: str) -> None:
    """A thread that ignores the shutdown is fenced, its late event dropped; all else goes on."""
    block = Block()
    refused: list[DropReason] = []

    def work(report: ThreadReporter) -> None:
        block(report)
        try:
            report.log("info", "late")
        except EventDropped as error:
            refused.append(error.reason)

    async with working(any_url, drain=0.0, cancel_grace=0.02) as bench:
        task = await bench.manager.submit("work", work)
        await bench.manager.aclose()
        tasks = [t for t in asyncio.all_tasks() if t.get_name().startswith("tapescope-run")]
        with pytest.raises(TaskCancelled):
            await task.result()
        block.released.set()
        await bench.zombies_ended()

        assert tasks == []
        assert refused == [DropReason.AFTER_TERMINAL]


async def test_a_shutdown_reaches_a_submit_under_way(any_url: str) -> None:
    """A submit that the shutdown overtakes is run or cancelled; none is forgotten."""

    async def work(report: Reporter) -> None:
        await asyncio.Event().wait()

    async with working(any_url, drain=0.0) as bench:
        submits = [asyncio.ensure_future(bench.manager.submit("work", work)) for _ in range(20)]
        await asyncio.sleep(0)
        await bench.manager.aclose()
        ends = await asyncio.gather(*submits, return_exceptions=True)
        counts = await bench.store.count()
        left = {status.value: n for status, n in counts.items()}

        assert not [end for end in ends if isinstance(end, BaseException)]
        assert left["cancelled"] == 20


async def test_the_error_of_the_body_comes_first() -> None:
    """What the body of ``async with`` raises is what its caller sees, when tasks run, too."""

    async def work(report: Reporter) -> None:
        await asyncio.Event().wait()

    async def fail_in_the_body(store: MemoryStore) -> None:
        async with TaskManager(store, drain=0.0) as manager:
            await manager.submit("work", work)
            raise ZeroDivisionError

    async with MemoryStore() as store:
        with pytest.raises(ZeroDivisionError):
            await fail_in_the_body(store)
        counts = {status.value: n for status, n in (await store.count()).items() if n}

    assert counts == {"cancelled": 1}


async def test_zombies_are_capped(caplog: pytest.LogCaptureFixture) -> None:
    """At ``max_zombies`` no task starts until one of them ends; that is said once, in the log."""
    block = Block()

    async def work(report: Reporter) -> str:
        return "ran"

    with caplog.at_level(logging.WARNING, "tapescope"):
        async with working("memory:", max_running=2, max_zombies=1, cancel_grace=0.01) as bench:
            stuck = await bench.manager.submit("block", block)
            await until(block.begun.is_set)
            await stuck.cancel()
            with pytest.raises(TaskCancelled):
                await stuck.result()
            task = await bench.manager.submit("work", work)
            with pytest.raises(TimeoutError):
                await task.result(timeout=0.05)
            waiting = (await task.status()).status.value
            block.released.set()
            result = await task.result()

    assert waiting == "pending"
    assert result == "ran"
    assert caplog.text.count("max_zombies") == 1


async def test_the_drain_does_not_wait_for_what_is_due_after_it(any_url: str) -> None:
    """A delayed task, and a retry to come, are cancelled at once; what is due runs to its end."""
    failed = asyncio.Event()

    async def work(report: Reporter) -> str:
        await failed.wait()
        return "done"

    async def fail(report: Reporter) -> None:
        raise RuntimeError("planned")

    async with working(any_url, drain=60, retry_delay=10_000) as bench:
        due = await bench.manager.submit("work", work)
        delayed = await bench.manager.submit("later", work, delay=3_600)
        retried = await bench.manager.submit("fail", fail, retries=1)
        async with asyncio.timeout(20):
            async for event in retried.follow():
                if event.type == "attempt_failed":
                    break
            closing = asyncio.ensure_future(bench.manager.aclose())
            for task in (delayed, retried):
                with pytest.raises(TaskCancelled, match="shutdown"):
                    await task.result()
            running = not closing.done()
            failed.set()
            await closing

        assert running
        assert await due.result() == "done"


async def test_a_failure_in_the_drain_is_not_waited_for(any_url: str) -> None:
    """Where its retry would be due only after the drain."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fail(report: Reporter) -> None:
        begun.set()
        await go_on.wait()
        raise RuntimeError("planned")

    async with working(any_url, drain=60, retry_delay=10_000) as bench:
        task = await bench.manager.submit("fail", fail, retries=1)
        await begun.wait()
        async with asyncio.timeout(20):
            closing = asyncio.ensure_future(bench.manager.aclose())
            await asyncio.sleep(0)
            go_on.set()
            await closing

        with pytest.raises(TaskCancelled, match="shutdown"):
            await task.result()
