"""Commit notifications: after the commit, to all followers, here and elsewhere."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from tapescope.model.tape import Event
from tapescope.model.tasks import CancelRequest, FinalEvent, NewTask
from tapescope.store.notifications import RESYNC, Change, Subscription
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.polling import settle_loop, until
from tapescope.testing.tasks import LEASE, OWNER, log, start

T = TypeVar("T")


async def gather_events(subscription: Subscription, last_seq: int) -> list[Event]:
    """The events of the changes up to this seq."""
    events: list[Event] = []
    async with asyncio.timeout(10):
        while not events or events[-1].seq < last_seq:
            events += (await anext(subscription)).events
    return events


async def _drain(subscription: Subscription) -> list[Change]:
    return [change async for change in subscription]


class NotificationsConformance(StoreSuite):
    """Commit notifications: after the commit, to all followers, here and elsewhere."""

    async def test_subscriber_is_handed_the_committed_events(self, store: TaskStore) -> None:
        """In the process that wrote them, events come with the change: no read is needed."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        with store.changes(task.task_id) as subscription:
            claim = await store.claim_if_pending(task, OWNER, LEASE)
            assert claim is not None
            await store.append(claim.attempt, [log(1), log(2)])
            await store.append(claim.attempt, [log(3)])
            await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
            events = await gather_events(subscription, 5)
        page = await store.read_tape(task.task_id)

        assert tuple(events) == page.events

    async def test_a_follower_of_all_looks_at_first(self, store: TaskStore) -> None:
        """What was committed before the store listened was told to nobody."""
        with store.changes() as subscription:
            async with asyncio.timeout(10):
                assert await anext(subscription) is RESYNC

    async def test_cancel_before_the_start_is_told_too(self, store: TaskStore) -> None:
        """The ``final`` that a cancel writes reaches the task's followers."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        with store.changes(task.task_id) as subscription:
            await store.request_cancel(task.task_id)
            events = await gather_events(subscription, 1)

        assert [event.type for event in events] == ["final"]

    async def test_subscriber_hears_of_its_task_only(self, store: TaskStore) -> None:
        """A follower of one task is not told of others; a follower of all is told of each."""
        one, two = await start(store), await start(store)
        with store.changes(one.task_id) as own, store.changes() as every:
            await store.append(two, [log()])
            await store.append(one, [log()])
            own_events = await gather_events(own, 2)
            async with asyncio.timeout(10):
                seen: set[str | None] = set()
                while not {one.task_id, two.task_id} <= seen:
                    seen.add((await anext(every)).task_id)

        assert [event.seq for event in own_events] == [2]

    async def test_dropped_events_are_told_to_nobody(self, store: TaskStore) -> None:
        """Followers are not told of an event that is not on the tape."""
        attempt = await start(store)
        with store.changes(attempt.task_id) as subscription:
            await store.finish_if_running(attempt, FinalEvent.succeeded())
            await store.append(attempt, [log("late")])
            events = await gather_events(subscription, 2)
            subscription.close()
            rest = [change async for change in subscription]

        assert [event.type for event in events] == ["final"]
        assert not any(change.events for change in rest)

    async def test_closing_the_store_ends_subscriptions(self, store: TaskStore) -> None:
        """A follower of a store that is closed is let go."""
        subscription = store.changes()
        following = asyncio.ensure_future(_drain(subscription))
        await settle_loop()
        await store.aclose()
        async with asyncio.timeout(10):
            await following
        await store.open()

        assert following.done()

    async def test_slow_subscriber_is_told_to_look_again(self, store: TaskStore) -> None:
        """A backlog that overflows becomes one "look again": never silence, never without bound."""
        attempt = await start(store)
        with store.changes(attempt.task_id) as subscription:
            for _ in range(11):
                futures = [store.append_nowait(attempt, [log()]) for _ in range(100)]
                await asyncio.gather(*futures)
            subscription.close()
            backlog = await _drain(subscription)

        assert RESYNC in backlog
        assert len(backlog) < 1_100

    async def test_commits_of_another_instance_are_told(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """A follower in another process learns of a commit, and then finds it on the tape."""
        attempt = await start(store)
        with second_store.changes(attempt.task_id) as subscription:
            async with asyncio.timeout(10):
                await anext(subscription)  # from here on it listens
                await store.append(attempt, [log("news")])
                while True:
                    change = await anext(subscription)
                    assert change.task_id in (None, attempt.task_id)
                    page = await second_store.read_tape(attempt.task_id)
                    if page.last_seq == 2:
                        break

        assert page.events[1].body == {"message": "news"}

    async def test_the_end_of_what_waits_is_told_by_another_instance(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """A follower of a pending task learns that another process has cancelled it."""
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        with store.changes(task.task_id) as subscription:
            async with asyncio.timeout(10):
                await anext(subscription)  # from here on it listens
                await second_store.request_cancel(task.task_id)
                while (await store.read_tape(task.task_id)).final_seq is None:
                    await anext(subscription)
                change = await anext(subscription)

        assert change.task_id in (None, task.task_id)

    async def test_cancel_from_another_instance_reaches_the_owner(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """The owner of a running task is told of a cancel that another process recorded."""
        told: list[tuple[str, CancelRequest]] = []
        store.listen_for_cancels(OWNER, lambda task_id, request: told.append((task_id, request)))
        attempt = await start(store)
        answer = await second_store.request_cancel(attempt.task_id, message="stop")
        await until(lambda: told)
        store.stop_listening(OWNER)

        assert told[0] == (attempt.task_id, answer.request)

    async def test_cancel_in_the_same_process_reaches_the_owner_at_once(
        self, store: TaskStore
    ) -> None:
        """No round trip: the owner knows before the caller's ``request_cancel`` returns."""
        told: list[str] = []
        attempt = await start(store)
        store.listen_for_cancels(OWNER, lambda task_id, request: told.append(task_id))
        await store.request_cancel(attempt.task_id)
        heard = list(told)
        store.stop_listening(OWNER)
        store.stop_listening(OWNER)
        await store.request_cancel(attempt.task_id)

        assert set(heard) == {attempt.task_id}  # a poll of the file may tell it again
