"""Schedules of managers: declared with ops, kept in the store, fired, and changed by hand."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from tapescope import (
    BadOp,
    BadParams,
    BadSetting,
    ManagerClosed,
    Ops,
    Reporter,
    RetryPolicy,
    Schedule,
    ScheduleTaken,
    StoreUnavailable,
    Submission,
    TaskManager,
    TaskStatus,
    UnknownSchedule,
    find_store,
    read_firing,
)
from tapescope.model.schedules import CatchUp, Firing, Overlap, ScheduleOrigin
from tapescope.store.flush import StoreAway
from tapescope.testing import MemoryBackend, MemoryStore, until
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.virtual_time import VirtualClock, in_virtual_time

DAY = 86_400


@dataclass(frozen=True)
class Order:
    """What a scheduled op takes."""

    article: str
    after: timedelta


def make_ops() -> Ops:
    """A registry with one op."""
    ops = Ops()

    @ops.op("send")
    async def send(report: Reporter, order: Order | None = None, n: int = 0) -> int:
        return n if order is None else len(order.article)

    return ops


def find_op(ops: Ops):  # type: ignore[no-untyped-def]
    """The op, as its module has it."""
    op = ops.get("send")
    assert op is not None
    return op


@in_virtual_time
async def test_a_declared_schedule_is_fired_by_a_worker() -> None:
    """At each time a task is made and run, with the values of the op's types."""
    ops = make_ops()
    order = Order("tea", timedelta(hours=1))
    ops.schedule("often", find_op(ops), params={"order": order}, every=20)
    async with (
        MemoryStore(clock=VirtualClock()) as store,
        TaskManager(store, ops=ops, audit_every=None) as manager,
    ):
        (schedule,) = (await manager.schedules.list()).schedules
        await asyncio.sleep(61)
        page = await store.list()
        results = [await manager.handle(task.task_id).result() for task in page.tasks]

        assert (schedule.origin, schedule.every) == (ScheduleOrigin.CODE, 20)
        assert results == [3, 3, 3]
        assert [
            firing.at.timestamp()
            for task in page.tasks
            if (firing := read_firing(task.idempotency_key))
            and firing.schedule == "often"
            and firing.at
        ] == [1_060, 1_040, 1_020]


@in_virtual_time
async def test_another_worker_fires_when_one_is_closed() -> None:
    """Managers that come and go make each firing once; one that only submits makes none."""
    ops = make_ops()
    ops.schedule("minutely", "send", cron="* * * * *")
    async with MemoryStore(clock=VirtualClock()) as store:
        async with TaskManager(store, ops=ops, work=False, audit_every=None):
            await asyncio.sleep(130)
            by_none = await store.list()
        for _ in range(5):
            async with TaskManager(store, ops=ops, audit_every=None):
                await asyncio.sleep(90)
                second = TaskManager(store, ops=ops, audit_every=None)
                await second.open()
            await second.aclose()
        tasks = (await store.list(limit=1_000)).tasks

        keys = [task.idempotency_key for task in tasks]
        assert by_none.tasks == ()
        assert len(set(keys)) == len(keys)
        assert 7 <= len(keys) <= 9
        assert {task.status for task in tasks} == {TaskStatus.SUCCEEDED}


@in_virtual_time
async def test_what_is_added_while_a_worker_is_open_is_fired() -> None:
    """By a call, in code, or by another process within five seconds."""
    ops = make_ops()
    async with (
        MemoryStore(clock=VirtualClock()) as store,
        TaskManager(store, ops=ops, audit_every=None) as manager,
        TaskManager(store, work=False, audit_every=None) as other,
    ):
        await asyncio.sleep(1)
        await manager.schedules.add("called", "send", every=2, params={"n": 1})
        ops.schedule("declared", find_op(ops).bind(n=2), every=2)
        await asyncio.sleep(2.5)
        fired = [(task.op, task.params["n"]) for task in (await store.list()).tasks]
        await other.schedules.add("elsewhere", "send", every=1, params={"n": 3})
        await asyncio.sleep(6.5)
        after = {task.params["n"] for task in (await store.list()).tasks}

        assert sorted(fired) == [("send", 1), ("send", 2)]
        assert after == {1, 2, 3}


@in_virtual_time
async def test_a_pause_holds_until_it_is_resumed() -> None:
    """What passed meanwhile is not caught up with."""
    ops = make_ops()
    ops.schedule("often", "send", every=60, catch_up=CatchUp.ALL)
    async with MemoryStore(clock=VirtualClock()) as store:
        async with TaskManager(store, ops=ops, audit_every=None) as manager:
            paused = await manager.schedules.pause("often")
            again = await manager.schedules.pause("often")
            await asyncio.sleep(120)
        async with TaskManager(store, ops=ops, audit_every=None) as manager:
            await asyncio.sleep(120)
            during = await store.count()
            resumed = await manager.schedules.resume("often")
            await asyncio.sleep(60)

            assert paused.paused
            assert again == paused
            assert sum(during.values()) == 0
            assert (resumed.paused, resumed.next_us) == (False, 1_260_000_000)
            assert len((await store.list()).tasks) == 1


async def test_a_schedule_is_triggered_by_hand(sqlite_url: str) -> None:
    """A task is made at once, paused or not, and says so; the schedule's times stay."""
    ops = make_ops()
    ops.schedule("nightly", find_op(ops).options(timeout=7, retries=1).bind(n=5), cron="0 3 * * *")
    async with TaskManager(sqlite_url, ops=ops) as manager:
        before = await manager.schedules.pause("nightly")
        handle = await manager.schedules.trigger("nightly")
        task = await handle.status()
        firing = read_firing(task.idempotency_key)

        assert await handle.result() == 5
        assert handle.created
        assert (task.timeout, task.retries) == (7.0, 1)
        assert firing is not None
        assert (firing.schedule, firing.by_hand) == ("nightly", True)
        assert await manager.schedules.get("nightly") == before
        with pytest.raises(UnknownSchedule):
            await manager.schedules.trigger("absent")


async def test_a_trigger_with_a_key_makes_one_task(store_url: str) -> None:
    """The task's own key has the schedule and the caller's; whatever that holds, it is read."""
    async with TaskManager(store_url, ops=make_ops(), work=False) as manager:
        for name in ("one", "two"):
            await manager.schedules.add(name, "send", every=60, params={"n": 1})
        keys = ["k", "k", "@2026-01-31T12:00:00.000000Z", "a#b"]
        handles = [await manager.schedules.trigger("one", idempotency_key=key) for key in keys]
        other = await manager.schedules.trigger("two", idempotency_key="k")
        firings = [
            read_firing((await handle.status()).idempotency_key) for handle in (*handles, other)
        ]
        with pytest.raises(BadSetting):
            await manager.schedules.trigger("one", idempotency_key="x" * 1_020)

    assert len({handle.task_id for handle in (*handles, other)}) == 4
    assert [handle.created for handle in handles] == [True, False, True, True]
    assert firings == [Firing("one", None, by_hand=True)] * 4 + [Firing("two", None, by_hand=True)]
    assert read_firing("trigger:#k") is None
    assert read_firing("schedule:one#k") is None


async def test_a_schedule_is_ensured(store_url: str) -> None:
    """Added once; as it is given it is found, paused or not; another one of the name is taken."""
    async with TaskManager(store_url, ops=make_ops(), work=False) as manager:
        schedules = manager.schedules
        added = await schedules.ensure("one", "send", every=60, params={"n": 1})
        await schedules.pause("one")
        again = await schedules.ensure("one", "send", every=60, params={"n": 1})
        for every, op, n in ((90, "send", 1), (60, "send", 2), (60, "other", 1)):
            with pytest.raises(ScheduleTaken):
                await schedules.ensure("one", op, every=every, params={"n": n})
        with pytest.raises(ScheduleTaken):
            await schedules.add("one", "send", every=60, params={"n": 1})
        kept = await schedules.get("one")

    assert (added[1], again[1]) == (True, False)
    assert kept == again[0] == replace(added[0], paused=True, revision=2)


async def test_code_says_what_and_when_and_the_store_whether(store_url: str) -> None:
    """A changed declaration replaces the store's, and a pause and what was fired stay."""
    store = find_store(store_url)
    async with store:
        first = make_ops()
        first.schedule("nightly", "send", cron="0 3 * * *", params={"n": 1})
        async with TaskManager(store, ops=first) as manager:
            await manager.schedules.pause("nightly")
            kept = await store.schedules.change(
                "nightly", lambda row: replace(row, last_us=5, last_task="x")
            )
        async with TaskManager(store, ops=first):
            same = await store.schedules.get("nightly")
        second = make_ops()
        second.schedule(
            "nightly",
            "send",
            cron="0 5 * * *",
            params={"n": 2},
            time_zone="Europe/Berlin",
            overlap=Overlap.SKIP,
        )
        async with TaskManager(store, ops=second):
            changed = await store.schedules.get("nightly")
        async with TaskManager(store, ops=make_ops()):
            undeclared = await store.schedules.get("nightly")

    assert same == kept
    assert changed == replace(
        kept,
        cron="0 5 * * *",
        params={"n": 2},
        time_zone="Europe/Berlin",
        overlap=Overlap.SKIP,
        next_us=changed.next_us,
        revision=kept.revision + 1,
    )
    assert changed.next_us != kept.next_us
    assert undeclared == changed


async def test_a_declaration_takes_over_what_was_added(sqlite_url: str) -> None:
    """What has the name of a declared schedule is the code's from then on."""
    store = find_store(sqlite_url)
    async with store:
        async with TaskManager(store, work=False) as manager:
            added = await manager.schedules.add("nightly", "send", cron="0 3 * * *")
        ops = make_ops()
        ops.schedule("nightly", "send", cron="0 3 * * *")
        async with TaskManager(store, ops=ops):
            taken = await store.schedules.get("nightly")

    assert added.origin is ScheduleOrigin.STORE
    assert taken == replace(added, origin=ScheduleOrigin.CODE, revision=2)


async def test_a_name_is_of_one_schedule(sqlite_url: str) -> None:
    """In a registry, in those that include it, and in a store; no registry changes then."""
    ops, other = make_ops(), Ops()
    ops.schedule("nightly", "send", every=60)
    other.schedule("nightly", "send", every=90)

    @other.op("more")
    async def more(report: Reporter) -> None:
        pass

    with pytest.raises(ScheduleTaken):
        ops.schedule("nightly", "send", every=60)
    with pytest.raises(ScheduleTaken):
        ops.include(other)
    both = Ops(ops, ops)
    async with TaskManager(sqlite_url, ops=both) as manager:
        with pytest.raises(ScheduleTaken):
            await manager.schedules.add("nightly", "send", every=60)
        (only,) = (await manager.schedules.list()).schedules

    assert only.every == 60
    assert list(ops) == ["send"]


async def test_what_cannot_be_scheduled_is_refused(sqlite_url: str) -> None:
    """Before it is kept: a name, an op, times, options of one submit, params of another runner."""
    ops = make_ops()
    op = find_op(ops)
    with pytest.raises(BadSetting):
        ops.schedule("two words", "send", every=60)
    with pytest.raises(BadOp):
        ops.schedule("nightly", "two words", every=60)
    with pytest.raises(BadSetting):
        ops.schedule("nightly", "send")
    with pytest.raises(BadSetting):
        ops.schedule("nightly", "send", every=60, catch_up="some")
    with pytest.raises(BadSetting):
        ops.schedule("nightly", op.options(delay=3).bind(n=1), every=60)
    with pytest.raises(BadSetting):
        ops.schedule("nightly", Submission("send", retry=RetryPolicy()), every=60)
    with pytest.raises(BadSetting):
        ops.schedule("nightly", op.bind(n=1), params={"n": 1}, every=60)
    with pytest.raises(BadParams):
        ops.schedule("nightly", "send", params={"m": 1}, every=60)
    async with TaskManager(sqlite_url, ops=ops) as manager:
        with pytest.raises(BadParams):
            await manager.schedules.add("nightly", op, params={"m": 1}, every=60)
        with pytest.raises(BadParams):
            await manager.schedules.add("nightly", "other", params={"m": object()}, every=60)
        kept = (await manager.schedules.list()).schedules
    with pytest.raises(ManagerClosed):
        await manager.schedules.list()

    assert kept == ()
    assert dict(ops.schedules) == {}


async def test_a_declaration_that_does_not_fit_its_runner_keeps_the_manager_closed(
    sqlite_url: str,
) -> None:
    """It is said at the opening, where somebody looks, and not at three in the morning."""
    elsewhere = Ops()
    elsewhere.schedule("nightly", "send", params={"m": 1}, every=60)
    manager = TaskManager(sqlite_url, ops=[make_ops(), elsewhere])
    with pytest.raises(BadParams):
        await manager.open()

    assert not manager.is_open


async def test_params_that_do_not_fit_any_more_fail_on_the_tape(store_url: str) -> None:
    """The runner was changed since the schedule was added: its task says so, each time."""
    store = find_store(store_url)
    async with store:
        async with TaskManager(store, work=False) as manager:
            await manager.schedules.add("often", "send", params={"gone": 1}, every=1)
        async with TaskManager(store, ops=make_ops()):

            async def has_failed() -> bool:
                return bool((await store.list(status=TaskStatus.FAILED)).tasks)

            assert await until(has_failed)
            task = (await store.list(status=TaskStatus.FAILED)).tasks[0]

    assert task.error_code == "bad_params"


async def test_the_store_need_not_be_there_when_a_worker_opens(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it declares is told later; its opening says so, and goes on."""
    ops = make_ops()
    ops.schedule("nightly", "send", every=60)
    async with MemoryStore() as store:
        with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "tapescope"):

            async def away(name: str) -> None:
                raise StoreUnavailable("memory", "it is away")

            patched.setattr(store.schedules, "find", away)
            manager = await TaskManager(store, ops=ops).open()
        await manager.schedules.add("other", "send", every=60)  # the loop looks at once

        async def is_told() -> bool:
            return await store.schedules.find("nightly") is not None

        assert await until(is_told, within=10)
        await manager.aclose()

    assert "The schedules of the code are not in the store yet" in caplog.text


@in_virtual_time
async def test_the_submit_of_a_firing_says_which_it_is() -> None:
    """Its span has the schedule and the time, and no metric has a name."""
    captured = CapturedTelemetry()
    ops = make_ops()
    ops.schedule("often", "send", every=60)
    async with (
        MemoryStore(clock=VirtualClock(), telemetry=captured.telemetry) as store,
        TaskManager(store, ops=ops, audit_every=None),
    ):
        await asyncio.sleep(60)
    (span,) = [one for one in captured.spans() if one.name == "submit send"]
    attributes = dict(span.attributes or {})

    assert attributes["tapescope.schedule.name"] == "often"
    assert attributes["tapescope.schedule.firing_time"] == "1970-01-01T00:17:00.000000Z"
    assert captured.value("tapescope.schedule.firings", schedule_outcome="fired") == 1
    assert captured.value("tapescope.schedule.lateness", task_op="send") == 1
    captured.close()


class ForgetfulBackend(MemoryBackend):
    """Loses the answer to the first row that is added."""

    lost = False

    async def add_schedule(self, row: Schedule) -> bool:
        added = await super().add_schedule(row)
        if not self.lost:
            self.lost = True
            raise StoreAway("the answer was lost")
        return added


async def test_a_schedule_whose_answer_was_lost_is_added() -> None:
    """The next try finds the row that the first one wrote; another row of the name is taken."""
    async with (
        MemoryStore(backend=ForgetfulBackend()) as store,
        TaskManager(store, work=False) as manager,
    ):
        added = await manager.schedules.add("nightly", "send", every=60)
        with pytest.raises(ScheduleTaken):
            await manager.schedules.add("nightly", "send", every=60)

    assert added.every == 60


async def test_params_that_cannot_be_read_stop_one_schedule(tmp_path: Path) -> None:
    """A row that was written past tapescope is listed, warned of and not fired; others are."""
    url = f"sqlite:///{tmp_path / 'tasks.db'}"
    ops = make_ops()
    for name in ("bad", "worse", "newer", "late", "good"):
        ops.schedule(name, "send", every=1)
    async with find_store(url) as store:
        async with TaskManager(store, ops=ops):
            pass
        with closing(sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)) as raw:
            raw.execute("UPDATE schedules SET params = '{', origin = 'store' WHERE name = 'bad'")
            raw.execute("UPDATE schedules SET params = '[1]' WHERE name = 'worse'")
            raw.execute("UPDATE schedules SET catch_up = 'newer' WHERE name = 'newer'")
            raw.execute(f"UPDATE schedules SET last_at = {2**62} WHERE name = 'late'")
        async with TaskManager(store, ops=make_ops()) as manager:

            async def has_run() -> bool:
                return bool((await store.list(status=TaskStatus.SUCCEEDED)).tasks)

            assert await until(has_run)
            listed = {one.name: one for one in (await manager.schedules.list()).schedules}
            keys = {task.idempotency_key for task in (await store.list()).tasks}

    assert (listed["bad"].every, listed["worse"].params) == (None, {})
    assert listed["newer"].every is None
    assert {str(key).partition("@")[0] for key in keys} <= {"schedule:good", "schedule:late"}
