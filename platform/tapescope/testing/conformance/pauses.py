"""Pauses and drains: what a person has stopped is claimed by nobody, until it is let go on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from tapescope.errors import BadOp, BadSetting, UnknownWorker
from tapescope.model.error_codes import WORKER_LOST
from tapescope.model.ops import KnownOp, Pause
from tapescope.model.tasks import Claim, ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import Stores, StoreSuite

LEASE: Final = 30.0


class PausesConformance(StoreSuite):
    """A paused op's tasks are claimed by no worker, a draining worker claims no task."""

    async def test_no_worker_claims_tasks_of_a_paused_op(self, stores: Stores) -> None:
        """In no process; the tasks of other ops are claimed, and a resume ends it."""
        store, second_store = await open_two(stores)
        await submit(store, "mail", 3)
        await submit(store, "resize", 2)
        await store.ops.pause("mail")
        claimed = [await claim(one, "mail", "resize") for one in (store, second_store)]
        due = await second_store.next_due(["mail"]), await second_store.next_due(["resize"])
        await second_store.ops.resume("mail")
        after = await claim(store, "mail")

        assert [[one.task.op for one in claims] for claims in claimed] == [["resize"] * 2, []]
        assert due == (None, None)
        assert [one.task.op for one in after] == ["mail"] * 3

    async def test_a_pause_says_who_when_and_why(self, stores: Stores) -> None:
        """The first pause stands: a second one changes nothing, and a resume gives it, once."""
        store, second_store = await open_two(stores)
        begin = datetime.now(UTC) - timedelta(minutes=5)  # clocks differ
        first = await store.ops.pause("mail", reason="the relay is down", by="ann")
        again = await second_store.ops.pause("mail", reason="other", by="bob")
        bare = await store.ops.pause("bare")
        ended = [await store.ops.resume("mail") for _ in range(2)]

        assert first == Pause("mail", first.at_us, "ann", "the relay is down")
        assert begin < first.at < datetime.now(UTC) + timedelta(minutes=5)
        assert again == first
        assert (bare.by, bare.reason) == (None, "")
        assert ended == [first, None]

    async def test_a_pause_outlives_who_made_it(self, store: TaskStore) -> None:
        """It is the store's: who opens it later obeys it."""
        await submit(store, "mail", 1)
        await store.ops.pause("mail", reason="why", by="ann")
        await store.aclose()
        await store.open()

        assert [one.op for one in (await store.ops.list_paused()).pauses] == ["mail"]
        assert await claim(store, "mail") == []

    async def test_paused_ops_are_listed_by_name(self, store: TaskStore) -> None:
        """A page at a time, each once."""
        for op in ("c", "a", "B", "d"):
            await store.ops.pause(op)
        first = await store.ops.list_paused(limit=2)
        rest = await store.ops.list_paused(after=first.next, limit=2)

        assert [one.op for one in first.pauses + rest.pauses] == ["B", "a", "c", "d"]
        assert (first.next, rest.next) == ("a", None)

    async def test_what_becomes_pending_again_waits(self, stores: Stores) -> None:
        """A retried, a released and a rescued task of a paused op wait like one that is new."""
        store = await stores.open()
        await store.ops.register([KnownOp("mail")])
        await submit(store, "mail", 3, retries=3)
        retried, released, lost = await claim(store, "mail", lease=0.001)
        await store.ops.pause("mail")
        await store.retry_later(retried.attempt, ErrorInfo("x", "failed"), retried.task.run_us)
        await store.release(released.attempt, "its worker stops")
        rescued = await store.leases.rescue_expired(10, ops=["mail"], dead_owners=["worker"])
        statuses = {(await store.get(one.task.task_id)).status for one in (retried, released, lost)}
        waiting = await claim(store, "mail")
        await store.ops.resume("mail")

        assert len(rescued) == 1
        assert statuses == {TaskStatus.PENDING}
        assert waiting == []
        assert len(await claim(store, "mail")) == 3

    async def test_what_runs_goes_on(self, store: TaskStore) -> None:
        """A run of a paused op writes, keeps its lease and ends as ever."""
        await submit(store, "mail", 1)
        (claimed,) = await claim(store, "mail")
        await store.ops.pause("mail")
        leases = await store.leases.extend("worker", LEASE, [claimed.attempt])
        await end(store, claimed)

        assert not leases.lost
        assert (await store.get(claimed.task.task_id)).status is TaskStatus.FAILED

    async def test_what_one_process_alone_can_run_is_not_paused(self, store: TaskStore) -> None:
        """It is claimed by its id, not by its op: with its creation, and afterwards."""
        await store.ops.pause("mail")
        bound = NewTask(new_task_id(), "mail", only_by="me")
        _, _, at_once = await store.create_claimed(bound, "me", LEASE)
        task, _ = await store.create(NewTask(new_task_id(), "mail", only_by="me"))
        later = await store.claim_if_pending(task, "me", LEASE)

        assert at_once is not None
        assert later is not None

    async def test_no_claim_that_begins_after_a_pause_takes_a_task(self, stores: Stores) -> None:
        """Workers of two processes claim as fast as they can while the op is paused and resumed
        again and again: what any of them claims it asked for before the pause was answered."""
        store, second_store = await open_two(stores)
        await submit(store, "mail", 60)
        stop = False
        pauses = 0  # odd from the answer of a pause until its end is asked for
        too_late: list[str] = []
        taken = asyncio.Queue[str]()

        async def work(one: TaskStore, owner: str) -> None:
            while not stop:
                begun_in = pauses
                for got in await one.claim_due(owner, ["mail"], 1, LEASE):
                    taken.put_nowait(got.task.task_id)
                    if begun_in == pauses and pauses % 2:  # else its database may have resumed
                        too_late.append(got.task.task_id)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as workers:
            for nth, one in enumerate([store, second_store] * 2):
                workers.create_task(work(one, f"worker{nth}"))
            for _ in range(5):
                for _ in range(4):
                    await taken.get()
                await store.ops.pause("mail")
                pauses += 1
                for one in (store, second_store):
                    assert await claim(one, "mail", owner="late") == []
                pauses += 1
                await store.ops.resume("mail")
            stop = True

        assert too_late == []

    async def test_the_numbers_say_what_is_paused(self, stores: Stores) -> None:
        """At once, from every process, also of an op that has no task; and no worker is missed."""
        store, second_store = await open_two(stores)
        await submit(store, "mail", 2)
        unattended = (await store.backlog.read(max_age=0)).ops[0].unattended
        pause = await store.ops.pause("mail", reason="why", by="ann")
        unknown = await store.ops.pause("unknown")
        read = {one.op: one for one in (await second_store.backlog.read()).ops}
        await store.ops.resume("mail")
        resumed = {one.op: one for one in (await second_store.backlog.read()).ops}

        assert unattended
        assert (read["mail"].due, read["mail"].paused) == (2, pause)
        assert not read["mail"].unattended
        assert (read["unknown"].due, read["unknown"].paused) == (0, unknown)
        assert resumed["mail"].paused is None

    async def test_a_draining_worker_claims_no_task(self, stores: Stores) -> None:
        """Others do, and it does again when the drain is over."""
        store, second_store = await open_two(stores)
        await submit(store, "mail", 4)
        await store.ops.tell("worker", ["mail"], 60)
        drain = await second_store.ops.drain("worker", reason="it leaks", by="ann")
        again = await second_store.ops.drain("worker", reason="other", by="bob")
        await store.ops.tell("worker", ["mail"], 60)
        kept = await store.ops.find_drain("worker")
        drained = await claim(store, "mail", limit=1)
        other = await claim(store, "mail", owner="another", limit=1)
        await second_store.ops.undrain("worker")
        after = await claim(store, "mail", limit=1)

        assert (drain.by, drain.reason) == ("ann", "it leaks")
        assert again == kept == drain
        assert (len(drained), len(other), len(after)) == (0, 1, 1)
        assert await store.ops.find_drain("worker") is None

    async def test_a_drain_goes_with_its_worker(self, store: TaskStore) -> None:
        """A worker that is gone cannot be drained, and its name, told anew, claims."""
        await store.ops.tell("worker", ["mail"], 60)
        await store.ops.drain("worker")
        await store.ops.forget("worker")
        with pytest.raises(UnknownWorker, match="worker"):
            await store.ops.drain("worker")
        with pytest.raises(UnknownWorker):
            await store.ops.undrain("worker")
        await store.ops.tell("worker", ["mail"], 60)

        assert await store.ops.find_drain("worker") is None

    async def test_who_works_is_listed(self, stores: Stores) -> None:
        """Workers, also one that is silent, and who runs a task of its own; each with what it
        runs."""
        store, second_store = await open_two(stores)
        await submit(store, "mail", 2)
        await store.ops.tell("b:worker", ["resize", "mail"], 60)
        await store.ops.tell("a:silent", [], 0.000001)
        await store.ops.tell("b:worker", ["resize", "mail"], 60)
        await store.ops.drain("b:worker", reason="why", by="ann")
        await claim(store, "mail", owner="c:process")
        page = await second_store.ops.list_workers(limit=2)
        rest = await second_store.ops.list_workers(after=page.next, limit=2)
        silent, worker, process = page.workers + rest.workers

        assert (page.next, rest.next) == ("b:worker", None)
        assert [silent.owner, worker.owner, process.owner] == ["a:silent", "b:worker", "c:process"]
        assert (silent.is_worker, silent.alive, silent.ops, silent.running) == (True, False, (), 0)
        assert (worker.is_worker, worker.alive, worker.running) == (True, True, 0)
        assert worker.ops == ("mail", "resize")
        assert worker.since is not None
        assert worker.heard is not None
        assert worker.since <= worker.heard
        assert worker.drain is not None
        assert (worker.drain.by, worker.drain.reason) == ("ann", "why")
        assert (process.is_worker, process.alive, process.running) == (False, True, 2)
        assert (process.since, process.drain) == (None, None)

    async def test_what_cannot_be_paused_is_refused(self, store: TaskStore) -> None:
        """A name that no op can have, and texts that no store keeps."""
        with pytest.raises(BadOp):
            await store.ops.pause("no op")
        with pytest.raises(BadOp):
            await store.ops.resume("")
        with pytest.raises(BadSetting, match="reason"):
            await store.ops.pause("mail", reason="x" * 1_025)
        with pytest.raises(BadSetting, match="by"):
            await store.ops.pause("mail", by="a\0b")
        with pytest.raises(BadSetting, match="limit"):
            await store.ops.list_workers(limit=0)

        assert (await store.ops.list_paused()).pauses == ()


async def open_two(stores: Stores) -> tuple[TaskStore, TaskStore]:
    """Stores of two processes; the same one twice, where no other process can open it."""
    store = await stores.open()
    return store, await stores.open() if store.outlives_process else store


async def submit(store: TaskStore, op: str, n: int, *, retries: int = 0) -> None:
    """So many tasks that are due."""
    for _ in range(n):
        await store.create(NewTask(new_task_id(), op, retries=retries))


async def claim(
    store: TaskStore, *ops: str, owner: str = "worker", limit: int = 10, lease: float = LEASE
) -> list[Claim]:
    """What a worker of these ops gets."""
    return await store.claim_due(owner, ops, limit, lease)


async def end(store: TaskStore, claimed: Claim) -> None:
    """Its run ends."""
    failed = FinalEvent.failed(ErrorInfo(WORKER_LOST, "why"))
    await store.finish_if_running(claimed.attempt, failed)
