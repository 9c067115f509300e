"""Where the run spans of attempts are kept, and how they are found."""

from __future__ import annotations

import asyncio

import pytest

from tapescope.errors import BadSetting
from tapescope.model.leases import TracedAttempt
from tapescope.model.tape import Outcome
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import LEASE, OTHER, create, log, start

TRACE, SPAN = "a1" * 16, "b2" * 8


def attach(store: TaskStore, attempt: Attempt, nth: int = 0) -> None:
    """Give the attempt a span of the trace, as a run does whose span is recorded."""
    store.attach_span(attempt, TRACE, None, f"{nth:016x}" if nth else SPAN)


class TracesConformance(StoreSuite):
    """Where the run spans of attempts are kept, and how they are found."""

    @pytest.mark.parametrize("way", ["append", "finish", "retry", "release", "heartbeat"])
    async def test_trace_is_kept_with_the_first_write(self, store: TaskStore, way: str) -> None:
        """With whatever the attempt writes first, or beside it: it is found from then on."""
        attempt = await start(store)
        attach(store, attempt)
        before = await store.find_traced(TRACE)
        if way == "append":
            await store.append(attempt, [log()])
        elif way == "finish":
            await store.finish_if_running(attempt, FinalEvent.succeeded())
        elif way == "retry":
            await store.retry_later(attempt, ErrorInfo("x"), store.clock.now())
        elif way == "release":
            await store.release(attempt)
        else:
            await store.note_traces([attempt])
        status = (await store.get(attempt.task_id)).status
        found = await store.find_traced(TRACE.upper())

        assert list(before) == []
        assert list(found) == [TracedAttempt(attempt.task_id, "work", status, 1, TRACE, SPAN)]
        assert list(await store.read_traced([attempt.task_id])) == list(found)

    async def test_each_attempt_has_its_own(self, store: TaskStore) -> None:
        """The attempts of a task come in their order, each once, whatever is written."""
        task_id = await create(store, retries=2)
        for nth in (1, 2):
            claim = await store.claim_if_pending(await store.get(task_id), OTHER, LEASE)
            assert claim is not None
            attach(store, claim.attempt, nth)
            await store.note_traces([claim.attempt])
            attach(store, claim.attempt, 9)  # what is kept stays
            await store.append(claim.attempt, [log(1), log(2)])
            await store.retry_later(claim.attempt, ErrorInfo("x"), store.clock.now())
        unsampled = await store.claim_if_pending(await store.get(task_id), OTHER, LEASE)
        assert unsampled is not None
        store.attach_span(unsampled.attempt, "c3" * 16, None)
        await store.finish_if_running(unsampled.attempt, FinalEvent.succeeded())
        other = await start(store)
        attach(store, other, 3)
        await store.append(other, [log()])
        found = await store.find_traced(TRACE)
        of_both = await store.read_traced([other.task_id, task_id, "no id"])

        assert [(one.task_id, one.attempt, int(one.span_id, 16)) for one in found] == [
            (task_id, 1, 1),
            (task_id, 2, 2),
            (other.task_id, 1, 3),
        ]
        assert [one.status for one in found] == [TaskStatus.SUCCEEDED] * 2 + [TaskStatus.RUNNING]
        assert sorted(of_both) == sorted(found)
        assert list(await store.find_traced(TRACE, limit=1)) == list(found[:1])
        assert list(await store.find_traced("c3" * 16)) == []

    async def test_many_are_kept_in_one_flush(self, store: TaskStore) -> None:
        """The traces of all that a flush writes for."""
        attempts = [await start(store) for _ in range(5)]
        for nth, attempt in enumerate(attempts, 1):
            attach(store, attempt, nth)
        final = FinalEvent.succeeded()
        await asyncio.gather(*(store.finish_if_running(one, final) for one in attempts))
        found = await store.find_traced(TRACE)

        assert [(one.task_id, int(one.span_id, 16)) for one in found] == [
            (attempt.task_id, nth) for nth, attempt in enumerate(attempts, 1)
        ]

    async def test_traces_go_with_their_task(self, unrecorded_store: TaskStore) -> None:
        """A prune leaves none behind; what comes later of a task that is gone is not kept."""
        store = unrecorded_store
        attempt = await start(store)
        attach(store, attempt)
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        pruned = await store.maintenance.prune(older_than=0, outcomes=[Outcome.SUCCEEDED])
        attach(store, attempt)
        await store.append(attempt, [log("late")])
        await store.note_traces([attempt])

        assert pruned == 1
        assert list(await store.find_traced(TRACE)) == []

    @pytest.mark.parametrize("bad", ["", "0" * 32, "a1" * 15, "g" * 32, None])
    async def test_bad_trace_id_is_refused(self, store: TaskStore, bad: str) -> None:
        """What no trace has for an id is a ``BadSetting``."""
        with pytest.raises(BadSetting, match="trace_id"):
            await store.find_traced(bad)

    async def test_the_tags_of_the_task_come_with_it(self, store: TaskStore) -> None:
        """By them it is told who may see an attempt; a task without any has none."""
        for nth, tags in enumerate([("red", "blue"), ()], 1):
            task, _ = await store.create(NewTask(new_task_id(), "work", tags=tags))
            claim = await store.claim_if_pending(task, OTHER, LEASE)
            assert claim is not None
            attach(store, claim.attempt, nth)
            await store.note_traces([claim.attempt])
        found = await store.find_traced(TRACE)
        read = await store.read_traced([one.task_id for one in found])

        assert [one.tags for one in found] == [("red", "blue"), ()]
        assert sorted(read) == sorted(found)
