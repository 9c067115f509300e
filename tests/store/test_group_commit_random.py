"""Random interleavings of calls, cancelled callers and faults, judged by the history checker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapescope.model.tasks import Attempt, FinalEvent, NewTask
from tapescope.store.flush import FateUnknown, Flush, FlushBlocked, FlushRefused, StoreAway
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope.testing import settle_loop
from tapescope.testing.tasks import LEASE, OWNER, log, start
from tests.support.memory_stores import FaultyStore, TwoLaneBackend, at_rest
from tests.support.virtual_time import run_in_virtual_time

Verb = Literal["append", "nowait", "finish", "cancel", "stale", "create", "wait"]
Fault = Literal["none", "away", "lost before", "lost after", "blocked", "refused"]


@dataclass(frozen=True)
class Step:
    """One call, of one of the tasks, whose caller may be cancelled some loop turns later."""

    verb: Verb
    task: int
    events: int
    cancel_after: int | None


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            ["append", "append", "nowait", "finish", "cancel", "stale", "create", "wait"]
        ),
        st.integers(0, 3),
        st.integers(1, 3),
        st.none() | st.integers(0, 6),
    ),
    min_size=1,
    max_size=30,
)

FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["none", "away", "lost before", "lost after", "blocked", "refused"]),
        st.sampled_from([0.0, 0.05, 4.0]),
    ),
    max_size=12,
)


class Faults:
    """The faults of the flushes to come, one a try; then none."""

    def __init__(self, plan: list[tuple[Fault, float]]) -> None:
        self._plan = plan
        self._after = False
        self._applied: set[tuple[str, int]] = set()

    async def before(self, flush: Flush) -> None:
        """Take the next fault, and let its time pass."""
        fault, seconds = self._plan.pop(0) if self._plan else ("none", 0.0)
        await asyncio.sleep(seconds)
        self._after = fault == "lost after"
        if fault == "away":
            raise StoreAway("refused")
        if fault == "lost before":
            raise FateUnknown("reset")
        if fault == "blocked":
            raise FlushBlocked("lock timeout")
        if fault == "refused" and (flush.lane, flush.number) not in self._applied:
            raise FlushRefused("no such thing")

    async def after(self, flush: Flush) -> None:
        """Lose the reply of a flush that was carried out; its resend cannot be refused then."""
        self._applied.add((flush.lane, flush.number))
        if self._after:
            raise FateUnknown("reset")


def begin(store: FaultyStore, attempt: Attempt, step: Step, number: int) -> Awaitable[object]:
    """The call of a step."""
    events = [log(f"{number}.{n}") for n in range(step.events)]
    if step.verb == "append":
        return store.append(attempt, events)
    if step.verb == "nowait":
        return store.append_nowait(attempt, events)
    if step.verb == "finish":
        return store.finish_if_running(attempt, FinalEvent.succeeded(number))
    if step.verb == "cancel":
        return store.request_cancel(attempt.task_id)
    if step.verb == "stale":
        return store.append(Attempt(attempt.task_id, attempt.number, "there:2:0:bb"), events)
    return store.create(NewTask(new_task_id(), "work", idempotency_key=str(step.task)))


async def play(store: FaultyStore, steps: list[Step], plan: list[tuple[Fault, float]]) -> None:
    """Do the steps under the faults, wait for every answer, and have all of it judged."""
    async with at_rest(store):
        attempts = [await start(store) for _ in range(3)]
        pending, _ = await store.create(NewTask(new_task_id(), "work"))
        attempts.append(Attempt(pending.task_id, 1, OWNER))
        faults = Faults(plan)
        store.faults.before, store.faults.after = faults.before, faults.after
        calls: list[asyncio.Future[object]] = []
        for number, step in enumerate(steps):
            if step.verb == "wait":
                await settle_loop(step.events)
                continue
            call = asyncio.ensure_future(begin(store, attempts[step.task], step, number))
            calls.append(call)
            if step.cancel_after is not None:
                await settle_loop(step.cancel_after)
                call.cancel()
        claim = asyncio.ensure_future(store.claim_if_pending(pending, OWNER, LEASE))
        await asyncio.gather(*calls, claim, return_exceptions=True)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(steps=STEPS, plan=FAULTS)
def test_any_interleaving_keeps_the_invariants(
    steps: list[Step], plan: list[tuple[Fault, float]]
) -> None:
    """Whatever is called, cancelled, lost, blocked or refused: the judge finds nothing."""
    run_in_virtual_time(play(FaultyStore(limits=StoreLimits(queue=8, batch=6)), steps, plan))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(steps=STEPS, plan=FAULTS)
def test_any_interleaving_on_two_lanes_keeps_the_invariants(
    steps: list[Step], plan: list[tuple[Fault, float]]
) -> None:
    """The same where every burst of calls opens a second lane."""
    busy = [Step("append", n % 3, 3, None) for n in range(30)]
    store = FaultyStore(faults=TwoLaneBackend(), limits=StoreLimits(queue=200, batch=40))
    run_in_virtual_time(play(store, [*busy, *steps], plan))
