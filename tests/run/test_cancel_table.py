"""The cancel table, line by line: what tape, row, span and duration metric say of each."""

from __future__ import annotations

import asyncio

import pytest

from tapescope import (
    CancelRequested,
    CancelState,
    DropReason,
    EventDropped,
    Reporter,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TaskManager,
    ThreadReporter,
)
from tapescope.testing import MemoryStore, until
from tests.support.memory_stores import FaultyStore, at_rest
from tests.support.outages import managing
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import (
    GRACE,
    Block,
    Workbench,
    ended,
    started,
    wait_for_cancel,
    working,
)


async def test_a_result_succeeds(any_url: str) -> None:
    """A runner that returns ends its task as succeeded, with its result in the ``final``."""

    async def add(report: Reporter, a: int, b: int) -> int:
        return a + b

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", add, params={"a": 1, "b": 2})
        result = await task.result()

        assert result == 3
        assert await bench.account(task) == ended("succeeded")
        assert await bench.body(task) == {"outcome": "succeeded", "result": 3}


@pytest.mark.parametrize("result", [object(), float("nan"), "x" * 70_000, 2**64, {1: 2}])
async def test_a_result_that_no_tape_takes_fails(any_url: str, result: object) -> None:
    """A result that is not JSON, or too large, fails its task as ``bad_result``; none is lost."""

    async def give(report: Reporter) -> object:
        return result

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", give)
        with pytest.raises(TaskFailed) as raised:
            await task.result()

        assert raised.value.error.code == "bad_result"
        assert await bench.account(task) == ended("failed", error="bad_result")


async def test_an_exception_fails(any_url: str) -> None:
    """A runner that raises fails its task, with the exception's name and traceback on the tape."""

    async def fail(report: Reporter) -> None:
        raise ValueError("no such folder")

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", fail)
        with pytest.raises(TaskFailed, match="no such folder") as raised:
            await task.result()
        (span,) = bench.run_spans(task.task_id)

        assert "in fail" in (raised.value.error.traceback or "")
        assert await bench.account(task) == ended("failed", error="ValueError")
        assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("in_thread", [False, True])
async def test_an_exit_is_a_failure(
    any_url: str, kind: type[BaseException], in_thread: bool
) -> None:
    """``SystemExit`` and its like from a runner fail its task and never end the host's loop."""

    async def leave(report: Reporter) -> None:
        raise kind("out")

    def leave_thread(report: ThreadReporter) -> None:
        raise kind("out")

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", leave_thread if in_thread else leave)
        with pytest.raises(TaskFailed):
            await task.result()

        assert await bench.account(task) == ended("failed", error=kind.__name__)


async def test_cancel_before_the_start_leaves_one_final(any_url: str) -> None:
    """A task cancelled before its first attempt has a tape of one ``final`` and no run span."""
    block = Block()
    async with working(any_url, max_running=1) as bench:
        first = await bench.manager.submit("block", block)
        task = await bench.manager.submit("work", wait_for_cancel)
        answer = await task.cancel("not needed", by="ann")
        with pytest.raises(TaskCancelled, match="not needed"):
            await task.result()
        account = await bench.account(task)
        body = await bench.body(task)
        block.released.set()
        await first.result()

        assert answer.state is CancelState.CANCELLED
        assert account.tape == ["final"]
        assert account.row == ("cancelled", None)
        assert account.span is None
        assert account.duration == {"task.outcome": "cancelled", "cancel.reason": "user"}
        assert (body["cancel"]["message"], body["cancel"]["by"]) == ("not needed", "ann")


async def test_task_span_marks_cancel_not_error(any_url: str) -> None:
    """A cancelled run's span is UNSET, without an error, and says outcome and reason."""
    async with working(any_url) as bench:
        task = await bench.manager.submit("work", wait_for_cancel)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        (span,) = bench.run_spans(task.task_id)
        told = span.attributes or {}

        assert span.status.status_code.name == "UNSET"
        assert span.events == ()
        assert "error.type" not in told
        assert told["tapescope.task.outcome"] == "cancelled"
        assert told["tapescope.cancel.reason"] == "user"
        assert told["tapescope.cancel.requested"] is True


async def test_cancel_while_running_lets_the_runner_clean_up(any_url: str) -> None:
    """A cancelled runner may clean up and report within the grace, and sees the request."""
    seen: list[bool] = []

    async def clean_up(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        finally:
            seen.append(report.cancel_requested)
            await report.log("info", "cleaned up")

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", clean_up)
        await started(task)
        answer = await task.cancel("enough")
        with pytest.raises(TaskCancelled, match="enough"):
            await task.result()

        tape = ["task_started", "log", "log", "final"]
        assert answer.state is CancelState.RECORDED
        assert seen == [True]
        assert await bench.account(task) == ended("cancelled", reason="user", tape=tape)
        assert bench.captured.value("tapescope.cancel.requests", cancel_reason="user") == 1
        assert bench.captured.value("tapescope.cancel.duration", cancel_reason="user") == 1


async def test_cancel_into_a_cooperative_thread(any_url: str) -> None:
    """A thread that asks ``raise_if_cancelled`` ends as cancelled, well within the grace."""

    def work(report: ThreadReporter) -> None:
        while True:
            report.log("info", "here")
            try:
                report.raise_if_cancelled()
            except CancelRequested:
                report.log("info", "cleaned up")
                raise

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        account = await bench.account(task)

        assert account == ended("cancelled", reason="user", tape=account.tape)
        assert account.tape[-1] == "final"
        assert await bench.drops(task) == {}


async def test_a_cleanup_that_raises_stays_cancelled(any_url: str) -> None:
    """What a cleanup raises is kept in the ``final`` and makes no error of a cancel."""

    async def break_off(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        finally:
            raise RuntimeError("cannot delete")

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", break_off)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        body = await bench.body(task)

        tape = ["task_started", "log", "final"]
        assert await bench.account(task) == ended("cancelled", reason="user", tape=tape)
        assert body["error"]["code"] == "RuntimeError"
        assert body["error"]["message"] == "cannot delete"


async def test_a_cancel_loses_to_a_result(any_url: str) -> None:
    """A runner that answers its cancel with a result succeeds, and its span says it was asked."""

    async def finish(report: Reporter) -> str:
        try:
            await wait_for_cancel(report)
        except asyncio.CancelledError:
            return "done all the same"
        return "never"

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", finish)
        await started(task)
        await task.cancel()
        result = await task.result()
        account = await bench.account(task)

        assert result == "done all the same"
        assert account.row == ("succeeded", None)
        assert account.span == ("UNSET", "succeeded", None)
        assert account.cancel == (True, "user")


async def test_a_swallowed_cancel_is_fenced(any_url: str) -> None:
    """A runner that swallows its cancel is cancelled after the grace; what it writes is dropped."""
    go_on = asyncio.Event()
    refused: list[DropReason] = []

    async def swallow(report: Reporter) -> str:
        try:
            await wait_for_cancel(report)
        except asyncio.CancelledError:
            await go_on.wait()
        try:
            await report.log("info", "late")
        except EventDropped as error:
            refused.append(error.reason)
        return "late result"

    async with working(any_url, cancel_grace=GRACE) as bench:
        task = await bench.manager.submit("work", swallow)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        zombies = bench.captured.value("tapescope.task.zombies", task_op="work")
        go_on.set()
        await bench.zombies_ended()

        tape = ["task_started", "log", "final"]
        assert await bench.account(task) == ended("cancelled", reason="user", tape=tape)
        assert zombies == 1
        assert refused == [DropReason.AFTER_TERMINAL]
        assert await bench.drops(task) == {DropReason.AFTER_TERMINAL: 1}
        assert bench.captured.value("tapescope.cancel.overrun", task_op="work") == 1


async def test_a_defect_in_a_fenced_end_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong while a fenced run is settled, it is said, and the manager closes."""
    go_on = asyncio.Event()

    async def swallow(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        except asyncio.CancelledError:
            await go_on.wait()

    async def break_down(*_: object) -> None:
        raise RuntimeError("a defect")

    async with MemoryStore() as store:
        manager = await TaskManager(store, cancel_grace=GRACE).open()  # closed where it can be
        task = await manager.submit("work", swallow)
        await started(task)
        monkeypatch.setattr(store, "finish_if_running", break_down)
        await task.cancel()
        await until(lambda: "ended with a defect" in caplog.text)
        go_on.set()
        async with asyncio.timeout(10):
            await manager.aclose()

    assert "is lost: a defect" in caplog.text


async def test_a_thread_that_goes_on_is_fenced(any_url: str) -> None:
    """A thread that ignores its cancel is cancelled after the grace: each late event is counted."""
    refused: list[DropReason] = []

    def ignore(report: ThreadReporter) -> None:
        while len(refused) < 5:
            try:
                report.log("info", "here")
            except EventDropped as error:
                refused.append(error.reason)

    async with working(any_url, cancel_grace=GRACE) as bench:
        task = await bench.manager.submit("work", ignore)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        await bench.zombies_ended()
        account = await bench.account(task)
        page = await task.drops()

        assert account == ended("cancelled", reason="user", tape=account.tape)
        assert refused == [DropReason.AFTER_TERMINAL] * 5
        assert len(page.drops) + page.overflow == 5
        (point,) = bench.captured.points(
            "tapescope.tape.event.dropped",
            task_op="work",
            event_type="log",
            drop_reason="after_terminal",
            tape_outcome="cancelled",
        )
        assert point.value == 5


async def test_a_fenced_thread_frees_its_slot(any_url: str) -> None:
    """The slot of a fenced runner is free at once: the next task runs beside the zombie."""
    block = Block()

    async def work(report: Reporter) -> str:
        return "ran"

    async with working(any_url, max_running=1, max_zombies=2, cancel_grace=GRACE) as bench:
        stuck = await bench.manager.submit("block", block)
        await until(block.begun.is_set)
        await stuck.cancel()
        task = await bench.manager.submit("work", work)
        result = await task.result()
        running_on = not block.released.is_set()
        block.released.set()

        assert result == "ran"
        assert running_on


async def test_cancel_again_changes_nothing(any_url: str) -> None:
    """Of any number of cancels the first reason stays, and the runner is cancelled once."""
    cancels: list[int] = []

    async def count(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        except asyncio.CancelledError:
            cancels.append(1)
            await report.log("info", "cleaning up")
            raise

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", count)
        await started(task)
        answers = await asyncio.gather(
            task.cancel("first"), task.cancel("second", reason="superseded"), task.cancel("third")
        )
        with pytest.raises(TaskCancelled, match="first"):
            await task.result()
        late = await task.cancel("much later")

        tape = ["task_started", "log", "log", "final"]
        assert [a.state for a in answers] == [
            CancelState.RECORDED,
            CancelState.ALREADY_RECORDED,
            CancelState.ALREADY_RECORDED,
        ]
        assert late.state is CancelState.TERMINAL
        assert cancels == [1]
        assert await bench.account(task) == ended("cancelled", reason="user", tape=tape)


@in_virtual_time
async def test_a_cleanup_outlasts_heartbeats() -> None:
    """Each heartbeat says again that a cancel is recorded; the runner is cancelled once."""

    async def clean_up(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        finally:
            await asyncio.sleep(100)
            await report.log("info", "clean")

    async with (
        at_rest(FaultyStore()) as store,
        managing(store, lease=60, heartbeat=10, cancel_grace=200) as (manager, _),
    ):
        task = await manager.submit("work", clean_up)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result(200)
        page = await store.read_tape(task.task_id)

        assert [event.type for event in page.events] == ["task_started", "log", "log", "final"]


async def test_a_cancel_nobody_asked_for_fails(any_url: str) -> None:
    """A ``CancelledError`` without a cancel request is a failure, not a cancel."""

    async def cancel_itself(report: Reporter) -> None:
        raise asyncio.CancelledError

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", cancel_itself)
        with pytest.raises(TaskFailed):
            await task.result()

        assert await bench.account(task) == ended("failed", error="unrequested_cancel")


async def test_a_runner_cancelled_from_outside_fails(any_url: str) -> None:
    """A cancel of our asyncio task from outside fails the task, and its ``final`` is written."""

    async def work(report: Reporter) -> None:
        current = asyncio.current_task()
        assert current is not None
        asyncio.get_running_loop().call_soon(current.cancel)
        await asyncio.Event().wait()

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        with pytest.raises(TaskFailed):
            await task.result()

        assert await bench.account(task) == ended("failed", error="unrequested_cancel")


async def test_shutdown_cancels_what_is_left(any_url: str) -> None:
    """Past the drain a shutdown cancels what runs and what waits, with the reason ``shutdown``."""
    async with working(any_url, max_running=1, drain=0.0) as bench:
        running = await bench.manager.submit("running", wait_for_cancel)
        waiting = await bench.manager.submit("waiting", wait_for_cancel)
        await started(running)
        await bench.manager.aclose()
        for task in (running, waiting):
            with pytest.raises(TaskCancelled, match="shutdown"):
                await task.result()
        never_ran = await bench.account(waiting)

        tape = ["task_started", "log", "final"]
        assert await bench.account(running) == ended("cancelled", reason="shutdown", tape=tape)
        assert never_ran.tape == ["final"]
        assert never_ran.span is None
        assert never_ran.duration == {"task.outcome": "cancelled", "cancel.reason": "shutdown"}
        assert bench.captured.value("tapescope.cancel.requests", cancel_reason="shutdown") == 2


async def test_cancel_right_after_submit(any_url: str) -> None:
    """A cancel right after the submit ends the task, wherever its claim stands by then."""

    async def cancel_soon(bench: Workbench) -> TaskHandle:
        task = await bench.manager.submit("work", wait_for_cancel)
        await task.cancel()
        return task

    async with working(any_url) as bench:
        tasks = await asyncio.gather(*(cancel_soon(bench) for _ in range(50)))
        ends = await asyncio.gather(*(t.result() for t in tasks), return_exceptions=True)
        rows = [await task.status() for task in tasks]

        assert {type(end) for end in ends} == {TaskCancelled}
        assert {row.status.value for row in rows} == {"cancelled"}
