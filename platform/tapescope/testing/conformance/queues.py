"""Which workers take a task: those of its queue, and those of all."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from tapescope.errors import BadSetting
from tapescope.model.backlog import OpBacklog
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import PRIORITIES, ErrorInfo, FinalEvent, NewTask, Task, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import HOUR, LEASE, OPS, OTHER, OWNER

_QUEUES = ("bulk", "default", "mail", "mail.night")


class QueuesConformance(StoreSuite):
    """Which workers take a task: those of its queue, and those of all."""

    async def test_a_claim_takes_from_its_queues(self, store: TaskStore) -> None:
        """Those of other queues wait, for another worker or for one that takes all."""
        made = {queue: await make(store, queue) for queue in _QUEUES}
        due = [await store.next_due(OPS, queues=[queue]) for queue in ("bulk", "absent")]
        absent = await claim(store, ["absent"])
        bulk = await claim(store, ["bulk", "absent"])
        again = await claim(store, ["bulk"])
        mail = await claim(store, ["mail", "default"])
        rest = await claim(store, None)

        assert due == [made["bulk"].run_us, None]
        assert (absent, again) == ([], [])
        assert bulk == [made["bulk"].task_id]
        assert mail == [made["default"].task_id, made["mail"].task_id]
        assert rest == [made["mail.night"].task_id]

    async def test_claims_from_some_queues_keep_the_order(self, store: TaskStore) -> None:
        """Of every priority, three queues and two ops, some due later: as a sort has them."""
        now = store.clock.now()
        new = [
            NewTask(
                new_task_id(),
                OPS[n % 2],
                run_at=now + HOUR if n % 5 == 0 else now - HOUR + 7 * n % 50,
                priority=PRIORITIES[n % len(PRIORITIES)],
                queue=_QUEUES[n % 3],
            )
            for n in range(6 * len(PRIORITIES))
        ]
        made = [task for task, _ in await asyncio.gather(*(store.create(one) for one in new))]
        asked = ["default", "mail", "bulk"][:2]
        due = [task for task in made if task.run_us < now and task.queue in asked]
        due.sort(key=lambda task: (-task.priority, task.run_us, task.key))
        first = await store.next_due(OPS, queues=asked)
        claimed = [one for size in (1, 2, 3, 5, 100) for one in await claim(store, asked, size)]

        assert claimed == [task.task_id for task in due]
        assert first == min(task.run_us for task in due)
        assert await claim(store, asked) == []
        assert await store.next_due(OPS, queues=asked) == now + HOUR

    async def test_a_task_keeps_its_queue(self, store: TaskStore) -> None:
        """Claimed, released, retried, rescued and read: only its queue's workers come to it."""
        now = store.clock.now()
        task = await make(store, "mail", retries=2)
        (first,) = await store.claim_due(OWNER, OPS, 1, LEASE, queues=["mail"])
        await store.release(first.attempt)
        wrong = await claim(store, ["default"])
        (second,) = await store.claim_due(OWNER, OPS, 1, LEASE, queues=["mail"])
        await store.retry_later(second.attempt, ErrorInfo("x"), now - HOUR)
        wrong += await claim(store, ["default"])
        (third,) = await store.claim_due(OWNER, OPS, 1, 1e-6, queues=["mail"])
        await store.leases.rescue_expired(10, ops=OPS)
        wrong += await claim(store, ["default"])
        (last,) = await store.claim_due(OTHER, OPS, 1, LEASE, queues=["mail"])
        page = await store.list(status=TaskStatus.RUNNING)

        assert wrong == []
        assert {one.task.queue for one in (first, second, third, last)} == {"mail"}
        assert [one.task.task_id for one in (first, second, third, last)] == [task.task_id] * 4
        assert [one.queue for one in page.tasks] == ["mail"]
        assert last.task == await store.get(task.task_id)

    async def test_a_key_finds_the_task_in_its_queue(self, store: TaskStore) -> None:
        """A second submit with another queue changes nothing; what is born running has its own."""
        keyed = [
            await store.create(NewTask(new_task_id(), "work", idempotency_key="key", queue=queue))
            for queue in ("one", "two")
        ]
        born, _, claimed = await store.create_claimed(
            NewTask(new_task_id(), "born", queue="three"), OWNER, LEASE
        )

        assert [(task.queue, created) for task, created in keyed] == [("one", True), ("one", False)]
        assert claimed is not None
        assert (born.queue, claimed.task.queue) == ("three", "three")

    async def test_a_paused_op_is_paused_in_every_queue(self, store: TaskStore) -> None:
        """And a worker that drains takes nothing from its queues."""
        await make(store, "mail")
        await store.ops.pause("work")
        paused = await claim(store, ["mail"]), await store.next_due(OPS, queues=["mail"])
        await store.ops.resume("work")
        await store.ops.tell(OWNER, OPS, LEASE, queues=["mail"])
        await store.ops.drain(OWNER)
        drained = await claim(store, ["mail"])
        await store.ops.undrain(OWNER)

        assert paused == ([], None)
        assert drained == []
        assert len(await claim(store, ["mail"])) == 1

    @pytest.mark.parametrize("queue", ["", "a b", "a/b", "1st", "x" * 129, 1, None])
    async def test_a_queue_has_a_name(self, store: TaskStore, queue: object) -> None:
        """Another one is refused, of a task and of a claim, and nothing is created."""
        new = NewTask(new_task_id(), "work", queue=queue)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose
        with pytest.raises(BadSetting, match="1 to 128 of A-Z"):
            await store.create(new)
        with pytest.raises(BadSetting, match="1 to 128 of A-Z"):
            await store.claim_due(OWNER, OPS, 1, LEASE, queues=[queue])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]  # on purpose

        assert (await store.list()).tasks == ()

    @pytest.mark.parametrize("queues", [[], "mail", 1, [f"q{n}" for n in range(101)]])
    async def test_the_queues_of_a_worker_are_few(self, store: TaskStore, queues: object) -> None:
        """One at least, 100 at most, and a text alone is not a list of names."""
        with pytest.raises(BadSetting, match="1 to 100 names"):
            await store.claim_due(OWNER, OPS, 1, LEASE, queues=queues)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose
        with pytest.raises(BadSetting, match="1 to 100 names"):
            await store.ops.tell(OWNER, OPS, LEASE, queues=queues)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose

    async def test_an_op_says_the_queue_of_its_tasks(self, store: TaskStore) -> None:
        """What a worker registered last counts."""
        await store.ops.register([KnownOp("work", queue="mail"), KnownOp("other")])
        await store.ops.register([KnownOp("work", queue="bulk")])
        known = await store.ops.read()

        assert {name: one.queue for name, one in known.items()} == {
            "work": "bulk",
            "other": "default",
        }

    async def test_a_worker_tells_its_queues(self, store: TaskStore) -> None:
        """The last time counts; one that takes all names none."""
        await store.ops.tell("a", OPS, 60, queues=["two", "one", "two"])
        await store.ops.tell("b", OPS, 60, queues=["one"])
        await store.ops.tell("b", OPS, 60)
        page = await store.ops.list_workers()

        assert [one.queues for one in page.workers] == [("one", "two"), None]

    async def test_a_queue_without_a_worker_is_told_of(self, store: TaskStore) -> None:
        """Once something is due there, while the op has workers, none of which takes it."""
        await store.ops.tell("a", ["work"], 60, queues=["mail"])
        await make(store, "mail")
        served = await read(store)
        await make(store, "later", run_at=store.clock.now() + HOUR)
        await make(store, "held", only_by=OWNER)
        later = await read(store)
        for queue in ("z", "bulk", "y", "x"):
            await make(store, queue, priority=-9)
        alone = await read(store)
        await store.ops.pause("work")
        paused = await read(store)
        await store.ops.resume("work")
        await store.ops.tell("b", ["other", "work"], 60)
        whole = await read(store)
        await store.ops.forget("b")
        await store.ops.tell("b", ["work"], 60, queues=["bulk", "x", "y", "z"])
        each = await read(store)

        assert (served.workers, served.unserved, served.unattended) == (1, (), False)
        assert (later.unserved, later.unattended) == ((), False)
        assert (alone.workers, alone.unserved, alone.unattended) == (1, ("bulk", "x", "y"), True)
        assert (paused.unserved, paused.unattended) == (("bulk", "x", "y"), False)
        assert (whole.workers, whole.unserved, whole.unattended) == (2, (), False)
        assert (each.workers, each.unserved) == (2, ())

    async def test_a_queue_is_told_of_behind_what_its_submitter_holds(
        self, store: TaskStore
    ) -> None:
        """What goes first may be for the process that submitted it, and what is behind it not."""
        await store.ops.tell("a", ["work"], 60, queues=["mail"])
        for _ in range(3):
            await make(store, "default", only_by=OWNER)
        held = await read(store)
        await make(store, "default")
        free = await read(store)

        assert (held.unserved, free.unserved) == ((), ("default",))

    async def test_queues_that_are_taken_hide_none(self, store: TaskStore) -> None:
        """Something waits in many of them; the one that nobody takes is told of, though its name
        comes last."""
        taken = [f"q{n:03}" for n in range(220)]
        await store.ops.tell("a", ["work"], 60, queues=taken[:100])
        await store.ops.tell("b", ["work"], 60, queues=taken[100:200])
        await store.ops.tell("c", ["work"], 60, queues=taken[190:])
        await asyncio.gather(*(make(store, queue) for queue in (*taken, "z")))
        told = await read(store)

        assert told.unserved == ("z",)

    async def test_an_op_whose_name_begins_another_has_queues_of_its_own(
        self, store: TaskStore
    ) -> None:
        """What waits of ``work.more`` is not taken for a queue of ``work``, nor claimed as such."""
        for op in ("work.more", "work-", "work0", "wor"):
            await store.create(NewTask(new_task_id(), op, queue="bulk"))
        await store.ops.tell("a", ["work"], 60, queues=["mail"])
        backlog = await store.backlog.read(max_age=0)

        assert [one.unserved for one in backlog.ops] == [()] * 5
        assert await claim(store, ["bulk"]) == []

    async def test_a_slot_goes_by_the_order_of_its_key_whatever_the_queue(
        self, store: TaskStore
    ) -> None:
        """To the task that is due first, though the claim does not take it: it waits with its slot
        for a worker of its queue, and tasks of another key go by it."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        now = store.clock.now()
        first = await make(store, "bulk", concurrency_key="k", run_at=now - HOUR)
        second = await make(store, "mail", concurrency_key="k", run_at=now - HOUR // 2)
        other = await make(store, "mail", concurrency_key="other")
        by = await claim(store, ["mail"])
        (held,) = await store.claim_due(OWNER, OPS, 5, LEASE, queues=["bulk"])
        full = await claim(store, None)
        await store.finish_if_running(held.attempt, FinalEvent.succeeded(None))
        left = await claim(store, ["bulk"])
        then = await claim(store, ["mail"])

        assert by == [other.task_id]
        assert held.task.task_id == first.task_id
        assert (full, left) == ([], [])
        assert then == [second.task_id]


async def make(store: TaskStore, queue: str, **given: object) -> Task:
    """A task in a queue."""
    new = NewTask(new_task_id(), "work", queue=queue, **given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as NewTask has them
    task, _ = await store.create(new)
    return task


async def claim(store: TaskStore, queues: Collection[str] | None, limit: int = 10) -> list[str]:
    """The ids of what a claim from these queues takes."""
    claims = await store.claim_due(OWNER, OPS, limit, LEASE, queues=queues)
    return [one.task.task_id for one in claims]


async def read(store: TaskStore) -> OpBacklog:
    """The numbers of the op as they stand now."""
    backlog = await store.backlog.read(max_age=0)
    return next(one for one in backlog.ops if one.op == "work")
