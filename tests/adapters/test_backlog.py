"""The numbers of what waits, against whatever writes to the database beside a store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import UserDict
from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest

from tapescope import AuditRule, NewTask, TaskStore, find_store
from tapescope.maintenance import repair_store
from tapescope.maintenance.audit import audit_store
from tapescope.model.backlog import OpBacklog
from tapescope.model.tasks import Claim, ErrorInfo, FinalEvent
from tapescope.store import OpenMode
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters._sql import load
from tapescope_adapters.postgres import PostgresStore, _backend
from tapescope_adapters.sqlite import _backlog
from tests.adapters.next_version import migrating
from tests.support.breaches import make_ended, run_round, run_statement
from tests.support.older_schema import take_migration_off
from tests.support.postgres_sessions import session

HOUR = 3_600_000_000


async def fill(store: TaskStore) -> None:
    """Two tasks that are due, one for later, one retried, one that runs, and two that ended."""
    later = store.due_clock.now() + HOUR
    retried = await start(store, retries=1)
    await store.retry_later(retried.attempt, ErrorInfo("ValueError", "no"), later)
    await start(store)
    for _ in range(2):
        await store.create(NewTask(new_task_id(), "x"))
    await store.create(NewTask(new_task_id(), "x", run_at=later))
    await make_ended(store)
    await make_ended(store, FinalEvent.failed(ErrorInfo("ValueError", "no")))


async def start(store: TaskStore, retries: int = 0) -> Claim:
    """A claim."""
    task, _ = await store.create(NewTask(new_task_id(), "x", retries=retries))
    claim = await store.claim_if_pending(task, "me", 60)
    assert claim is not None
    return claim


async def read(store: TaskStore) -> OpBacklog:
    """The numbers of the one op."""
    (one,) = (await store.backlog.read(max_age=0)).ops
    return one


def say(one: OpBacklog) -> tuple[int, ...]:
    """What waits, runs and has ended."""
    live = one.due, one.scheduled, one.retrying, one.running
    return (*live, one.succeeded, one.failed, one.cancelled, one.gone)


FULL = (2, 1, 1, 1, 1, 1, 0, 0)
"""The numbers after ``fill``."""


@pytest.mark.parametrize(
    ("statement", "after"),
    [
        ("UPDATE tasks SET run_at = 1 WHERE status = 'pending'", (4, 0, 0, 1, 1, 1, 0, 0)),
        (
            f"UPDATE tasks SET run_at = {2**51} WHERE status = 'pending' AND attempt = 0",
            (0, 3, 1, 1, 1, 1, 0, 0),
        ),
        ("UPDATE tasks SET lease_expires_at = lease_expires_at + 1", FULL),
        ("UPDATE tasks SET owner = 'you' WHERE status = 'pending'", FULL),
        ("DELETE FROM tasks WHERE status = 'running'", (2, 1, 1, 0, 1, 1, 0, 1)),
        ("DELETE FROM tasks WHERE status = 'pending'", (0, 0, 0, 1, 1, 1, 0, 4)),
        ("DELETE FROM tasks WHERE status = 'succeeded'", FULL),
    ],
    ids=["sooner", "later", "lease", "owner", "running gone", "pending gone", "pruned"],
)
async def test_what_a_session_writes_is_counted(
    store_url: str, statement: str, after: tuple[int, ...]
) -> None:
    """Past tapescope, too; a prune changes no number, and the number of submits never falls."""
    if "lease_expires_at +" in statement:
        statement += " WHERE status = 'running'"
    async with find_store(store_url) as store:
        await fill(store)
        before = await read(store)
        await run_statement(store_url, statement)
        found = await read(store)
        wrong = await store.backlog.audit()

    assert say(before) == FULL
    assert say(found) == after
    assert found.submitted == before.submitted
    assert wrong == []


async def test_how_an_insert_meets_conflicts_is_no_matter(sqlite_url: str) -> None:
    """What a raw statement says of them holds for its triggers as well, and not for the numbers."""
    async with find_store(sqlite_url) as store:
        for way in ("OR IGNORE ", "OR REPLACE ", "OR FAIL ", ""):
            await run_statement(
                sqlite_url,
                f"INSERT {way}INTO tasks (task_id, op, created_at, run_at)"
                f" VALUES ('{new_task_id()}', 'x', 1, 1)",
            )
        found = await read(store)

    assert found.due == 4


async def test_heartbeat_moves_no_number(postgres_url: str) -> None:
    """It writes no row of moves, and neither does a cancel that is only recorded."""
    async with find_store(postgres_url) as store, session(postgres_url) as raw:
        await start(store)
        await store.backlog.read(max_age=0)  # it folds what was moved
        folded = await raw.fetchval("SELECT count(*) FROM backlog_moves")
        await store.leases.extend("me", 60)
        task = (await store.list()).tasks[0]
        await store.request_cancel(task.task_id)
        moved = await raw.fetchval("SELECT count(*) FROM backlog_moves")

    assert (folded, moved) == (0, 0)


async def test_one_process_reads_for_all(postgres_url: str) -> None:
    """Who asks while the numbers are fresh is told those; a fold waits for nobody, nor anybody."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        await store.create(NewTask(new_task_id(), "x"))
        first = await store.backlog.read(max_age=0)
        await store.create(NewTask(new_task_id(), "x"))
        async with PostgresStore(postgres_url, open_mode=OpenMode.READ) as reader:
            shared = await reader.backlog.read(max_age=60)
            async with raw.transaction():
                await raw.execute("SELECT 1 FROM backlog_snapshot FOR UPDATE")
                held = await asyncio.gather(
                    store.backlog.read(max_age=0), reader.backlog.read(max_age=0)
                )
        moves = await raw.fetchval("SELECT count(*) FROM backlog_moves")

    assert shared.ops == first.ops
    assert [one.ops[0].due for one in held] == [2, 2]
    assert moves == 1


@pytest.mark.parametrize(
    "held",
    [
        "INSERT INTO tasks (task_id, op, created_at, run_at) VALUES (gen_random_uuid(), 'x', 1, 1)",
        "SELECT 1 FROM backlog_snapshot FOR UPDATE",
    ],
    ids=["writers", "folds"],
)
async def test_a_mend_waits_for(postgres_url: str, held: str) -> None:
    """Whoever moves a task, or folds what was moved, has ended before the tasks are counted."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        holding = raw.transaction()
        await holding.start()
        await raw.execute(held)
        mending = asyncio.ensure_future(store.backlog.mend(by="me"))

        async def waits() -> bool:
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            return mending.done() or bool(await raw.fetchval(query))

        assert await until(waits)
        done = mending.done()
        await holding.commit()
        repairs = await mending
        wrong = await store.backlog.audit()

    assert not done
    assert (list(repairs), wrong) == ([], [])


class Meddling(UserDict[str, str]):
    """The queries of SQLite; as one of them is looked up, something happens."""

    def __init__(self, at: str, meddle: Callable[[], object]) -> None:
        super().__init__(load("tapescope_adapters.sqlite"))
        self._at, self._meddle = at, meddle

    def __getitem__(self, name: str) -> str:
        if name == self._at:
            self._meddle()
        return super().__getitem__(name)


@pytest.mark.parametrize("at", ["read_waits", "recount_backlog"])
async def test_numbers_are_as_of_one_moment(sqlite_url: str, at: str) -> None:
    """What commits while they are read is not half in them."""
    path = sqlite_url.removeprefix("sqlite:///")

    def delete() -> None:
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("DELETE FROM tasks")

    async with find_store(sqlite_url) as store:
        await store.create(NewTask(new_task_id(), "x"))
        now = store.clock.now()
        queries = Meddling(at, delete)
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            if at == "read_waits":
                (one,) = _backlog.read(conn, queries, now).ops
                found = one.due, one.oldest_due is not None
            else:
                wrong = [one for one in _backlog.recount(conn, queries, now) if one.differs]
                found = 1, not wrong
        left = await read(store)

    assert found == (1, True)
    assert say(left) == (0, 0, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize("at", ["forget_passed", "log_mended"])
async def test_what_ends_half_way_changes_no_number(sqlite_url: str, at: str) -> None:
    """A fold, and a mend, are done whole or not at all."""
    path = sqlite_url.removeprefix("sqlite:///")

    def fail() -> None:
        raise KeyError(at)

    async with find_store(sqlite_url) as store:
        await store.create(NewTask(new_task_id(), "x", run_at=store.clock.now() + HOUR))
        await run_statement(sqlite_url, "UPDATE tasks SET run_at = created_at + 1")
        queries, now = Meddling(at, fail), store.clock.now()
        if at == "log_mended":
            await run_round(sqlite_url, "UPDATE backlog SET n = n + 5")
        before = await read(store)
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            mend = partial(_backlog.mend, conn, queries, now, "me", dry_run=False)
            fold = partial(_backlog.fold_passed, conn, queries, now)
            with pytest.raises(KeyError):
                (mend if at == "log_mended" else fold)()
        left = await read(store)

    assert say(left) == say(before)


async def test_numbers_that_are_wrong_are_found_and_mended(store_url: str) -> None:
    """The thorough audit names them; a repair sets them right, and is in the log."""
    async with find_store(store_url) as store:
        await fill(store)
        await store.backlog.read(max_age=0)
        before = (await read(store)).submitted
        await run_round(
            store_url,
            "UPDATE backlog SET n = n + 5 WHERE state = 'due'",
            "DELETE FROM backlog WHERE state = 'failed'",
        )
        found = (await audit_store(store, thorough=True)).violations
        planned = await repair_store(store, by="me", dry_run=True)
        still = (await audit_store(store, thorough=True)).violations
        mended = await repair_store(store, by="me")
        report = await audit_store(store, thorough=True)
        left = await read(store)
        (logged,) = await store.maintenance.read_repairs()

    assert {one.rule for one in (*found, *still)} == {AuditRule.BACKLOG_MISMATCH}
    assert [one.detail for one in found] == [
        "of op x the store says 7 tasks are due, and there are 2",
        "of op x the store says 0 tasks are failed, and there are 1",
    ]
    assert found == still
    assert [one.text for one in planned.repairs] == [one.text for one in mended.repairs]
    assert (mended.left, report.violations) == ([], ())
    assert say(left)[:7] == FULL[:7]
    assert left.submitted >= before
    assert (logged.rule, logged.by) == (AuditRule.BACKLOG_MISMATCH, "me")


async def test_migration_counts_what_is_there(store_url: str) -> None:
    """A store of the version before has its numbers, of every state, when it is migrated."""
    async with find_store(store_url) as store:
        await fill(store)
    await take_migration_off(store_url)
    async with find_store(migrating(store_url)) as store:
        migrated = await read(store)
        wrong = await store.backlog.audit()
        report = await audit_store(store)

    assert say(migrated) == FULL
    assert wrong == []
    assert report.violations == ()


async def test_seconds_that_have_passed_are_taken_together(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what is read stays little, however many tasks had a time of their own."""
    monkeypatch.setattr("tapescope_adapters.sqlite._backend._PASSED", 3)
    async with find_store(store_url) as store:
        now = store.due_clock.now()
        for seconds in range(1, 9):
            await store.create(NewTask(new_task_id(), "x", run_at=now + HOUR + seconds * 1_000_000))
        await run_statement(
            store_url, f"UPDATE tasks SET run_at = run_at - {2 * HOUR}, attempt = attempt"
        )
        found = await read(store)
        for task in (await store.list()).tasks:
            await store.request_cancel(task.task_id)
        ended = await read(store)
        wrong = await store.backlog.audit()

    assert say(found) == (8, 0, 0, 0, 0, 0, 0, 0)
    assert say(ended) == (0, 0, 0, 0, 0, 0, 8, 0)
    assert wrong == []


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO backlog VALUES (0, 'x', 'weird', 1)",
        "INSERT INTO backlog VALUES (0, 'y', 'due', 'many')",
        "INSERT INTO backlog VALUES (-1, 'y', 'scheduled', 2.5)",
        "INSERT INTO backlog VALUES (0, x'00ff', x'00ff', 1)",
        f"INSERT INTO workers (owner, until, ops) VALUES ('raw', {2**62}, 'no json')",
        f"INSERT INTO workers (owner, until, ops) VALUES ('raw', {2**62}, '[1, null, \"y\"]')",
        f"INSERT INTO workers (owner, until, ops) VALUES (x'00ff', {2**62}, x'00ff')",
    ],
)
async def test_no_row_keeps_the_numbers_from_a_reader(sqlite_url: str, statement: str) -> None:
    """What a session wrote past tapescope may be anything; the numbers of others are told, and a
    mend leaves them right."""
    async with find_store(sqlite_url) as store:
        await fill(store)
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as raw:
            raw.execute(statement)
            raw.commit()
        (one,) = [one for one in (await store.backlog.read()).ops if one.op == "x"]
        await repair_store(store, by="the tests")
        after = await audit_store(store, thorough=True)

    assert say(one) == FULL
    assert after.violations == ()


async def test_moves_of_commands_are_folded_by_one_of_them(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody reads the numbers, a store that wrote does as it closes; once in a minute."""

    async def run_command() -> int:
        """A store that is open for one submit; gives the moves that stand afterwards."""
        async with find_store(postgres_url) as store:
            await store.create(NewTask(new_task_id(), "x"))
        async with session(postgres_url) as raw:
            return int(await raw.fetchval("SELECT count(*) FROM backlog_moves"))

    first = await run_command()
    within_a_minute = [await run_command() for _ in range(3)]
    monkeypatch.setattr(_backend, "_FOLDED_EVERY", 0)
    later = await run_command()
    async with find_store(postgres_url) as store:
        due = (await read(store)).due

    assert (first, within_a_minute, later) == (0, [1, 2, 3], 0)
    assert due == 5
