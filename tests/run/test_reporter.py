"""The reporters: what they put on the tape, and what they raise."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tapescope import (
    BadEventType,
    BlockingCallOnLoop,
    DropReason,
    EventDropped,
    EventTooLarge,
    NotJson,
    NowaitBacklogFull,
    Reporter,
    TapescopeError,
    TaskFailed,
    TaskHandle,
    ThreadReporter,
)
from tapescope.run.tape_writer import NOWAIT_LIMIT
from tapescope.testing import until
from tests.support.workbench import Workbench, working


async def bodies(task: TaskHandle) -> list[tuple[str, Any]]:
    """Type and body of every event between ``task_started`` and ``final``."""
    return [(event.type, event.body) for event in (await task.tape()).events[1:-1]]


EXPECTED = [
    ("progress", {"phase": "resize", "current": 1, "total": 2}),
    ("progress", {"phase": "resize", "current": 2, "total": None, "detail": {"file": "a.png"}}),
    ("log", {"level": "info", "message": "half way"}),
    ("partial", {"kind": "thumbnail", "payload": [1, 2]}),
    ("mine.own", {"x": None}),
    ("mine.own", None),
]


async def test_reports_become_events(any_url: str) -> None:
    """Each report is an event with the body that its name promises, in order."""

    async def work(report: Reporter) -> list[Any]:
        await report.progress("resize", 1, 2)
        await report.progress("resize", 2, detail={"file": "a.png"})
        await report.log("info", "half way")
        await report.partial("thumbnail", (1, 2))
        await report.emit("mine.own", {"x": None})
        _ = report.emit_nowait("mine.own")
        return [report.attempt, report.task_id, report.cancel_requested]

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        result = await task.result()

        assert result == [1, task.task_id, False]
        assert await bodies(task) == EXPECTED


async def test_a_thread_reports_the_same(any_url: str) -> None:
    """The reports of a thread block until they are stored, and make the same events."""

    def work(report: ThreadReporter) -> list[Any]:
        report.progress("resize", 1, 2)
        report.progress("resize", 2, detail={"file": "a.png"})
        report.log("info", "half way")
        report.partial("thumbnail", (1, 2))
        report.emit("mine.own", {"x": None})
        report.emit_nowait("mine.own")
        return [report.attempt, report.task_id, report.cancel_requested]

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        result = await task.result()

        assert result == [1, task.task_id, False]
        assert await bodies(task) == EXPECTED


async def test_bad_reports_raise_at_the_runner() -> None:
    """What no tape takes raises in the runner, and nothing of it is stored."""
    raised: list[type[BaseException]] = []

    async def work(report: Reporter) -> None:
        for type_, body in [
            ("final", 1),
            ("Bad Type", 1),
            ("mine", float("nan")),
            ("mine", "x" * 70_000),
        ]:
            try:
                await report.emit(type_, body)
            except TapescopeError as error:
                raised.append(type(error))

    def work_thread(report: ThreadReporter) -> None:
        for type_, body in [("final", 1), ("mine", b""), ("mine", "x" * 70_000)]:
            try:
                report.emit(type_, body)
            except TapescopeError as error:
                raised.append(type(error))
        try:
            report.emit_nowait("mine", b"")
        except TapescopeError as error:
            raised.append(type(error))

    async with working("memory:") as bench:
        task = await bench.manager.submit("work", work)
        await task.result()
        in_loop = raised.copy()
        raised.clear()
        thread_task = await bench.manager.submit("work", work_thread)
        await thread_task.result()

        assert in_loop == [BadEventType, BadEventType, NotJson, EventTooLarge]
        assert raised == [BadEventType, NotJson, EventTooLarge, NotJson]
        assert await bodies(task) == await bodies(thread_task) == []


async def test_events_nobody_awaits_keep_their_order(any_url: str) -> None:
    """``emit_nowait`` keeps the order among awaited reports, and all is stored by the ``final``."""

    async def work(report: Reporter) -> None:
        for n in range(20):
            _ = report.emit_nowait("count", n)
            if n % 7 == 0:
                await report.log("info", str(n))

    def work_thread(report: ThreadReporter) -> None:
        for n in range(20):
            report.emit_nowait("count", n)
            if n % 7 == 0:
                report.log("info", str(n))

    expected: list[tuple[str, Any]] = []
    for n in range(20):
        expected.append(("count", n))
        if n % 7 == 0:
            expected.append(("log", {"level": "info", "message": str(n)}))
    async with working(any_url) as bench:
        for runner in (work, work_thread):
            task = await bench.manager.submit("work", runner)
            await task.result()

            assert await bodies(task) == expected


async def test_the_backlog_of_a_run_is_bounded(any_url: str) -> None:
    """A run that never awaits gets ``NowaitBacklogFull``, and all that was taken is stored."""

    async def work(report: Reporter) -> int:
        taken = 0
        while True:
            try:
                _ = report.emit_nowait("count", taken)
            except NowaitBacklogFull:
                await report.log("info", "full")
                _ = report.emit_nowait("count", taken)
                return taken
            taken += 1

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", work)
        taken = await task.result()

        assert taken == NOWAIT_LIMIT
        assert (await task.tape()).last_seq == NOWAIT_LIMIT + 4


async def test_the_fate_of_an_event_nobody_awaited_is_raised_once(any_url: str) -> None:
    """A dropped ``emit_nowait`` is raised at the next awaited report, once."""
    fenced = asyncio.Event()
    raised: list[DropReason | None] = []

    async def work(report: Reporter) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await fenced.wait()
        future = report.emit_nowait("late", 1)
        await asyncio.wait([future])
        for _ in range(2):
            try:
                await report.emit("late", 2)
                raised.append(None)
            except EventDropped as error:
                raised.append(error.reason)

    async with working(any_url, cancel_grace=0.02) as bench:
        task = await bench.manager.submit("work", work, timeout=0.01)
        with pytest.raises(TaskFailed):
            await task.result()
        fenced.set()
        await bench.zombies_ended()
        page = await task.drops()

        assert raised == [DropReason.AFTER_TERMINAL] * 2
        assert [drop.body for drop in page.drops] == [1, 2]  # the first call offered nothing


async def test_a_blocking_report_on_the_loop_is_refused() -> None:
    """A thread's blocking report that is called on the loop's thread raises instead of hanging."""
    reporters: list[ThreadReporter] = []
    released = threading.Event()

    def work(report: ThreadReporter) -> None:
        reporters.append(report)
        released.wait(30)

    async with working("memory:") as bench:
        task = await bench.manager.submit("work", work)
        (report,) = await until(lambda: reporters)
        with pytest.raises(BlockingCallOnLoop):
            report.log("info", "x")
        with pytest.raises(BlockingCallOnLoop):
            report.progress("x", 1)
        with pytest.raises(BlockingCallOnLoop):
            report.partial("x", 1)
        with pytest.raises(BlockingCallOnLoop):
            report.emit("x", 1)
        report.emit_nowait("x", 1)
        released.set()
        await task.result()

        assert await bodies(task) == [("x", 1)]


async def report_progress(bench: Workbench, in_thread: bool) -> tuple[TaskHandle, int]:
    """A task of 100 fast reports in each of two phases, and how many were coalesced."""

    async def work(report: Reporter) -> int:
        for phase in ("first", "second"):
            for n in range(100):
                await report.progress(phase, n + 1, 100)
        await report.log("info", "between")
        await report.progress("third", 1, 1)
        return report.coalesced

    def work_thread(report: ThreadReporter) -> int:
        for phase in ("first", "second"):
            for n in range(100):
                report.progress(phase, n + 1, 100)
        report.log("info", "between")
        report.progress("third", 1, 1)
        return report.coalesced

    task = await bench.manager.submit("work", work_thread if in_thread else work)
    return task, await task.result()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_fast_progress_is_coalesced(any_url: str, in_thread: bool) -> None:
    """With ``coalesce_progress`` the newest of a phase stands for those before it; none is lost."""
    async with working(any_url, coalesce_progress=60.0) as bench:
        task, coalesced = await report_progress(bench, in_thread)
        found = [
            (body.get("phase", type_), body.get("current")) for type_, body in await bodies(task)
        ]

        # The first at once; then the newest of a phase, when another, a log, or the end comes.
        assert found == [
            ("first", 1),
            ("first", 100),
            ("second", 100),
            ("log", None),
            ("third", 1),
        ]
        assert coalesced == 201 - 4


async def test_held_progress_goes_before_an_event_that_nobody_awaits() -> None:
    """The tape has the reports in the order in which the runner made them."""

    async def work(report: Reporter) -> None:
        await report.progress("work", 1)
        await report.progress("work", 2)
        _ = report.emit_nowait("after")

    async with working("memory:", coalesce_progress=60.0) as bench:
        task = await bench.manager.submit("work", work)
        await task.result()

        assert [type_ for type_, _ in await bodies(task)] == ["progress", "progress", "after"]


async def test_an_event_that_is_refused_at_once_takes_no_place() -> None:
    """However many of them there are, the backlog is not full for them."""

    async def work(report: Reporter) -> None:
        for _ in range(NOWAIT_LIMIT):
            with pytest.raises(NotJson):
                _ = report.emit_nowait("bad", {1, 2})
        _ = report.emit_nowait("good")

    async with working("memory:") as bench:
        task = await bench.manager.submit("work", work)
        await task.result()

        assert await bodies(task) == [("good", None)]


async def test_progress_is_not_coalesced_by_default() -> None:
    """Without the setting every progress report is an event."""
    async with working("memory:") as bench:
        task, coalesced = await report_progress(bench, in_thread=False)

        assert len(await bodies(task)) == 202
        assert coalesced == 0


async def test_held_progress_is_stored_when_its_time_has_come() -> None:
    """A held progress report is stored after the window, though the runner stays silent."""

    async def work(report: Reporter) -> None:
        await report.progress("work", 1)
        await report.progress("work", 2)
        await asyncio.Event().wait()

    async with working("memory:", coalesce_progress=0.02, drain=0.0) as bench:
        task = await bench.manager.submit("work", work)
        seen: list[Any] = []
        async for event in task.follow():
            seen.append(event.body)
            if event.seq == 3:
                break

        assert [body["current"] for body in seen[1:]] == [1, 2]


async def test_a_fenced_run_coalesces_no_more() -> None:
    """The last progress before a fence is stored, and those after it are drops, each counted."""
    fenced = asyncio.Event()

    async def work(report: Reporter) -> None:
        await report.progress("work", 1)
        await report.progress("work", 2)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await fenced.wait()
        for n in (3, 4):
            with pytest.raises(EventDropped):
                await report.progress("work", n)

    async with working("memory:", coalesce_progress=60.0, cancel_grace=0.01) as bench:
        task = await bench.manager.submit("work", work, timeout=0.01)
        with pytest.raises(TaskFailed):
            await task.result()
        fenced.set()
        await bench.zombies_ended()

        assert [body["current"] for _, body in await bodies(task)] == [1, 2]
        assert await bench.drops(task) == {DropReason.AFTER_TERMINAL: 2}
