"""Queues, as managers meet them: of an op and of a submit, and which of them a worker takes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from tapescope import (
    BadOp,
    BadSetting,
    Ops,
    Reporter,
    Submission,
    TaskManager,
    TaskStatus,
    find_store,
)
from tapescope.manager import backlog_reader
from tapescope.manager.backlog_reader import describe_backlog
from tapescope.testing import MemoryStore, until
from tests.support.callers import calling
from tests.support.captured_telemetry import CapturedTelemetry


async def note(report: Reporter, **params: Any) -> None:
    """A runner that is over at once."""


async def test_a_submit_says_its_queue_or_takes_the_ops(store_url: str) -> None:
    """Of an op that is registered here or on the store only, one by one, in bulk and typed; where
    nobody has registered it, it is the usual one. A task that is submitted again keeps it."""
    ops = Ops()
    mail = ops.op("mail", queue="mail")(note)
    async with (
        TaskManager(store_url, ops=ops, queues=["nothing"]) as worker,
        TaskManager(store_url) as submitter,
    ):

        async def submitter_knows() -> bool:
            return "mail" in await submitter.store.ops.read()

        assert await until(submitter_knows)
        handles = [
            await submitter.submit("mail"),
            await submitter.submit("mail", queue="bulk"),
            await submitter.submit("unheard"),
            await mail.options(manager=worker).submit(),
            await mail.options(manager=worker, queue="default").submit(),
            *await submitter.submit_many([Submission("mail", queue="x"), Submission("mail")]),
        ]
        await handles[1].cancel()
        again = await submitter.resubmit(handles[1].task_id)
        queues = [(await handle.status()).queue for handle in (*handles, again)]

    assert mail.queue == "mail"
    assert queues == ["mail", "bulk", "default", "mail", "default", "x", "mail", "bulk"]


async def test_a_worker_takes_from_its_queues(store_url: str) -> None:
    """And those of its ops; what is in others waits, for a worker that takes all, say."""
    ran: list[str] = []
    ops = Ops()

    @ops.op("work")
    async def work(report: Reporter, name: str) -> None:
        ran.append(name)

    @ops.op("other")
    async def other(report: Reporter, name: str) -> None:
        ran.append(name)

    async with TaskManager(
        store_url, ops=ops, work_ops=["work"], queues=["mail", "bulk"], poll=0.02
    ) as some:
        left = [
            await some.submit("work", params={"name": "default"}),
            await some.submit("other", params={"name": "other"}, queue="mail"),
        ]
        taken = [
            await some.submit("work", params={"name": queue}, queue=queue, priority=-1)
            for queue in ("mail", "bulk")
        ]
        for handle in taken:
            await handle.result(20)
        waiting = [(await handle.status()).status for handle in left]
        (told,) = (await some.store.ops.list_workers()).workers
        async with TaskManager(store_url, ops=ops, poll=0.02):
            for handle in left:
                await handle.result(20)

    assert sorted(ran[:2]) == ["bulk", "mail"]
    assert waiting == [TaskStatus.PENDING] * 2
    assert sorted(ran[2:]) == ["default", "other"]
    assert (some.work_ops, some.queues) == (("work",), ("bulk", "mail"))
    assert (told.ops, told.queues) == (("work",), ("bulk", "mail"))


async def test_a_task_in_a_callers_transaction_has_its_queue(store_url: str) -> None:
    """Also beside a priority; and the usual one where nothing is said."""
    async with TaskManager(store_url) as manager, calling(store_url) as caller:
        async with caller.transaction():
            handles = [
                await manager.submit("work", connection=caller.connection, queue="mail"),
                await manager.submit(
                    "work", connection=caller.connection, queue="bulk", priority=2
                ),
                await manager.submit("work", connection=caller.connection),
            ]
        rows = [await handle.status() for handle in handles]

    assert [(row.queue, row.priority) for row in rows] == [
        ("mail", 0),
        ("bulk", 2),
        ("default", 0),
    ]


async def test_a_schedules_tasks_have_its_queue(store_url: str) -> None:
    """As it was added, or as the op has it; a schedule of the code, too."""
    ops = Ops()
    work = ops.op("work", queue="of-op")(note)
    ops.schedule("declared", work.options(queue="declared").bind(), every=3_600)
    async with TaskManager(store_url, ops=ops, queues=["nothing"]) as manager:

        async def is_declared() -> bool:
            page = await manager.schedules.list()
            return [one.name for one in page.schedules] == ["declared"]

        assert await until(is_declared)
        await manager.schedules.add("added", work.options(queue="added").bind(), every=3_600)
        await manager.schedules.add("plain", work, every=3_600)
        handles = [await manager.schedules.trigger(name) for name in ("declared", "added", "plain")]
        queues = [(await handle.status()).queue for handle in handles]
        kept = [(await manager.schedules.get(name)).queue for name in ("added", "plain")]

    assert queues == ["declared", "added", "of-op"]
    assert kept == ["added", None]


async def test_a_queue_that_nobody_takes_is_told_of(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the numbers, the metric that pages, and readiness, though its op has a worker."""
    monkeypatch.setattr(backlog_reader, "_FIRST", 600)
    ops, kept = Ops(), CapturedTelemetry()
    ops.op("work")(note)
    async with (
        find_store(store_url, telemetry=kept.telemetry) as store,
        TaskManager(store, ops=ops, queues=["mail"], poll=0.02) as manager,
    ):
        served = await manager.submit("work", queue="mail")
        await served.result(20)
        await manager.submit("work", queue="bulk")
        backlog = await manager.store.backlog.read(max_age=0)
        store.meter.backlog_read(store.name, backlog)
        workers = kept.value("tapescope.op.workers", task_op="work")
        (one,) = backlog.ops
    kept.close()

    assert workers == 0
    assert (one.workers, one.unserved, one.unattended) == (1, ("bulk",), True)
    assert describe_backlog(backlog).endswith("no worker for work (queue bulk)")


async def test_a_runner_of_ones_own_has_no_queue() -> None:
    """It is run here, whoever takes what: a queue beside it is a mistake, and is said to be."""
    async with MemoryStore() as store, TaskManager(store) as manager:
        with pytest.raises(BadSetting, match="None beside a runner"):
            await manager.submit("work", note, queue="mail")

        assert (await manager.store.list()).tasks == ()


def test_what_a_manager_takes_is_checked() -> None:
    """Names of ops and of queues, one at least; a text is not a list of names."""
    for given in ((), "mail"):
        with pytest.raises(BadSetting, match="names of ops"):
            TaskManager(MemoryStore(), work_ops=given)
        with pytest.raises(BadSetting, match="names of queues"):
            TaskManager(MemoryStore(), queues=given)
    with pytest.raises(BadOp):
        TaskManager(MemoryStore(), work_ops=["not an op"])
    with pytest.raises(BadSetting, match="1 to 128"):
        TaskManager(MemoryStore()).reconfigure(queues=["not a queue"])
    with pytest.raises(BadSetting, match="1 to 128"):
        Ops().op("work", queue="not a queue")


async def test_an_op_that_is_left_to_others_is_not_worked_on() -> None:
    """Nothing is registered of it, nor is its resource opened; it is submitted as ever."""
    ops = Ops()
    opened: list[str] = []

    class Pool:
        async def __aenter__(self) -> str:
            opened.append("pool")
            return "pool"

        async def __aexit__(self, *_: object) -> None:
            """Nothing to close."""

    @ops.op("heavy", resource=Pool)
    async def heavy(report: Reporter, pool: Any) -> None:
        """Never run here."""

    ops.op("light")(note)
    store = MemoryStore()
    async with store, TaskManager(store, ops=ops, work_ops=["light"], poll=0.02) as manager:
        waiting = await manager.submit("heavy")
        await (await manager.submit("light")).result(20)
        known = set(await store.ops.read())
        with suppress(TimeoutError):
            await waiting.result(0)
        status = (await waiting.status()).status

    assert (known, opened, status) == ({"light"}, [], TaskStatus.PENDING)


async def test_an_op_that_is_not_there_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A worker of it takes nothing, and would be quiet; one of an op that it has says nothing."""
    ops = Ops()
    ops.op("work")(note)
    for names in (["work"], ["work", "wrok"]):
        caplog.clear()
        async with MemoryStore() as store, TaskManager(store, ops=ops, work_ops=names):
            said = [one.getMessage() for one in caplog.records if "no such op" in one.getMessage()]

        assert said == [
            f"The manager is to take tasks of {name}, and has no such op registered. Its ops: work."
            for name in names[1:]
        ]
