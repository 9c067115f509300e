"""The log of late events: enough to know, never a flood, and each line with its run's span."""

from __future__ import annotations

import asyncio
import logging

import pytest
from opentelemetry.trace import format_span_id, format_trace_id

from tapescope import EventDropped, Reporter, TaskCancelled
from tapescope.model.tape import DropReason
from tapescope.store._drop_log import DropLog
from tapescope.store._pending import TapeCursor
from tests.support.virtual_time import advance, in_virtual_time
from tests.support.workbench import GRACE, started, working

LATE = DropReason.AFTER_TERMINAL


def read(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of so far; what comes next begins anew."""
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return lines


async def test_a_late_event_is_warned_of_with_its_runs_span(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first late event of a task is a warning, the others a summary; both name the run."""

    async def ignore(report: Reporter) -> None:
        refused = 0
        while refused < 5:
            try:
                await report.log("info", "here")
            except EventDropped:
                refused += 1
            except BaseException:  # noqa: BLE001  # that is the point
                continue

    async with working(store_url, cancel_grace=GRACE) as bench:
        task = await bench.manager.submit("work", ignore)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        await bench.zombies_ended()
        (span,) = bench.run_spans(task.task_id)
    told = [record for record in caplog.records if "dropped" in record.getMessage()]
    own = span.get_span_context()
    assert own is not None

    first = f"An event of task {task.task_id} (work, attempt 1) came too late and is dropped"
    assert [record.getMessage() for record in told] == [
        f"{first}: after_terminal.",
        f"4 more events of task {task.task_id} (work) were dropped: after_terminal 4.",
    ]
    for record in told:
        assert record.levelno == logging.WARNING
        assert vars(record)["trace_id"] == format_trace_id(own.trace_id)
        assert vars(record)["span_id"] == format_span_id(own.span_id)


@in_virtual_time
async def test_a_task_is_told_once_and_then_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    """Within a minute and after it, a task has one line of its own; the rest is in summaries."""
    log, cursor = DropLog(), TapeCursor("t", 1, "owner")
    log.note(cursor, "work", LATE, 3)
    log.note(cursor, "work", DropReason.STALE_ATTEMPT, 1)
    at_once = read(caplog)
    advance(61)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    summary = read(caplog)
    log.note(cursor, "work", LATE, 1)
    later = read(caplog)
    log.summarise()

    assert len(at_once) == 1
    assert summary == [
        "3 more events of task t (work) were dropped: after_terminal 2, stale_attempt 1."
    ]
    assert later == []
    assert read(caplog) == ["1 more events of task t (work) were dropped: after_terminal 1."]


@in_virtual_time
async def test_many_tasks_make_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """However many tasks are late, a minute has few lines, and every event is in one of them."""
    log = DropLog()
    for number in range(5_000):
        log.note(TapeCursor(f"t{number}", 1, "owner"), "work", LATE, 2)
    at_once = read(caplog)
    log.summarise()
    summary = read(caplog)
    counted = sum(int(line.split()[0]) for line in summary)

    assert len(at_once) == 20
    assert len(summary) == 11
    assert len(at_once) + counted == 10_000
