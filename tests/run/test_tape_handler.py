"""What a runner logs, on the tape of its task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tapescope import (
    Reporter,
    StoreLimits,
    TapeHandler,
    TaskHandle,
    TaskManager,
    Telling,
    ThreadReporter,
)
from tapescope.errors import BadSetting
from tapescope.testing import MemoryStore, until
from tests.support.memory_stores import FaultyStore, Gate, at_rest
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import working

LOGGER = logging.getLogger("shop.resize")


@pytest.fixture
def logging_to_tapes(request: pytest.FixtureRequest) -> Iterator[TapeHandler]:
    """The handler on the root logger, taken off again."""
    handler = TapeHandler(**getattr(request, "param", {}))
    root, level = logging.getLogger(), LOGGER.level
    root.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    LOGGER.setLevel(level)


async def lines(task: TaskHandle) -> list[tuple[str, str]]:
    """Level and message of each line on the tape."""
    events = (await task.tape()).events
    return [(e.body["level"], e.body["message"]) for e in events if e.type == "log"]


async def log(report: Reporter) -> None:
    """A runner that logs and reports."""
    LOGGER.debug("not this")
    LOGGER.info("%d %s", 3, "photos")
    await report.log("info", "reported")
    await asyncio.to_thread(LOGGER.warning, "in a thread of it")
    logging.getLogger("tapescope.of_ours").error("not this")
    await asyncio.create_task(log_failure())


async def log_failure() -> None:
    """In a task that the runner begins."""
    try:
        raise ValueError("no\0 such folder")
    except ValueError:
        LOGGER.exception("Failed.")
    # Not by way of a logger: a report of pytest's, which has what was logged, cannot carry it.
    record = logging.makeLogRecord(
        {"name": LOGGER.name, "levelname": "INFO", "msg": "half \ud800 a letter"}
    )
    (handler,) = [one for one in logging.getLogger().handlers if isinstance(one, TapeHandler)]
    handler.handle(record)


def log_in_thread(report: ThreadReporter) -> None:
    """A runner in a thread."""
    LOGGER.info("before")
    report.emit("step")
    LOGGER.info("after")


@pytest.mark.usefixtures("logging_to_tapes")
async def test_a_runners_records_are_on_its_tape(any_url: str) -> None:
    """In their order, of this level and more, from its tasks and threads; no other's are."""
    async with working(any_url) as bench:
        LOGGER.error("where no runner runs")
        task = await bench.manager.submit("work", log)
        await task.result()
        told = await lines(task)
        first = next(e for e in (await task.tape()).events if e.type == "log")

        assert told[:3] == [
            ("info", "3 photos"),
            ("info", "reported"),
            ("warning", "in a thread of it"),
        ]
        level, failure = told[3]
        assert level == "error"
        assert failure.startswith("Failed.\nTraceback (most recent call last):\n")
        assert failure.endswith("ValueError: no\\x00 such folder")
        assert told[4:] == [("info", "half \\ud800 a letter")]
        assert first.body["logger"] == "shop.resize"


@pytest.mark.usefixtures("logging_to_tapes")
async def test_a_thread_logs_in_the_order_of_its_reports() -> None:
    """A record stands where it was logged."""
    async with working("memory:") as bench:
        task = await bench.manager.submit("work", log_in_thread)
        await task.result()

        assert [event.type for event in (await task.tape()).events] == [
            *("task_started", "log", "step", "log", "final"),
        ]


@pytest.mark.parametrize("logging_to_tapes", [{"level": "WARNING", "most": 3}], indirect=True)
async def test_the_lines_of_an_attempt_are_bounded(logging_to_tapes: TapeHandler) -> None:
    """The tape says so, and how many are missing; the next attempt begins anew."""

    async def talk(report: Reporter) -> None:
        for n in range(10):
            LOGGER.info("not this")
            LOGGER.warning("%d", n)
        if report.attempt == 1:
            raise ValueError

    async with working("memory:", retry_delay=0) as bench:
        task = await bench.manager.submit("work", talk, retries=1)
        await task.result()
        end = "No more log records of this attempt go on the tape: 3 are there."
        number = "7 log records are not on the tape: it has 3 of them."

        assert [text for _, text in await lines(task)] == ["0", "1", "2", end, number] * 2


@pytest.mark.parametrize("logging_to_tapes", [{"most": 5_000}], indirect=True)
@in_virtual_time
async def test_more_at_once_than_the_store_takes_are_counted(logging_to_tapes: TapeHandler) -> None:
    """They hinder no report of the runner's own, and the tape says how many are missing."""
    gate = Gate()

    async def talk(report: Reporter) -> None:
        store.faults.before = gate
        for n in range(1_500):
            LOGGER.info("%d", n)
        for n in range(1_000):
            _ = report.emit_nowait("step", n)
        gate.opened.set()
        await report.emit("done")
        LOGGER.info("last")

    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", talk)
        await task.result()
        told = [e for e in (await task.tape(limit=5_000)).events if e.type == "log"]

        assert [event.body["message"] for event in told[-3:]] == [
            "999",
            "500 log records are not on the tape: too many came at once.",
            "last",
        ]
        assert len(told) == 1_002


@pytest.mark.parametrize("logging_to_tapes", [{"most": 5_000}], indirect=True)
@in_virtual_time
async def test_a_burst_at_the_end_is_told_of(logging_to_tapes: TapeHandler) -> None:
    """No later line is needed for it, and none that waits keeps it off the tape."""
    gate = Gate()

    async def talk(report: Reporter) -> None:
        store.faults.before = gate
        for n in range(1_500):
            LOGGER.info("%d", n)
        asyncio.get_running_loop().call_later(1, gate.opened.set)

    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", talk)
        await task.result()
        told = (await task.tape(limit=5_000)).events

        assert [event.body.get("message") for event in told[-3:-1]] == [
            "999",
            "500 log records are not on the tape: too many came at once.",
        ]


@pytest.mark.usefixtures("logging_to_tapes")
async def test_what_is_logged_after_the_end_is_a_late_event(any_url: str) -> None:
    """By a task that the runner left behind: refused, counted, and kept, as any late event."""
    go_on, logged = asyncio.Event(), asyncio.Event()
    left: list[asyncio.Task[None]] = []

    async def linger() -> None:
        await go_on.wait()
        LOGGER.info("too late")
        await asyncio.to_thread(LOGGER.info, "in a thread")
        logged.set()

    async def work(report: Reporter) -> None:
        left.append(asyncio.create_task(linger()))

    async with working(any_url, redact=hide) as bench:
        task = await bench.manager.submit("work", work)
        await task.result()
        await until(lambda: not bench.store.meter.ledger.in_flight)
        go_on.set()
        await logged.wait()
        await until(lambda: counted(task, 2))
        dropped = await task.drops()

        assert {str(drop.reason) for drop in dropped.drops} == {"after_terminal"}
        assert [drop.body["message"] for drop in dropped.drops] == ["(hidden)"] * 2
        assert await lines(task) == []
        await left[0]


def hide(told: Telling, value: Any) -> Any:
    """A redaction hook."""
    return value | {"message": "(hidden)"} if told.path == "log" else value


async def counted(task: TaskHandle, number: int) -> bool:
    """Whether so many late events are counted."""
    return (await task.tape()).dropped == number


@pytest.mark.usefixtures("logging_to_tapes")
async def test_what_is_logged_after_the_manager_is_nothing_to_who_logs() -> None:
    """There is no store to take it, and a task that was left behind goes on."""
    go_on = asyncio.Event()
    left: list[asyncio.Task[str]] = []

    async def linger() -> str:
        await go_on.wait()
        LOGGER.info("too late")
        return "went on"

    async def work(report: Reporter) -> None:
        left.append(asyncio.create_task(linger()))

    async with MemoryStore() as store, TaskManager(store) as manager:
        await (await manager.submit("work", work)).result()
    go_on.set()

    assert await left[0] == "went on"


@pytest.mark.usefixtures("logging_to_tapes")
async def test_a_hook_is_asked_of_records_and_may_log() -> None:
    """What it logs while it is asked about a record is on no tape: there would be no end of it."""

    def redact(told: Telling, value: Any) -> Any:
        LOGGER.info("asked")
        return value | {"message": "(hidden)"}

    async def talk(report: Reporter) -> None:
        LOGGER.info("the secret")

    async with MemoryStore() as store, TaskManager(store, redact=redact) as manager:
        task = await manager.submit("work", talk)
        await task.result()

        assert await lines(task) == [("info", "(hidden)")]


@pytest.mark.usefixtures("logging_to_tapes")
async def test_a_record_that_no_tape_takes_is_nothing_to_its_runner() -> None:
    """A tape that is full refuses it; the runner goes on, and the ledger has counted it."""

    async def talk(report: Reporter) -> str:
        for n in range(5):
            LOGGER.info("%d", n)
            await report.read_tape()
        return "done"

    limits = StoreLimits(tape_events=3)
    async with MemoryStore(limits=limits) as store, TaskManager(store) as manager:
        task = await manager.submit("work", talk)

        assert await task.result() == "done"
        assert len(await lines(task)) < 5
        assert store.meter.ledger.in_flight == 0


def test_a_handler_takes_at_least_one_line() -> None:
    """The setting is named."""
    with pytest.raises(BadSetting, match="most"):
        TapeHandler(most=0)
