"""The judge that users have: what a test of theirs is told at the end of its store's block."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tapescope import Reporter, TaskManager
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import FinalEvent, NewTask
from tapescope.store.validation import new_task_id
from tapescope.testing import HistoryBroken, RecordedMemoryStore, check, judged
from tapescope.testing.tasks import start
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.workbench import RecordedSqlite

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "embed.md"


async def work(report: Reporter) -> str:
    """A runner."""
    await report.log("info", "at work")
    return "done"


async def test_a_true_story_passes_with_its_spans(sqlite_url: str) -> None:
    """A manager, a run, an event sent and not waited for: nothing is told."""
    captured = CapturedTelemetry()
    store = RecordedSqlite(sqlite_url, telemetry=captured.telemetry)
    async with judged(store, spans=captured.spans), TaskManager(store) as manager:
        assert await (await manager.submit("work", work)).result() == "done"
    captured.close()


async def test_a_breach_is_told_with_the_calls_of_its_task() -> None:
    """The message names the invariant, the task, and each call with its answer."""
    store = RecordedMemoryStore()

    async def lie() -> None:
        async with judged(store):
            await store.append(await start(store), [NewEvent("log", 1)])
            await store.append(await start(store), [NewEvent("log", 2)])
            call = next(call for call in store.history.calls if call.verb == "append")
            call.offers = (("log", "7"),)  # so it says that 7 was acknowledged

    with pytest.raises(HistoryBroken) as told:
        await lie()

    lines = str(told.value).splitlines()
    assert [breach.invariant for breach in told.value.breaches] == ["I6"]
    said = f"I6 of {store.history.task_ids[0]}: event 2 is not what was acknowledged"
    assert lines[0].startswith(said)
    assert [line.split()[1] for line in lines[1:]] == ["create", "claim", "append"]
    assert "Appended(stored=range(2, 3)" in lines[3]


async def test_an_error_of_the_block_goes_first() -> None:
    """What a test itself finds is not hidden by what comes of it."""

    async def fail() -> None:
        async with judged(RecordedMemoryStore()) as store:
            store.history.begin("append", new_task_id())  # it is never answered
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def count_steps(tasks: int, events: int) -> int:
    """The lines that the judge runs for so many tasks of so many attempts and events."""
    store, steps = RecordedMemoryStore(), 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps
        if "tapescope/testing/_" not in frame.f_code.co_filename:
            return None
        steps += event == "line"
        return trace

    async with store:
        for _ in range(tasks):
            task, _ = await store.create(NewTask(new_task_id(), "work", retries=events))
            for n in range(events):
                claim = await store.claim_if_pending(task, "me", 60)
                assert claim is not None
                await store.append(claim.attempt, [NewEvent("log", n)])
                if n + 1 < events:
                    given = await store.release(claim.attempt)
                    assert given.dropped is None
                    task = await store.get(task.task_id)
                else:
                    await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        sys.settrace(trace)
        try:
            assert await check(store.history, store) == []
        finally:
            sys.settrace(None)
    return steps


async def test_the_judge_takes_as_long_as_the_history_is() -> None:
    """Twice as many tasks, and twice as long tapes, are twice as much to do, and no more."""
    one, more_tasks, longer = [await count_steps(*s) for s in ((4, 12), (8, 12), (4, 24))]

    assert more_tasks < 2.1 * one
    assert longer < 2.1 * one


async def test_the_fixture_of_the_embed_page_judges() -> None:
    """It stands as it is in the page, and gives a store on which a manager works."""
    (program,) = [
        one
        for one in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        if "judged" in one
    ]
    names: dict[str, Any] = {}
    exec(compile(program.replace("@pytest.fixture\n", ""), "embed.md", "exec"), names)
    fixture: Callable[[], AsyncGenerator[RecordedMemoryStore]] = names["store"]
    opened: AbstractAsyncContextManager[RecordedMemoryStore] = asynccontextmanager(fixture)()
    async with opened as store, TaskManager(store) as manager:
        assert await (await manager.submit("work", work)).result() == "done"
