"""Tags and parents, as managers meet them: on a submit, for who lists, and on spans."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from tapescope import (
    BadSetting,
    Ops,
    Reporter,
    Submission,
    TaskCancelled,
    TaskHandle,
    TaskManager,
    TaskStatus,
    Telling,
    ThreadReporter,
    ToldKind,
    find_store,
)
from tapescope.sync import SyncManager
from tapescope.testing import MemoryStore
from tests.support.callers import calling
from tests.support.workbench import Workbench, working


async def note(report: Reporter, **params: Any) -> None:
    """A runner that is over at once."""


def submit_span(bench: Workbench, task_id: str) -> dict[str, Any]:
    """What the span of a submit says."""
    (span,) = [
        span
        for span in bench.captured.spans()
        if span.name.startswith("submit ")
        and (span.attributes or {}).get("tapescope.task.id") == task_id
    ]
    return dict(span.attributes or {})


async def test_every_submit_says_its_tags(store_url: str) -> None:
    """By name, typed, in bulk, with a callable, again; of any collection, each once, in order."""
    ops = Ops()
    resize = ops.op("resize")(note)
    async with TaskManager(store_url, ops=ops) as manager:
        first = await manager.submit("resize", tags=["b", "a", "b"])
        await first.result(20)
        handles = [
            first,
            await resize.options(tags={"b", "a"}).submit(),
            *await manager.submit_many(
                [Submission("resize", tags=("a", "b")), resize.options(tags=("b", "a")).bind()]
            ),
            await manager.submit("call", note, tags=dict.fromkeys("ab").keys()),
            await manager.resubmit(first.task_id),
        ]
        rows = [await handle.status() for handle in handles]
        await asyncio.gather(*(handle.result(20) for handle in handles))
        tagged = await manager.store.list(tag="b")
        counts = await manager.store.count(tag="a", op="resize")

    assert [row.tags for row in rows] == [("a", "b")] * 6
    assert {task.task_id for task in tagged.tasks} == {row.task_id for row in rows}
    assert counts[TaskStatus.SUCCEEDED] == 5


async def test_a_span_has_the_tags_and_no_metric_has(any_url: str) -> None:
    """The redaction hook is asked for what the span is to have; the row keeps what was said."""
    asked: list[tuple[ToldKind, str | None, str]] = []

    def redact(told: Telling, value: Any) -> Any:
        asked.append((told.kind, told.op, told.path))
        return "customer:…" if told.kind is ToldKind.TAG and "customer" in value else value

    async with working(any_url, redact=redact) as bench:
        bench.manager.op("work")(note)
        hidden = await bench.manager.submit("work", tags=["customer:7", "red"])
        plain = await bench.manager.submit("work")
        for handle in (hidden, plain):
            await handle.result(20)
        spans = [submit_span(bench, one.task_id) for one in (hidden, plain)]
        row = await hidden.status()
        labels = {
            str(value)
            for name in ("tapescope.task.submitted", "tapescope.task.duration")
            for point in bench.captured.points(name)
            for value in point.labels.values()
        }

    assert spans[0]["tapescope.task.tags"] == ("customer:…", "red")
    assert not spans[1].keys() & {"tapescope.task.tags", "tapescope.task.parent.id"}
    assert row.tags == ("customer:7", "red")
    assert asked.count((ToldKind.TAG, "work", "tags")) == 2
    assert not [label for label in labels if "red" in label or "customer" in label]


async def test_tasks_of_a_callers_transaction_have_their_context(store_url: str) -> None:
    """Tags of the submit, and the task in whose runner the transaction is; rolled back, none."""
    async with (
        TaskManager(store_url, work=False) as manager,
        calling(store_url) as caller,
    ):

        async def order(report: Reporter) -> list[str]:
            made: list[str] = []
            for tags in (["red"], []):
                async with caller.transaction():
                    handle = await manager.submit(
                        "bill", connection=caller.connection, tags=tags, priority=len(tags)
                    )
                    made.append(handle.task_id)
            with suppress(LookupError):
                async with caller.transaction():
                    await manager.submit("bill", connection=caller.connection, tags=["red"])
                    raise LookupError
            return made

        parent = await manager.submit("order", order)
        made = await parent.result(20)
        rows = [await manager.store.get(task_id) for task_id in made]
        red = await manager.store.list(tag="red")

    assert [(row.tags, row.priority) for row in rows] == [(("red",), 1), ((), 0)]
    assert {row.parent_id for row in rows} == {parent.task_id}
    assert [task.task_id for task in red.tasks] == made[:1]


async def test_the_tasks_of_a_schedule_have_its_tags(any_url: str) -> None:
    """What the code says later replaces them, and the store keeps them."""
    async with working(any_url, work=False) as bench:
        bench.manager.op("build")(note)
        schedules = bench.manager.schedules
        await schedules.add("nightly", Submission("build", tags=["b", "a"]), every=86_400)
        await schedules.add("plain", "build", every=86_400)
        fired = [await schedules.trigger(name) for name in ("nightly", "plain")]
        rows = [(await handle.status()).tags for handle in fired]
        kept = await bench.store.schedules.get("nightly")
        changed = await bench.store.schedules.change_if_same(replace(kept, tags=("c",)))

        assert rows == [("a", "b"), ()]
        assert kept.tags == ("a", "b")
        assert changed
        assert (await schedules.get("nightly")).tags == ("c",)


@pytest.mark.parametrize("tags", ["red", ["two words"], [7], None, [str(n) for n in range(11)]])
async def test_bad_tags_make_no_task(tags: Any) -> None:
    """Wherever they are said."""
    async with MemoryStore() as store, TaskManager(store) as manager:
        for refused in (
            lambda: Submission("work", tags=tags).checked(),
            lambda: manager.schedules.add("x", Submission("work", tags=tags), every=60),
            lambda: manager.submit("work", tags=tags),
        ):
            with pytest.raises(BadSetting, match="tags"):
                await asyncio.ensure_future(met) if asyncio.iscoroutine(met := refused()) else met
        with pytest.raises(BadSetting, match="detached"):
            await manager.submit("work", detached="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is refused

        assert (await store.count())[TaskStatus.PENDING] == 0


# --- parents --------------------------------------------------------------------------------------


async def test_a_task_of_a_runner_is_its_tasks_child(any_url: str) -> None:
    """Whatever way it is submitted, from a task that the runner began as well; not where it is
    detached, nor where no runner is near. Its span says so."""
    async with working(any_url) as bench:
        manager = bench.manager
        manager.op("child")(note)

        async def work(report: Reporter) -> list[str]:
            async with asyncio.TaskGroup() as group:
                begun = group.create_task(manager.submit("child"))
            handles = [
                await manager.submit("child"),
                await manager.submit("own", note),
                *await manager.submit_many([Submission("child"), Submission("child")]),
                begun.result(),
                await manager.submit("child", detached=True),
            ]
            return [handle.task_id for handle in handles]

        manager.op("parent")(work)
        parent = await manager.submit("parent")
        *children, detached = await parent.result(20)
        for task_id in (*children, detached):
            await manager.handle(task_id).result(20)
        rows = [await bench.store.get(task_id) for task_id in (*children, detached)]
        again = await manager.resubmit(children[0])
        await again.result(20)
        listed = await bench.store.list(parent_id=parent.task_id)
        above = await parent.status()
        spans = [submit_span(bench, task_id) for task_id in (children[0], detached)]

    assert [row.parent_id for row in rows] == [parent.task_id] * 5 + [None]
    assert above.parent_id is None
    assert {task.task_id for task in listed.tasks} == {*children, again.task_id}
    assert spans[0]["tapescope.task.parent.id"] == parent.task_id
    assert "tapescope.task.parent.id" not in spans[1]


async def test_a_childs_run_is_no_part_of_its_parents(any_url: str) -> None:
    """What the child submits is the child's, also where the parent's submit began the child."""
    async with working(any_url) as bench:
        manager = bench.manager

        async def child(report: Reporter) -> str:
            return (await manager.submit("leaf", note)).task_id

        async def work(report: Reporter) -> list[str]:
            made = await manager.submit("child", child)
            return [made.task_id, await made.result(20)]

        parent = await manager.submit("parent", work)
        middle, leaf = await parent.result(20)
        parents = [(await bench.store.get(task_id)).parent_id for task_id in (middle, leaf)]
        await manager.handle(leaf).result(20)

    assert parents == [parent.task_id, middle]


async def test_a_parent_is_of_the_same_store(any_url: str, sqlite_url: str) -> None:
    """A task of another store has none, though a runner submits it; one by another manager of the
    same store has, and so has one through the sync door, from a thread."""
    async with (
        working(any_url) as bench,
        MemoryStore() as elsewhere,
        TaskManager(elsewhere, work=False) as other,
    ):

        async def work(report: Reporter) -> str:
            return (await other.submit("child")).task_id

        made = await (await bench.manager.submit("parent", work)).result(20)
        assert (await elsewhere.get(made)).parent_id is None

    door = SyncManager(sqlite_url)

    def work_in_a_thread(report: ThreadReporter) -> str:
        return door.submit("child").task_id

    async with find_store(sqlite_url) as store, TaskManager(store) as manager:
        parent = await manager.submit("parent", work_in_a_thread)
        made = await parent.result(20)
        await asyncio.to_thread(door.close)

        assert (await store.get(made)).parent_id == parent.task_id


async def test_a_cancel_reaches_the_children_that_are_to_end_with_it(any_url: str) -> None:
    """A heartbeat of any manager sees to it: those that run stop as by every cancel, with words
    that say why; the others go on. A child that is submitted again lives."""
    stopped = asyncio.Event()
    async with working(any_url, heartbeat=0.1, poll=0.05) as bench:
        manager = bench.manager

        async def child(report: Reporter) -> None:
            await asyncio.Event().wait()

        made: asyncio.Future[list[TaskHandle]] = asyncio.get_running_loop().create_future()

        async def work(report: Reporter) -> None:
            handles = [
                await manager.submit("follows", child, cancel_with_parent=True),
                await manager.submit("goes_on", child),
                await manager.submit("detached", child, detached=True, cancel_with_parent=True),
                await manager.submit("nobody", cancel_with_parent=True, delay=3_600),
            ]
            made.set_result(handles)
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        parent = await manager.submit("parent", work)
        follows, goes_on, detached, waits = await asyncio.wait_for(made, 20)
        await parent.cancel("no use", by="ann")
        with pytest.raises(TaskCancelled, match="no use"):
            await parent.result(20)
        for ends in (follows, waits):
            with pytest.raises(TaskCancelled, match=f"its parent {parent.task_id}.*: no use"):
                await ends.result(20)
        (final,) = [event.body for event in (await follows.tape()).events if event.type == "final"]
        left = [await one.status() for one in (goes_on, detached)]
        manager.op("nobody")(note)
        again = await manager.resubmit(waits.task_id)
        await again.result(20)
        row = await again.status()
        for one in (goes_on, detached):
            await one.cancel("the test is over")
            with pytest.raises(TaskCancelled):
                await one.result(20)

    assert stopped.is_set()
    assert (final["cancel"]["reason"], final["cancel"]["by"]) == ("user", "ann")
    assert [task.status for task in left] == [TaskStatus.RUNNING] * 2
    assert [task.cancel for task in left] == [None, None]
    assert (row.parent_id, row.cancel_with_parent) == (parent.task_id, False)
