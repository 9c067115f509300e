"""What a worker asks a store: tasks that are due, and when more will be."""

from __future__ import annotations

import asyncio

import pytest

from tapescope.errors import BadSetting, StoreClosed
from tapescope.model.leases import RescueResult
from tapescope.model.tape import Event
from tapescope.model.tasks import ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.store.flush import AttemptState
from tapescope.store.notifications import Subscription
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.polling import settle_loop
from tapescope.testing.tasks import (
    HOUR,
    LEASE,
    OPS,
    OTHER,
    OWNER,
    SHORT,
    create,
    log,
    outlast_lease,
)


async def gather(changes: Subscription) -> tuple[Event, ...]:
    """The events of the next change that has any."""
    async with asyncio.timeout(10):
        while not (events := (await anext(changes)).events):
            pass
    return events


class ClaimsConformance(StoreSuite):
    """What a worker asks a store: tasks that are due, and when more will be."""

    async def test_due_tasks_are_claimed_the_longest_due_first(self, store: TaskStore) -> None:
        """Of the ops asked for, at most as many as asked for, in the order they were due in."""
        now = store.clock.now()
        due = [await create(store, OPS[n % 2], run_at=now - HOUR + n) for n in range(5)]
        await create(store, "unasked", run_at=now - 2 * HOUR)
        await create(store, run_at=now + HOUR)
        first = await store.claim_due(OWNER, OPS, 3, LEASE)
        rest = await store.claim_due(OTHER, OPS, 10, LEASE)
        none = await store.claim_due(OWNER, OPS, 10, LEASE)

        assert [claim.task.task_id for claim in first] == due[:3]
        assert [claim.task.task_id for claim in rest] == due[3:]
        assert none == []

    @pytest.mark.parametrize("queues", [None, ["default"]])
    async def test_no_room_brings_a_task_before_its_time(
        self, store: TaskStore, queues: list[str] | None
    ) -> None:
        """A claim of one op with room for more takes what is due, and leaves what is for later."""
        now = store.clock.now()
        due = await create(store, run_at=now - HOUR)
        later = await create(store, run_at=now + HOUR)
        claims = await store.claim_due(OWNER, OPS[:1], 10, LEASE, queues=queues)

        assert [claim.task.task_id for claim in claims] == [due]
        assert (await store.get(later)).status is TaskStatus.PENDING

    async def test_a_claim_is_as_the_row_stands(self, store: TaskStore) -> None:
        """The task of a claim is what the store holds: running, attempt 1, lease, settings."""
        new = NewTask(
            new_task_id(), "work", {"n": [1, None]}, 0.1 + 0.2, 3, "key", "00-ab-cd-01", 1
        )
        await store.create(new)
        (claim,) = await store.claim_due(OWNER, ["work"], 1, LEASE)
        task = await store.get(new.task_id)
        page = await store.read_tape(new.task_id)
        claimed_at = task.claimed_us or 0

        assert claim.task == task
        assert (task.status, task.attempt, task.owner) == (TaskStatus.RUNNING, 1, OWNER)
        assert task.lease_expires_us == claimed_at + round(LEASE * 1_000_000)
        assert (task.params, task.timeout, task.retries) == ({"n": [1, None]}, 0.1 + 0.2, 3)
        assert [event.type for event in page.events] == ["task_started"]
        assert page.events[0].body == {"attempt": 1, "owner": OWNER}

    async def test_of_those_due_at_once_the_first_goes_first(self, store: TaskStore) -> None:
        """Created in one flush, some with a key: they are claimed in the order of their calls."""
        due = store.clock.now() - HOUR
        keys = (None, "a", None, None, "b", None)
        new = [NewTask(new_task_id(), "work", idempotency_key=key, run_at=due) for key in keys]
        await asyncio.gather(*(store.create(one) for one in new))
        claims = await store.claim_due(OWNER, OPS, len(new), LEASE)

        assert [claim.task.task_id for claim in claims] == [one.task_id for one in new]

    async def test_of_those_due_at_once_the_first_goes_first_whatever_its_op(
        self, store: TaskStore
    ) -> None:
        """A worker of several ops leaves no task behind for one that came later."""
        due = store.clock.now() - HOUR
        ops = [OPS[n in (0, 4, 5, 8)] for n in range(9)]
        new = [NewTask(new_task_id(), op, run_at=due) for op in ops]
        await asyncio.gather(*(store.create(one) for one in new))
        claims = [await store.claim_due(OWNER, OPS, limit, LEASE) for limit in (4, 3, 2)]

        assert [sorted(one.task.task_id for one in some) for some in claims] == [
            [one.task_id for one in some] for some in (new[:4], new[4:7], new[7:])
        ]

    async def test_the_attempt_of_a_claim_is_live(
        self, store: TaskStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What it writes goes on behind its ``task_started``, whichever attempt it is."""
        task_id = await create(store, retries=1)
        (one,) = await store.claim_due(OWNER, OPS, 1, LEASE)
        await store.append(one.attempt, [log("a"), log("b")])
        await store.retry_later(one.attempt, ErrorInfo("x"), store.clock.now())
        (two,) = await store.claim_due(OTHER, OPS, 1, LEASE)
        asked: list[str] = []
        load = store.backend.load

        async def note_load(task_id: str, attempt: int, owner: str) -> AttemptState:
            asked.append(owner)
            return await load(task_id, attempt, owner)

        monkeypatch.setattr(store.backend, "load", note_load)
        appended = await store.append(two.attempt, [log("c")])
        late = await store.append(one.attempt, [log("late")])
        finished = await store.finish_if_running(two.attempt, FinalEvent.succeeded())
        page = await store.read_tape(task_id)

        assert (two.task.attempt, two.task.retries_spent) == (2, 1)
        assert OTHER not in asked  # its claim said where the tape ends
        assert appended.stored == range(6, 7)
        assert late.dropped is not None
        assert (finished.won, finished.last_seq) == (True, 7)
        assert [(event.seq, event.attempt) for event in page.events] == [
            *((seq, 1) for seq in range(1, 5)),
            *((seq, 2) for seq in range(5, 8)),
        ]
        assert page.events[4].body == {"attempt": 2, "owner": OTHER}

    async def test_a_stale_claim_beside_a_right_one_takes_nothing_from_it(
        self, store: TaskStore
    ) -> None:
        """Of two claims of a task in one flush the one that saw its last attempt wins."""
        task = await store.get(await create(store))
        lost = await store.claim_if_pending(task, OWNER, LEASE)
        assert lost is not None
        await store.release(lost.attempt)
        again = await store.get(task.task_id)
        stale, right = await asyncio.gather(
            store.claim_if_pending(task, OWNER, LEASE), store.claim_if_pending(again, OTHER, LEASE)
        )

        assert stale is None
        assert right is not None
        assert right.attempt.number == 2

    async def test_a_claim_that_was_won_is_not_won_again(self, store: TaskStore) -> None:
        """Its owner, whose answer was lost, is told what anybody is: the task is not pending."""
        task = await store.get(await create(store, retries=1))
        won = await store.claim_if_pending(task, OWNER, LEASE)
        assert won is not None
        beside = [await store.get(await create(store)) for _ in range(2)]
        again = await asyncio.gather(
            *(store.claim_if_pending(one, OWNER, LEASE) for one in (beside[0], task, beside[1]))
        )
        await store.retry_later(won.attempt, ErrorInfo("x"), store.clock.now())
        pending = await store.get(task.task_id)
        second = await store.claim_if_pending(pending, OWNER, LEASE)
        third = await store.claim_if_pending(pending, OWNER, LEASE)
        page = await store.read_tape(task.task_id)

        assert [claim is not None for claim in again] == [True, False, True]
        assert (second is not None, third) == (True, None)
        assert [(event.type, event.attempt) for event in page.events] == [
            ("task_started", 1),
            ("attempt_failed", 1),
            ("task_started", 2),
        ]

    async def test_nothing_asked_for_is_nothing_claimed(self, store: TaskStore) -> None:
        """No op, or no room, is not an error; a lease of 0, and less than no room, is one."""
        await create(store)
        nothing = [
            await store.claim_due(OWNER, [], 1, LEASE),
            await store.claim_due(OWNER, OPS, 0, LEASE),
        ]

        assert nothing == [[], []]
        assert await store.next_due([]) is None
        with pytest.raises(BadSetting, match="lease"):
            await store.claim_due(OWNER, OPS, 1, 0)
        with pytest.raises(BadSetting, match="limit"):
            await store.claim_due(OWNER, OPS, -1, LEASE)

    async def test_a_closed_store_claims_nothing(self, store: TaskStore) -> None:
        """A worker that outlives its store is told so."""
        await store.aclose()
        with pytest.raises(StoreClosed):
            await store.claim_due(OWNER, OPS, 1, LEASE)
        await store.open()

        assert await store.claim_due(OWNER, OPS, 1, LEASE) == []

    async def test_next_due_is_the_earliest_of_the_ops(self, store: TaskStore) -> None:
        """Past or to come; tasks of other ops, running ones and ended ones do not count."""
        now = store.clock.now()
        found = [await store.next_due(OPS)]
        await create(store, "unasked", run_at=now - 2 * HOUR)
        found.append(await store.next_due(OPS))
        for op, run_at in (("work", now + HOUR), ("other", now + 2 * HOUR), ("work", now - HOUR)):
            await create(store, op, run_at=run_at)
        found.append(await store.next_due(OPS))
        (claim,) = await store.claim_due(OWNER, OPS, 5, LEASE)
        found.append(await store.next_due(OPS))
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        found += [await store.next_due(OPS), await store.next_due(["other"])]

        assert found == [None, None, now - HOUR, now + HOUR, now + HOUR, now + 2 * HOUR]

    async def test_claims_are_not_behind_appends(self, store: TaskStore) -> None:
        """A claim that is called behind a thousand appends does not wait for the last one."""
        await create(store)
        (busy,) = await store.claim_due(OWNER, OPS, 1, LEASE)
        await create(store)
        appends = [store.append_nowait(busy.attempt, [log("a")]) for _ in range(1_000)]
        claims = await store.claim_due(OWNER, OPS, 1, LEASE)
        stored = await asyncio.gather(*appends)

        assert len(claims) == 1
        assert all(answer.dropped is None for answer in stored)

    async def test_followers_are_told_of_a_claim(self, store: TaskStore) -> None:
        """In the claiming process the ``task_started`` itself is handed on."""
        task_id = await create(store)
        with store.changes(task_id) as changes:
            await store.claim_due(OWNER, OPS, 1, LEASE)
            events = await gather(changes)

        assert [(event.seq, event.type) for event in events] == [(1, "task_started")]

    async def test_followers_elsewhere_are_told_of_a_claim(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """A tape that is followed in another process is told of when a worker claims its task."""
        task_id = await create(store)
        with second_store.changes(task_id) as changes:
            async with asyncio.timeout(10):
                await anext(changes)  # from here on it listens
                await store.claim_due(OWNER, OPS, 1, LEASE)
                while (await second_store.read_tape(task_id)).last_seq < 1:
                    await anext(changes)

        assert (await second_store.get(task_id)).status is TaskStatus.RUNNING

    async def test_a_rescued_task_is_claimed_by_another(self, store: TaskStore) -> None:
        """It is pending with a retry spent, and its tape goes on under the next owner, unbroken."""
        task_id = await create(store, retries=1)
        (lost,) = await store.claim_due(OWNER, OPS, 1, SHORT)
        await store.append(lost.attempt, [log("a")])
        await outlast_lease(store, lost)
        (rescued,) = await store.leases.rescue_expired(ops=OPS)
        pending = await store.get(task_id)
        (again,) = await store.claim_due(OTHER, OPS, 1, LEASE)
        await store.append(again.attempt, [log("b")])
        await store.finish_if_running(again.attempt, FinalEvent.succeeded())
        page = await store.read_tape(task_id)

        assert rescued.result is RescueResult.RETRIED
        assert (pending.status, pending.retries_spent) == (TaskStatus.PENDING, 1)
        assert (again.task.owner, again.task.attempt, again.task.retries_spent) == (OTHER, 2, 1)
        assert [(event.seq, event.type, event.attempt) for event in page.events] == [
            (1, "task_started", 1),
            (2, "log", 1),
            (3, "attempt_failed", 1),
            (4, "task_started", 2),
            (5, "log", 2),
            (6, "final", 2),
        ]
        assert page.events[2].body["error"]["code"] == "worker_lost"

    async def test_a_rescued_task_without_retries_is_claimed_by_nobody(
        self, store: TaskStore
    ) -> None:
        """With its last retry spent it fails as ``worker_lost``, and is not due again."""
        task_id = await create(store, retries=1)
        results: list[RescueResult] = []
        for _ in range(2):
            (lost,) = await store.claim_due(OWNER, OPS, 1, SHORT)
            await outlast_lease(store, lost)
            results += [rescued.result for rescued in await store.leases.rescue_expired(ops=OPS)]
        task = await store.get(task_id)

        assert results == [RescueResult.RETRIED, RescueResult.FAILED]
        assert (task.status, task.error_code) == (TaskStatus.FAILED, "worker_lost")
        assert await store.next_due(OPS) is None
        assert await store.claim_due(OTHER, OPS, 1, LEASE) == []

    @pytest.mark.parametrize("turns", [1, 2])
    async def test_claims_of_a_cancelled_caller_are_given_back(
        self, store: TaskStore, turns: int
    ) -> None:
        """No task is left running for a worker that stopped while it claimed; no retry is spent."""
        task_ids = [await create(store) for _ in range(3)]
        claiming = asyncio.ensure_future(store.claim_due(OWNER, OPS, 3, LEASE))
        await settle_loop(turns)
        claiming.cancel()
        await settle_loop()
        claiming.cancel()  # impatient
        with pytest.raises(asyncio.CancelledError):
            await claiming
        tasks = [await store.get(task_id) for task_id in task_ids]
        again = await store.claim_due(OTHER, OPS, 3, LEASE)

        assert {task.status for task in tasks} == {TaskStatus.PENDING}
        assert {task.retries_spent for task in tasks} == {0}
        assert {claim.task.task_id for claim in again} == set(task_ids)
