"""Messages into a running task: what its runner is given, what is on the tape, and who is told."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from typing import Any

import pytest

from tapescope import (
    CancelRequested,
    Message,
    Reporter,
    TaskCancelled,
    TaskEnded,
    TaskHandle,
    TaskManager,
    Telling,
    ThreadReporter,
)
from tapescope.errors import StoreUnavailable
from tapescope.model import MESSAGE_TAKEN, SendAnswer, SendRow
from tapescope.store.flush import Flush, StoreAway
from tapescope.testing import until
from tests.support.memory_stores import FaultyStore, Gate, at_rest
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import working


async def gather(report: Reporter) -> list[Any]:
    """Everything that is sent, up to a ``None``."""
    given: list[Any] = []
    async for message in report.messages():
        if message.body is None:
            return given
        given.append(message.body)
    raise AssertionError("the messages of a task have no end")


def gather_in_thread(report: ThreadReporter) -> list[Any]:
    """The same in a thread."""
    given: list[Any] = []
    for message in report.messages():
        if message.body is None:
            return given
        given.append(message.body)
    raise AssertionError("the messages of a task have no end")


async def taken(task: TaskHandle) -> list[Any]:
    """The bodies of the messages on the tape."""
    page = await task.tape()
    return [event.body["body"] for event in page.events if event.type == MESSAGE_TAKEN]


@pytest.mark.parametrize("runner", [gather, gather_in_thread])
async def test_a_runner_is_given_what_is_sent_to_its_task(any_url: str, runner: Any) -> None:
    """What waited for it, and what comes while it waits; each on the tape, in its order."""
    async with working(any_url) as bench:
        await bench.manager.store.ops.pause("work")
        bench.manager.op("work")(runner)
        task = await bench.manager.submit("work")
        early = await task.send("early")
        await bench.manager.store.ops.resume("work")
        await until(lambda: has_taken(task, 1))
        await bench.manager.send(task.task_id, {"n": 2})
        await task.send(None)
        result = await task.result(10)

        assert (early.n, early.new) == (1, True)
        assert result == ["early", {"n": 2}]
        assert await taken(task) == ["early", {"n": 2}, None]


async def has_taken(task: TaskHandle, n: int) -> bool:
    """Whether so many messages are on the tape."""
    return len(await taken(task)) >= n


async def test_a_runner_is_woken_by_a_sender_of_another_process(store_url: str) -> None:
    """The store's notifications tell it."""
    async with working(store_url) as bench:
        task = await bench.manager.submit("work", gather)
        async with bench.make_other_store() as store, TaskManager(store, work=False) as other:
            await until(lambda: runs(task))
            for body in (1, None):
                await other.send(task.task_id, body)
        result = await task.result(10)

        assert result == [1]


async def runs(task: TaskHandle) -> bool:
    """Whether the task is running."""
    return (await task.status()).status.value == "running"


async def test_a_retry_is_given_every_message_again(any_url: str) -> None:
    """From the first one; what an attempt had taken says so, and is on the tape once."""
    given: list[list[tuple[Any, bool]]] = []

    async def work(report: Reporter) -> int:
        mine: list[tuple[Any, bool]] = []
        given.append(mine)
        for _ in range(2 if report.attempt == 1 else 3):
            message = await report.message()
            mine.append((message.body, message.again))
        if report.attempt == 1:
            raise OSError("between take and use")
        return len(mine)

    async with working(any_url, retry_delay=0) as bench:
        task = await bench.manager.submit("work", work, retries=1)
        for body in ("a", "b", "c"):
            await task.send(body)

        assert await task.result(10) == 3
        assert given == [
            [("a", False), ("b", False)],
            [("a", True), ("b", True), ("c", False)],
        ]
        assert await taken(task) == ["a", "b", "c"]


async def test_who_stops_waiting_loses_no_message(any_url: str) -> None:
    """By a timeout, of the call or around it: the next call gives the message."""

    async def work(report: Reporter) -> Any:
        with pytest.raises(TimeoutError):
            await report.message(timeout=0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await report.message()
        waiting.set()
        return (await report.message(timeout=10)).body

    waiting = asyncio.Event()
    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        await waiting.wait()
        await task.send("here")

        assert await task.result(10) == "here"
        assert await taken(task) == ["here"]


@pytest.mark.parametrize("asked", ["after the commit", "before it"])
@in_virtual_time
async def test_a_take_that_is_cancelled_in_mid_commit_is_given_next(asked: str) -> None:
    """The event is stored, its caller gone: the message is on the tape once, and given once. It
    does not come again: no attempt before this one has had it."""
    gate = Gate()

    async def hold(flush: Flush) -> None:
        if any(row.type == MESSAGE_TAKEN for row in flush.rows):
            await gate(flush)

    async def work(report: Reporter) -> list[Any]:
        first = asyncio.create_task(report.message())
        await gate.reached.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        if asked == "before it":
            asyncio.get_running_loop().call_later(0.5, gate.opened.set)
        else:
            gate.opened.set()
            await until(lambda: has_taken(task, 1))
        message = await report.message()
        return [message.body, message.taken_seq, message.again]

    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        store.faults.before = hold
        task = await manager.submit("work", work)
        await task.send("once")
        result = await task.result()

        assert result == ["once", 2, False]
        assert await taken(task) == ["once"]


@in_virtual_time
async def test_a_take_whose_reply_was_lost_does_not_come_again() -> None:
    """Its append has failed for the runner, and the event is there: it is this attempt's own."""
    loses = True

    async def lose(flush: Flush) -> None:
        if loses and any(row.type == MESSAGE_TAKEN for row in flush.rows):
            raise StoreAway("the reply is lost")

    async def work(report: Reporter) -> list[Any]:
        nonlocal loses
        with pytest.raises(StoreUnavailable):
            await report.message()
        loses = False
        message = await report.message()
        return [message.body, message.taken_seq, message.again]

    async with FaultyStore() as store, TaskManager(store) as manager:
        store.faults.after = lose
        task = await manager.submit("work", work)
        await task.send("once")
        result = await task.result()

        assert result == ["once", 2, False]
        assert await taken(task) == ["once"]


@pytest.mark.parametrize("key", [None, "k"])
@in_virtual_time
async def test_a_send_whose_reply_was_lost_wakes_who_waits(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found by its key, and is one that was sent: a later one under the key is not."""
    waits = asyncio.Event()

    async def work(report: Reporter) -> Any:
        waits.set()
        return (await report.message(timeout=3600)).body

    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", work)
        await waits.wait()
        real, tries = store.backend.send_message, list[SendRow]()

        async def send_message(row: SendRow) -> SendAnswer | None:
            tries.append(row)
            answer = await real(row)
            if len(tries) == 1:
                raise StoreAway("the reply is lost")
            return answer

        monkeypatch.setattr(store.backend, "send_message", send_message)
        started = asyncio.get_running_loop().time()
        sent = await task.send("go", key=key)
        again = await task.send("go", key=sent.key)
        result = await task.result()
        waited = asyncio.get_running_loop().time() - started

    assert (result, sent.new, again.new, len(tries)) == ("go", True, False, 3)
    assert waited < 60


async def test_two_that_wait_are_given_one_message_each(any_url: str) -> None:
    """In the order in which they asked."""

    async def work(report: Reporter) -> list[Any]:
        asked = [asyncio.create_task(report.message()) for _ in range(2)]
        return [(await one).body for one in asked]

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        for body in (1, 2):
            await task.send(body)

        assert await task.result(10) == [1, 2]


async def test_a_thread_that_waits_is_told_to_stop() -> None:
    """A cancel ends the wait, as of no other report: it would have no end."""
    waits, seen = threading.Event(), list[str]()

    def work(report: ThreadReporter) -> None:
        waits.set()
        try:
            report.message()
        except CancelRequested as request:
            seen.append(request.message)
            raise

    async with working("memory:") as bench:
        task = await bench.manager.submit("work", work)
        await asyncio.to_thread(waits.wait)
        await task.cancel("enough")
        with pytest.raises(TaskCancelled):
            await task.result(10)

        assert seen == ["enough"]


async def test_a_runner_with_a_loop_of_its_own_takes_messages() -> None:
    """As a decorator of a command line makes one; a stop reaches it there."""

    async def take(report: Reporter) -> Any:
        return (await report.message()).body

    @functools.wraps(take)
    def work(report: Reporter) -> Any:
        return asyncio.run(take(report))

    async with working("memory:") as bench:
        task = await bench.manager.submit("work", work)
        await task.send(7)
        waiting = await bench.manager.submit("work", work)
        await until(lambda: runs(waiting))
        await waiting.cancel()
        with pytest.raises(TaskCancelled):
            await waiting.result(10)

        assert await task.result(10) == 7


@in_virtual_time
async def test_who_waits_for_a_message_is_not_stalled() -> None:
    """A person may be slow."""
    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        manager.op("work", stall_timeout=5)(gather)
        task = await manager.submit("work")
        await asyncio.sleep(100)
        await task.send(None)

        assert await task.result() == []


class Backwards:
    """A codec: texts are stored backwards."""

    name = "backwards"

    def encode(self, value: Any, /) -> Any:
        """Backwards, where it is a text."""
        return value[::-1] if isinstance(value, str) else value

    def decode(self, stored: Any, /) -> Any:
        """Forwards again."""
        return stored[::-1]


async def test_messages_go_through_codec_and_hook() -> None:
    """The store has what the codec makes; the tape what the hook leaves; the runner what was sent,
    also when it is retried."""

    def redact(told: Telling, value: Any) -> Any:
        return "***" if told.path == MESSAGE_TAKEN else value

    async def work(report: Reporter) -> bool:
        message = await report.message()
        if report.attempt == 1:
            raise OSError
        return (message.body, message.again) == ("secret", True)

    async with working("memory:", codec=Backwards(), redact=redact, retry_delay=0) as bench:
        task = await bench.manager.submit("work", work, retries=1)
        await task.send("secret")

        assert await task.result(10) is True
        (kept,) = (await task.messages()).messages
        assert "terces" in str(kept.body)
        (on_tape,) = await taken(task)
        assert "***" in str(on_tape)
        assert "secret" not in str(on_tape)


async def test_what_a_task_leaves_is_counted_and_said(
    any_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """So is a message that comes too late. However the task ends: by its run, or before one."""

    async def take_one(report: Reporter) -> None:
        await report.message()

    async with working(any_url) as bench:
        await bench.manager.store.ops.pause("work")
        bench.manager.op("work")(take_one)
        task = await bench.manager.submit("work")
        never = await bench.manager.submit("work")
        for n in range(3):
            await task.send(n, key=str(n))
        await task.send(0, key="0")
        await never.send(1)
        with caplog.at_level(logging.WARNING, "tapescope"):
            await never.cancel()
            await bench.manager.store.ops.resume("work")
            await task.result(10)
        for ended in (task, never):
            with pytest.raises(TaskEnded):
                await ended.send("late")
        counts = {
            str(point.labels["tapescope.message.result"]): point.value
            for point in bench.captured.points("tapescope.message.count")
        }
        left = [m.body for m in (await task.messages()).messages if m.taken_seq is None]

    assert counts == {"sent": 4, "repeated": 1, "taken": 1, "untaken": 3, "ended": 2}
    assert left == [1, 2]
    said = [record.getMessage() for record in caplog.records if "messages" in record.getMessage()]
    assert [text.split(" did ")[1].split(" of ")[0] for text in said] == [
        "not take 1",
        "not take 2",
    ]


def test_a_message_says_when_it_was_sent() -> None:
    """As an aware time."""
    message = Message(1, None, "k", 1_000_000)

    assert message.sent_at.isoformat() == "1970-01-01T00:00:01+00:00"
