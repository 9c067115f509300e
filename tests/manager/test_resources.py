"""Resources: opened once in a manager that works, handed to its runners, closed behind them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import date
from functools import partial
from typing import Any

import pytest

from tapescope import (
    BadParams,
    BadRunner,
    BadSetting,
    Ops,
    Outcome,
    Reporter,
    ResourceFailed,
    TapeHandler,
    TaskFailed,
    TaskManager,
    ThreadReporter,
)
from tapescope.sync import SyncManager
from tapescope.testing import MemoryStore, assert_tape, run_op, until
from tests.support.memory_stores import FaultyStore, at_rest
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import started, working


class Shelf:
    """Resources that note when they are opened and closed."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @asynccontextmanager
    async def open_books(self) -> AsyncGenerator[list[str]]:
        """A resource."""
        self.told.append("books opened")
        yield ["a book"]
        self.told.append("books closed")

    @asynccontextmanager
    async def open_lamp(self) -> AsyncGenerator[str]:
        """Another one."""
        self.told.append("lamp opened")
        try:
            yield "a lamp"
        finally:
            self.told.append("lamp closed")

    def make_ops(self) -> Ops:
        """Three ops: two that share the books, in the loop and in a thread, and one of the lamp."""
        ops = Ops()

        @ops.op("read", resource=self.open_books)
        async def read(report: Reporter, books: list[str], folder: str, day: date) -> list[str]:
            self.told.append(f"read {folder} {day:%d}")
            return books

        @ops.op("count", resource=self.open_books)
        def count(report: ThreadReporter, books: list[str]) -> int:
            self.told.append("count")
            return len(books)

        @ops.op("light", resource=self.open_lamp)
        async def light(report: Reporter, lamp: str) -> str:
            await report.log("info", "here")
            await asyncio.sleep(0)
            self.told.append("light")
            return lamp

        return ops


DAY = {"folder": "photos", "day": "2026-11-30"}


async def test_a_resource_is_opened_once_and_closed_behind_its_runs() -> None:
    """With the manager, before the first run; in reverse order, after the last one has ended."""
    shelf = Shelf()
    async with working("memory:", ops=shelf.make_ops(), drain=30.0) as bench:
        assert shelf.told == ["books opened", "lamp opened"]
        read = await bench.manager.submit("read", params=DAY)
        assert await read.result() == ["a book"]
        assert await (await bench.manager.submit("count")).result() == 1
        light = await bench.manager.submit("light")
        await started(light)

    assert shelf.told == [
        *("books opened", "lamp opened", "read photos 30", "count", "light"),
        *("lamp closed", "books closed"),
    ]


async def test_a_resource_is_no_param() -> None:
    """Nobody submits it, and nothing of it is in the task."""
    shelf = Shelf()
    async with working("memory:", ops=shelf.make_ops()) as bench:
        with pytest.raises(BadParams, match="'books'; the runner takes \\(report, folder, day\\)"):
            await bench.manager.submit("read", params={**DAY, "books": []})
        with pytest.raises(BadParams, match="'folder'"):
            await bench.manager.submit("read")
        task = await bench.manager.submit("read", params=DAY)
        await task.result()

        assert (await task.status()).params == DAY
        assert_tape(await task.tape(), ["task_started", Outcome.SUCCEEDED])


async def test_only_a_manager_that_works_opens_them() -> None:
    """One that submits has no use for them; an op that it has not opens its own when it runs."""
    shelf = Shelf()
    ops = shelf.make_ops()
    async with working("memory:", ops=ops, work=False):
        pass

    assert shelf.told == []
    lamp = ops.get("light")
    assert lamp is not None
    async with working("memory:") as bench:
        assert await (await bench.manager.submit("here", lamp)).result() == "a lamp"

    assert shelf.told == ["lamp opened", "light", "lamp closed"]


async def test_two_who_open_at_once_open_one_manager() -> None:
    """They wait for the same resources, and the second one finds it open."""
    shelf = Shelf()
    async with working("memory:", ops=shelf.make_ops(), max_running=7) as bench:
        manager = bench.manager
        await manager.aclose()
        shelf.told.clear()
        await asyncio.gather(manager.open(), manager.open())
        limits = [point.value for point in bench.captured.points("tapescope.task.limit")]

        assert limits == [7]
        assert await (await manager.submit("count")).result() == 1
        await manager.aclose()
        life = ["books opened", "lamp opened", "count", "lamp closed", "books closed"]
        assert shelf.told == life


async def test_each_life_has_its_own() -> None:
    """A manager that is opened again opens them again."""
    shelf = Shelf()
    async with MemoryStore() as store:
        manager = TaskManager(store, ops=shelf.make_ops())
        for _ in range(2):
            async with manager:
                await (await manager.submit("count")).result()

    life = ["books opened", "lamp opened", "count", "lamp closed", "books closed"]
    assert shelf.told == life * 2


async def test_a_resource_that_cannot_be_opened_keeps_a_worker_from_opening() -> None:
    """It says which, and why; what was open is closed, and it may be tried again."""
    shelf, tries = Shelf(), [ConnectionError("no route"), None]

    @asynccontextmanager
    async def open_far() -> AsyncGenerator[str]:
        if (error := tries.pop(0)) is not None:
            raise error
        yield "far"

    ops = shelf.make_ops()

    @ops.op("far", resource=open_far)
    async def far(report: Reporter, there: str) -> str:
        return there

    async with MemoryStore() as store:
        manager = TaskManager(store, ops=ops)
        with pytest.raises(ResourceFailed, match=r"open_far could not be .*ConnectionError: no r"):
            await manager.open()

        assert shelf.told == ["books opened", "lamp opened", "lamp closed", "books closed"]
        assert not manager.is_open
        async with manager:
            assert await (await far.submit()).result() == "far"


async def test_a_manager_that_opens_no_resource_leaves_no_store_open(sqlite_url: str) -> None:
    """Its own store is closed again, also where the opening is cancelled."""
    begun = asyncio.Event()

    @asynccontextmanager
    async def open_slowly() -> AsyncGenerator[None]:
        begun.set()
        await asyncio.Event().wait()
        yield

    ops = Ops()

    @ops.op("work", resource=open_slowly)
    async def work(report: Reporter, nothing: None) -> None:
        """Never run."""

    manager = TaskManager(sqlite_url, ops=ops)
    opening = asyncio.create_task(manager.open())
    await begun.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening

    assert not [task for task in asyncio.all_tasks() if "resource" in task.get_name()]
    await manager.store.open()  # closed by then: it may be opened anew
    await manager.store.aclose()


async def test_an_attempt_fails_whose_resource_cannot_be_opened() -> None:
    """At the first use of an op that came late; the next attempt has it tried again."""
    tries = [SystemExit(3), OSError("away"), None]

    @asynccontextmanager
    async def open_late() -> AsyncGenerator[str]:
        if (error := tries.pop(0)) is not None:
            raise error
        yield "late"

    async with working("memory:", retry_delay=0) as bench:

        @bench.manager.op("work", resource=open_late)
        async def work(report: Reporter, late: str) -> str:
            return late

        task = await work.submit()
        assert await task.result() == "late"
        failed = ("attempt_failed", {"error": {"code": "tapescope.errors.ResourceFailed"}})
        assert_tape(
            await task.tape(),
            ["task_started", failed, "task_started", failed, "task_started", Outcome.SUCCEEDED],
        )


@in_virtual_time
async def test_runs_that_wait_for_a_resource_may_be_cancelled() -> None:
    """One that times out leaves it to be opened for the others, which share it."""
    opened: list[str] = []

    @asynccontextmanager
    async def open_slowly() -> AsyncGenerator[str]:
        await asyncio.sleep(5)
        opened.append("slow")
        yield "slow"

    ops = Ops()

    @ops.op("work", resource=open_slowly)
    async def work(report: Reporter, slow: str) -> str:
        return slow

    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        hasty = await manager.submit("work", work, timeout=1)
        others = [await manager.submit("work", work) for _ in range(3)]
        with pytest.raises(TaskFailed, match="timeout of 1 s"):
            await hasty.result()

        assert [await task.result() for task in others] == ["slow"] * 3
        assert opened == ["slow"]


async def test_a_resource_that_breaks_is_opened_anew(caplog: pytest.LogCaptureFixture) -> None:
    """It lives in a task of its own, so it may hold a task group, whose failure ends it alone."""
    fail = asyncio.Event()

    async def watch() -> None:
        await fail.wait()
        raise OSError("the link is down")

    opened: list[int] = []

    @asynccontextmanager
    async def open_link() -> AsyncGenerator[int]:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            opened.append(1)
            yield len(opened)
            watching.cancel()

    ops = Ops()

    @ops.op("work", resource=open_link)
    async def work(report: Reporter, link: int) -> int:
        return link

    async with working("memory:", ops=ops):
        assert await (await work.submit()).result() == 1
        fail.set()
        await until(lambda: "has ended by itself" in caplog.text)
        fail.clear()
        assert await (await work.submit()).result() == 2

    assert "the link is down" in caplog.text


@in_virtual_time
async def test_a_resource_that_cannot_be_closed_holds_nobody_up() -> None:
    """One that raises and one that hangs are told of, and the others are closed all the same."""
    shelf = Shelf()
    forever = asyncio.Event()

    @asynccontextmanager
    async def open_bad() -> AsyncGenerator[None]:
        yield
        raise OSError("cannot flush")

    @asynccontextmanager
    async def open_stuck() -> AsyncGenerator[None]:
        yield
        while not forever.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await forever.wait()

    ops = shelf.make_ops()
    for factory in (open_bad, open_stuck):

        @ops.op(factory.__name__, resource=factory)
        async def work(report: Reporter, nothing: None) -> None:
            """Never run."""

    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("tapescope").addHandler(handler)
    try:
        async with at_rest(FaultyStore()) as store:
            loop = asyncio.get_running_loop()
            async with TaskManager(store, ops=ops, cancel_grace=2.0):
                began = loop.time()
            took = loop.time() - began
            forever.set()
    finally:
        logging.getLogger("tapescope").removeHandler(handler)

    assert took == pytest.approx(4.0, abs=0.5)
    assert shelf.told == ["books opened", "lamp opened", "lamp closed", "books closed"]
    ends = [line.rpartition("<locals>.")[2] for line in lines if "resource" in line]
    assert ends == [
        "open_stuck does not close, and is left behind.",
        "open_bad could not be closed without an error.",
    ]


async def test_a_test_opens_another_in_its_place() -> None:
    """By what the op was registered with; the first one is not opened."""
    shelf = Shelf()
    ops = shelf.make_ops()
    resources = {shelf.open_books: lambda: nullcontext(["a fake", "another"])}
    async with working("memory:", ops=ops, resources=resources) as bench:
        assert await (await bench.manager.submit("count")).result() == 2
        count: Any = ops.get("count")

        assert await run_op(count).configure(resources=resources) == 2
        assert count(None, ["mine"]) == 1  # the function itself, with a resource of the caller's

    assert shelf.told == ["lamp opened", "count", "count", "count", "lamp closed"]
    assert await run_op(count) == 1
    assert shelf.told[-3:] == ["books opened", "count", "books closed"]


async def test_what_a_resource_logs_is_on_no_tape() -> None:
    """It is opened for all runs, not for the one that came first: in a context of its own."""
    handler, logger = TapeHandler(), logging.getLogger("shop.pool")

    @asynccontextmanager
    async def open_pool() -> AsyncGenerator[None]:
        logger.warning("opened")
        yield

    ops = Ops()

    @ops.op("work", resource=open_pool)
    async def work(report: Reporter, pool: None) -> None:
        logger.warning("in the run")

    logging.getLogger().addHandler(handler)
    try:
        async with working("memory:") as bench:
            task = await bench.manager.submit("work", work)
            await task.result()
            tape = await task.tape()
    finally:
        logging.getLogger().removeHandler(handler)

    assert [event.body["message"] for event in tape.events if event.type == "log"] == ["in the run"]


def test_the_sync_door_opens_them_in_its_loop(sqlite_url: str) -> None:
    """Where it works on the ops; they are closed with it."""
    shelf = Shelf()
    with SyncManager(sqlite_url, ops=shelf.make_ops(), work=True) as tasks:
        assert tasks.submit("count").result(30) == 1

    assert shelf.told == ["books opened", "lamp opened", "count", "lamp closed", "books closed"]


@asynccontextmanager
async def open_nothing() -> AsyncGenerator[None]:
    """A resource."""
    yield


async def bare() -> AsyncGenerator[None]:
    """What wants a decorator."""
    yield


@contextmanager
def in_the_way() -> Generator[None]:
    """What would block the loop."""
    yield


class Own:
    """An async context manager that is made without arguments."""

    async def __aenter__(self) -> Own:
        """Open it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""


async def open_later() -> Any:
    """What must be awaited first."""
    return open_nothing()


def needs_one(url: str) -> Any:
    """What cannot be called without an argument."""


@pytest.mark.parametrize("factory", [bare, in_the_way, open_later, needs_one, open_nothing(), 3])
def test_what_makes_no_resource_is_refused(factory: Any) -> None:
    """Where the op is registered, and where it is to take another's place."""
    with pytest.raises(BadSetting, match=r"resource is .*a function without arguments that"):
        Ops().op("work", resource=factory)
    with pytest.raises(BadSetting, match="resources is"):
        TaskManager("sqlite:///never.db", resources={open_nothing: factory})


def test_a_runner_that_takes_no_resource_is_refused() -> None:
    """It needs a parameter for it, after the reporter, that can be given by its place."""

    async def none(report: Reporter) -> None: ...

    async def by_name(report: Reporter, *, pool: None) -> None: ...

    async def right(report: Reporter, pool: None, folder: str, *, width: int = 1) -> None: ...

    async def any_number(*given: Any, **params: Any) -> None: ...

    class Method:
        async def run(self, report: Reporter, pool: None, folder: str) -> None: ...

    wrong: list[Any] = [none, by_name]
    for runner in wrong:
        with pytest.raises(BadRunner, match="no second parameter for its resource"):
            Ops().op("work", resource=open_nothing)(runner)
    for factory in (open_nothing, Own, partial(open_nothing), lambda: Own()):
        given: Any = factory
        Ops().op("work", resource=given)(right)
    runners: list[Any] = [any_number, Method().run]
    for runner in runners:
        Ops().op("work", resource=open_nothing)(runner)


async def test_a_class_may_make_a_resource() -> None:
    """What its ``__aenter__`` gives is handed over; params by their place come after it."""
    ops = Ops()

    @ops.op("work", resource=Own)
    async def work(report: Reporter, own: Own, folder: str) -> str:
        return f"{folder} {type(own).__name__}"

    async with working("memory:", ops=ops):
        assert await (await work.submit("a")).result() == "a Own"
        assert await (await work.submit(folder="b")).result() == "b Own"
