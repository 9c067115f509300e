"""Leases on a store, and the rescue of tasks from owners that are dead or silent."""

from __future__ import annotations

import asyncio

from tapescope.model.leases import RescueResult
from tapescope.model.tape import DropReason
from tapescope.model.tasks import Attempt, CancelReason, ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import (
    HOUR,
    LEASE,
    OTHER,
    OWNER,
    SHORT,
    create,
    log,
    outlast_lease,
    start,
)


async def run(store: TaskStore, lease: float = SHORT, retries: int = 0) -> Attempt:
    """A task that runs under a lease, which is over when this returns if it is short."""
    task, _ = await store.create(NewTask(new_task_id(), "work", retries=retries))
    claim = await store.claim_if_pending(task, OWNER, lease)
    assert claim is not None
    if lease == SHORT:
        await outlast_lease(store, claim)
    return claim.attempt


class LeasesConformance(StoreSuite):
    """Leases on a store, and the rescue of tasks from owners that are dead or silent."""

    async def test_heartbeat_extends_every_lease_of_the_owner(self, store: TaskStore) -> None:
        """The leases of all running tasks of the owner are extended, and no others."""
        attempts = [await run(store, LEASE) for _ in range(3)]
        pending, _ = await store.create(NewTask(new_task_id(), "work"))
        other = await store.claim_if_pending(pending, OTHER, LEASE)
        leases = await store.leases.extend(OWNER, LEASE * 10)
        rows = [await store.get(attempt.task_id) for attempt in attempts]
        soonest = store.clock.now() + LEASE * 9_000_000

        assert other is not None
        assert (leases.extended, leases.cancels, leases.lost) == (3, (), ())
        assert all((row.lease_expires_us or 0) > soonest for row in rows)
        assert (await store.get(pending.task_id)).lease_expires_us == other.task.lease_expires_us

    async def test_heartbeat_carries_cancels_and_lost_leases(self, store: TaskStore) -> None:
        """A cancel on record comes with the answer, and so do attempts that are another owner's."""
        wanted, lost = await run(store, LEASE), await run(store, LEASE, retries=1)
        await store.request_cancel(wanted.task_id, CancelReason.USER, "stop", "me")
        await store.retry_later(lost, ErrorInfo("x"), store.clock.now())
        leases = await store.leases.extend(OWNER, LEASE, [wanted, lost])

        assert leases.extended == 1
        assert [(task_id, cancel.message) for task_id, cancel in leases.cancels] == [
            (wanted.task_id, "stop")
        ]
        assert leases.lost == (lost,)

    async def test_heartbeat_leaves_out_what_it_is_not_asked_for(self, store: TaskStore) -> None:
        """A task that its owner has lost sight of keeps the lease it had, and can be rescued."""
        kept, forgotten = await run(store, LEASE), await run(store)
        leases = await store.leases.extend(OWNER, LEASE, [kept])
        rescued = await store.leases.rescue_expired()

        assert (leases.extended, leases.lost) == (1, ())
        assert [one.task.task_id for one in rescued] == [forgotten.task_id]

    async def test_heartbeat_extends_no_lease_of_another_owner(self, store: TaskStore) -> None:
        """A task that another owner runs is lost to who asks for it, and its lease stays."""
        pending, _ = await store.create(NewTask(new_task_id(), "work"))
        other = await store.claim_if_pending(pending, OTHER, LEASE)
        mine = Attempt(pending.task_id, 1, OWNER)
        leases = await store.leases.extend(OWNER, LEASE * 10, [mine])

        assert other is not None
        assert (leases.extended, leases.lost) == (0, (mine,))
        assert (await store.get(pending.task_id)).lease_expires_us == other.task.lease_expires_us

    async def test_heartbeat_is_not_behind_appends(self, store: TaskStore) -> None:
        """A heartbeat that is called behind a thousand appends is answered, and so are they."""
        attempt = await run(store, LEASE)
        appends = [store.append_nowait(attempt, [log("a")]) for _ in range(1_000)]
        leases = await store.leases.extend(OWNER, LEASE, [attempt])
        stored = await asyncio.gather(*appends)

        assert leases.extended == 1
        assert all(answer.dropped is None for answer in stored)

    async def test_rescue_leaves_living_tasks_alone(self, store: TaskStore) -> None:
        """A lease that holds is not touched."""
        attempt = await run(store, LEASE)
        rescued = await store.leases.rescue_expired(ops={"work"})

        assert rescued == []
        assert (await store.get(attempt.task_id)).status is TaskStatus.RUNNING

    async def test_rescue_retries_what_can_run_again(self, store: TaskStore) -> None:
        """With a retry left and a known op the task is pending again, and the retry is spent."""
        attempt = await run(store, retries=1)
        (rescued,) = await store.leases.rescue_expired(ops={"work"})
        task = await store.get(attempt.task_id)
        page = await store.read_tape(attempt.task_id)
        again = await store.claim_if_pending(task, OTHER, SHORT)
        assert again is not None
        await outlast_lease(store, again)
        (last,) = await store.leases.rescue_expired(ops={"work"})

        assert rescued.result is RescueResult.RETRIED
        assert (rescued.task.owner, rescued.task.attempt, rescued.last_seq) == (OWNER, 1, 2)
        assert (task.status, task.retries_spent, task.owner) == (TaskStatus.PENDING, 1, None)
        assert page.events[-1].type == "attempt_failed"
        assert page.events[-1].body["error"]["code"] == "worker_lost"
        assert last.result is RescueResult.FAILED

    async def test_rescue_fails_what_nobody_can_run(self, store: TaskStore) -> None:
        """Without a known op the task fails with ``worker_lost``, whatever retries it has."""
        attempt = await run(store, retries=5)
        (rescued,) = await store.leases.rescue_expired(ops={"other"})
        task = await store.get(attempt.task_id)

        assert rescued.result is RescueResult.FAILED
        assert (task.status, task.error_code) == (TaskStatus.FAILED, "worker_lost")

    async def test_rescue_ends_what_a_dead_owner_alone_could_run(self, store: TaskStore) -> None:
        """A pending task with no key; not one that a key finds, or that any worker can run."""
        own, keyed, shared = (
            NewTask(new_task_id(), "work", only_by=OWNER),
            NewTask(new_task_id(), "work", only_by=OWNER, idempotency_key="key"),
            NewTask(new_task_id(), "work"),
        )
        created = [(await store.create(new))[0] for new in (own, keyed, shared)]
        owners = await store.leases.read_owners()
        alive = await store.leases.rescue_expired(dead_owners=[OTHER])
        known = await store.leases.rescue_expired(ops={"work"}, dead_owners=[OWNER])
        (lost,) = await store.leases.rescue_expired(ops={"other"}, dead_owners=[OWNER])
        task = await store.get(own.task_id)
        page = await store.read_tape(own.task_id)

        assert owners == [OWNER]
        assert (alive, known) == ([], [])
        assert created[1:] == [await store.get(new.task_id) for new in (keyed, shared)]
        assert lost.task == created[0]
        assert lost.result is RescueResult.FAILED
        assert (task.status, task.error_code, task.attempt) == (TaskStatus.FAILED, "worker_lost", 0)
        assert [event.type for event in page.events] == ["final"]

    async def test_a_retry_stays_its_owners(self, store: TaskStore) -> None:
        """Between two attempts, too, a task that one owner alone can run is lost with it."""
        attempt = await run(store, LEASE, retries=1)
        row = await store.get(attempt.task_id)
        await store.retry_later(attempt, ErrorInfo("x"), store.clock.now(), only_here=row)
        pending = await store.get(attempt.task_id)
        (lost,) = await store.leases.rescue_expired(dead_owners=[OWNER])
        other = await run(store, LEASE, retries=1)
        await store.retry_later(other, ErrorInfo("x"), store.clock.now())

        assert (pending.status, pending.owner) == (TaskStatus.PENDING, OWNER)
        assert lost.task == pending
        assert (await store.get(attempt.task_id)).error_code == "worker_lost"
        assert (await store.get(other.task_id)).owner is None
        assert await store.leases.rescue_expired(dead_owners=[OWNER]) == []

    async def test_what_an_owner_lets_go_is_lost(self, store: TaskStore) -> None:
        """A pending task that it alone can run, or that a key finds; no other, and none that was
        run since."""
        own, keyed, another, shared, run_since = [
            (
                await store.create(
                    NewTask(new_task_id(), "work", only_by=owner, idempotency_key=key)
                )
            )[0]
            for owner, key in (
                (OWNER, None),
                (OWNER, "k"),
                (OTHER, None),
                (None, None),
                (OWNER, "l"),
            )
        ]
        running = await run(store, LEASE)
        claim = await store.claim_if_pending(run_since, OWNER, LEASE)
        assert claim is not None
        await store.retry_later(
            claim.attempt, ErrorInfo("x"), store.clock.now(), only_here=claim.task
        )
        asked = (own, keyed, another, shared, run_since)
        for task_id, attempt in [
            *((task.task_id, task.attempt) for task in asked),
            (running.task_id, running.number),
            (new_task_id(), 0),
        ]:
            await store.leases.let_go(task_id, attempt, OWNER)
        known = await store.leases.rescue_expired(ops={"work"})
        lost = await store.leases.rescue_expired()

        assert known == []
        assert [one.task.task_id for one in lost] == [own.task_id, keyed.task_id]
        assert {one.result for one in lost} == {RescueResult.FAILED}
        assert (await store.get(shared.task_id)).lease_expires_us is None
        assert (await store.get(own.task_id)).error_code == "worker_lost"

    async def test_a_day_after_it_was_due_a_task_is_lost(self, store: TaskStore) -> None:
        """If its owner alone can run it: that one may be on another host, and nobody can tell."""
        now = store.clock.now()
        ids: list[str] = []
        for hours, key in ((25, None), (25, "a"), (23, None), (23, "b")):
            new = NewTask(
                new_task_id(), "work", only_by=OWNER, idempotency_key=key, run_at=now - hours * HOUR
            )
            ids.append((await store.create(new))[0].task_id)
        await create(store, run_at=now - 48 * HOUR)
        lost = await store.leases.rescue_expired()

        assert [one.task.task_id for one in lost] == ids[:2]
        assert {one.result for one in lost} == {RescueResult.FAILED}

    async def test_what_waits_for_one_owner_can_be_claimed(self, store: TaskStore) -> None:
        """By it, and by a worker that has registered the op: then it is as any other task."""
        new = NewTask(new_task_id(), "work", only_by=OWNER, retries=1)
        await store.create(new)
        (claim,) = await store.claim_due(OTHER, ["work"], 1, LEASE)
        await store.release(claim.attempt)
        released = await store.get(new.task_id)

        assert claim.task.owner == OTHER
        assert (released.owner, released.lease_expires_us) == (None, None)
        assert await store.leases.rescue_expired(dead_owners=[OWNER, OTHER]) == []

    async def test_rescue_honours_a_cancel_on_record(self, store: TaskStore) -> None:
        """A task whose owner died before it heard of the cancel ends as cancelled."""
        attempt = await run(store, retries=5)
        await store.request_cancel(attempt.task_id, CancelReason.USER, "stop", "me")
        (rescued,) = await store.leases.rescue_expired(ops={"work"})
        task = await store.get(attempt.task_id)
        page = await store.read_tape(attempt.task_id)

        assert rescued.result is RescueResult.CANCELLED
        assert task.status is TaskStatus.CANCELLED
        assert FinalEvent.from_event(page.events[-1]) == FinalEvent.cancelled(task.cancel)  # type: ignore[arg-type]

    async def test_a_dead_owner_is_rescued_before_its_lease_is_over(self, store: TaskStore) -> None:
        """The owners that run something can be asked for, and those known dead need no patience."""
        attempt = await run(store, LEASE)
        owners = await store.leases.read_owners()
        rescued = await store.leases.rescue_expired(dead_owners=owners)

        assert list(owners) == [OWNER]
        assert [one.task.task_id for one in rescued] == [attempt.task_id]
        assert list(await store.leases.read_owners()) == []

    async def test_rescue_takes_no_more_than_its_limit(self, store: TaskStore) -> None:
        """A batch is bounded; the rest is for the next one."""
        for _ in range(5):
            await run(store)

        assert [len(await store.leases.rescue_expired(2)) for _ in range(4)] == [2, 2, 1, 0]

    async def test_writes_of_a_rescued_attempt_are_refused(self, store: TaskStore) -> None:
        """An attempt that wakes up too late writes nothing on the tape; its events are kept."""
        open_, closed = await run(store, retries=1), await run(store)
        await store.leases.rescue_expired(ops={"work"})
        await store.append(closed, [log("n")])
        late = [await store.append(one, [log("late")]) for one in (open_, closed)]
        finished = [
            await store.finish_if_running(one, FinalEvent.succeeded()) for one in (open_, closed)
        ]
        again = await store.retry_later(open_, ErrorInfo("x"), store.clock.now())
        lost = (await store.leases.extend(OWNER, LEASE, [open_, closed])).lost

        assert [answer.dropped for answer in late] == [
            DropReason.STALE_ATTEMPT,
            DropReason.AFTER_TERMINAL,
        ]
        assert [answer.dropped for answer in finished] == [
            DropReason.STALE_ATTEMPT,
            DropReason.DUPLICATE_FINAL,
        ]
        assert again.dropped is DropReason.STALE_ATTEMPT
        assert lost == (open_, closed)
        assert (await store.read_tape(open_.task_id)).last_seq == 2

    async def test_rescue_against_finish_has_one_winner(self, store: TaskStore) -> None:
        """Of a finish and a rescue in the same moment one ends the task; both answers say so."""
        attempts = [await run(store) for _ in range(32)]
        rescuing = asyncio.ensure_future(store.leases.rescue_expired())
        finishes = await asyncio.gather(
            *(store.finish_if_running(attempt, FinalEvent.succeeded()) for attempt in attempts)
        )
        rescued = await rescuing
        taken = {one.task.task_id for one in rescued}
        won = {a.task_id for a, f in zip(attempts, finishes, strict=True) if f.won}

        assert taken | won == {attempt.task_id for attempt in attempts}
        assert not taken & won

    async def test_two_rescuers_share_the_work(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """Every lost task is rescued once, by either."""
        attempts = [await run(store) for _ in range(16)]
        found = await asyncio.gather(
            *(one.leases.rescue_expired(5) for one in (store, second_store) for _ in range(4))
        )
        rescued = sorted(one.task.task_id for batch in found for one in batch)
        rest = await store.leases.rescue_expired()

        assert len(set(rescued)) == len(rescued)
        assert len(rescued) + len(rest) == len(attempts)

    async def test_a_rescue_shows_to_followers(self, store: TaskStore) -> None:
        """Who follows the task is told of the event that the rescue wrote."""
        attempt = await run(store)
        changes = store.changes(attempt.task_id)
        await store.leases.rescue_expired()
        change = await anext(aiter(changes))
        while change.last_seq < 2:
            change = await anext(aiter(changes))

        assert change.last_seq == 2

    async def test_started_tasks_have_the_lease_they_claimed(self, store: TaskStore) -> None:
        """A claim holds from its own moment on."""
        attempt = await start(store)
        task = await store.get(attempt.task_id)

        assert task.claimed_us is not None
        assert task.lease_expires_us == task.claimed_us + round(LEASE * 1_000_000)
