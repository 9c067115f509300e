"""One op's function, run alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest

from tapescope import (
    BadParams,
    BadSetting,
    GiveUp,
    Ops,
    Outcome,
    Reporter,
    Retry,
    TaskCancelled,
    TaskFailed,
    Telling,
    ThreadReporter,
    ToldKind,
)
from tapescope.testing import OpRun, assert_tape, run_op

ops = Ops()


@dataclass(frozen=True)
class Size:
    """A value of a type that JSON has not."""

    width: int
    height: int


@ops.op("resize", timeout=60)
async def resize(report: Reporter, folder: str, size: Size, images: int = 2) -> list[Size]:
    """Reports each image."""
    for done in range(1, images + 1):
        await report.progress("resize", done, images)
    if folder == "missing":
        raise FileNotFoundError(folder)
    return [size] * images


@ops.op("pack")
def pack(report: ThreadReporter, folder: str) -> str:
    """In a thread; it looks whether it is to stop."""
    for number in range(5):
        report.emit("packed", number)
        report.raise_if_cancelled()
    return f"{folder}.zip"


async def test_a_function_gives_its_result_and_its_tape() -> None:
    """Arguments and result go through their types, as in a task."""
    run: OpRun[list[Size]] = run_op(resize, "photos", size=Size(2, 1))
    result = await run

    assert result == [Size(2, 1)] * 2
    assert_tape(
        run.events,
        [
            "task_started",
            ("progress", {"current": 1, "total": 2}),
            ("progress", {"current": 2}),
            ("final", {"result": [{"width": 2, "height": 1}] * 2}),
        ],
    )
    assert await run_op(pack, "photos") == "photos.zip"


async def test_a_plain_function_needs_no_registry() -> None:
    """It is what an op would be made of."""

    async def double(report: Reporter, number: int) -> int:
        await report.log("info", "doubling")
        return 2 * number

    assert await run_op(double, 21) == 42


async def test_what_the_function_raises_is_raised_as_it_is() -> None:
    """Its events are there all the same, and so is the end that a task would have had."""
    run = run_op(resize, "missing", Size(1, 1), images=1)
    with pytest.raises(FileNotFoundError, match="missing"):
        await run

    assert_tape(
        run.events,
        ["task_started", "progress", ("final", {"error": {"code": "FileNotFoundError"}})],
    )


@pytest.mark.parametrize("error", [Retry("busy", in_=5), GiveUp("no use"), SystemExit(3)])
async def test_a_word_to_the_manager_is_raised_too(error: BaseException) -> None:
    """It is for the test to say whether the runner was right to say so."""

    async def work(report: Reporter) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await run_op(work)

    assert raised.value is error


async def test_arguments_that_are_not_its_own_are_refused_at_once() -> None:
    """As by a submit: before anything runs."""
    wrong: Any = resize
    with pytest.raises(BadParams, match="height"):
        await run_op(wrong, "photos", size={"width": 1})
    with pytest.raises(BadParams, match="colour"):
        _ = run_op(wrong, "photos", Size(1, 1), colour="red")


async def test_a_result_of_another_type_fails() -> None:
    """The end is not an exception of the function's."""

    async def lie(report: Reporter) -> Size:
        return cast("Size", "nothing")

    with pytest.raises(TaskFailed, match="bad_result"):
        await run_op(ops.op("lie")(lie))


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_run_is_cancelled_at_the_event_that_was_chosen(nth: int) -> None:
    """The report of that event is where the function is stopped; nothing follows."""
    run = run_op(resize, "photos", Size(1, 1), images=9)
    with pytest.raises(TaskCancelled, match="enough"):
        await run.cancel_at("progress", nth, message="enough")

    assert_tape(run.events, ["task_started", *["progress"] * nth, Outcome.CANCELLED])


async def test_a_function_in_a_thread_reads_the_cancel() -> None:
    """It is told by the time at which the report has returned."""
    run = run_op(pack, "photos").cancel_at("packed", 3)
    with pytest.raises(TaskCancelled):
        await run

    assert_tape(run.events, ["task_started", *["packed"] * 3, Outcome.CANCELLED])


async def test_an_event_that_is_not_waited_for_cancels_as_well() -> None:
    """As soon as it is stored."""

    async def work(report: Reporter) -> None:
        _ = report.emit_nowait("step")
        await asyncio.Event().wait()

    run = run_op(work).cancel_at("step")
    with pytest.raises(TaskCancelled):
        await run

    assert_tape(run.events, ["task_started", "step", Outcome.CANCELLED])


async def test_a_run_is_cancelled_from_beside_it() -> None:
    """While it is under way, and not before or after; its cleanup is on the tape."""
    here = asyncio.Event()

    async def work(report: Reporter) -> None:
        here.set()
        try:
            await asyncio.Event().wait()
        finally:
            await report.log("info", "cleaned up")

    run: OpRun[None] = run_op(work)
    with pytest.raises(RuntimeError, match="not under way"):
        await run.cancel()
    running = asyncio.ensure_future(run)
    await here.wait()
    await run.cancel("from beside")
    with pytest.raises(TaskCancelled, match="from beside"):
        await running
    with pytest.raises(RuntimeError, match="begun before"):
        await run

    assert_tape(run.events, ["task_started", "log", Outcome.CANCELLED])


async def test_a_timeout_needs_no_wait() -> None:
    """The clock of a run is moved by hand."""

    async def sleep(report: Reporter) -> None:
        await asyncio.sleep(timedelta(days=1).total_seconds())

    run = run_op(ops.op("sleep", timeout=3_600)(sleep))
    clock = run.clock
    running = asyncio.ensure_future(run)
    await clock.advance(4_000)

    with pytest.raises(TaskFailed, match="timeout"):
        await running


async def test_settings_of_the_manager_are_asked() -> None:
    """A redaction hook, say."""

    def redact(told: Telling, value: Any) -> Any:
        return "(hidden)" if told.kind is ToldKind.RESULT else value

    run = run_op(pack, "photos").configure(redact=redact)

    assert await run == "(hidden)"


async def test_a_moment_must_be_an_event_of_the_runner() -> None:
    """A claim and an end are none of its reports."""
    with pytest.raises(BadSetting, match="type"):
        _ = run_op(pack, "photos").cancel_at("final")
    with pytest.raises(BadSetting, match="nth"):
        _ = run_op(pack, "photos").cancel_at("packed", 0)
