"""A task's life on a store: create, claim, finish, cancel, and what each does not do."""

from __future__ import annotations

import asyncio

import pytest

from tapescope.errors import IdempotencyConflict, UnknownTask
from tapescope.model.tape import DropReason, Outcome
from tapescope.model.tasks import (
    Assurance,
    Attempt,
    CancelReason,
    CancelRequest,
    ErrorInfo,
    FinalEvent,
    NewTask,
    TaskStatus,
)
from tapescope.store.flush import CancelState
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import HOUR, LEASE, OTHER, OWNER, create, log, start
from tapescope_telemetry.spans import continue_trace


class LifeConformance(StoreSuite):
    """A task's life on a store: create, claim, finish, cancel, and what each does not do."""

    async def test_create_makes_a_pending_task(self, store: TaskStore) -> None:
        """A new task is pending, has an empty tape, and keeps all it was given."""
        new = NewTask(
            new_task_id(), "resize", {"folder": "é", "n": [1, None]}, timeout=2.5, retries=3,
            idempotency_key="k", traceparent=f"00-{'a' * 32}-{'b' * 16}-01 v=1\ntenant=a",
        )  # fmt: skip
        before = store.clock.now()
        task, created = await store.create(new)
        stored = await store.get(new.task_id)
        page = await store.read_tape(new.task_id)

        assert created
        assert stored == task
        assert (task.status, task.attempt, task.owner) == (TaskStatus.PENDING, 0, None)
        assert (task.params, task.timeout, task.retries) == (
            {"folder": "é", "n": [1, None]},
            2.5,
            3,
        )
        assert (task.idempotency_key, task.traceparent) == ("k", new.traceparent)
        assert abs(task.created_us - before) < 60_000_000
        assert task.run_us == task.created_us
        assert (page.events, page.last_seq, page.final_seq, page.dropped) == ((), 0, None, 0)

    async def test_same_idempotency_key_gives_the_same_task(self, store: TaskStore) -> None:
        """The same op, key and params again answer with the task that exists, even ended."""
        first, _ = await store.create(NewTask(new_task_id(), "work", {"a": 1}, idempotency_key="k"))
        await store.request_cancel(first.task_id)
        again, created = await store.create(
            NewTask(new_task_id(), "work", {"a": 1}, idempotency_key="k")
        )
        other, _ = await store.create(
            NewTask(new_task_id(), "other", {"a": 1}, idempotency_key="k")
        )

        assert not created
        assert (again.task_id, again.status) == (first.task_id, TaskStatus.CANCELLED)
        assert other.task_id != first.task_id

    async def test_same_idempotency_key_with_other_params_conflicts(self, store: TaskStore) -> None:
        """Other params under a key that is taken are an error that names the task."""
        first, _ = await store.create(NewTask(new_task_id(), "work", {"a": 1}, idempotency_key="k"))
        with pytest.raises(IdempotencyConflict) as raised:
            await store.create(NewTask(new_task_id(), "work", {"a": 2}, idempotency_key="k"))

        assert raised.value.task_id == first.task_id

    async def test_concurrent_creates_of_one_key_make_one_task(self, store: TaskStore) -> None:
        """Twenty at once agree on one task, and one of them made it."""
        made = await asyncio.gather(
            *(store.create(NewTask(new_task_id(), "work", idempotency_key="k")) for _ in range(20))
        )

        assert len({task.task_id for task, _ in made}) == 1
        assert [created for _, created in made].count(True) == 1

    async def test_claim_starts_an_attempt(self, store: TaskStore) -> None:
        """A claim counts the attempt up, takes the lease, and puts ``task_started`` on the tape."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        claim = await store.claim_if_pending(task, OWNER, LEASE)
        stored = await store.get(task.task_id)
        page = await store.read_tape(task.task_id)

        assert claim is not None
        assert claim.task == stored
        assert (stored.status, stored.attempt, stored.owner) == (TaskStatus.RUNNING, 1, OWNER)
        assert stored.claimed_us is not None
        assert stored.lease_expires_us == stored.claimed_us + 30_000_000
        assert [(e.seq, e.type, e.attempt, e.body) for e in page.events] == [
            (1, "task_started", 1, {"attempt": 1, "owner": OWNER})
        ]

    async def test_tasks_are_created_and_claimed_at_once(self, store: TaskStore) -> None:
        """What is created and claimed in one transaction is as if that were two, whatever else is
        in it."""
        pending, _ = await store.create(NewTask(new_task_id(), "work"))
        new_task = NewTask(new_task_id(), "work", {"n": 1}, 5.0, 2)
        others = [store.create_claimed(NewTask(new_task_id(), "work"), OTHER, LEASE) for _ in "ab"]
        begun, created, claim, _, *_ = await asyncio.gather(
            store.create_claimed(new_task, OWNER, LEASE),
            store.create(NewTask(new_task_id(), "work", idempotency_key="k")),
            store.claim_if_pending(pending, OTHER, LEASE),
            store.create(NewTask(new_task_id(), "work", idempotency_key="k")),
            others[0],
        )
        await others[1]
        (task, new, own), (keyed, _) = begun, created
        stored = await store.get(task.task_id)
        page = await store.read_tape(task.task_id)
        finished = (
            None
            if own is None
            else await store.finish_if_running(own.attempt, FinalEvent.succeeded(1))
        )

        assert own is not None
        assert new
        assert own.task == stored
        assert (stored.status, stored.attempt, stored.owner) == (TaskStatus.RUNNING, 1, OWNER)
        assert stored.lease_expires_us == (stored.claimed_us or 0) + 30_000_000
        assert stored.run_us == stored.created_us == stored.claimed_us
        assert [(e.seq, e.type, e.attempt, e.body) for e in page.events] == [
            (1, "task_started", 1, {"attempt": 1, "owner": OWNER})
        ]
        assert finished is not None
        assert finished.won
        assert claim is not None
        assert (await store.get(pending.task_id)).owner == OTHER
        assert (await store.get(keyed.task_id)).status is TaskStatus.PENDING
        counts = await store.count()
        assert (counts[TaskStatus.RUNNING], counts[TaskStatus.SUCCEEDED]) == (3, 1)

    async def test_claim_has_one_winner(self, store: TaskStore) -> None:
        """Of ten owners that claim one task at once, one gets it."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        claims = await asyncio.gather(
            *(store.claim_if_pending(task, f"owner:{n}:0:cc", LEASE) for n in range(10))
        )
        (won,) = [claim for claim in claims if claim is not None]

        assert (await store.get(task.task_id)).owner == won.attempt.owner
        assert (await store.read_tape(task.task_id)).last_seq == 1

    async def test_claim_takes_only_what_is_pending_and_due(self, store: TaskStore) -> None:
        """Running, ended, not yet due: none of them is claimed, and nothing changes."""
        later = NewTask(new_task_id(), "work", run_at=store.clock.now() + HOUR)
        not_due, _ = await store.create(later)
        running, _ = await store.create(NewTask(new_task_id(), "work"))
        ended, _ = await store.create(NewTask(new_task_id(), "work"))
        await store.claim_if_pending(running, OWNER, LEASE)
        await store.request_cancel(ended.task_id)
        claims = [
            await store.claim_if_pending(task, OTHER, LEASE)
            for task in (not_due, running, await store.get(running.task_id), ended)
        ]

        assert claims == [None] * 4
        assert (await store.get(not_due.task_id)).status is TaskStatus.PENDING
        assert (await store.get(running.task_id)).owner == OWNER

    async def test_claim_takes_a_task_only_as_it_was_seen(self, store: TaskStore) -> None:
        """A task that was run since it was read is not claimed, though it is pending again."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        claim = await store.claim_if_pending(task, OWNER, LEASE)
        assert claim is not None
        await store.release(claim.attempt)
        late = await store.claim_if_pending(task, OTHER, LEASE)
        row = await store.get(task.task_id)

        assert late is None
        assert (row.status, row.attempt) == (TaskStatus.PENDING, 1)
        assert await store.claim_if_pending(row, OTHER, LEASE) is not None

    @pytest.mark.parametrize(
        ("final", "status", "code"),
        [
            (FinalEvent.succeeded({"n": 1}), TaskStatus.SUCCEEDED, None),
            (
                FinalEvent.failed(ErrorInfo("timeout", "too slow", "…")),
                TaskStatus.FAILED,
                "timeout",
            ),
            (
                FinalEvent.cancelled(
                    CancelRequest(CancelReason.USER, "enough", "me", 7), ErrorInfo("E")
                ),
                TaskStatus.CANCELLED,
                None,
            ),
        ],
    )
    async def test_finish_writes_status_and_final(
        self, store: TaskStore, final: FinalEvent, status: TaskStatus, code: str | None
    ) -> None:
        """The row and the last event of the tape say the same outcome (invariant I2)."""
        attempt = await start(store)
        answer = await store.finish_if_running(attempt, final)
        task = await store.get(attempt.task_id)
        page = await store.read_tape(attempt.task_id)

        assert (answer.won, answer.outcome, answer.last_seq) == (True, final.outcome, 2)
        assert (task.status, task.error_code) == (status, code)
        assert task.finished_us is not None
        assert page.final_seq == 2
        assert FinalEvent.from_event(page.events[-1]) == final

    async def test_finish_again_is_answered_as_the_first_time(self, store: TaskStore) -> None:
        """The same ``final`` once more is not a drop: the attempt is told again that it won."""
        attempt = await start(store)
        first = await store.finish_if_running(attempt, FinalEvent.succeeded(1))
        again = await store.finish_if_running(attempt, FinalEvent.succeeded(1))
        page = await store.read_tape(attempt.task_id)

        assert again == first
        assert (page.last_seq, page.dropped) == (2, 0)

    async def test_finish_again_through_another_store_is_the_same(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """A process that lost its connection may repeat a ``final`` through a new one."""
        attempt = await start(store)
        await store.finish_if_running(attempt, FinalEvent.succeeded(1))
        bare = Attempt(attempt.task_id, attempt.number, attempt.owner)
        again = await second_store.finish_if_running(bare, FinalEvent.succeeded(1))

        assert (again.won, again.outcome, again.last_seq) == (True, Outcome.SUCCEEDED, 2)

    async def test_other_final_loses(self, store: TaskStore) -> None:
        """A different ``final`` on a closed tape is a duplicate: dropped, and told who won."""
        attempt = await start(store)
        await store.finish_if_running(attempt, FinalEvent.succeeded(1))
        answer = await store.finish_if_running(attempt, FinalEvent.failed(ErrorInfo("late")))
        task = await store.get(attempt.task_id)

        assert (answer.won, answer.dropped) == (False, DropReason.DUPLICATE_FINAL)
        assert (answer.outcome, answer.last_seq) == (Outcome.SUCCEEDED, 2)
        assert task.status is TaskStatus.SUCCEEDED

    async def test_finish_without_the_task_loses(self, store: TaskStore) -> None:
        """An attempt that never claimed the task, or a task that is not there, changes nothing."""
        attempt = await start(store)
        stranger = await store.finish_if_running(
            Attempt(attempt.task_id, 1, OTHER), FinalEvent.succeeded()
        )
        nowhere = await store.finish_if_running(
            Attempt(new_task_id(), 1, OWNER), FinalEvent.succeeded()
        )

        assert (stranger.won, stranger.dropped) == (False, DropReason.STALE_ATTEMPT)
        assert stranger.outcome is None
        assert (nowhere.won, nowhere.dropped) == (False, DropReason.UNKNOWN_TASK)
        assert (await store.get(attempt.task_id)).status is TaskStatus.RUNNING

    async def test_cancel_before_the_start_ends_the_task(self, store: TaskStore) -> None:
        """A pending task ends as cancelled at once, with a tape of one ``final``."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        answer = await store.request_cancel(task.task_id, CancelReason.SHUTDOWN, "bye", "ops")
        stored = await store.get(task.task_id)
        page = await store.read_tape(task.task_id)
        final = FinalEvent.from_event(page.events[0])

        assert (answer.state, answer.last_seq) == (CancelState.CANCELLED, 1)
        assert stored.status is TaskStatus.CANCELLED
        assert stored.finished_us is not None
        assert (page.final_seq, len(page.events)) == (1, 1)
        assert final.cancel is not None
        assert (final.cancel.reason, final.cancel.message, final.cancel.by) == (
            CancelReason.SHUTDOWN,
            "bye",
            "ops",
        )
        assert stored.cancel == final.cancel == answer.request
        assert await store.claim_if_pending(task, OWNER, LEASE) is None

    async def test_cancel_of_a_running_task_is_recorded(self, store: TaskStore) -> None:
        """It goes on until its owner ends it; a second request changes nothing, the first stays."""
        attempt = await start(store)
        first = await store.request_cancel(attempt.task_id, CancelReason.USER, "one", "a")
        second = await store.request_cancel(attempt.task_id, CancelReason.SHUTDOWN, "two", "b")
        task = await store.get(attempt.task_id)

        assert (first.state, first.owner, first.attempt) == (CancelState.RECORDED, OWNER, 1)
        assert second.state is CancelState.ALREADY_RECORDED
        assert first.request == second.request == task.cancel
        assert task.cancel is not None
        assert (task.cancel.reason, task.cancel.message, task.cancel.by) == (
            CancelReason.USER,
            "one",
            "a",
        )
        assert task.status is TaskStatus.RUNNING

    async def test_cancel_says_how_its_caller_is_known(self, store: TaskStore) -> None:
        """Whoever may write can give any name, so it is claimed, unless the database names a role.

        Its row, its owner and its tape all say the same.
        """
        attempt = await start(store)
        answer = await store.request_cancel(attempt.task_id, CancelReason.USER, "one", "ceo")
        leases = await store.leases.extend(OWNER, LEASE)
        request = (await store.get(attempt.task_id)).cancel
        assert request is not None
        await store.finish_if_running(attempt, FinalEvent.cancelled(request))
        page = await store.read_tape(attempt.task_id)
        told = FinalEvent.from_event(page.events[-1]).cancel

        assert request.by == "ceo"
        assert request.known is (Assurance.CLAIMED if request.role is None else Assurance.ROLE)
        assert answer.request == request == told
        assert leases.cancels == ((attempt.task_id, request),)

    async def test_cancel_keeps_the_span_it_was_requested_in(self, store: TaskStore) -> None:
        """Row, answer, heartbeat, and what takes the place of a retry have it; the first one stays.

        One that is not recorded is not kept.
        """
        first, second = (f"00-{digit * 32}-{digit * 16}-01" for digit in "ab")
        unsampled = f"00-{'c' * 32}-{'d' * 16}-00"
        attempt, other = await start(store), await start(store)
        pending = await create(store)
        with continue_trace(f"{first} vendor=x"):
            answer = await store.request_cancel(attempt.task_id)
            ended = await store.request_cancel(pending)
        with continue_trace(second):
            again = await store.request_cancel(attempt.task_id)
        with continue_trace(unsampled):
            await store.request_cancel(other.task_id)
        leases = await store.leases.extend(OWNER, LEASE)
        rows = [(await store.get(one)).cancel for one in (attempt.task_id, pending, other.task_id)]
        given_up = await store.retry_later(attempt, ErrorInfo("x"), store.clock.now())

        kept = f"{first} vendor=x"
        answered = [one.request for one in (answer, ended, again)]
        assert [one.traceparent for one in rows if one is not None] == [kept, kept, None]
        assert [one.traceparent for one in answered if one is not None] == [kept] * 3
        assert {task_id: one.traceparent for task_id, one in leases.cancels} == {
            attempt.task_id: kept,
            other.task_id: None,
        }
        assert given_up.final is not None
        assert given_up.final.cancel is not None
        assert given_up.final.cancel.traceparent == kept

    async def test_cancel_may_lose_to_the_runner(self, store: TaskStore) -> None:
        """A recorded cancel does not hinder a runner that has its result."""
        attempt = await start(store)
        await store.request_cancel(attempt.task_id)
        answer = await store.finish_if_running(attempt, FinalEvent.succeeded())
        task = await store.get(attempt.task_id)

        assert answer.won
        assert task.status is TaskStatus.SUCCEEDED
        assert task.cancel is not None

    async def test_cancel_of_an_ended_task_does_nothing(self, store: TaskStore) -> None:
        """The tape and the row stay as they are (invariant I4)."""
        attempt = await start(store)
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        before = await store.get(attempt.task_id), await store.read_tape(attempt.task_id)
        answer = await store.request_cancel(attempt.task_id)

        assert (answer.state, answer.request, answer.last_seq) == (CancelState.TERMINAL, None, 2)
        assert before == (await store.get(attempt.task_id), await store.read_tape(attempt.task_id))

    @pytest.mark.parametrize(
        "task_id",
        ["0199f3a0-0000-7000-8000-000000000000", "nonsense", ""],  # the first is well-formed
    )
    async def test_unknown_tasks_are_said_to_be(self, store: TaskStore, task_id: str) -> None:
        """An id that the store does not know, or that is none, is ``UnknownTask`` everywhere."""
        for call in (store.request_cancel(task_id), store.get(task_id), store.read_tape(task_id)):
            with pytest.raises(UnknownTask, match="has no task"):
                await call

    async def test_crossed_calls_agree_on_one_end(self, store: TaskStore) -> None:
        """Finishes, cancels, events of fifty tasks at once: each tape ends once, as its row."""
        attempts = await asyncio.gather(*(start(store) for _ in range(50)))
        answers = await asyncio.gather(
            *(
                call
                for attempt in attempts
                for call in (
                    store.append(attempt, [log("before")]),
                    store.request_cancel(attempt.task_id),
                    store.finish_if_running(attempt, FinalEvent.succeeded()),
                    store.finish_if_running(attempt, FinalEvent.failed(ErrorInfo("second"))),
                    store.append(attempt, [log("after")]),
                )
            )
        )

        assert len(answers) == 250
        for attempt in attempts:
            page = await store.read_tape(attempt.task_id)
            assert [event.type for event in page.events] == ["task_started", "log", "final"]
            assert page.dropped == 2

    async def test_a_store_that_is_opened_again_goes_on(self, store: TaskStore) -> None:
        """It writes on where it stood, and answers no call with what it answered before."""
        made = [await create(store)]
        for _ in range(2):  # so that it sends a flush of the same number as before it was closed
            await store.aclose()
            await store.open()
            made.append(await create(store))
        listed = [task.task_id for task in (await store.list()).tasks]

        assert listed == sorted(made, reverse=True)
