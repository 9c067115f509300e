"""Following a tape: live, resumed, from another process; a gap or a closed store is an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from opentelemetry import context

from tapescope import (
    BadSetting,
    Event,
    ManagerClosed,
    Reporter,
    StoreClosed,
    TapeGap,
    TapePage,
    TaskHandle,
    TaskManager,
)
from tapescope.store import Change, Subscription, follow_tape
from tapescope.testing import MemoryBackend, MemoryStore, settle_loop, until
from tapescope.testing.tasks import log, start
from tests.support.workbench import started, working


async def collect(events: AsyncGenerator[Event, None]) -> list[Event]:
    """All the events, to the end."""
    return [event async for event in events]


async def count(report: Reporter, to: int) -> None:
    """A runner that counts on its tape."""
    for n in range(to):
        await report.emit("count", n)


async def test_a_follower_sees_every_event_once_and_in_order(any_url: str) -> None:
    """Followers that come before, during and after a run are all told the same tape."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(report: Reporter) -> None:
        await count(report, 30)
        begun.set()
        await go_on.wait()
        await asyncio.gather(*(report.emit("count", n) for n in range(30)))

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        early = asyncio.ensure_future(collect(task.follow()))
        await begun.wait()
        late = asyncio.ensure_future(collect(task.follow()))
        await asyncio.sleep(0)
        go_on.set()
        await task.result()
        tape = list((await task.tape()).events)

        assert len(tape) == 62
        assert await early == tape
        assert await late == tape
        assert await collect(task.follow()) == tape


async def test_a_follower_resumes_by_seq(any_url: str) -> None:
    """A follower goes on after the last ``seq`` it saw; past the ``final`` there is nothing."""
    go_on = asyncio.Event()

    async def work(report: Reporter) -> None:
        await count(report, 3)
        await go_on.wait()

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        seen: list[int] = []
        async for event in task.follow():
            seen.append(event.seq)
            if event.seq == 2:
                break
        rest = asyncio.ensure_future(collect(task.follow(after_seq=2)))
        beyond = asyncio.ensure_future(collect(task.follow(after_seq=99)))
        await asyncio.sleep(0)
        go_on.set()

        assert seen == [1, 2]
        assert [event.seq for event in await rest] == [3, 4, 5]
        assert await beyond == []
        assert await collect(task.follow(after_seq=5)) == []
        with pytest.raises(BadSetting):
            await collect(task.follow(after_seq=-1))


async def test_a_long_tape_is_read_in_pages(any_url: str) -> None:
    """A tape of more than one page is followed without a gap."""

    async def work(report: Reporter) -> None:
        for _ in range(5):
            for n in range(500):
                _ = report.emit_nowait("count", n)
            await report.emit("count", 0)

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        await task.result()

        assert [event.seq for event in await collect(task.follow())] == list(range(1, 2508))


async def test_a_slow_follower_is_not_cut_off() -> None:
    """A follower that falls behind by more than its backlog reads on from the tape."""

    async def work(report: Reporter) -> None:
        await count(report, 1500)

    async with working("memory:") as bench:
        task = await bench.manager.submit("work", work)
        events = task.follow()
        first = await anext(events)
        await task.result()
        rest = [event.seq async for event in events]

        assert [first.seq, *rest] == list(range(1, 1503))


async def test_a_follower_in_another_process(store_url: str) -> None:
    """A follower on another store of the same database is told live, to the ``final``."""
    go_on = asyncio.Event()

    async def work(report: Reporter) -> None:
        await count(report, 5)
        await go_on.wait()
        await count(report, 5)

    async with working(store_url) as bench, bench.make_other_store() as other:
        task = await bench.manager.submit("work", work)
        seen: list[Event] = []
        async with TaskManager(other) as far:

            async def follow() -> None:
                async for event in far.handle(task.task_id).follow():
                    seen.append(event)
                    if event.seq == 6:
                        go_on.set()

            await follow()

        assert [event.seq for event in seen] == list(range(1, 13))
        assert seen == list((await task.tape()).events)


async def test_a_follower_that_is_behind_has_a_lag() -> None:
    """The lag is the number of events on the tape that the follower has not taken yet."""
    written = asyncio.Event()
    go_on = asyncio.Event()

    async def work(report: Reporter) -> None:
        await go_on.wait()
        await count(report, 5)
        written.set()

    async with working("memory:") as bench:

        def lag() -> float:
            return max(p.value for p in bench.captured.points("tapescope.subscriber.lag"))

        task = await bench.manager.submit("work", work)
        events = task.follow()
        await anext(events)  # task_started
        at_first = lag()
        go_on.set()
        await written.wait()
        await task.result()
        behind = lag()
        rest = [event.seq async for event in events]

        assert at_first == 0
        assert behind == len(rest) == 6
        assert lag() == 0


async def test_the_oldest_task_of_a_manager_is_told() -> None:
    """A task that is due and has not ended has an age; one that is delayed or has ended has not."""
    go_on = asyncio.Event()

    async def work(report: Reporter) -> None:
        await go_on.wait()

    async with working("memory:") as bench:

        def age(op: str) -> float:
            points = bench.captured.points("tapescope.task.oldest_active.age")
            return {p.labels["tapescope.task.op"]: p.value for p in points}[op]

        task = await bench.manager.submit("work", work)
        later = await bench.manager.submit("later", work, delay=3600)
        running, delayed = age("work"), age("later")
        go_on.set()
        await task.result()
        await later.cancel()

        assert running > 0
        assert delayed == 0
        assert age("work") == 0


async def test_a_follower_that_leaves_is_gone() -> None:
    """When its generator is closed a follower's subscription is closed, and it is not counted."""
    go_on = asyncio.Event()

    async def work(report: Reporter) -> None:
        await count(report, 3)
        await go_on.wait()

    async with working("memory:") as bench:

        def followers() -> float:
            return sum(p.value for p in bench.captured.points("tapescope.subscriber.active"))

        task = await bench.manager.submit("work", work)
        events = task.follow()
        attached = context.get_current()
        await anext(events)
        while_following = followers()
        unchanged = context.get_current() == attached
        await events.aclose()
        await until(lambda: followers() == 0)
        go_on.set()

        assert while_following == 1
        assert unchanged


async def test_a_store_that_closes_ends_a_follow_with_an_error(store_url: str) -> None:
    """A follower whose store is closed before the ``final`` is told so."""
    begun = asyncio.Event()

    async def work(report: Reporter) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with working(store_url, drain=0.0) as bench:
        task = await bench.manager.submit("work", work)
        await begun.wait()
        other = await bench.make_other_store().open()
        async with TaskManager(other) as far:
            events = far.handle(task.task_id).follow()
            await anext(events)
            rest = asyncio.ensure_future(collect(events))
            await asyncio.sleep(0)
            await other.aclose()
            with pytest.raises(StoreClosed):
                await rest


class GappedBackend(MemoryBackend):
    """A backend that has lost the second event of every tape."""

    async def read_tape(self, task_id: str, after_seq: int, limit: int) -> TapePage | None:
        page = await super().read_tape(task_id, after_seq, limit)
        if page is None:
            return None
        return replace(page, events=tuple(event for event in page.events if event.seq != 2))


async def test_a_change_behind_a_gap_has_the_tape_read() -> None:
    """What another process wrote before it is on the tape, and was not told here (I9)."""
    async with MemoryStore() as store:
        attempt = await start(store)
        told = Subscription(lambda _: None)
        events = follow_tape(store, attempt.task_id, 0, lambda _: told)
        seen = [await anext(events)]
        waiting = asyncio.ensure_future(anext(events))
        await settle_loop()
        await store.append(attempt, [log("by another"), log("by this one")])
        last = (await store.read_tape(attempt.task_id)).events[-1]
        told.offer(Change(attempt.task_id, last.seq, (last,)))
        seen += [await waiting, await anext(events)]
        await events.aclose()

    assert [event.seq for event in seen] == [1, 2, 3]


async def test_a_gap_is_an_error() -> None:
    """A follower that would miss an event gets ``TapeGap``, with the seq that is missing."""
    async with MemoryStore(backend=GappedBackend()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", count, params={"to": 2})
        await task.result()
        with pytest.raises(TapeGap) as raised:
            await collect(task.follow())

    assert (raised.value.expected, raised.value.found) == (2, 3)


async def test_a_follower_ends_when_its_manager_closes(any_url: str) -> None:
    """One of a task that does not end here is told at once, and so is who waits for a result; the
    follower of a task that runs here comes to its end. The store stays open."""
    go_on = asyncio.Event()

    async def work(report: Reporter) -> str:
        await report.log("info", "here")
        await go_on.wait()
        return "done"

    async def follow(task: TaskHandle) -> list[str]:
        try:
            return [event.type async for event in task.follow()]
        except ManagerClosed:
            return ["closed"]

    async with working(any_url, drain=600) as bench:
        here = await bench.manager.submit("work", work)
        elsewhere = await bench.manager.submit("nobody")
        following = [asyncio.ensure_future(follow(task)) for task in (here, elsewhere)]
        result = asyncio.ensure_future(elsewhere.result())
        await started(here)
        await settle_loop()
        closing = asyncio.ensure_future(bench.manager.aclose())
        async with asyncio.timeout(20):
            ended = await following[1]
            with pytest.raises(ManagerClosed, match="goes on without it"):
                await result
            with pytest.raises(ManagerClosed):
                await elsewhere.result()
            left = following[0].done(), closing.done()
            go_on.set()
            await closing
            seen = await following[0]
        await bench.store.request_cancel(elsewhere.task_id)
        after = await follow(elsewhere)  # the manager is closed: the handle reads the store

        assert ended == ["closed"]
        assert left == (False, False)
        assert seen == ["task_started", "log", "final"]
        assert after == ["final"]


async def test_a_runner_may_wait_for_another_task_in_the_drain(any_url: str) -> None:
    """Its manager closes, and what it waits for ends elsewhere: the runner is told the result."""
    async with working(any_url, drain=60) as bench:
        child = await bench.manager.submit("elsewhere")

        async def parent(report: Reporter) -> object:
            await report.log("info", "here")
            return await child.result()

        task = await bench.manager.submit("parent", parent)
        await started(task)
        closing = asyncio.ensure_future(bench.manager.aclose())
        await settle_loop()
        other = TaskManager(bench.store)

        @other.op("elsewhere")
        async def work(report: Reporter) -> str:
            return "done"

        async with other:
            await closing

        assert await task.result() == "done"
