"""Engines, as a manager meets them: what is theirs, how it is brought, and what cannot be one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from tapescope import (
    BadEngineUrl,
    BadSetting,
    EngineUnfit,
    RateLimit,
    Reporter,
    StoreUnavailable,
    Submission,
    TaskCancelled,
    TaskManager,
    UnknownEngine,
)
from tapescope.engine import (
    Again,
    Ended,
    Forgotten,
    Held,
    HeldReason,
    Unknown,
    find_engine,
    reconcile,
)
from tapescope.manager.ops import OpSettings
from tapescope.manager.pool import RunPool
from tapescope.model.ops import PausePage
from tapescope.model.tasks import Claim, NewTask, TaskStatus
from tapescope.store.flush import CancelAnswer
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryBackend, MemoryStore, until
from tapescope.testing.polling import settle_loop
from tests.support.queue_engine import QueueEngine


async def plain_runner(report: Reporter) -> None:
    """It has nothing to do."""


@pytest.fixture
def engine() -> QueueEngine:
    """An engine of the test's own."""
    return QueueEngine()


@pytest_asyncio.fixture
async def manager(engine: QueueEngine) -> AsyncGenerator[TaskManager]:
    """A manager that works, with two ops."""
    async with MemoryStore() as store:
        manager = TaskManager(store, engine=engine, drain=0.0, cancel_grace=0.5, lease=30.0)

        @manager.op("double")
        async def double(report: Reporter, n: int) -> int:
            return 2 * n

        @manager.op("waits", max_running=1)
        async def waits(report: Reporter) -> None:
            await asyncio.Event().wait()

        async with manager:
            yield manager


async def test_it_brings_what_was_submitted_by_name(
    manager: TaskManager, engine: QueueEngine
) -> None:
    """No claim of due tasks took it, and its end is as ever."""
    handle = await manager.submit("double", params={"n": 4})

    assert await handle.result(timeout=10) == 8
    assert (await handle.status()).engine == "queue"
    await until(lambda: [type(one) for one in engine.answers] == [Ended])


async def test_what_was_submitted_without_an_engine_is_claimed_as_ever(
    manager: TaskManager, engine: QueueEngine
) -> None:
    """By a process that knows none, or before there was one; and callables stay here."""
    async with TaskManager(manager.store, work=False) as plain:
        handle = await plain.submit("double", params={"n": 1})
        assert await plain.handle(handle.task_id).result(timeout=10) == 2

    async def own(report: Reporter) -> str:
        return "here"

    mine = await manager.submit("own", own)

    assert await mine.result(timeout=10) == "here"
    assert (await mine.status()).engine is None
    assert engine.answers == []


async def test_it_brings_the_ops_alone_that_a_worker_was_given(engine: QueueEngine) -> None:
    """The others are for other workers, and are not begun if they are brought all the same."""
    async with MemoryStore() as store:
        manager = TaskManager(store, engine=engine, drain=0.0, work_ops=["mine"])
        for name in ("mine", "others"):
            manager.op(name)(plain_runner)
        async with manager:
            handle = await manager.submit("mine")
            await handle.result(timeout=10)
            other = await manager.submit("others")
            await until(lambda: len(engine.answers) == 2)

            assert [*engine.desk.ops] == ["mine"]
            assert isinstance(engine.answers[1], Unknown)
            assert (await other.status()).status is TaskStatus.PENDING


async def test_what_has_a_queue_is_claimed_from_it(engine: QueueEngine) -> None:
    """Of its op, of its submit or of a schedule: an engine brings an op to each of its workers."""
    async with MemoryStore() as store:
        manager = TaskManager(store, engine=engine, drain=0.0, queues=["mail", "bulk"])
        manager.op("work", queue="mail")(plain_runner)
        async with manager:
            await manager.schedules.add("nightly", Submission("work", queue="bulk"), every=3_600)
            handles = [
                await manager.submit("work"),
                await manager.submit("work", queue="bulk"),
                await manager.schedules.trigger("nightly"),
            ]
            for handle in handles:
                await handle.result(timeout=10)
            handles.append(await manager.resubmit(handles[0].task_id))
            await handles[3].result(timeout=10)
            tasks = [await handle.status() for handle in handles]
            brought = await manager.submit("work", queue="default")
            await brought.result(timeout=10)

    assert [(task.engine, task.queue) for task in tasks] == [
        (None, "mail"),
        (None, "bulk"),
        (None, "bulk"),
        (None, "mail"),
    ]
    assert len(engine.answers) <= 1  # it brought the last one alone


@pytest.mark.parametrize("settings", [{"max_concurrent": 1}, {"rate_limit": RateLimit(9, per=1)}])
async def test_what_needs_a_slot_over_the_whole_store_is_claimed_as_ever(
    engine: QueueEngine, settings: OpSettings
) -> None:
    """Submits, batches, schedules and retries of an op with ``max_concurrent``, or with a rate: its
    claims' slots.

    A retry of a task with a key of its own, too: who retries it cannot leave the key out.
    """
    async with MemoryStore() as store:
        manager = TaskManager(store, engine=engine, drain=0.0)

        @manager.op("scarce", **settings)
        async def scarce(report: Reporter) -> str:
            return "done"

        async with manager:
            await manager.schedules.add("nightly", "scarce", every=3_600)
            handles = [
                await manager.submit("scarce"),
                await manager.schedules.trigger("nightly"),
                *await manager.submit_many([Submission("scarce"), Submission("scarce")]),
            ]
            results = [await handle.result(timeout=10) for handle in handles]
            tasks = [await handle.status() for handle in handles]
            with pytest.raises(BadSetting, match="None beside a concurrency key"):
                await manager.submit("scarce", concurrency_key="own")

            async with TaskManager(store) as without:
                keyed = await without.submit("scarce", concurrency_key="own")
                await keyed.result(timeout=10)
            again = [await manager.resubmit(one.task_id) for one in (handles[0], keyed)]
            retried = [await handle.result(timeout=10) for handle in again]
            anew = [await handle.status() for handle in again]

    assert results == ["done"] * 4
    assert {(task.engine, task.concurrency_key) for task in tasks} == {(None, "")}
    assert retried == ["done"] * 2
    assert [(task.engine, task.concurrency_key) for task in anew] == [(None, ""), (None, "own")]
    assert engine.answers == []


async def test_the_reconciler_brings_what_got_lost(
    manager: TaskManager, engine: QueueEngine
) -> None:
    """The pending row is the outbox: while the engine is away it waits, and is overdue."""
    engine.lossy = True
    handle = await manager.submit("double", params={"n": 5})
    away = await reconcile(manager.store, engine)
    overdue = await manager.store.engines.count_overdue("queue", late=0)
    engine.lossy = False
    found = await reconcile(manager.store, engine)

    assert (away.failed, overdue.tasks, found.confirmed) == ("it is away", 1, 1)
    assert await handle.result(timeout=10) == 10


async def test_a_task_that_the_engine_does_not_take_keeps_no_other_one(
    engine: QueueEngine,
) -> None:
    """The turn goes on past pages where some were taken, and says of the one that was not; where
    none is, it ends."""
    async with MemoryStore() as store:
        new = [NewTask(new_task_id(), "double", engine="queue") for _ in range(250)]
        tasks = [(await store.create(one))[0] for one in new]
        engine.refused = {tasks[0].task_id, tasks[120].task_id}
        done = await reconcile(store, engine)
        left = await store.engines.find_unconfirmed("queue")
        again = await reconcile(store, engine)

    assert (done.confirmed, done.failed) == (248, "it does not fit")
    assert {task.task_id for task in left} == engine.refused
    assert (again.confirmed, again.failed) == (0, "it does not fit")


async def test_a_task_that_cannot_be_cancelled_keeps_no_other_one(
    manager: TaskManager, engine: QueueEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with it; one whose row is gone is settled."""
    engine.lossy = True
    first, second = [await manager.submit("double", params={"n": n}) for n in range(2)]
    engine.known = dict.fromkeys([first.task_id, new_task_id(), second.task_id], "too dear")
    cancel = manager.store.request_cancel

    async def refuse(task_id: str, *args: Any) -> CancelAnswer:
        if task_id == first.task_id:
            raise RuntimeError("broken")
        return await cancel(task_id, *args)

    monkeypatch.setattr(manager.store, "request_cancel", refuse)
    engine.lossy = False
    done = await reconcile(manager.store, engine)

    assert (done.cancelled, done.failed) == (1, f"task {first.task_id} cannot be cancelled: broken")
    assert (await second.status()).status is TaskStatus.CANCELLED


async def test_what_was_cancelled_there_while_it_waited_is_cancelled_here(
    manager: TaskManager, engine: QueueEngine
) -> None:
    """With what was said there; a second turn finds nothing more."""
    engine.lossy = True
    handle = await manager.submit("double", params={"n": 5})
    engine.known[handle.task_id] = "too dear"
    done = [await reconcile(manager.store, engine) for _ in range(2)]
    with pytest.raises(TaskCancelled, match="too dear"):
        await handle.result(timeout=10)
    cancel = (await handle.status()).cancel

    assert [one.cancelled for one in done] == [1, 0]
    assert cancel is not None
    assert cancel.by == "queue"


async def test_what_was_cancelled_there_while_it_runs_is_cancelled_here(
    manager: TaskManager, engine: QueueEngine
) -> None:
    """Its worker may never hear of it: that has lost its execution, or is dead. Once."""
    handle = await manager.submit("waits")
    await until(lambda: engine.desk.find_place(handle.task_id))
    engine.known[handle.task_id] = "too dear"
    done = await reconcile(manager.store, engine)
    with pytest.raises(TaskCancelled, match="too dear"):
        await handle.result(timeout=10)
    again = await reconcile(manager.store, engine)
    cancel = (await handle.status()).cancel

    assert (done.cancelled, again.cancelled) == (1, 0)
    assert cancel is not None
    assert cancel.by == "queue"


async def test_a_cancel_there_is_not_lost_while_the_store_is_away(
    manager: TaskManager, engine: QueueEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine tells of it once: the next turn has still what is not settled."""
    handles = [await manager.submit("double", params={"n": n}, delay=3_600) for n in range(3)]
    told = [Forgotten(handle.task_id, "too dear") for handle in handles]

    async def tell_once() -> Sequence[Forgotten]:
        return [told.pop(0) for _ in tuple(told)]

    monkeypatch.setattr(engine, "find_forgotten", tell_once)
    left: dict[str, str] = {}
    with monkeypatch.context() as away:
        cancel = manager.store.request_cancel

        async def fail_at_second(task_id: str, *args: Any) -> CancelAnswer:
            if task_id == handles[1].task_id:
                raise StoreUnavailable("memory", "away")
            return await cancel(task_id, *args)

        away.setattr(manager.store, "request_cancel", fail_at_second)
        with pytest.raises(StoreUnavailable):
            await reconcile(manager.store, engine, left=left)
    done = await reconcile(manager.store, engine, left=left)

    assert (done.cancelled, len(left)) == (2, 0)
    assert {(await one.status()).status for one in handles} == {TaskStatus.CANCELLED}


async def test_what_is_cancelled_here_while_it_waits_is_forgotten_there(
    manager: TaskManager, engine: QueueEngine
) -> None:
    """It need not be brought any more."""
    handle = await manager.submit("double", params={"n": 5}, delay=3_600)
    await handle.cancel("not wanted")

    assert engine.forgotten == [handle.task_id]


async def test_who_brings_a_task_twice_waits_for_its_one_run(
    manager: TaskManager, engine: QueueEngine
) -> None:
    """A second bringer is attached to the run that goes on here."""
    handle = await manager.submit("waits")
    await until(lambda: engine.desk.find_place(handle.task_id))
    second = asyncio.ensure_future(engine.desk.attempt(handle.task_id))
    await settle_loop(100)
    assert not second.done()
    await handle.cancel("enough")
    answer = await asyncio.wait_for(second, 10)
    task = await handle.status()

    assert isinstance(answer, Ended)
    assert answer.task.status is TaskStatus.CANCELLED
    assert task.attempt == 1


async def test_the_lease_decides_who_has_a_task(manager: TaskManager, engine: QueueEngine) -> None:
    """One that another owner runs is held back for what is left of the lease; when that is over it
    is taken from it, and a retry is spent."""
    engine.lossy = True
    store = manager.store
    new = NewTask(new_task_id(), "double", {"n": 1}, retries=1, engine="queue")
    task, _ = await store.create(new)
    assert await store.claim_if_pending(task, "another", 20.0) is not None
    held = await engine.desk.attempt(task.task_id)
    assert isinstance(store.backend, MemoryBackend)
    record = store.backend.find(task.task_id)
    assert record is not None
    record.task = replace(record.task, lease_expires_us=store.clock.now() - 1)
    taken = await engine.desk.attempt(task.task_id)
    row = await store.get(task.task_id)

    assert isinstance(held, Held)
    assert (held.reason, 15 < held.wait <= 20) == (HeldReason.LEASE, True)
    assert isinstance(taken, (Ended, Again))
    assert row.retries_spent == 1


async def test_what_has_expired_has_ended_when_it_is_brought(
    manager: TaskManager, engine: QueueEngine
) -> None:
    """It is not begun; the engine is told that it has ended, and brings it no more."""
    engine.lossy = True
    new = NewTask(new_task_id(), "double", {"n": 1}, run_at=1, expires_in=1, engine="queue")
    task, _ = await manager.store.create(new)
    answer = await engine.desk.attempt(task.task_id)
    again = await manager.submit("double", params={"n": 2}, expires_in=600)
    brought = await engine.desk.attempt(again.task_id)

    assert isinstance(answer, Ended)
    assert (answer.task.status, answer.task.attempt) == (TaskStatus.CANCELLED, 0)
    assert isinstance(brought, Ended)
    assert brought.task.status is TaskStatus.SUCCEEDED


async def test_a_task_is_held_that_cannot_begin_here(
    manager: TaskManager, engine: QueueEngine
) -> None:
    """No slot of its op, a pause, a time that has not come, an op of others, no such task."""
    await manager.pause("double")
    first = await manager.submit("waits")
    await until(lambda: engine.desk.find_place(first.task_id))
    second = await manager.submit("waits")
    later = await manager.submit("double", params={"n": 1}, delay=100)
    engine.lossy = True
    paused = await manager.submit("double", params={"n": 1})
    strange = await manager.submit("strange")
    attempt = engine.desk.attempt
    async with asyncio.timeout(10):
        answers = [await attempt(one.task_id) for one in (second, later, paused)]
        unknown = [await attempt(one) for one in (strange.task_id, new_task_id())]

    assert [one.reason for one in answers if isinstance(one, Held)] == [
        *(HeldReason.NO_SLOT, HeldReason.NOT_DUE, HeldReason.PAUSED)
    ]
    assert [type(one) for one in unknown] == [Unknown, Unknown]


async def test_an_op_has_its_limit_while_an_engine_brings(
    manager: TaskManager, engine: QueueEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker claims none beside the one whose claim by its id is under way."""
    engine.lossy = True
    store, claims, go = manager.store, asyncio.Event(), asyncio.Event()
    claim = store.claim_if_pending

    async def claim_slowly(*args: Any) -> Claim | None:
        claims.set()
        await go.wait()
        return await claim(*args)

    monkeypatch.setattr(store, "claim_if_pending", claim_slowly)
    brought = await manager.submit("waits")
    asked = asyncio.ensure_future(engine.desk.attempt(brought.task_id))
    async with asyncio.timeout(10):
        await claims.wait()
        other, _ = await store.create(NewTask(new_task_id(), "waits"))
        for n in range(2):  # two rounds of the worker
            one, _ = await store.create(NewTask(new_task_id(), "double", {"n": n}))
            await manager.handle(one.task_id).result()
        go.set()
        await until(lambda: engine.desk.find_place(brought.task_id))
        assert (await store.get(other.task_id)).status is TaskStatus.PENDING
        await brought.cancel("enough")
        await asked
        await until(lambda: engine.desk.find_place(other.task_id))
        await manager.handle(other.task_id).cancel("enough")


async def test_an_op_has_its_limit_while_its_worker_claims(
    manager: TaskManager, engine: QueueEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task is held that an engine brings while a claim of due tasks may take one of its op."""
    engine.lossy = True
    store, claims, go = manager.store, asyncio.Event(), asyncio.Event()
    claim_due = store.claim_due

    async def claim_slowly(*args: Any, **given: Any) -> list[Claim]:
        found = await claim_due(*args, **given)
        if found:
            claims.set()
            await go.wait()
        return found

    monkeypatch.setattr(store, "claim_due", claim_slowly)
    brought = await manager.submit("waits")
    other, _ = await store.create(NewTask(new_task_id(), "waits"))
    async with asyncio.timeout(10):
        await claims.wait()
        answer = await engine.desk.attempt(brought.task_id)
        go.set()
        await until(lambda: engine.desk.find_place(other.task_id))
        await manager.handle(other.task_id).cancel("enough")

    assert isinstance(answer, Held)
    assert answer.reason is HeldReason.NO_SLOT
    assert (await brought.status()).status is TaskStatus.PENDING


async def test_a_paused_ops_tasks_are_held_however_many_are_brought_at_once(
    manager: TaskManager, engine: QueueEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All wait for one read of what is paused; where it fails, nobody begins on an older one."""
    engine.lossy = True
    handles = [await manager.submit("double", params={"n": n}) for n in range(3)]
    ops, attempt = manager.store.ops, engine.desk.attempt
    list_paused, reads = ops.list_paused, list[str]()
    read = asyncio.Event()

    async def read_slowly(*, limit: int) -> PausePage:
        reads.append("away" if not reads else "read")
        await read.wait()
        if reads == ["away"]:
            raise StoreUnavailable("memory", "away")
        return await list_paused(limit=limit)

    monkeypatch.setattr(ops, "list_paused", read_slowly)
    await manager.pause("double")
    answers: list[object] = []
    async with asyncio.timeout(10):
        for _ in range(2):
            read.clear()
            asked = [asyncio.ensure_future(attempt(handle.task_id)) for handle in handles]
            await settle_loop(100)
            read.set()
            answers += await asyncio.gather(*asked)

    assert [one.reason for one in answers if isinstance(one, Held)] == [
        *[HeldReason.STORE] * 3,
        *[HeldReason.PAUSED] * 3,
    ]
    assert reads == ["away", "read"]


async def test_who_no_longer_waits_for_the_paused_ops_ends_their_read_for_nobody(
    manager: TaskManager, engine: QueueEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An execution that is over in the engine is cancelled, and the others are begun."""
    engine.lossy = True
    handles = [await manager.submit("double", params={"n": n}) for n in range(2)]
    ops, begun, read = manager.store.ops, asyncio.Event(), asyncio.Event()
    list_paused = ops.list_paused

    async def read_slowly(*, limit: int) -> PausePage:
        begun.set()
        await read.wait()
        return await list_paused(limit=limit)

    monkeypatch.setattr(ops, "list_paused", read_slowly)
    async with asyncio.timeout(10):
        first = asyncio.ensure_future(engine.desk.attempt(handles[0].task_id))
        await begun.wait()
        second = asyncio.ensure_future(engine.desk.attempt(handles[1].task_id))
        await settle_loop(100)
        first.cancel()
        await asyncio.wait([first])
        read.set()
        answer = await second

    assert first.cancelled()
    assert isinstance(answer, Ended)


async def test_a_defect_at_the_start_of_a_task_takes_no_slot(
    engine: QueueEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of the manager's nor of the op's; who brought the task is to bring it again."""
    engine.lossy = True
    listen: Callable[[RunPool], None] = getattr(RunPool, "_listen_for_cancels")  # noqa: B009  # to fail
    met: list[int] = []

    def fail_at_first(pool: RunPool) -> None:
        if not met:
            met.append(1)
            raise RuntimeError("broken")
        listen(pool)

    async with MemoryStore() as store:
        manager = TaskManager(store, engine=engine, drain=0.0, max_running=1)

        @manager.op("one", max_running=1)
        async def one(report: Reporter) -> int:
            return 1

        async with manager:
            first, second = [await manager.submit("one") for _ in range(2)]
            monkeypatch.setattr(RunPool, "_listen_for_cancels", fail_at_first)
            async with asyncio.timeout(10):
                answers = [await engine.desk.attempt(it.task_id) for it in (first, second)]
                assert await second.result() == 1

    assert isinstance(answers[0], Held)
    assert answers[0].reason is HeldReason.DEFECT
    assert isinstance(answers[1], Ended)


async def test_a_release_says_why_on_the_tape(manager: TaskManager, engine: QueueEngine) -> None:
    """No retry is spent, and the engine brings it again."""
    handle = await manager.submit("waits")
    await until(lambda: engine.desk.find_place(handle.task_id))
    engine.desk.release(handle.task_id, "it was paused there")

    async def again() -> bool:
        return (await handle.status()).attempt == 2

    await until(again)
    tape = await handle.tape()

    assert (await handle.status()).retries_spent == 0
    assert [event.body for event in tape.events if event.type == "attempt_released"] == [
        {"message": "it was paused there"}
    ]
    await handle.cancel("enough")


async def test_tasks_in_a_callers_transaction_are_told_of_when_they_are_announced(
    postgres_url: str, engine: QueueEngine
) -> None:
    """What was rolled back is not there to be told of."""
    import asyncpg

    async with TaskManager(postgres_url, engine=engine, work=False) as manager:
        conn = await asyncpg.connect(postgres_url.partition("&schema=")[0])
        try:
            rolled = conn.transaction()
            await rolled.start()
            await manager.submit("double", connection=conn)
            await rolled.rollback()
            async with conn.transaction():
                kept = await manager.submit("double", connection=conn)
            assert engine.queue.empty()
            await manager.announce()
        finally:
            await conn.close()

        assert [engine.queue.get_nowait() for _ in range(engine.queue.qsize())] == [kept.task_id]
        assert (await kept.status()).engine == "queue"


async def test_who_opens_a_manager_twice_at_once_opens_its_engine_once(
    engine: QueueEngine,
) -> None:
    """And once more in its next life."""
    opened: list[str] = []
    open_once = engine.open

    async def note(store_id: str) -> None:
        opened.append(store_id)
        await open_once(store_id)

    engine.open = note  # type: ignore[method-assign]  # counts the calls
    async with MemoryStore() as store:
        manager = TaskManager(store, engine=engine, drain=0.0)
        await asyncio.gather(manager.open(), manager.open())
        await manager.aclose()
        assert len(opened) == 1
        await manager.open()
        await manager.aclose()

    assert len(set(opened)) == 1
    assert len(opened) == 2


def test_a_store_of_one_host_is_refused(sqlite_url: str, engine: QueueEngine) -> None:
    """Its workers could not share it."""
    with pytest.raises(EngineUnfit, match=r"of one host\. Use a PostgreSQL store"):
        TaskManager(sqlite_url, engine=engine)


class _Plain(MemoryBackend):
    """A store that knows of no engines."""

    @property
    def keeps_engines(self) -> bool:
        return False


async def test_a_store_that_keeps_no_engines_refuses_a_task_of_one(engine: QueueEngine) -> None:
    """Its workers would claim it."""
    async with MemoryStore(backend=_Plain()) as store:
        with pytest.raises(BadSetting, match="keeps no engines"):
            await store.create(NewTask(new_task_id(), "double", engine="queue"))
        with pytest.raises(EngineUnfit, match="keeps no engines"):
            TaskManager(store, engine=engine)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("somewhere", BadEngineUrl),
        ("kafka://here", UnknownEngine),
        ("temporal://user:secret@host:7233/shop", BadEngineUrl),
        ("temporal://:7233/shop", BadEngineUrl),
        ("temporal://host/shop?tls=1", BadEngineUrl),
    ],
)
def test_a_url_that_names_no_engine_is_refused(url: str, error: type[Exception]) -> None:
    """No secret of it is shown."""
    with pytest.raises(error) as refused:
        find_engine(url)

    assert "secret" not in str(refused.value)


def test_an_engine_without_its_extra_says_what_to_install() -> None:
    """And tapescope is imported without it."""
    program = (
        "import sys; sys.modules['temporalio'] = None\n"
        "import tapescope\n"
        "try: tapescope.TaskManager('postgresql://h/d', engine='temporal://h')\n"
        "except tapescope.MissingExtra as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.strip() == (
        "The engine on Temporal needs more packages: pip install 'tapescope[temporal]'"
    ), done.stderr
