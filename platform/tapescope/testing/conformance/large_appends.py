"""One call with more events than a statement takes."""

from __future__ import annotations

from tapescope.model.tape import NewEvent
from tapescope.model.tasks import NewTask
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite


class LargeAppendsConformance(StoreSuite):
    """One call with more events than a statement takes."""

    async def test_append_of_many_thousand_events_is_one_call(self, store: TaskStore) -> None:
        """All are stored in order, by one commit, though no statement has room for them."""
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(task, "me", 60)
        assert claim is not None
        appended = await store.append(claim.attempt, [NewEvent("log", n) for n in range(17_000)])
        last = await store.read_tape(task.task_id, after_seq=17_000)

        assert appended.stored == range(2, 17_002)
        assert [event.body for event in last.events] == [16_999]
        assert last.last_seq == 17_001
