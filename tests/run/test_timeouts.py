"""Timeouts: ours, which fail a task, and a runner's own, which work as anywhere."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tapescope import (
    Reporter,
    TaskCancelled,
    TaskFailed,
)
from tests.support.workbench import (
    GRACE,
    Block,
    ended,
    started,
    wait_for_cancel,
    working,
)


async def test_a_timeout_fails(any_url: str) -> None:
    """A runner past its timeout is cancelled and its task fails as ``timeout``."""
    async with working(any_url) as bench:
        task = await bench.manager.submit("work", wait_for_cancel, timeout=0.05)
        with pytest.raises(TaskFailed, match=r"timeout of 0\.05 s"):
            await task.result()
        account = await bench.account(task)

        assert account == ended("failed", error="timeout", tape=account.tape)


async def test_a_timeout_stands_when_the_runner_returns(any_url: str) -> None:
    """A runner that answers its timeout with a result, or with another error, has timed out."""

    async def finish(report: Reporter) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "too late"
        return "never"

    async def break_off(report: Reporter) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("cannot delete")

    async with working(any_url) as bench:
        late = await bench.manager.submit("late", finish, timeout=0.02)
        broken = await bench.manager.submit("broken", break_off, timeout=0.02)
        for task in (late, broken):
            with pytest.raises(TaskFailed):
                await task.result()

        assert await bench.account(late) == ended("failed", error="timeout")
        assert await bench.account(broken) == ended("failed", error="timeout")
        assert (await bench.body(broken))["error"]["details"] == {"cleanup": "RuntimeError"}


async def test_a_thread_past_its_timeout_is_fenced(any_url: str) -> None:
    """A thread past its timeout is asked to stop, and fails as ``timeout`` after the grace."""
    block = Block()
    async with working(any_url, cancel_grace=GRACE) as bench:
        task = await bench.manager.submit("work", block, timeout=0.02)
        with pytest.raises(TaskFailed):
            await task.result()
        running_on = not block.released.is_set()
        block.released.set()
        await bench.zombies_ended()

        assert running_on
        assert await bench.account(task) == ended("failed", error="timeout")


async def test_a_cancel_after_a_timeout_comes_too_late(any_url: str) -> None:
    """The first reason stays: a task that timed out fails, also when it is cancelled afterwards."""
    timed_out = asyncio.Event()

    async def work(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        except asyncio.CancelledError:
            timed_out.set()
            await asyncio.Event().wait()

    async with working(any_url, cancel_grace=GRACE) as bench:
        task = await bench.manager.submit("work", work, timeout=0.02)
        await timed_out.wait()
        await task.cancel()
        with pytest.raises(TaskFailed):
            await task.result()
        account = await bench.account(task)
        cancel_zombies()

        assert account.row == ("failed", "timeout")
        assert account.span == ("ERROR", "failed", "timeout")


def cancel_zombies() -> None:
    """End the runners that were left waiting for ever."""
    for task in asyncio.all_tasks():
        if task.get_name().startswith("tapescope-run-"):
            task.cancel()


# Before 3.11.3 asyncio.timeout() itself does not work in the cleanup of a cancelled task.
_OWN_TIMEOUTS = (
    ["own timeout", "timeout in the cleanup"] if sys.version_info >= (3, 11, 3) else ["own timeout"]
)


async def test_a_runner_may_use_timeouts_and_task_groups(any_url: str) -> None:
    """A runner's own ``asyncio.timeout`` and ``TaskGroup`` work, before and during a cancel."""
    seen: list[str] = []

    async def work(report: Reporter) -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("own timeout")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(wait_for_cancel(report))
                group.create_task(asyncio.Event().wait())
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                seen.append("timeout in the cleanup")
            raise

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()

        tape = ["task_started", "log", "final"]
        assert seen == _OWN_TIMEOUTS
        assert await bench.account(task) == ended("cancelled", reason="user", tape=tape)
