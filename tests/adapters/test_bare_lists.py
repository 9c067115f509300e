"""A list that shows no params reads none: they may be megabytes, and a list is of many tasks."""

from __future__ import annotations

import tracemalloc

import pytest

from tapescope.model.tasks import NewTask, TaskStatus
from tapescope.store.lookup import find_store
from tapescope.store.validation import new_task_id
from tests.support.breaches import run_round

LONG = "x" * 200_000
TASKS = 20


@pytest.mark.parametrize("status", [None, TaskStatus.PENDING], ids=["all", "by status"])
@pytest.mark.parametrize("op", [None, "x"], ids=["any op", "an op"])
async def test_a_list_without_params_reads_none(
    store_url: str, status: TaskStatus | None, op: str | None
) -> None:
    """All else is there, in the same order; what is held meanwhile is a part of the params."""
    async with find_store(store_url) as store:
        for _ in range(TASKS):
            await store.create(NewTask(new_task_id(), "x", {"long": LONG}))
        whole = await store.list(status=status, op=op)
        tracemalloc.start()
        bare = await store.list(status=status, op=op, params=False)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert [task.params["long"] for task in whole.tasks] == [LONG] * TASKS
    assert [task.params for task in bare.tasks] == [{}] * TASKS
    assert [task.task_id for task in bare.tasks] == [task.task_id for task in whole.tasks]
    assert peak < TASKS * len(LONG) / 10


async def test_params_that_cannot_be_read_are_named_all_the_same(store_url: str) -> None:
    """A list marks a damaged row, whether it reads the params or not."""
    wrong = ["'not json'", "'[1]'"]
    async with find_store(store_url) as store:
        tasks = [(await store.create(NewTask(new_task_id(), "x")))[0] for _ in wrong]
        rounds = zip(wrong, tasks, strict=True)
        await run_round(
            store_url,
            *(f"UPDATE tasks SET params = {text} WHERE id = {t.key}" for text, t in rounds),
        )
        bare = await store.list(params=False)
        whole = await store.list()

    damage = "params of its row cannot be read"
    assert [task.damage for task in bare.tasks] == [damage] * len(wrong)
    assert bare == whole
