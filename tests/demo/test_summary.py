"""What the demo reads back from the store, and when it says that the numbers do not add up."""

from __future__ import annotations

from dataclasses import replace

from opentelemetry.metrics import NoOpMeterProvider

from tapescope import NewEvent, NewTask, TaskStore, Telemetry, find_store
from tapescope.demo import DemoSummary, read_summary
from tapescope.model.tasks import ErrorInfo, FinalEvent
from tapescope.store.validation import new_task_id


def own_telemetry() -> Telemetry:
    """Counts that no other test of this process adds to."""
    return Telemetry(meter_provider=NoOpMeterProvider())


async def make_failed(store: TaskStore, *, lines: int, late: int = 0) -> str:
    """A shell command that printed some lines, failed, and reported ``late`` times after that."""
    task, _ = await store.create(NewTask(new_task_id(), "shell"))
    claim = await store.claim_if_pending(task, "here:1:2:aa", 60.0)
    assert claim is not None
    await store.append(claim.attempt, [NewEvent("log", n) for n in range(lines)])
    await store.finish_if_running(claim.attempt, FinalEvent.failed(ErrorInfo("code", "why")))
    await store.append(claim.attempt, [NewEvent("log", n) for n in range(late)])
    return task.task_id


async def test_the_summary_is_what_the_store_holds(store_url: str) -> None:
    """Tasks, late events and counts are read back, and the longest tape that failed is shown."""
    async with find_store(store_url, telemetry=own_telemetry()) as store:
        short = await make_failed(store, lines=1, late=2)
        long = await make_failed(store, lines=3)
        summary = await read_summary(store, [short, long])

    assert [task.task_id for task in summary.tasks] == [short, long]
    assert (summary.stored, summary.dropped) == (8, 2)
    assert [drop.task_id for drop in summary.drops] == [short, short]
    assert summary.failed_tape is not None
    assert summary.failed_tape.task_id == long
    assert summary.adds_up


async def test_an_event_that_is_not_accounted_for_does_not_add_up(sqlite_url: str) -> None:
    """One event more or less, on either side, and the summary says so."""
    async with find_store(sqlite_url, telemetry=own_telemetry()) as store:
        summary = await read_summary(store, [await make_failed(store, lines=1, late=1)])
    counted = summary.counted
    wrong: list[DemoSummary] = [
        replace(summary, stored=summary.stored + 1),
        replace(summary, dropped=summary.dropped - 1),
        replace(summary, counted=replace(counted, offered=counted.offered + 1)),
    ]

    assert summary.adds_up
    assert not any(other.adds_up for other in wrong)
