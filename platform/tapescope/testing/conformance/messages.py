"""Messages to tasks: each in one inbox, on one tape at most once, and refused at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tapescope.errors import (
    BadEventType,
    BadSetting,
    InboxFull,
    MessageConflict,
    MessageTooLarge,
    NotJson,
    StoreRefused,
    TaskEnded,
    UnknownTask,
)
from tapescope.model.messages import Message, MessageTaken, Sent
from tapescope.model.tape import MESSAGE_TAKEN, DropReason, NewEvent
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.store.notifications import Subscription
from tapescope.store.port import TaskStore
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope.testing.conformance.suite import Stores, StoreSuite
from tapescope.testing.tasks import LEASE, OWNER, create, log, start


class MessagesConformance(StoreSuite):
    """An inbox is the store's, a take the attempt's: both in one transaction with what they say."""

    async def test_messages_wait_in_their_order(self, store: TaskStore) -> None:
        """Those of a pending task, and of one that runs, by their numbers, a page at a time."""
        pending, _ = await store.create(NewTask(new_task_id(), "work"))
        running = await start(store)
        bodies = ["yes", {"a": [1, 2.5, None]}, "\u2028 \U0001f600 'quoted' %s ? \\", None]
        sent = [await store.messages.send(pending.task_id, body) for body in bodies]
        other = await store.messages.send(running.task_id, 1)
        first = await store.messages.read(pending.task_id, limit=3)
        rest = await store.messages.read(pending.task_id, after=first.next or 0, limit=3)

        assert [(one.n, one.new) for one in sent] == [(1, True), (2, True), (3, True), (4, True)]
        assert other.n == 1
        assert [one.body for one in first.messages + rest.messages] == bodies
        assert [one.key for one in first.messages + rest.messages] == [one.key for one in sent]
        assert (first.next, rest.next) == (3, None)
        assert {one.taken_seq for one in first.messages} == {None}

    async def test_the_same_key_adds_nothing(self, store: TaskStore) -> None:
        """It is answered as the first time, also after the end; another body is refused."""
        claim = await start(store)
        task_id = claim.task_id
        first = await store.messages.send(task_id, {"a": 1, "b": 2}, key="k")
        again = await store.messages.send(task_id, {"b": 2, "a": 1}, key="k")
        with pytest.raises(MessageConflict, match="message 1"):
            await store.messages.send(task_id, {"a": 2}, key="k")
        elsewhere = await store.messages.send((await start(store)).task_id, 0, key="k")
        await store.finish_if_running(claim, FinalEvent.succeeded())
        late = await store.messages.send(task_id, {"a": 1, "b": 2}, key="k")

        assert first == Sent(1, "k", new=True)
        assert again == late == Sent(1, "k", new=False)
        assert elsewhere.new
        assert len((await store.messages.read(task_id)).messages) == 1

    async def test_a_message_is_taken_by_the_event_that_says_so(self, store: TaskStore) -> None:
        """In one transaction, beside other events; a second take of it puts nothing on the tape."""
        claim = await start(store)
        task_id = claim.task_id
        for body in ("one", "two"):
            await store.messages.send(task_id, body, key=body)
        one, two = (await store.messages.read(task_id)).messages
        first = await store.append(claim, [log(1), MessageTaken(one, "one"), log(2)])
        with pytest.raises(StoreRefused):
            await store.append(claim, [MessageTaken(one, "one")])
        with pytest.raises(StoreRefused):
            await store.append(claim, [MessageTaken(Message(7, "?", "?", 0), "?")])
        await store.append(claim, [MessageTaken(two, "two")])
        page = await store.read_tape(task_id)
        taken = [e for e in page.events if e.type == MESSAGE_TAKEN]

        assert [(e.seq, e.body["n"], e.body["key"], e.body["body"]) for e in taken] == [
            (first.last_seq - 1, 1, "one", "one"),
            (page.last_seq, 2, "two", "two"),
        ]
        assert [m.taken_seq for m in (await store.messages.read(task_id)).messages] == [
            e.seq for e in taken
        ]

    async def test_nobody_else_writes_the_event(self, store: TaskStore) -> None:
        """Its type is the platform's: it is refused where no message comes with it."""
        claim = await start(store)
        with pytest.raises(BadEventType):
            await store.append(claim, [NewEvent(MESSAGE_TAKEN, {"n": 1})])

    async def test_an_attempt_that_has_lost_its_task_takes_nothing(self, store: TaskStore) -> None:
        """What it takes is dropped, and the next attempt has the message, once."""
        task_id = await create(store, retries=1)
        claim = await _claim(store, task_id)
        await store.messages.send(task_id, "go")
        (message,) = (await store.messages.read(task_id)).messages
        due = (await store.get(task_id)).run_us
        await store.retry_later(claim, ErrorInfo("x", "failed"), due)
        late = await store.append(claim, [MessageTaken(message, "go")])
        left = (await store.messages.read(task_id)).messages
        again = await _claim(store, task_id)
        taken = await store.append(again, [MessageTaken(message, "go")])
        (after,) = (await store.messages.read(task_id)).messages

        assert late.dropped is DropReason.STALE_ATTEMPT
        assert left == (message,)
        assert after.taken_seq == taken.last_seq

    async def test_an_ended_task_takes_none(self, store: TaskStore) -> None:
        """However it has ended; what it has not taken stays to be seen."""
        ended = await start(store)
        cancelled, _ = await store.create(NewTask(new_task_id(), "work"))
        await store.messages.send(ended.task_id, "left")
        await store.messages.send(cancelled.task_id, "left")
        await store.finish_if_running(ended, FinalEvent.succeeded())
        await store.request_cancel(cancelled.task_id)
        for task_id, status in (
            (ended.task_id, TaskStatus.SUCCEEDED),
            (cancelled.task_id, TaskStatus.CANCELLED),
        ):
            with pytest.raises(TaskEnded, match=f"has ended as {status}"):
                await store.messages.send(task_id, "too late")
            (left,) = (await store.messages.read(task_id)).messages

            assert (left.body, left.taken_seq) == ("left", None)
            found = await store.backend.find_untaken([task_id, new_task_id()])
            assert [tuple(one) for one in found] == [(task_id, "work", 1)]

    async def test_an_inbox_is_bounded(self, stores: Stores) -> None:
        """In number and in size; what is taken makes room."""
        store = await stores.open(limits=StoreLimits(inbox=2, message_bytes=10))
        claim = await start(store)
        task_id = claim.task_id
        for n in range(2):
            await store.messages.send(task_id, n, key=str(n))
        with pytest.raises(InboxFull, match="has 2 messages"):
            await store.messages.send(task_id, 2)
        again = await store.messages.send(task_id, 1, key="1")
        message = (await store.messages.read(task_id)).messages[0]
        await store.append(claim, [MessageTaken(message, 0)])
        more = await store.messages.send(task_id, "x" * 8)
        with pytest.raises(MessageTooLarge, match="11 bytes"):
            await store.messages.send(task_id, "x" * 9)

        assert not again.new
        assert more.n == 3

    async def test_what_is_in_an_inbox_can_be_taken(self, stores: Stores) -> None:
        """As deep and as long as an event can hold it, its head included; more is refused."""
        store = await stores.open(limits=StoreLimits(event_bytes=1_000, inbox=10))
        claim = await start(store)
        refused = 0
        for body in (*map(_nest, range(250, 258)), *("x" * n for n in range(890, 930))):
            try:
                await store.messages.send(claim.task_id, body, key="\N{SNOWMAN}")
            except (NotJson, MessageTooLarge):
                refused += 1
                continue
            (message,) = (await store.messages.read(claim.task_id)).messages
            await store.append(claim, [MessageTaken(message, message.body)])
            claim = await start(store)

        assert 10 < refused < 40
        with pytest.raises(MessageTooLarge, match="over the limit of 8"):
            await store.messages.send(claim.task_id, "x" * 998)

    async def test_bad_messages_are_refused(self, store: TaskStore) -> None:
        """With an error that says what is wrong, and nothing is stored."""
        claim = await start(store)
        task_id = claim.task_id
        for unknown in (new_task_id(), "not-an-id"):
            with pytest.raises(UnknownTask):
                await store.messages.send(unknown, 1)
            with pytest.raises(UnknownTask):
                await store.messages.read(unknown)
        for body in (float("nan"), b"bytes", "\0"):
            with pytest.raises(NotJson):
                await store.messages.send(task_id, body)
        bad: tuple[Any, ...] = ("\0", "k" * 1_025, 7)
        for key in bad:
            with pytest.raises(BadSetting):
                await store.messages.send(task_id, 1, key=key)
        with pytest.raises(BadSetting):
            await store.messages.read(task_id, after=-1)

        assert (await store.messages.read(task_id)).messages == ()

    async def test_a_send_is_in_before_the_final_or_refused(self, stores: Stores) -> None:
        """Many that meet the end of their tasks: each is in the inbox, or its sender knows."""
        store = await stores.open()
        sender = await stores.open() if store.outlives_process else store
        claims = [await start(store) for _ in range(8)]

        async def send(claim: Attempt, n: int) -> bool:
            try:
                await sender.messages.send(claim.task_id, n, key=str(n))
            except TaskEnded:
                return False
            return True

        async def end(claim: Attempt) -> None:
            await store.finish_if_running(claim, FinalEvent.succeeded())

        for claim in claims:
            sends = [send(claim, n) for n in range(4)]
            *told, _ = await asyncio.gather(*sends[:2], *sends[2:], end(claim))
            there = (await store.messages.read(claim.task_id)).messages

            assert sorted(int(one.key) for one in there) == [n for n in range(4) if told[n]]
            assert [one.n for one in there] == list(range(1, len(there) + 1))

    async def test_senders_of_two_processes_have_numbers_in_a_row(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """No message takes another one's place."""
        task_id = (await start(store)).task_id
        sent = await asyncio.gather(
            *(one.messages.send(task_id, n) for n in range(10) for one in (store, second_store))
        )

        assert sorted(one.n for one in sent) == list(range(1, 21))

    async def test_who_waits_in_another_process_is_woken(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """By the store's notifications: nobody asks again and again."""
        task_id = (await start(second_store)).task_id
        with second_store.changes(task_id) as changes:
            async with asyncio.timeout(10):
                assert (await anext(changes)).task_id in (None, task_id)  # it listens
                sent = await store.messages.send(task_id, "go")
                while not (await second_store.messages.read(task_id)).messages:
                    await anext(changes)

        assert sent.n == 1

    async def test_who_knows_the_end_of_the_tape_is_woken_all_the_same(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """A message is no event: the tape may have been told as far as it goes, by its own writer,
        also where somebody follows every task."""
        attempt = await start(second_store)
        heard = 0
        async with asyncio.timeout(20):
            with second_store.changes(attempt.task_id) as changes:
                for n in range(4):  # of the first ones it may be the look of one who begins
                    await second_store.append(attempt, [log(n)])
                    await store.messages.send(attempt.task_id, n)
                    await _hear(changes)
                    heard += 1
            with second_store.changes(), second_store.changes(attempt.task_id) as changes:
                for n in range(4):
                    await second_store.append(attempt, [log(n)])
                    await store.messages.send(attempt.task_id, n)
                    await _hear(changes)
                    heard += 1

        assert heard == 8

    async def test_messages_go_with_their_task(self, unrecorded_store: TaskStore) -> None:
        """Retention deletes a task whole."""
        store = unrecorded_store
        claim = await start(store)
        await store.messages.send(claim.task_id, 1)
        await store.finish_if_running(claim, FinalEvent.succeeded())
        await store.backend.delete_tasks([(await store.get(claim.task_id)).key], 100)
        with pytest.raises(UnknownTask):
            await store.messages.read(claim.task_id)

        assert await store.backend.find_untaken([claim.task_id]) == []


def _nest(levels: int) -> Any:
    """Lists in lists."""
    body: Any = 0
    for _ in range(levels):
        body = [body]
    return body


async def _hear(changes: Subscription) -> None:
    """Wait until it is told to look, not of events."""
    while (await anext(changes)).events:
        pass


async def _claim(store: TaskStore, task_id: str) -> Attempt:
    async with asyncio.timeout(10):
        claim = None
        while claim is None:  # due times are the database's
            claim = await store.claim_if_pending(await store.get(task_id), OWNER, LEASE)
    return claim.attempt
