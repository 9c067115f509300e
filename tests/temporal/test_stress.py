"""The long run, in short; and that its judge sees what is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tapescope import Reporter, TaskManager
from tapescope.model import Task, TaskStatus
from tapescope.testing import MemoryStore
from tests.temporal.stress import find_faults, share, stress

pytestmark = [pytest.mark.temporal, pytest.mark.timeout(600)]


async def test_a_few_acts_leave_nothing_bad() -> None:
    """By a seed of its own."""
    found = await stress(8, seed=7)

    assert found.bad == []
    assert found.acts.total() == 8
    assert found.outcomes["succeeded"] > 0


async def test_each_engine_takes_its_own() -> None:
    """Twenty tasks of the one, two hundred of the other."""
    found = await share(20, seed=1)

    assert found.bad == []
    assert found.outcomes == {"succeeded": 220}


async def _nothing(report: Reporter) -> None:
    pass


async def test_the_judge_sees_what_is_wrong() -> None:
    """A cancel that nobody asked for, a failure, an attempt that ran twice, one that never ran."""
    async with MemoryStore() as store, TaskManager(store) as manager:
        handle = await manager.submit("x", _nothing, retries=0)
        await handle.result()
        row = await handle.status()
        once = Counter({(row.task_id, 1): 1})

        async def judge(task: Task = row, runs: Counter[tuple[str, int]] = once) -> list[str]:
            return await find_faults(manager, task, runs, wanted=True)

        assert await judge() == []
        cancelled = replace(row, status=TaskStatus.CANCELLED)
        assert await judge(cancelled) == ["it was cancelled, and nobody asked for that"]
        assert await judge(replace(row, status=TaskStatus.FAILED)) == ["it is failed"]
        assert await judge(runs=Counter({(row.task_id, 1): 2})) == [
            *("runs of its attempts: [2]", "it succeeded, and its last attempt never ran once")
        ]
        assert await judge(runs=Counter()) == ["it succeeded, and its last attempt never ran once"]
        assert await judge(replace(row, attempt=2)) == [
            *("1 attempts began, the row says 2",),
            "it succeeded, and its last attempt never ran once",
        ]
