"""An expiry, as managers meet it: of an op and of a submit, and what becomes of a task that has
expired."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from tapescope import (
    BadSetting,
    CancelReason,
    Ops,
    Reporter,
    Submission,
    TaskCancelled,
    TaskManager,
    TaskStatus,
    find_store,
)
from tapescope.model.tape import FINAL
from tapescope.sync import SyncManager
from tapescope.testing import MemoryStore, until
from tests.support.captured_telemetry import CapturedTelemetry

OFTEN = 0.02
"""Seconds between two heartbeats."""
SOON = 0.05
"""Seconds in which no attempt begins where none may."""


async def note(report: Reporter, **params: Any) -> None:
    """A runner that is over at once."""


async def test_a_submit_says_its_expiry_or_takes_the_ops(store_url: str) -> None:
    """Of an op that is registered here or on the store only, one by one, in bulk and typed, with a
    runner of one's own; where nobody says it, there is none. A task that is submitted again keeps
    it."""
    ops = Ops()
    mail = ops.op("mail", expires_in=600)(note)
    async with (
        TaskManager(store_url, ops=ops, queues=["nothing"]) as worker,
        TaskManager(store_url) as submitter,
    ):

        async def submitter_knows() -> bool:
            return "mail" in await submitter.store.ops.read()

        assert await until(submitter_knows)
        handles = [
            await submitter.submit("mail"),
            await submitter.submit("mail", expires_in=60, delay=3_600),
            await submitter.submit("unheard"),
            await mail.options(manager=worker).submit(),
            await mail.options(manager=worker, expires_in=61.5).submit(),
            *await submitter.submit_many([Submission("mail", expires_in=62), Submission("mail")]),
            await submitter.submit("own", note, expires_in=63),
        ]
        await handles[1].cancel()
        again = await submitter.resubmit(handles[1].task_id)
        tasks = [await handle.status() for handle in (*handles, again)]

    assert mail.expires_in == 600
    assert [task.expires_in for task in tasks] == [600, 60, None, 600, 61.5, 62, 600, 63, 60]
    assert tasks[0].expires_us == tasks[0].run_us + 600_000_000
    assert tasks[1].expires_us == tasks[1].run_us + 60_000_000
    assert tasks[1].run_us > tasks[1].created_us + 3_000_000_000


async def test_a_schedules_tasks_have_its_expiry(store_url: str) -> None:
    """As it was added, or as the op has it; a schedule of the code, too."""
    ops = Ops()
    work = ops.op("work", expires_in=600)(note)
    ops.schedule("declared", work.options(expires_in=60).bind(), every=3_600)
    async with TaskManager(store_url, ops=ops, queues=["nothing"]) as manager:

        async def is_declared() -> bool:
            page = await manager.schedules.list()
            return [one.name for one in page.schedules] == ["declared"]

        assert await until(is_declared)
        await manager.schedules.add("added", work.options(expires_in=61).bind(), every=3_600)
        await manager.schedules.add("plain", work, every=3_600)
        handles = [await manager.schedules.trigger(name) for name in ("declared", "added", "plain")]
        spans = [(await handle.status()).expires_in for handle in handles]
        kept = [(await manager.schedules.get(name)).expires_in for name in ("added", "plain")]

    assert spans == [60, 61, 600]
    assert kept == [61, None]


async def test_who_waits_is_told_that_it_expired(store_url: str) -> None:
    """A paused op's task ends by a heartbeat: its result, its tape, its metrics and its span say
    so, and no run is among them. What is submitted after it, and has time, is run."""
    ops, kept = Ops(), CapturedTelemetry()
    ran: list[str] = []

    @ops.op("work")
    async def work(report: Reporter, name: str) -> None:
        ran.append(name)

    async with (
        find_store(store_url, telemetry=kept.telemetry) as store,
        TaskManager(store, ops=ops, heartbeat=OFTEN, poll=OFTEN) as manager,
    ):
        await manager.pause("work", reason="a test")
        late = await manager.submit("work", params={"name": "late"}, expires_in=SOON)
        live = await manager.submit("work", params={"name": "live"}, expires_in=600)
        with pytest.raises(TaskCancelled) as raised:
            await late.result(20)
        events = [event async for event in late.follow()]
        await manager.resume("work")
        await live.result(20)
        task = await late.status()
    labels = {"task_op": "work", "cancel_reason": "expired"}
    ended = kept.points("tapescope.task.duration", **labels)
    spans = [span for span in kept.spans() if span.name == "cancel work"]
    runs = [span for span in kept.spans() if span.name == "run work"]
    kept.close()

    assert (raised.value.reason, task.status) == (CancelReason.EXPIRED, TaskStatus.CANCELLED)
    assert "no attempt began within the 0.05 s after it was due" in str(raised.value)
    assert [event.type for event in events] == [FINAL]
    assert ran == ["live"]
    assert [point.labels["tapescope.task.outcome"] for point in ended] == ["cancelled"]
    assert len(spans) == len(runs) == 1
    assert spans[0].status.status_code is StatusCode.UNSET
    assert spans[0].attributes is not None
    assert spans[0].attributes["tapescope.cancel.reason"] == "expired"
    assert "error.type" not in spans[0].attributes


async def test_a_callable_that_waits_for_a_slot_expires(store_url: str) -> None:
    """It is ended by its own manager's heartbeat, and never called; the one that has the slot goes
    on, though it has run longer than it might have waited."""
    release = asyncio.Event()
    called: list[str] = []

    async def hold(report: Reporter) -> None:
        await release.wait()

    async def call(report: Reporter) -> None:
        called.append("late")

    async with TaskManager(store_url, max_running=1, heartbeat=OFTEN) as manager:
        holder = await manager.submit("holds", hold, expires_in=SOON)
        late = await manager.submit("waits", call, expires_in=SOON)
        with pytest.raises(TaskCancelled) as raised:
            await late.result(20)
        held = await holder.status()
        release.set()
        await holder.result(20)
        then = await manager.submit("waits", call, expires_in=600)
        await then.result(20)

    assert raised.value.reason is CancelReason.EXPIRED
    assert (held.status, held.attempt) == (TaskStatus.RUNNING, 1)
    assert called == ["late"]


async def test_nobody_says_by_hand_that_a_task_has_expired() -> None:
    """That reason is the store's: a cancel with it is refused, and nothing changes."""
    async with MemoryStore() as store, TaskManager(store, work=False) as manager:
        handle = await manager.submit("work", expires_in=600)
        for reason in ("expired", CancelReason.EXPIRED):
            with pytest.raises(BadSetting, match="user, shutdown or superseded"):
                await handle.cancel(reason=reason)

        assert (await handle.status()).cancel is None


def test_the_sync_door_takes_an_expiry(sqlite_url: str) -> None:
    """As the other one does."""
    with SyncManager(sqlite_url) as tasks:
        handle = tasks.submit("work", expires_in=1.5)

        assert handle.status().expires_in == 1.5
