"""Registries of ops: apart from any manager, submitted by the op itself, wherever it is open."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tapescope import (
    BadParams,
    ManagerUnclear,
    Op,
    Ops,
    OpTaken,
    Reporter,
    TaskFailed,
    TaskManager,
    ThreadReporter,
)
from tapescope.testing import MemoryStore
from tests.support.workbench import working

shop = Ops()
NOBODY: Any = None


@pytest.fixture
async def memory_store() -> AsyncIterator[MemoryStore]:
    """An open store in memory."""
    async with MemoryStore() as store:
        yield store


@shop.op("shop.resize", timeout=60, retries=1)
async def resize(report: Reporter, folder: str, width: int = 100) -> str:
    """Say what would be resized."""
    await report.log("info", "resizing")
    return f"{folder} {width}"


@shop.op("shop.count")
def count(report: ThreadReporter, words: list[str]) -> int:
    """Count them."""
    return len(words)


async def test_an_op_is_submitted_by_itself(any_url: str) -> None:
    """It goes to the manager that is open here, as a task by name with the op's own settings."""
    async with working(any_url, ops=shop):
        task = await resize.submit("photos", width=7)
        counted = await count.submit(words=["a", "b"])
        row = await task.status()

        assert await task.result() == "photos 7"
        assert await counted.result() == 2
        assert (row.op, row.params) == ("shop.resize", {"folder": "photos", "width": 7})
        assert (row.timeout, row.retries) == (60, 1)


async def test_an_op_has_the_options_of_a_submit(any_url: str) -> None:
    """A time, a key, a limit and retries, as ``TaskManager.submit`` has them."""
    async with working(any_url, ops=shop):
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        later = resize.options(run_at=tomorrow, timeout=5, retries=0, idempotency_key="once")
        task = await later.submit(folder="photos")
        again = await later.submit("photos")
        row = await task.status()
        await task.cancel()

        assert (row.run_at, row.timeout, row.retries) == (tomorrow, 5, 0)
        assert (again.task_id, again.created) == (task.task_id, False)


async def test_many_are_bound_and_submitted_together(any_url: str) -> None:
    """What ``bind`` made is submitted with the tasks of other ops, or by the op."""
    async with working(any_url, ops=shop) as bench:
        mixed = await bench.manager.submit_many([resize.bind("a"), count.bind(["x"])])
        own = await resize.submit_many(resize.bind(folder) for folder in "bc")

        assert [await task.result() for task in (*mixed, *own)] == ["a 100", 1, "b 100", "c 100"]


@pytest.mark.parametrize("url", ["memory", "sqlite"])
def test_a_registry_outlives_its_managers(url: str, sqlite_url: str) -> None:
    """Each life of a web application, or each test, has a manager and a loop of its own."""

    async def live(n: int) -> str:
        store: Any = MemoryStore() if url == "memory" else None
        if store is not None:
            await store.open()
        async with TaskManager(store or sqlite_url, ops=shop):
            task = await resize.submit(f"life {n}")
            return await task.result()

    assert [asyncio.run(live(n)) for n in range(2)] == ["life 0 100", "life 1 100"]


async def test_the_manager_must_be_clear(memory_store: MemoryStore) -> None:
    """With none open here, or several, the op asks which one is meant."""
    closed = TaskManager(memory_store, ops=shop)
    with pytest.raises(ManagerUnclear, match="No manager that has the op"):
        await resize.submit("a")
    async with TaskManager(memory_store, ops=shop), TaskManager(memory_store, ops=shop) as other:
        with pytest.raises(ManagerUnclear, match="2 managers that have the op"):
            await resize.submit("a")
        task = await resize.options(manager=other).submit("a")

        assert await task.result() == "a 100"
        assert not closed.is_open


async def test_a_manager_of_another_loop_is_not_meant(memory_store: MemoryStore) -> None:
    """Where one is open in another thread's loop, this loop has none."""
    answers: list[object] = []

    def elsewhere() -> None:
        async def submit() -> None:
            async with MemoryStore() as store, TaskManager(store, ops=shop):
                answers.append(await (await resize.submit("there")).result())

        asyncio.run(submit())

    async def submit_without() -> None:
        with pytest.raises(ManagerUnclear):
            await resize.submit("nowhere")

    async with TaskManager(memory_store, ops=shop):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        await asyncio.to_thread(asyncio.run, submit_without())
        answers.append(await (await resize.submit("here")).result())

    assert answers == ["there 100", "here 100"]


async def test_registries_are_joined(memory_store: MemoryStore) -> None:
    """One that includes others has their ops, also those that come later, however they meet."""
    mail, stock = Ops(), Ops()
    both = Ops(mail, stock)
    everything = Ops(both, mail)

    @mail.op("send")
    async def send(report: Reporter) -> str:
        return "sent"

    async with TaskManager(memory_store, ops=[everything, shop]) as manager:

        @stock.op("pick")  # while the manager works already
        async def pick(report: Reporter) -> str:
            return "picked"

        assert await (await send.submit()).result() == "sent"
        assert await (await pick.submit()).result() == "picked"
        assert set(everything) == {"send", "pick"}
        assert set(manager.ops) == {"send", "pick", *shop}


def test_a_name_is_taken_once_in_all_that_include_it() -> None:
    """The second op of a name is refused wherever the two would meet, and changes nothing."""
    one, other = Ops(), Ops()
    one.op("pay")(resize.runner.call)
    joined = Ops(one, other)
    with pytest.raises(OpTaken, match="'pay' is registered"):
        other.op("pay")(count.runner.call)
    apart = Ops()
    apart.op("pay")(count.runner.call)
    apart.op("refund")(count.runner.call)
    with pytest.raises(OpTaken):
        joined.include(apart)

    assert (list(other), list(joined)) == ([], ["pay"])


async def test_a_manager_joins_its_own_ops(memory_store: MemoryStore) -> None:
    """``manager.op`` is the short form: its ops are the manager's, not the registry's."""
    manager = TaskManager(memory_store, ops=shop)

    @manager.op("own")
    async def own(report: Reporter) -> str:
        return "mine"

    async with manager:
        assert await (await own.submit()).result() == "mine"
    assert (own.name, "own" in manager.ops, "own" in shop) == ("own", True, False)


async def test_an_op_may_be_given_as_a_runner(memory_store: MemoryStore) -> None:
    """As its function was: by the op's own name, or another."""
    async with TaskManager(memory_store, ops=shop) as manager:
        named = await manager.submit("shop.resize", resize, params={"folder": "a"})
        other = await manager.submit("other", count, params={"words": []})

        assert (await named.result(), await other.result()) == ("a 100", 0)


class Greeter:
    """A runner that is an object."""

    async def __call__(self, report: Reporter, name: str) -> str:
        """Greet."""
        return f"hello {name}"


async def greet_warmly(report: Reporter, name: str, warmth: int) -> str:
    """A runner that is given a part of its params."""
    return f"hello {name}{'!' * warmth}"


async def test_a_runner_stays_callable() -> None:
    """It is called as what it was, and tells what it was."""
    ops = Ops()
    wide = ops.op("wide")(functools.partial(greet_warmly, warmth=2))
    greet = ops.op("greet")(Greeter())

    assert count(NOBODY, ["a"]) == 1
    assert await wide(NOBODY, "you") == "hello you!!"
    assert await greet(NOBODY, name="you") == "hello you"
    assert inspect.unwrap(resize) is resize.runner.call
    assert inspect.getdoc(resize) == "Say what would be resized."
    assert list(inspect.signature(resize).parameters) == ["report", "folder", "width"]
    assert repr(resize) == "<Op 'shop.resize'>"


def take_all(report: ThreadReporter, first: int, *more: int, **named: int) -> None:
    """A runner whose params have no names, or any."""


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "params"),
    [
        (take_all, (1,), {"b": 2}, {"first": 1, "b": 2}),
        (take_all, (1, 2), {}, "what the runner takes as [*]more has no names"),
        (resize.runner.call, ("a", 1, 2), {}, "too many positional arguments"),
        (resize.runner.call, ("a",), {"folder": "b"}, "multiple values for argument 'folder'"),
        (resize.runner.call, (), {"folder": "b", "width": 2}, {"folder": "b", "width": 2}),
    ],
)
def test_arguments_have_names(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], params: Any
) -> None:
    """A task's params are keyword arguments: those given by their place are named."""
    op: Op = Ops().op("any")(function)
    if isinstance(params, dict):
        assert op.bind(*args, **kwargs).params == params
        return
    with pytest.raises(BadParams, match=params):
        op.bind(*args, **kwargs)


async def test_wrong_arguments_make_no_task(memory_store: MemoryStore) -> None:
    """What type checkers would have said is said at the submit, too."""
    wrong: Op = resize
    async with TaskManager(memory_store, ops=shop):
        with pytest.raises(BadParams, match="missing a required argument: 'folder'"):
            await wrong.submit(fodler="photos")

        assert sum((await memory_store.count()).values()) == 0


async def test_a_failed_op_raises_for_who_waits(memory_store: MemoryStore) -> None:
    """As any task."""
    ops = Ops()

    @ops.op("fail", retries=0)
    async def fail(report: Reporter) -> None:
        raise ValueError("no")

    async with TaskManager(memory_store, ops=ops):
        with pytest.raises(TaskFailed, match="no"):
            await (await fail.submit()).result()


async def test_a_registry_keeps_no_manager(memory_store: MemoryStore) -> None:
    """One that is closed and forgotten is gone, however long its registry lives."""
    async with TaskManager(memory_store, ops=shop) as manager:
        gone = weakref.ref(manager)
    del manager
    gc.collect()

    assert gone() is None
