"""Hooks around a submit: what they hand on is submitted, and what they raise refuses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from tapescope import (
    BadParams,
    BadSetting,
    HookMisused,
    Ops,
    Reporter,
    Submission,
    TaskHandle,
    TaskManager,
)
from tapescope.sync import SyncManager
from tapescope.testing import EagerManager
from tests.support.workbench import working

Proceed = Callable[[Submission[Any]], Awaitable[TaskHandle[Any]]]


class TooMuch(Exception):
    """A refusal of a hook's."""


async def stamp(submission: Submission[Any], proceed: Proceed) -> TaskHandle[Any]:
    """A hook that adds to the params, and to the other fields."""
    params = {**submission.params, "tenant": "acme"}
    return await proceed(replace(submission, params=params, retries=7))


async def refuse(submission: Submission[Any], proceed: Proceed) -> TaskHandle[Any]:
    """A hook that lets no task through whose folder is too large."""
    if submission.params["folder"] == "large":
        raise TooMuch
    return await proceed(submission)


shop = Ops(around_submit=[stamp])


@shop.op("greet")
async def greet(report: Reporter, folder: str, tenant: str = "nobody") -> str:
    """Say what was submitted."""
    return f"{folder} of {tenant}"


async def test_what_a_hook_hands_on_is_submitted() -> None:
    """Each way to submit an op of the registry goes through its hooks; another op's does not."""
    async with working("memory:", ops=shop) as bench:
        manager = bench.manager
        tasks = [
            await greet.submit("a"),
            await greet.options(manager=manager).submit(folder="b"),
            await manager.submit("greet", params={"folder": "c"}),
            *await manager.submit_many([greet.bind("d"), greet.bind("e")]),
        ]

        assert [await task.result() for task in tasks] == [f"{one} of acme" for one in "abcde"]
        assert [(await task.status()).retries for task in tasks] == [7] * 5
        other = await manager.submit("other", greet.runner.call, params={"folder": "f"})

        assert await other.result() == "f of nobody"


async def test_hooks_are_nested_and_told_what_was_handed_in() -> None:
    """The manager's around the registry's; each is told what the one before it handed on."""
    told: list[str] = []

    async def note(submission: Submission[Any], proceed: Proceed) -> TaskHandle[Any]:
        told.append(f"in {submission.params.get('tenant')}")
        handle = await proceed(submission)
        told.append(f"out {handle.created}")
        return handle

    inner = Ops(shop, around_submit=[note])
    async with working("memory:", ops=inner, around_submit=[note]):
        await (await greet.submit("a")).result()

        assert told == ["in None", "in None", "out True", "out True"]


@pytest.mark.parametrize("many", [False, True])
async def test_a_submit_that_a_hook_refuses_stores_nothing(any_url: str, *, many: bool) -> None:
    """It raises what the hook raised; of many, the others are submitted all the same."""
    async with working(any_url, ops=shop, work=False, around_submit=[refuse]) as bench:
        names = ["small", "large", "other"] if many else ["large"]
        bound = [greet.bind(name) for name in names]
        submit = bench.manager.submit_many(bound) if many else greet.submit("large")
        with pytest.raises(TooMuch):
            await submit
        page = await bench.store.list()

        assert [task.params["folder"] for task in page.tasks] == ["other", "small"] * many


async def test_what_a_hook_raises_behind_the_submit_leaves_the_task() -> None:
    """It is there, and runs; who submits is told what the hook raised."""

    async def fail(submission: Submission[Any], proceed: Proceed) -> TaskHandle[Any]:
        await proceed(submission)
        raise TooMuch

    async with working("memory:", ops=shop, around_submit=[fail]) as bench:
        with pytest.raises(TooMuch):
            await greet.submit("a")
        (task,) = (await bench.store.list()).tasks

        assert await bench.manager.handle(task.task_id).result() == "a of acme"


async def test_bad_input_is_refused_before_a_hook_and_behind_it() -> None:
    """What it hands on is checked as what is handed in; it cannot be a task of another op."""
    told: list[str] = []

    async def turn(submission: Submission[Any], proceed: Proceed) -> TaskHandle[Any]:
        told.append(submission.op)
        changes: Any = submission.params["folder"]
        return await proceed(replace(submission, **changes))

    async with working("memory:", ops=shop, around_submit=[turn]) as bench:
        with pytest.raises(BadParams, match="'folder'"):
            await bench.manager.submit("greet", params={"colour": "red"})

        assert told == []
        with pytest.raises(BadParams, match="'folder'"):
            await greet.submit({"params": {"colour": "red"}})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the test
        with pytest.raises(BadSetting, match="op is 'other'"):
            await greet.submit({"op": "other"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the test
        assert not any((await bench.store.count()).values())


async def test_a_hook_that_is_wrong_is_told_so() -> None:
    """One that gives no handle, and one that submits twice."""

    async def forget(submission: Submission[Any], proceed: Proceed) -> Any:
        await proceed(submission)

    async def twice(submission: Submission[Any], proceed: Proceed) -> TaskHandle[Any]:
        await proceed(submission)
        return await proceed(submission)

    for hook, why in ((forget, "returned NoneType and not a TaskHandle"), (twice, "twice")):
        async with working("memory:", ops=shop, around_submit=[hook]) as bench:
            with pytest.raises(HookMisused, match=why):
                await greet.submit("a")

            assert sum((await bench.store.count()).values()) == 1


async def test_an_eager_manager_has_hooks() -> None:
    """The task has ended when the hook's ``proceed`` returns."""
    ended: list[bool] = []

    async def see(submission: Submission[Any], proceed: Proceed) -> TaskHandle[Any]:
        handle = await proceed(submission)
        ended.append((await handle.status()).status.terminal)
        return handle

    async with EagerManager(ops=shop, around_submit=[see]):
        await greet.submit("a")

    assert ended == [True]


def test_the_sync_door_has_hooks(sqlite_url: str) -> None:
    """They are called in its loop, for a submit from any thread."""
    with SyncManager(sqlite_url, ops=shop, work=True, around_submit=[refuse]) as tasks:
        with pytest.raises(TooMuch):
            tasks.submit("greet", params={"folder": "large"})

        assert tasks.submit("greet", params={"folder": "a"}).result(30) == "a of acme"


async def test_a_resubmit_is_past_the_hooks() -> None:
    """Its params are those of a task that there is, as they are stored."""
    async with working("memory:", ops=shop) as bench:
        first = await bench.manager.submit("plain", greet.runner.call, params={"folder": "a"})
        await first.result()
        bench.manager.op("plain")(greet.runner.call)
        again = await bench.manager.resubmit(first.task_id)

        assert await again.result() == "a of nobody"


async def test_registries_keep_no_manager_alive() -> None:
    """A manager that is dropped leaves its hooks with it."""
    order: list[str] = []

    async def note(submission: Submission[Any], proceed: Proceed) -> TaskHandle[Any]:
        order.append("noted")
        return await proceed(submission)

    TaskManager("sqlite:///never.db", ops=shop, around_submit=[note])
    async with working("memory:", ops=shop):
        await greet.submit("a")

    assert order == []
