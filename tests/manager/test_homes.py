"""A manager and a store belong to one event loop while they are open, and to none after that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tapescope import (
    ManagerClosed,
    NewEvent,
    NewTask,
    Reporter,
    Submission,
    TaskHandle,
    TaskManager,
    UsedInAnotherLoop,
    find_store,
)
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryStore
from tests.support.workbench import working


async def succeed(report: Reporter) -> str:
    """Return at once."""
    return "done"


async def first(events: Any) -> object:
    """The first event of a follower."""
    return await anext(events)


async def called(call: Callable[[], object]) -> object:
    """A call that does not wait."""
    return call()


MANAGER: dict[str, Callable[[TaskManager, TaskHandle], Awaitable[object]]] = {
    "open": lambda manager, _: manager.open(),
    "aclose": lambda manager, _: manager.aclose(),
    "submit": lambda manager, _: manager.submit("work", succeed),
    "submit_many": lambda manager, _: manager.submit_many([Submission("work", succeed)]),
    "resubmit": lambda manager, handle: manager.resubmit(handle.task_id),
    "handle": lambda manager, handle: called(lambda: manager.handle(handle.task_id)),
    "op": lambda manager, _: called(lambda: manager.op("late")(succeed)),
    "tape": lambda manager, handle: manager.tape(handle.task_id),
    "drops": lambda manager, _: manager.drops(),
    "audit": lambda manager, _: manager.audit(),
    "handle.status": lambda _, handle: handle.status(),
    "handle.result": lambda _, handle: handle.result(),
    "handle.result within": lambda _, handle: handle.result(1),
    "handle.follow": lambda _, handle: called(handle.follow),
    "handle.cancel": lambda _, handle: handle.cancel(),
    "handle.tape": lambda _, handle: handle.tape(),
    "handle.drops": lambda _, handle: handle.drops(),
}

ATTEMPT = Attempt("01a22486-fd71-759e-a50d-87791cb41904", 1, "me")

STORE: dict[str, Callable[[TaskStore], Awaitable[object]]] = {
    "open": lambda store: store.open(),
    "aclose": lambda store: store.aclose(),
    "create": lambda store: store.create(NewTask(new_task_id(), "work")),
    "create_within": lambda store: store.create_within(object(), NewTask(new_task_id(), "work")),
    "claim_due": lambda store: store.claim_due("me", ["work"], 1, 1.0),
    "next_due": lambda store: store.next_due(["work"]),
    "append": lambda store: store.append(ATTEMPT, [NewEvent("note", {})]),
    "append_nowait": lambda store: called(
        lambda: store.append_nowait(ATTEMPT, [NewEvent("note", {})])
    ),
    "finish": lambda store: store.finish_if_running(ATTEMPT, FinalEvent.succeeded()),
    "retry_later": lambda store: store.retry_later(ATTEMPT, ErrorInfo("x"), 0),
    "release": lambda store: store.release(ATTEMPT),
    "request_cancel": lambda store: store.request_cancel(ATTEMPT.task_id),
    "get": lambda store: store.get(ATTEMPT.task_id),
    "list": lambda store: store.list(),
    "count": lambda store: store.count(),
    "read_tape": lambda store: store.read_tape(ATTEMPT.task_id),
    "read_quarantine": lambda store: store.read_quarantine(),
    "changes": lambda store: called(store.changes),
    "arrivals": lambda store: called(store.arrivals),
    "extend": lambda store: store.leases.extend("me", 1.0),
    "rescue_expired": lambda store: store.leases.rescue_expired(),
    "read ops": lambda store: store.ops.read(),
}


async def elsewhere(work: Callable[[], Awaitable[object]]) -> BaseException | None:
    """What the work raises in an event loop of another thread."""

    async def main() -> BaseException | None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # it is what is asked for
            return error
        return None

    return await asyncio.to_thread(lambda: asyncio.run(main()))


async def test_a_manager_says_that_it_is_used_in_another_loop(any_url: str) -> None:
    """Every verb of it and of its handles; in its own loop it goes on as if nothing had been."""
    async with working(any_url) as bench:
        handle = await bench.manager.submit("work", succeed)
        raised = {
            name: await elsewhere(lambda verb=verb: verb(bench.manager, handle))  # type: ignore[misc]
            for name, verb in MANAGER.items()
        }
        again = await bench.manager.submit("work", succeed)

        assert {name: type(error) for name, error in raised.items()} == dict.fromkeys(
            MANAGER, UsedInAnotherLoop
        )
        assert "This manager was opened in another event loop." in str(raised["submit"])
        assert "run_coroutine_threadsafe" in str(raised["submit"])
        assert await again.result(10) == "done"


async def test_a_store_says_that_it_is_used_in_another_loop(any_url: str) -> None:
    """Every verb of it; in its own loop it goes on as if nothing had been."""
    async with working(any_url) as bench:
        raised = {
            name: await elsewhere(lambda verb=verb: verb(bench.store))  # type: ignore[misc]
            for name, verb in STORE.items()
        }

        assert {name: type(error) for name, error in raised.items()} == dict.fromkeys(
            STORE, UsedInAnotherLoop
        )
        assert sum((await bench.store.count()).values()) == 0


def test_a_manager_has_a_second_life(store_url: str) -> None:
    """Made once, with its ops, it is opened in one loop after the other."""
    manager = TaskManager(store_url)
    manager.op("work")(succeed)

    async def live() -> tuple[str, object, object]:
        async with manager:
            by_name = await manager.submit("work")
            here = await manager.submit("other", succeed)
            return manager.owner, await by_name.result(10), await here.result(10)

    lives = [asyncio.run(live()) for _ in range(3)]

    assert len({owner for owner, *_ in lives}) == 3
    assert [results for _, *results in lives] == [["done", "done"]] * 3


async def test_between_two_lives_settings_and_store_may_change(sqlite_url: str) -> None:
    """A test points the manager of a module at a store of its own; handles of the first life go
    on where their store does."""
    manager = TaskManager(sqlite_url)
    manager.op("work")(succeed)
    async with manager:
        before = await manager.submit("work")
        await before.result(10)
    with pytest.raises(ManagerClosed):
        await manager.submit("work")
    async with MemoryStore() as store:
        manager.reconfigure(store=store, max_running=1, drain=1)
        async with manager:
            after = await manager.submit("work")
            result = await after.result(10)
            counts = await store.count()
        still_open = await store.count()
    manager.reconfigure(store=sqlite_url)
    async with manager:
        ids = [task.task_id for task in (await manager.store.list()).tasks]

    assert result == "done"
    assert sum(counts.values()) == sum(still_open.values()) == 1
    assert ids == [before.task_id]


def test_a_store_has_a_second_life(store_url: str) -> None:
    """Closed in one loop it is opened in another one."""
    store = find_store(store_url)

    async def live() -> int:
        async with store:
            await asyncio.gather(
                *(store.create(NewTask(new_task_id(), "work")) for _ in range(100))
            )
            await store.claim_due("me", ["work"], 1, 30)
            return sum((await store.count()).values())

    assert [asyncio.run(live()) for _ in range(2)] == [100, 200]
