"""Attempts that give their task up: retries, releases, and cancels that come between."""

from __future__ import annotations

import asyncio

from tapescope.model.tape import DropReason, Outcome
from tapescope.model.tasks import CancelReason, Claim, ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.model.times import format_time
from tapescope.store.flush import CancelState
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import HOUR, LEASE, OWNER, log, start

ERROR = ErrorInfo("ValueError", "no luck", None, {"n": 1})


async def claim_again(store: TaskStore, task_id: str) -> Claim:
    """Claim a task that was given up."""
    claim = await store.claim_if_pending(await store.get(task_id), OWNER, LEASE)
    assert claim is not None
    return claim


async def types(store: TaskStore, task_id: str) -> list[str]:
    """The types of the events on a tape."""
    return [event.type for event in (await store.read_tape(task_id)).events]


class GivingUpConformance(StoreSuite):
    """Attempts that give their task up: retries, releases, and cancels that come between."""

    async def test_retry_later_makes_the_task_pending_again(self, store: TaskStore) -> None:
        """The error is on the tape, a retry is spent, and the task has no owner."""
        attempt = await start(store)
        await store.append(attempt, [log("a")])
        run_at = store.clock.now() + HOUR
        given = await store.retry_later(attempt, ERROR, run_at)
        task = await store.get(attempt.task_id)
        page = await store.read_tape(attempt.task_id)

        assert given.pending
        assert (given.last_seq, given.outcome) == (3, None)
        assert (task.status, task.attempt, task.retries_spent) == (TaskStatus.PENDING, 1, 1)
        assert (task.owner, task.lease_expires_us, task.run_us) == (None, None, run_at)
        assert page.events[-1].type == "attempt_failed"
        assert page.events[-1].body == {
            "error": ERROR.as_json(),
            "run_at": format_time(run_at),
        }
        assert await store.claim_if_pending(task, OWNER, LEASE) is None

    async def test_a_next_attempt_goes_on_with_the_same_tape(self, store: TaskStore) -> None:
        """The retry is attempt 2; its events follow those of attempt 1."""
        attempt = await start(store)
        await store.retry_later(attempt, ERROR, store.clock.now())
        again = await claim_again(store, attempt.task_id)
        await store.append(again.attempt, [log("b")])
        finished = await store.finish_if_running(again.attempt, FinalEvent.succeeded(2))
        page = await store.read_tape(attempt.task_id)

        assert again.attempt.number == 2
        assert (finished.won, finished.last_seq) == (True, 5)
        assert [event.attempt for event in page.events] == [1, 1, 2, 2, 2]

    async def test_release_spends_no_retry(self, store: TaskStore) -> None:
        """A task that is released is due at once, with its retries untouched and the reason."""
        attempt = await start(store)
        given = await store.release(attempt, 'the host is "drained"')
        task = await store.get(attempt.task_id)
        page = await store.read_tape(attempt.task_id)

        assert given.pending
        assert (task.status, task.retries_spent) == (TaskStatus.PENDING, 0)
        assert page.events[-1].type == "attempt_released"
        assert page.events[-1].body == {"message": 'the host is "drained"'}
        assert (await claim_again(store, attempt.task_id)).attempt.number == 2

    async def test_what_an_attempt_writes_after_it_gave_up_is_stale(self, store: TaskStore) -> None:
        """Events, a second retry and a final are all refused, counted and kept."""
        attempt = await start(store)
        await store.retry_later(attempt, ERROR, store.clock.now())
        late = await store.append(attempt, [log("late")])
        again = await store.retry_later(attempt, ERROR, store.clock.now())
        finished = await store.finish_if_running(attempt, FinalEvent.succeeded())
        drops = await store.read_quarantine(attempt.task_id)

        assert late.dropped is again.dropped is finished.dropped is DropReason.STALE_ATTEMPT
        assert not again.pending
        assert [drop.type for drop in drops.drops] == ["log", "attempt_failed", "final"]
        assert await types(store, attempt.task_id) == ["task_started", "attempt_failed"]

    async def test_an_old_attempt_gives_up_nothing(self, store: TaskStore) -> None:
        """The task is the next attempt's, and a cancel on its record is for that one (I5)."""
        old = await start(store)
        await store.release(old)
        new = (await claim_again(store, old.task_id)).attempt
        released = await store.release(old)
        await store.request_cancel(old.task_id)
        retried = await store.retry_later(old, ERROR, store.clock.now())
        task = await store.get(old.task_id)
        drops = await store.read_quarantine(old.task_id)

        assert released.dropped is retried.dropped is DropReason.STALE_ATTEMPT
        assert (task.status, task.attempt, task.owner) == (TaskStatus.RUNNING, 2, new.owner)
        assert [drop.type for drop in drops.drops] == ["attempt_released", "attempt_failed"]
        assert (await store.release(new)).outcome is Outcome.CANCELLED

    async def test_events_queued_behind_a_retry_are_stale(self, store: TaskStore) -> None:
        """What is queued in the same moment goes before the retry or is refused after it."""
        attempt = await start(store)
        before = store.append_nowait(attempt, [log("before")])
        giving = asyncio.ensure_future(store.retry_later(attempt, ERROR, store.clock.now()))
        await asyncio.sleep(0)
        after = store.append_nowait(attempt, [log("after")])
        given = await giving

        assert (await before).dropped is None
        assert given.pending
        assert (await after).dropped is DropReason.STALE_ATTEMPT

    async def test_a_cancel_on_record_beats_a_retry(self, store: TaskStore) -> None:
        """The task ends as cancelled in the place of the retry; the error is kept in the final."""
        attempt = await start(store)
        await store.request_cancel(attempt.task_id, CancelReason.USER, "enough 'é' \x01", "me")
        given = await store.retry_later(attempt, ERROR, store.clock.now())
        task = await store.get(attempt.task_id)
        page = await store.read_tape(attempt.task_id)
        final = FinalEvent.from_event(page.events[-1])

        assert (given.pending, given.outcome) == (False, Outcome.CANCELLED)
        assert given.final == final
        assert final.cancel == task.cancel
        assert final.error == ERROR
        assert task.cancel is not None
        assert page.events[-1].body["cancel"]["requested_at"] == format_time(task.cancel.at_us)
        assert (task.status, task.retries_spent) == (TaskStatus.CANCELLED, 0)
        assert [event.type for event in page.events] == ["task_started", "final"]

    async def test_a_cancel_on_record_beats_a_release(self, store: TaskStore) -> None:
        """The task ends as cancelled; the release is not an error in its final."""
        attempt = await start(store)
        await store.request_cancel(attempt.task_id)
        given = await store.release(attempt)
        page = await store.read_tape(attempt.task_id)
        stored = store.meter.ledger.stored_by_type()

        assert (stored["final"], stored["attempt_released"]) == (1, 0)
        assert given.final is not None
        assert given.final.error is None
        assert given.final == FinalEvent.from_event(page.events[-1])
        assert [event.type for event in page.events] == ["task_started", "final"]
        assert (await store.get(attempt.task_id)).status is TaskStatus.CANCELLED

    async def test_a_cancel_between_attempts_ends_the_task(self, store: TaskStore) -> None:
        """The tape keeps what came before; what the old attempt writes later is refused."""
        attempt = await start(store)
        await store.retry_later(attempt, ERROR, store.clock.now() + HOUR)
        answer = await store.request_cancel(attempt.task_id)
        late = await store.append(attempt, [log("late")])

        assert answer.state is CancelState.CANCELLED
        assert late.dropped is DropReason.AFTER_TERMINAL
        assert await types(store, attempt.task_id) == ["task_started", "attempt_failed", "final"]

    async def test_cancel_against_retry_never_loses_the_cancel(self, store: TaskStore) -> None:
        """Whichever comes first, the task ends as cancelled, by the retry or by the cancel."""
        attempts = [await start(store) for _ in range(64)]
        for place, attempt in enumerate(attempts):
            retry = store.retry_later(attempt, ERROR, store.clock.now() + HOUR)
            cancel = store.request_cancel(attempt.task_id)
            await asyncio.gather(*((retry, cancel) if place % 2 else (cancel, retry)))
        statuses = {(await store.get(attempt.task_id)).status for attempt in attempts}

        assert statuses == {TaskStatus.CANCELLED}

    async def test_cancel_from_another_store_against_retry_is_never_lost(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """Two processes race for a task's row, and the cancel always shows in the end."""
        attempts = [await start(store) for _ in range(64)]
        await asyncio.gather(
            *(store.retry_later(attempt, ERROR, store.clock.now() + HOUR) for attempt in attempts),
            *(second_store.request_cancel(attempt.task_id) for attempt in attempts),
        )
        statuses = {(await store.get(attempt.task_id)).status for attempt in attempts}

        assert statuses == {TaskStatus.CANCELLED}

    async def test_give_ups_share_a_flush_with_everything_else(self, store: TaskStore) -> None:
        """Creates, claims, events, retries and cancels of one moment each get their answer."""
        going, giving, stale, doomed = [await start(store) for _ in range(4)]
        await store.retry_later(stale, ERROR, store.clock.now())
        await store.request_cancel(doomed.task_id)
        pending, _ = await store.create(NewTask(new_task_id(), "work"))
        appended, given, refused, ended, claim, (made, _) = await asyncio.gather(
            store.append(going, [log("a"), log("b")]),
            store.retry_later(giving, ERROR, store.clock.now() + HOUR),
            store.retry_later(stale, ERROR, store.clock.now()),
            store.retry_later(doomed, ERROR, store.clock.now()),
            store.claim_if_pending(pending, OWNER, LEASE),
            store.create(NewTask(new_task_id(), "work")),
        )

        assert appended.stored == range(2, 4)
        assert given.pending
        assert refused.dropped is DropReason.STALE_ATTEMPT
        assert ended.outcome is Outcome.CANCELLED
        assert claim is not None
        assert made.status is TaskStatus.PENDING
