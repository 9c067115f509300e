"""The checker is checked: each way to break an invariant, made by hand, is found and named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import Status, StatusCode

from tapescope.errors import EventFateUnknown
from tapescope.model.tape import DropReason, Event
from tapescope.model.tasks import Attempt, FinalEvent, NewTask, TaskStatus
from tapescope.store import DueOrder, DueRow
from tapescope.store.validation import new_task_id
from tapescope.testing import Breach, History, MemoryBackend, MemoryStore, Recording, check
from tapescope.testing._tables import Record
from tapescope.testing.tasks import LEASE, OWNER, create, log, start
from tapescope_telemetry import Telemetry


class OpenStore(Recording, MemoryStore):
    """A recorded memory store that a test may break behind its back."""

    def __init__(self) -> None:
        super().__init__(telemetry=Telemetry(meter_provider=NoOpMeterProvider()))

    def record(self, task_id: str) -> Record:
        """The row and the tape as they are kept."""
        assert isinstance(self.backend, MemoryBackend)
        record = self.backend.find(task_id)
        assert record is not None
        return record


@dataclass(frozen=True)
class Span:
    """A span as an exporter would hand it over."""

    name: str = "run work"
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    end_time: int | None = 1
    status: Status = field(default_factory=Status)


@dataclass
class Story:
    """A task that ran and succeeded, had a late event, and was followed; then something breaks."""

    store: OpenStore
    attempt: Attempt
    record: Record
    history: History
    span: Span

    async def check(self, spans: list[Span] | None = None) -> list[Breach]:
        """What the checker finds."""
        return await check(self.history, self.store, spans=[self.span] if spans is None else spans)


@pytest.fixture
async def story() -> AsyncIterator[Story]:
    """A story with nothing wrong in it."""
    async with OpenStore() as store:
        attempt = await start(store)
        await store.append(attempt, [log("one"), log("two")])
        await store.append(attempt, [log("three")])
        await store.finish_if_running(attempt, FinalEvent.succeeded(7))
        await store.append(attempt, [log("late")])
        page = await store.read_tape(attempt.task_id)

        async def tape() -> AsyncIterator[Event]:
            for event in page.events:
                yield event

        async for _ in store.history.following(attempt.task_id, tape()):
            pass
        told = {
            "tapescope.task.id": attempt.task_id,
            "tapescope.task.attempt": 1,
            "tapescope.task.outcome": "succeeded",
        }
        record = store.record(attempt.task_id)
        yield Story(store, attempt, record, store.history, Span(attributes=told))


async def test_true_story_has_no_violations(story: Story) -> None:
    """A whole tape, true answers, a balanced ledger: nothing to find."""
    assert await story.check() == []


def move_final(story: Story) -> None:
    """An event after the ``final``."""
    last = story.record.tape[-1]
    story.record.tape.append(last._replace(seq=6, offer=99, type="log", body="1"))


def add_final(story: Story) -> None:
    """A second ``final``."""
    last = story.record.tape[-1]
    story.record.tape.append(last._replace(seq=6, offer=99))


def lose_final(story: Story) -> None:
    """A terminal row whose tape is open."""
    story.record.tape.pop()


def reopen_row(story: Story) -> None:
    """A running row whose tape is closed."""
    story.record.task = replace(story.record.task, status=TaskStatus.RUNNING)


def turn_row(story: Story) -> None:
    """A row that tells another outcome than its ``final``."""
    story.record.task = replace(story.record.task, status=TaskStatus.FAILED)


def leave_gap(story: Story) -> None:
    """A seq that is missing."""
    del story.record.tape[2]


def turn_both(story: Story) -> None:
    """An ended task that ended otherwise later: row and tape agree, the answer does not."""
    turn_row(story)
    last = story.record.tape[-1]
    story.record.tape[-1] = last._replace(body='{"outcome":"failed"}')


def mix_attempts(story: Story) -> None:
    """An event of an attempt between those of another."""
    story.record.tape[2] = story.record.tape[2]._replace(attempt=2)


def change_event(story: Story) -> None:
    """An acknowledged event with other words."""
    story.record.tape[1] = story.record.tape[1]._replace(body='{"message":"other"}')


def swap_calls(story: Story) -> None:
    """Two calls, one after the other, stored the other way round."""
    first, second = [call for call in story.history.calls if call.verb == "append"][:2]
    first.began, second.began = second.began, first.began
    first.ended, second.ended = second.ended, first.ended
    story.history.calls.sort(key=lambda call: call.began)


def share_seq(story: Story) -> None:
    """One seq given to two calls."""
    first, second = [call for call in story.history.calls if call.verb == "append"][:2]
    second.answer, second.offers = first.answer, first.offers


def claim_twice(story: Story) -> None:
    """One attempt given to two workers."""
    claim = next(call for call in story.history.calls if call.verb == "claim")
    story.history.calls.append(replace(claim))


def never_answer(story: Story) -> None:
    """A call that hangs for ever."""
    story.history.begin("append", story.attempt.task_id, story.attempt)


def forget_offer(story: Story) -> None:
    """An event on the tape that was never offered."""
    call = next(call for call in story.history.calls if call.verb == "append")
    story.history.calls.remove(call)


def deny_offer(story: Story) -> None:
    """An event on the tape whose caller was told that it failed."""
    call = next(call for call in story.history.calls if call.verb == "append")
    call.answer, call.error = None, RuntimeError("nothing was written")


def forget_drop(story: Story) -> None:
    """A refused event that is in no count."""
    call = next(c for c in story.history.calls if c.verb == "append" and "late" in str(c.offers))
    call.offers *= 2


def lose_event(story: Story) -> None:
    """An event that entered the store and was never answered for."""
    story.store.meter.ledger.offer()
    story.store.meter.ledger.abandon()


def leave_in_flight(story: Story) -> None:
    """An event that is still in flight at rest."""
    story.store.meter.ledger.offer()


def count_twice(story: Story) -> None:
    """A stored event that was counted twice, and offered twice: only the tape tells."""
    story.store.meter.ledger.offer()
    story.store.meter.ledger.store("log")


def skip_event(story: Story) -> None:
    """A follower that was not told of an event."""
    del story.history.follows[0].events[2]


def repeat_event(story: Story) -> None:
    """A follower that was told of one twice."""
    events = story.history.follows[0].events
    events.insert(2, events[2])


def stop_early(story: Story) -> None:
    """A follower whose tape ended before the ``final``."""
    story.history.follows[0].events.pop()


@pytest.mark.parametrize(
    ("invariant", "break_"),
    [
        ("I1", move_final),
        ("I1", add_final),
        ("I2", lose_final),
        ("I2", reopen_row),
        ("I2", turn_row),
        ("I3", leave_gap),
        ("I3", share_seq),
        ("I4", turn_both),
        ("I5", mix_attempts),
        ("I5", claim_twice),
        ("I6", change_event),
        ("I6", leave_gap),
        ("I6", swap_calls),
        ("I7", never_answer),
        ("I7", forget_offer),
        ("I7", deny_offer),
        ("I7", forget_drop),
        ("I7", lose_event),
        ("I7", leave_in_flight),
        ("I7", count_twice),
        ("I9", skip_event),
        ("I9", repeat_event),
        ("I9", stop_early),
    ],
)
async def test_broken_story_is_found_out(
    story: Story, invariant: str, break_: Callable[[Story], None]
) -> None:
    """Each breach is reported under the number of the invariant that it breaks."""
    break_(story)
    found = await story.check()

    assert invariant in {breach.invariant for breach in found}


SPANS: list[tuple[str, dict[str, Any], Status]] = [
    ("another outcome", {"tapescope.task.outcome": "failed"}, Status(StatusCode.ERROR)),
    ("no outcome", {"tapescope.task.outcome": None}, Status(StatusCode.UNSET)),
    ("an error", {}, Status(StatusCode.ERROR, "why")),
    ("an error.type", {"error.type": "E"}, Status(StatusCode.UNSET)),
    ("an attempt that was never claimed", {"tapescope.task.attempt": 2}, Status(StatusCode.UNSET)),
]


@pytest.mark.parametrize(
    ("change", "status"), [case[1:] for case in SPANS], ids=[case[0] for case in SPANS]
)
async def test_false_span_is_found_out(
    story: Story, change: dict[str, Any], status: Status
) -> None:
    """A run span that tells something else than the tape breaks I8."""
    span = replace(story.span, attributes={**story.span.attributes, **change}, status=status)
    found = await story.check([span])

    assert {breach.invariant for breach in found} == {"I8"}


async def test_span_that_is_missing_twice_there_or_open_is_found_out(story: Story) -> None:
    """Each attempt has one run span, and it has ended."""
    for spans in ([], [story.span, story.span], [replace(story.span, end_time=None)]):
        assert {breach.invariant for breach in await story.check(spans)} == {"I8"}


async def test_cancelled_span_must_say_why(story: Story) -> None:
    """A cancelled span without its reason looks like a success."""
    attempt = await start(story.store)
    answer = await story.store.request_cancel(attempt.task_id)
    assert answer.request is not None
    await story.store.finish_if_running(attempt, FinalEvent.cancelled(answer.request))
    told = {
        "tapescope.task.id": attempt.task_id,
        "tapescope.task.attempt": 1,
        "tapescope.task.outcome": "cancelled",
    }
    bare = Span(attributes=told)
    whole = Span(attributes={**told, "tapescope.cancel.reason": "user"})

    assert await story.check([story.span, whole]) == []
    assert [v.invariant for v in await story.check([story.span, bare])] == ["I8"]


async def test_metric_must_agree_with_the_ledger(story: Story) -> None:
    """The dropped counter as a reader sees it is the ledger's, and the persisted count."""
    good = await check(story.history, story.store, dropped_metric=1)
    bad = await check(story.history, story.store, dropped_metric=2)

    assert good == []
    assert [breach.invariant for breach in bad] == ["I7"]


async def test_metric_counts_each_end_once(story: Story) -> None:
    """The tasks that it says have ended so are those whose tapes say so."""
    good = await check(story.history, story.store, ended_metric={"succeeded": 1, "failed": 0})
    missed = await check(story.history, story.store, ended_metric={})
    twice = await check(story.history, story.store, ended_metric={"succeeded": 2})
    other = await check(story.history, story.store, ended_metric={"cancelled": 1})

    assert good == []
    assert [breach.invariant for breach in missed + twice] == ["I2", "I2"]
    assert [breach.invariant for breach in other] == ["I2", "I2"]


async def test_an_end_that_nobody_was_told_of_may_be_counted_or_not(story: Story) -> None:
    """A cancel took the place of what gave the task up, whose caller was cancelled."""
    attempt = await start(story.store)
    await story.store.request_cancel(attempt.task_id)
    await story.store.release(attempt)
    call = story.history.calls[-1]
    call.answer, call.error = None, asyncio.CancelledError()

    for cancelled in (0, 1):
        ended = {"succeeded": 1, "cancelled": cancelled}
        assert await check(story.history, story.store, ended_metric=ended) == []


async def test_a_claim_that_nobody_learned_of_has_no_span(story: Story) -> None:
    """It was carried out, and its caller told that its fate is unknown: then it was never run."""
    attempt = await start(story.store)
    call = story.history.calls[-1]
    call.answer, call.error = None, EventFateUnknown(1.0)
    unknown = await story.check()
    await story.store.append(attempt, [log("at work")])
    at_work = await story.check()

    assert unknown == []
    assert [breach.invariant for breach in at_work] == ["I8"]


async def test_cancelled_caller_may_have_been_stored_or_not(story: Story) -> None:
    """Of a call whose caller was cancelled, either fate is right: the checker asks for neither."""
    attempt = await start(story.store)
    stored = asyncio.ensure_future(story.store.append(attempt, [log("perhaps")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stored.cancel()
    await asyncio.gather(stored, return_exceptions=True)
    await story.store.append(attempt, [log("then")])

    assert await check(story.history, story.store) == []


async def test_unknown_tasks_are_judged_together(story: Story) -> None:
    """Drops of tasks that the store does not know are counted; one that is not is found."""
    stranger = Attempt(new_task_id(), 1, OWNER)
    answer = await story.store.append(stranger, [log(), log()])
    good = await check(story.history, story.store)
    story.history.calls[-1].offers *= 2
    bad = await check(story.history, story.store)

    assert answer.dropped is DropReason.UNKNOWN_TASK
    assert good == []
    assert [breach.invariant for breach in bad] == ["I7"]


async def test_pending_and_idempotent_creates_are_no_violations(story: Story) -> None:
    """A task that never ran has an empty tape and no span, and that is right."""
    new = NewTask(new_task_id(), "work", idempotency_key="k")
    await story.store.create(new)
    await story.store.create(replace(new, task_id=new_task_id()))

    assert await story.check() == []


async def _claim(store: OpenStore) -> None:
    await create(store)
    await store.claim_due(OWNER, ["work"], 1, LEASE)


async def _rescue(store: OpenStore) -> None:
    attempt = await start(store)
    await store.leases.rescue_expired(dead_owners=[attempt.owner])


@pytest.mark.parametrize("write", [_claim, _rescue])
async def test_a_death_explains_what_it_cut_and_no_more(
    story: Story, write: Callable[[OpenStore], Awaitable[None]]
) -> None:
    """What an order wrote whose answer came to nobody is explained by a death alone, and once."""
    history = story.history
    before = history.now
    await write(story.store)
    (order,) = history.orders
    history.calls.pop()  # the answer is lost on its way
    order.answered = False
    order.limit = 1
    cancelled = await story.check([])
    history.died("its end", began=before, at=history.now)
    late = await story.check([])
    history.died("its end", began=before, at=order.began)
    cut = await story.check([])
    await write(story.store)
    history.calls.pop()
    more = await story.check([])

    unheard = [breach for breach in cancelled if breach.invariant == "I7"]
    assert [breach.detail.partition(" told ")[0] for breach in unheard] == ["no caller was"]
    assert late == cancelled
    assert [breach.invariant for breach in cut if breach.invariant == "I7"] == []
    assert [breach.invariant for breach in more if breach.invariant == "I7"] == ["I7"]


async def test_a_lost_reply_explains_what_its_claim_took(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever claimed was told that it is not known: so the attempt was not run, nor counted."""
    claim = story.store.backend.claim_due

    async def lose(order: DueOrder) -> list[DueRow]:
        await claim(order)
        raise EventFateUnknown(0.0)

    monkeypatch.setattr(story.store.backend, "claim_due", lose)
    with pytest.raises(EventFateUnknown):
        await _claim(story.store)
    told = await story.check()
    story.history.orders[-1].cut_by = ""
    untold = await story.check()

    assert told == []
    assert [breach.invariant for breach in untold] == ["I7", "I8", "I7"]


async def test_an_attempt_that_began_too_late_is_found(story: Story) -> None:
    """The first one of a task, once its time to begin was over; in time it is well, and so is a
    second one at any time."""
    store = story.store
    task, _ = await store.create(NewTask(new_task_id(), "work", expires_in=60))
    claim = await store.claim_if_pending(task, OWNER, LEASE)
    assert claim is not None
    (call,) = [call for call in store.history.calls if call.answer is claim]
    in_time = await check(story.history, store)
    call.answer = replace(claim, task=replace(claim.task, claimed_us=task.expires_us))
    late = await check(story.history, store)

    assert in_time == []
    assert [(breach.invariant, breach.task_id) for breach in late] == [("I5", task.task_id)]
    assert "0 s after it had expired" in late[0].detail
