"""What a store does with events: on the tape in order, or off it with a reason."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from tapescope.errors import BadSetting
from tapescope.model.tape import DropReason, NewEvent, Outcome, QuarantinePage
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent, NewTask
from tapescope.store.port import TaskStore
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope.testing.conformance.suite import Stores, StoreSuite
from tapescope.testing.tasks import LEASE, OTHER, OWNER, log, start


class TapeConformance(StoreSuite):
    """What a store does with events: on the tape in order, or off it with a reason."""

    async def test_append_stores_events_in_order(self, store: TaskStore) -> None:
        """Each event has the next seq, its own body and time, and the answer says so."""
        attempt = await start(store)
        bodies: list[Any] = [
            {"é": [1, 2.5, None, True, "x" * 200]},
            None,
            0,
            "text",
            [],
            {"n": 2**53},
        ]
        one = await store.append(attempt, [NewEvent("partial", body) for body in bodies])
        two = await store.append(attempt, [NewEvent("mine.own-type_2", 1)])
        page = await store.read_tape(attempt.task_id)

        assert (one.stored, one.dropped, one.last_seq) == (range(2, 8), None, 7)
        assert (two.stored, two.last_seq) == (range(8, 9), 8)
        assert [event.seq for event in page.events] == list(range(1, 9))
        assert [event.body for event in page.events[1:7]] == bodies
        assert page.events[7].type == "mine.own-type_2"
        assert all(abs(event.ts_us - store.clock.now()) < 60_000_000 for event in page.events)

    async def test_append_of_nothing_writes_nothing(self, store: TaskStore) -> None:
        """An empty list is answered with where the tape stands."""
        attempt = await start(store)
        answer = await store.append(attempt, [])

        assert (list(answer.stored), answer.dropped, answer.last_seq) == ([], None, 1)

    async def test_nowait_keeps_the_order(self, store: TaskStore) -> None:
        """Events that are not awaited stay in the order of their calls, also between awaited."""
        attempt = await start(store)
        futures = [store.append_nowait(attempt, [log(n)]) for n in range(30)]
        await store.append(attempt, [log(30)])
        answers = await asyncio.gather(*futures)
        page = await store.read_tape(attempt.task_id)

        assert [event.body["message"] for event in page.events[1:]] == list(range(31))
        assert [answer.stored.start for answer in answers] == list(range(2, 32))

    async def test_tape_is_read_in_pages(self, store: TaskStore) -> None:
        """Pages join without overlap, and each says where the whole tape stands."""
        attempt = await start(store)
        await store.append(attempt, [log(n) for n in range(24)])
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        pages = [
            await store.read_tape(attempt.task_id, after_seq=after, limit=10)
            for after in (0, 10, 20, 26, 99)
        ]

        assert [[event.seq for event in page.events] for page in pages] == [
            list(range(1, 11)),
            list(range(11, 21)),
            list(range(21, 27)),
            [],
            [],
        ]
        assert {(page.last_seq, page.final_seq) for page in pages} == {(26, 26)}

    async def test_append_after_terminal_dropped_keeping_final_last(self, store: TaskStore) -> None:
        """A late event is kept off the tape, answered, counted and quarantined (I1, I4)."""
        attempt = await start(store)
        await store.append(attempt, [log("in time")])
        store.attach_span(attempt, "f" * 32, None)
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        before = await store.get(attempt.task_id)
        answer = await store.append(attempt, [log("late"), NewEvent("partial", {"n": 1})])
        page = await store.read_tape(attempt.task_id)
        drops = await store.read_quarantine(attempt.task_id)

        assert (list(answer.stored), answer.dropped) == ([], DropReason.AFTER_TERMINAL)
        assert answer.last_seq == 3
        assert [event.type for event in page.events] == ["task_started", "log", "final"]
        assert page.final_seq == page.last_seq == 3
        assert page.dropped == 2
        assert await store.get(attempt.task_id) == before
        assert [(drop.type, drop.body) for drop in drops.drops] == [
            ("log", {"message": "late"}),
            ("partial", {"n": 1}),
        ]
        for drop in drops.drops:
            assert (drop.task_id, drop.attempt) == (attempt.task_id, 1)
            assert (drop.reason, drop.trace_id) == (DropReason.AFTER_TERMINAL, "f" * 32)
            assert drop.late_s is not None
            assert 0 <= drop.late_s < 60
        assert store.meter.ledger.dropped == 2

    @pytest.mark.parametrize("named", [True, False])
    async def test_an_attempt_of_no_task_may_be_made_anew(
        self, store: TaskStore, named: bool
    ) -> None:
        """What a store no longer remembers of it goes on where it was: each event is kept."""
        task_id = new_task_id() if named else "nonsense"
        for _ in range(2):
            appended = await store.append(Attempt(task_id, 1, OWNER), [log("a"), log("b")])
            assert appended.dropped is DropReason.UNKNOWN_TASK
        page = await store.read_quarantine(task_id)

        assert [drop.body["message"] for drop in page.drops] == ["a", "b", "a", "b"]
        assert page.overflow == 0

    async def test_a_stranger_has_no_part_in_what_the_owner_writes(self, store: TaskStore) -> None:
        """Two owners of one attempt, in one flush: the tape takes the owner's event alone."""
        attempt = await start(store)
        stranger = Attempt(attempt.task_id, attempt.number, OTHER)
        ended, given_up = await asyncio.gather(
            store.finish_if_running(attempt, FinalEvent.succeeded()), store.release(stranger)
        )
        page = await store.read_tape(attempt.task_id)

        assert ended.won
        assert given_up.dropped is DropReason.STALE_ATTEMPT
        assert (given_up.outcome, given_up.last_seq) == (None, 1)  # as the flush found the tape
        assert (page.last_seq, page.final_seq, page.dropped) == (2, 2, 1)

    @pytest.mark.parametrize("ended", [False, True])
    async def test_drop_reasons_are_tried_in_order(self, store: TaskStore, ended: bool) -> None:
        """Unknown task, stale attempt, duplicate final, after terminal: the first that holds."""
        attempt = await start(store)
        if ended:
            await store.finish_if_running(attempt, FinalEvent.succeeded())
        task_id = attempt.task_id
        writers = {
            "nowhere": Attempt(new_task_id(), 1, OWNER),
            "no id": Attempt("nonsense", 1, OWNER),
            "older": Attempt(task_id, 0, OWNER),
            "stranger": Attempt(task_id, 1, OTHER),
            "future": Attempt(task_id, 2, OWNER),
        }
        if ended:
            writers["own"] = attempt
        logs = {name: (await store.append(of, [log()])).dropped for name, of in writers.items()}
        late = FinalEvent.failed(ErrorInfo("late"))
        finals = {
            name: (await store.finish_if_running(of, late)).dropped for name, of in writers.items()
        }

        expected = {
            "nowhere": DropReason.UNKNOWN_TASK,
            "no id": DropReason.UNKNOWN_TASK,
            "older": DropReason.STALE_ATTEMPT,
            "stranger": DropReason.STALE_ATTEMPT,
            "future": DropReason.STALE_ATTEMPT,
        }
        closed = dict.fromkeys(("stranger", "own"), DropReason.AFTER_TERMINAL)
        duplicate = dict.fromkeys(("stranger", "own"), DropReason.DUPLICATE_FINAL)
        assert logs == (expected | closed if ended else expected)
        assert finals == (expected | duplicate if ended else expected)

    async def test_pending_task_takes_no_events(self, store: TaskStore) -> None:
        """Only a claim opens a tape for writing."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        answer = await store.append(Attempt(task.task_id, 1, OWNER), [log()])

        assert answer.dropped is DropReason.STALE_ATTEMPT
        assert (await store.read_tape(task.task_id)).last_seq == 0

    async def test_what_came_too_early_hides_nothing_that_comes_too_late(
        self, store: TaskStore
    ) -> None:
        """Also where an owner wrote before its claim, and the claim counts its offers anew."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        await store.append(Attempt(task.task_id, 1, OWNER), [log(n) for n in range(3)])
        claim = await store.claim_if_pending(task, OWNER, LEASE)
        assert claim is not None
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        late = await store.append(claim.attempt, [log("late")])
        page = await store.read_quarantine(task.task_id)

        assert late.dropped is DropReason.AFTER_TERMINAL
        assert [drop.body["message"] for drop in page.drops] == [0, 1, 2, "late"]
        assert (page.overflow, sum(page.counts.values())) == (0, 4)

    async def test_late_events_after_a_cancel_before_the_start(self, store: TaskStore) -> None:
        """A tape of one ``final`` is as closed as any other; it was never this attempt's."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        await store.request_cancel(task.task_id)
        answer = await store.append(Attempt(task.task_id, 1, OWNER), [log()])
        drops = await store.read_quarantine(task.task_id)

        assert (answer.dropped, answer.last_seq) == (DropReason.STALE_ATTEMPT, 1)
        assert [drop.reason for drop in drops.drops] == [DropReason.STALE_ATTEMPT]

    async def test_another_process_may_go_on_with_the_tape(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """A store that does not know an attempt's tape reads its end before it writes."""
        attempt = await start(store)
        await store.append(attempt, [log("one")])
        bare = Attempt(attempt.task_id, attempt.number, attempt.owner)
        answer = await second_store.append(bare, [log("two")])
        back = await store.append(attempt, [log("three")])

        assert (answer.stored, back.stored) == (range(3, 4), range(4, 5))

    async def test_another_process_may_go_on_with_the_late_events(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """Each late event is an offer of its own, whichever process sent it (I7)."""
        attempt = await start(store)
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        bare = Attempt(attempt.task_id, attempt.number, attempt.owner)
        for of, at in ((store, attempt), (second_store, bare), (second_store, bare)):
            await of.append(at, [log()])
        drops = await store.read_quarantine(attempt.task_id)

        assert len(drops.drops) == 3
        assert drops.overflow == 0

    async def test_quarantine_is_bounded_and_the_count_goes_on(self, stores: Stores) -> None:
        """Past the cap events are counted and no longer kept; kept and overflow make the count."""
        store = await stores.open(limits=StoreLimits(quarantine_per_task=3))
        attempt = await start(store)
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        for n in range(5):
            await store.append(attempt, [log(n)])
        await store.finish_if_running(attempt, FinalEvent.failed(ErrorInfo("late")))
        page = await store.read_tape(attempt.task_id)
        drops = await store.read_quarantine(attempt.task_id)

        assert page.dropped == 6
        assert [drop.body["message"] for drop in drops.drops] == [0, 1, 2]
        assert drops.overflow == 3
        assert {reason: n for reason, n in drops.counts.items() if n} == {
            DropReason.AFTER_TERMINAL: 5,
            DropReason.DUPLICATE_FINAL: 1,
        }

    async def test_quarantine_of_unknown_tasks_has_one_cap(self, stores: Stores) -> None:
        """Tasks that the store does not know share a cap: guessed ids cannot fill the table."""
        store = await stores.open(limits=StoreLimits(quarantine_unknown=2))
        for _ in range(3):
            stranger = Attempt(new_task_id(), 1, OWNER)
            answer = await store.append(stranger, [log(), log()])
            assert answer.dropped is DropReason.UNKNOWN_TASK
        drops = await store.read_quarantine()

        assert len(drops.drops) == 2
        assert drops.overflow == 4
        assert drops.counts[DropReason.UNKNOWN_TASK] == 6

    async def test_quarantine_is_read_in_pages(self, store: TaskStore) -> None:
        """Oldest first, of one task or of all, each page naming the next."""
        attempts = [await start(store), await start(store)]
        for attempt in attempts:
            await store.finish_if_running(attempt, FinalEvent.succeeded())
        for n in range(7):
            await store.append(attempts[n % 2], [log(n)])
        seen: list[int] = []
        after: int | None = 0
        while after is not None:
            page = await store.read_quarantine(after=after, limit=3)
            seen += [drop.body["message"] for drop in page.drops]
            after = page.next
        own = await store.read_quarantine(attempts[1].task_id)

        assert seen == list(range(7))
        assert [drop.body["message"] for drop in own.drops] == [1, 3, 5]
        assert own.next is None

    async def test_quarantine_of_a_time(self, stores: Stores) -> None:
        """What is rare is found in the end: a page looks at so many events, and may have none."""
        store = await stores.open(limits=StoreLimits(looked_at=4))
        attempts = [await start(store), await start(store)]
        for attempt in attempts:
            await store.finish_if_running(attempt, FinalEvent.succeeded())
        for n in range(10):
            await store.append(attempts[n % 2], [log(n)])
        every = (await store.read_quarantine()).drops
        times = [drop.ts for drop in every]
        tick = timedelta(microseconds=1)
        own = attempts[1].task_id
        asked: list[tuple[str | None, dict[str, Any], int]] = [
            (None, {"since": times[9]}, 3),
            (None, {"until": times[0] + tick}, 3),
            (None, {"since": times[9] + tick}, 3),
            (None, {"since": times[2], "until": times[8]}, 3),
            (own, {"since": times[9]}, 2),
            (own, {"since": times[2], "until": times[8], "limit": 1}, 3),
        ]

        for task_id, conditions, least in asked:
            pages: list[QuarantinePage] = []
            after: int | None = 0
            while after is not None:
                pages.append(await store.read_quarantine(task_id, after=after, **conditions))
                after = pages[-1].next
            found = [drop for page in pages for drop in page.drops]
            since, until = (
                conditions.get("since", times[0]),
                conditions.get("until", times[9] + tick),
            )
            assert found == [
                drop
                for drop in every
                if task_id in (None, drop.task_id) and since <= drop.ts < until
            ], conditions
            assert len(pages) >= least, conditions
            assert all(len(page.drops) <= conditions.get("limit", 4) for page in pages)
            counted = 10 if task_id is None else 5
            assert all(page.counts[DropReason.AFTER_TERMINAL] == counted for page in pages)
            assert all(page.overflow == 0 for page in pages)

    async def test_page_of_the_quarantine_counts_if_it_is_asked_to(self, store: TaskStore) -> None:
        """Who reads page after page need not have all drops counted for each of them."""
        attempt = await start(store)
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        await store.append(attempt, [NewEvent("log", nth) for nth in range(3)])

        for task_id in (None, attempt.task_id):
            counted, bare = [
                await store.read_quarantine(task_id, limit=2, counted=counted)
                for counted in (True, False)
            ]
            assert (counted.overflow, counted.counts) == (0, {DropReason.AFTER_TERMINAL: 3})
            assert (bare.overflow, bare.counts) == (0, {})
            assert (bare.drops, bare.next) == (counted.drops, counted.next)
            assert len(bare.drops) == 2

    async def test_times_of_the_quarantine_have_a_zone(self, store: TaskStore) -> None:
        """A time without one is refused: nobody knows when it is."""
        for name in ("since", "until"):
            with pytest.raises(BadSetting, match=f"{name}.*time zone"):
                await store.read_quarantine(**{name: datetime(2026, 1, 31)})  # type: ignore[arg-type]  # noqa: DTZ001  # what is refused

    async def test_dropped_final_is_in_the_quarantine(self, store: TaskStore) -> None:
        """A ``final`` that lost is kept with what it said."""
        attempt = await start(store)
        await store.finish_if_running(attempt, FinalEvent.succeeded("first"))
        await store.finish_if_running(attempt, FinalEvent.succeeded("second"))
        (drop,) = (await store.read_quarantine(attempt.task_id)).drops

        assert (drop.type, drop.reason) == ("final", DropReason.DUPLICATE_FINAL)
        assert drop.body == {"outcome": Outcome.SUCCEEDED.value, "result": "second"}
