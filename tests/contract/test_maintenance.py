"""Audit and retention on every store: what is in order passes, and only what is old goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from tapescope import (
    BadSetting,
    DropReason,
    NewEvent,
    NewTask,
    Outcome,
    TaskStatus,
    TaskStore,
    UnknownTask,
    find_store,
)
from tapescope.maintenance.audit import audit_pages, audit_store
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent
from tapescope.store.validation import new_task_id
from tapescope.testing import History, MemoryStore, Recording, check
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite import SqliteStore
from tapescope_telemetry import Telemetry
from tests.support.virtual_time import VirtualClock, in_virtual_time


class RecordedSqlite(Recording, SqliteStore):
    """A SQLite store whose calls are noted."""


class RecordedPostgres(Recording, PostgresStore):
    """A PostgreSQL store whose calls are noted."""


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
async def plain(request: pytest.FixtureRequest) -> AsyncGenerator[TaskStore]:
    """An open store of each kind that is not judged: a judge would miss what was pruned."""
    own = Telemetry(meter_provider=NoOpMeterProvider())
    if request.param == "memory":
        store: TaskStore = MemoryStore(telemetry=own)
    else:
        store = find_store(request.getfixturevalue(request.param), telemetry=own)
    async with store:
        yield store


async def start(store: TaskStore, op: str = "x", key: str | None = None) -> Attempt:
    """A task that runs."""
    task, _ = await store.create(NewTask(new_task_id(), op, idempotency_key=key))
    claim = await store.claim_if_pending(task, "me", 60)
    assert claim is not None
    return claim.attempt


async def make_ended(
    store: TaskStore, op: str = "x", final: FinalEvent | None = None, key: str | None = None
) -> Attempt:
    """A task of three events that ended."""
    attempt = await start(store, op, key)
    await store.append(attempt, [NewEvent("log", "on it")])
    await store.finish_if_running(attempt, final or FinalEvent.succeeded())
    return attempt


async def test_audit_goes_through_the_store_in_pages(store: TaskStore) -> None:
    """Every task is checked once, in pages of the size asked for; the last has no next."""
    for _ in range(5):
        await make_ended(store)
    pages = [page async for page in audit_pages(store, limit=2)]

    assert [page.checked for page in pages] == [2, 2, 1]
    assert [page.rows for page in pages] == [8, 8, 4]
    assert pages[-1].next is None
    assert all(page.violations == () for page in pages)


async def test_audit_of_an_empty_store_checks_nothing(store: TaskStore) -> None:
    """No tasks, no violations."""
    report = await audit_store(store)

    assert (report.checked, report.violations) == (0, ())


async def test_audit_finds_nothing_while_tasks_run(store: TaskStore) -> None:
    """Pages read between the commits of busy writers hold whole transactions only."""

    async def work() -> None:
        for _ in range(6):
            attempt = await make_ended(store)
            await store.append(attempt, [NewEvent("log", "late")])

    writing = asyncio.gather(*(work() for _ in range(10)))
    audits = violations = 0
    while not writing.done():
        report = await audit_store(store, limit=7)
        audits, violations = audits + 1, violations + len(report.violations)
        await asyncio.sleep(0)
    await writing

    assert audits > 0
    assert violations == 0
    assert (await audit_store(store)).checked == 60


async def test_bad_settings_are_refused(store: TaskStore) -> None:
    """Ages below zero, and a rate of nothing, are errors."""
    with pytest.raises(BadSetting, match="grace"):
        await store.maintenance.audit(grace=-1)
    with pytest.raises(BadSetting, match="older_than"):
        await store.maintenance.prune(older_than=-1)
    with pytest.raises(BadSetting, match="older_than"):
        await store.maintenance.prune_quarantine(older_than=float("nan"))
    with pytest.raises(BadSetting, match="rows_per_second"):
        await audit_store(store, rows_per_second=0)


@in_virtual_time
async def test_audit_keeps_to_its_rate() -> None:
    """Sixteen rows at four a second take as long as it says, by the store's clock."""
    async with MemoryStore(clock=VirtualClock()) as store:
        for _ in range(4):
            await make_ended(store)
        began = store.clock.monotonic()
        report = await audit_store(store, rows_per_second=4, limit=1)

    assert report.checked == 4
    assert store.clock.monotonic() - began == pytest.approx(
        3
    )  # there is no wait after the last page


async def test_prune_takes_old_ended_tasks_whole(plain: TaskStore) -> None:
    """A task that ended goes with its tape and its counts; what lives, or is young, stays."""
    ended = [await make_ended(plain) for _ in range(5)]
    await plain.append(ended[0], [NewEvent("log", "late")])
    running = await start(plain)
    pending, _ = await plain.create(NewTask(new_task_id(), "x"))

    assert await plain.maintenance.prune(older_than=3_600) == 0
    assert await plain.maintenance.prune(older_than=0, dry_run=True) == 5
    assert await plain.maintenance.prune(older_than=0, limit=2) == 5
    assert await plain.maintenance.prune(older_than=0) == 0
    with pytest.raises(UnknownTask):
        await plain.read_tape(ended[0].task_id)
    assert (await plain.get(running.task_id)).status is TaskStatus.RUNNING
    assert (await plain.get(pending.task_id)).status is TaskStatus.PENDING
    assert (await plain.read_quarantine()).counts == {}
    assert (await audit_store(plain)).checked == 2


async def test_prune_goes_by_outcome_and_op(plain: TaskStore) -> None:
    """Only tasks of the outcomes and the op that are named go."""
    good = await make_ended(plain, "scan")
    bad = await make_ended(plain, "scan", FinalEvent.failed(ErrorInfo("boom")))
    other = await make_ended(plain, "copy")

    assert await plain.maintenance.prune(older_than=0, outcomes=[Outcome.FAILED]) == 1
    assert await plain.maintenance.prune(older_than=0, op="copy") == 1
    assert [task.task_id for task in (await plain.list()).tasks] == [good.task_id]
    for gone in (bad, other):
        with pytest.raises(UnknownTask):
            await plain.get(gone.task_id)


async def test_late_event_of_a_pruned_task_is_of_an_unknown_one(plain: TaskStore) -> None:
    """It reaches no other task's tape: it is dropped, counted, and kept, as ``unknown_task``."""
    old = await make_ended(plain)
    await plain.maintenance.prune(older_than=0)
    new = await make_ended(plain)
    appended = await plain.append(old, [NewEvent("log", "late")])
    drops = await plain.read_quarantine(old.task_id)

    assert appended.dropped is DropReason.UNKNOWN_TASK
    assert drops.counts == {DropReason.UNKNOWN_TASK: 1}
    assert [drop.body for drop in drops.drops] == ["late"]
    assert (await plain.read_tape(new.task_id)).last_seq == 3
    assert (await audit_store(plain)).violations == ()


async def test_idempotency_key_of_a_pruned_task_is_free(plain: TaskStore) -> None:
    """A key is remembered as long as its task."""
    await make_ended(plain, key="only once")
    await plain.maintenance.prune(older_than=0)
    _, created = await plain.create(NewTask(new_task_id(), "x", idempotency_key="only once"))

    assert created


async def test_quarantine_has_its_own_age(plain: TaskStore) -> None:
    """Late events go while their task stays, and their count stays with it."""
    attempt = await make_ended(plain)
    await plain.append(attempt, [NewEvent("log", n) for n in range(5)])
    unknown = Attempt(new_task_id(), 1, "me")
    await plain.append(unknown, [NewEvent("log", "whose?")])

    assert await plain.maintenance.prune_quarantine(older_than=3_600) == 0
    assert await plain.maintenance.prune_quarantine(older_than=0, dry_run=True) == 6
    assert await plain.maintenance.prune_quarantine(older_than=0, limit=2) == 6
    page = await plain.read_quarantine()
    assert (page.drops, page.overflow) == ((), 5)
    assert page.counts == {DropReason.AFTER_TERMINAL: 5}
    assert (await plain.read_tape(attempt.task_id)).dropped == 5
    assert (await audit_store(plain)).violations == ()


@pytest.mark.parametrize(
    ("url", "kind"),
    [("sqlite_url", RecordedSqlite), ("postgres_url", RecordedPostgres)],
    ids=["sqlite", "postgresql"],
)
async def test_invariants_hold_while_pruning_beside_a_writer(
    url: str,
    kind: type[RecordedSqlite] | type[RecordedPostgres],
    request: pytest.FixtureRequest,
) -> None:
    """Old tasks go in small batches while new ones run: the judge finds nothing, nor the audit."""
    given = request.getfixturevalue(url)
    history = History()
    own = Telemetry(meter_provider=NoOpMeterProvider())
    async with find_store(given) as pruner, kind(given, history=history, telemetry=own) as writer:
        await asyncio.gather(*(make_ended(pruner, "old") for _ in range(80)))

        async def work() -> None:
            for _ in range(5):
                attempt = await make_ended(writer, "new")
                await writer.append(attempt, [NewEvent("log", "late")])

        writing = asyncio.gather(*(work() for _ in range(8)))
        pruned = 0
        while pruned < 80:
            pruned += await pruner.maintenance.prune(older_than=0, op="old", limit=9)
        await writing
        report = await audit_store(writer)
        violations = await check(history, writer)

    assert (pruned, report.checked) == (80, 40)
    assert report.violations == ()
    assert violations == []
