"""Repairs on the real stores: each violation is mended or left, and the guards hold afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import asyncpg
import pytest

from tapescope import (
    AuditRule,
    BadSetting,
    DropReason,
    NewEvent,
    NewTask,
    Outcome,
    StoreRefused,
    TaskStatus,
    TaskStore,
    UnknownTask,
    find_store,
)
from tapescope.maintenance.audit import audit_store
from tapescope.maintenance.repair import repair_store
from tapescope.model.tasks import ErrorInfo, FinalEvent
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.support.breaches import BREACHES, make_ended, run_round, run_statement
from tests.support.postgres_sessions import schema_of, session

TEXTS = {
    AuditRule.MISSING_FINAL: "event 4 is now its final, and says succeeded as the row does",
    AuditRule.FINAL_NOT_LAST: "events after the final that went to the quarantine: 1",
    AuditRule.MULTIPLE_FINAL: "later finals that went to the quarantine: 1",
    AuditRule.OUTCOME_MISMATCH: "the row says succeeded now, as event 4 does",
    AuditRule.DROPPED_COUNT_MISMATCH: "of reason after_terminal 2 late events are counted now",
}
LOG_AFTER = (
    "INSERT INTO events (task, seq, attempt, offer, type, ts, body) "
    "VALUES ({key}, 5, 1, 9, 'log', 1, '\"too late\"')"
)


@pytest.mark.parametrize("rule", TEXTS)
async def test_each_breach_is_mended(store_url: str, rule: AuditRule) -> None:
    """The one broken task is mended, with one row of trace; the audit then finds nothing."""
    statement, detail = BREACHES[rule]
    async with find_store(store_url) as store:
        tasks = [await make_ended(store) for _ in range(3)]
        attempt, key = tasks[1]
        await run_round(store_url, statement.format(key=key, task_id=attempt.task_id))
        report = await repair_store(store, by="the tests")
        again = await audit_store(store)
        traces = await store.maintenance.read_repairs()

    # What has ended is counted, too: a row that was given another outcome was not.
    miscounted = [AuditRule.BACKLOG_MISMATCH] * (rule is AuditRule.OUTCOME_MISMATCH)
    assert [found.rule for found in report.violations] == [*miscounted, rule]
    assert report.violations[-1].detail == detail
    assert [one.rule for one in report.repairs] == [*miscounted, rule]
    assert (report.repairs[-1].task_id, report.repairs[-1].text) == (attempt.task_id, TEXTS[rule])
    assert (report.checked, report.left, again.violations) == (3, [], ())
    assert list(traces) == report.repairs
    assert traces[0].by == "the tests"


async def test_gap_is_left_as_it_is(store_url: str) -> None:
    """To number the events anew would hide that one is missing: it is reported, nothing is done."""
    statement, detail = BREACHES[AuditRule.SEQUENCE_GAP]
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        await run_round(store_url, statement.format(key=key))
        report = await repair_store(store, by="the tests")
        tape = await store.read_tape(attempt.task_id)

    assert report.repairs == []
    assert [(found.rule, found.detail) for found in report.left] == [
        (AuditRule.SEQUENCE_GAP, detail)
    ]
    assert [event.seq for event in tape.events] == [1, 3, 4]


async def test_dry_run_changes_nothing(store_url: str) -> None:
    """It tells what a repair would do, and what it would leave; then all is as it was."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        await run_round(store_url, LOG_AFTER.format(key=key))
        await run_round(store_url, f"DELETE FROM events WHERE task = {key} AND seq = 2")
        report = await repair_store(store, by="the tests", dry_run=True)
        tape = await store.read_tape(attempt.task_id)
        again = await audit_store(store)

        assert await store.maintenance.read_repairs() == []

    assert [one.rule for one in report.repairs] == [AuditRule.FINAL_NOT_LAST]
    assert [found.rule for found in report.left] == [AuditRule.SEQUENCE_GAP]
    assert [event.seq for event in tape.events] == [1, 3, 4, 5]
    assert again.violations == tuple(report.violations)


async def test_what_is_taken_off_a_tape_is_kept(store_url: str) -> None:
    """Events after the first final go to the quarantine, each with its reason and counted."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        await run_round(store_url, LOG_AFTER.format(key=key))
        final = BREACHES[AuditRule.MULTIPLE_FINAL][0].format(key=key)
        await run_round(store_url, final.replace(f"({key}, 5, 1, 9", f"({key}, 6, 1, 10"))
        mended = await store.maintenance.repair(attempt.task_id, by="the tests")
        tape = await store.read_tape(attempt.task_id)
        drops = await store.read_quarantine(attempt.task_id)
        report = await audit_store(store)

    assert {one.rule for one in mended.repairs} == {
        AuditRule.FINAL_NOT_LAST,
        AuditRule.MULTIPLE_FINAL,
    }
    assert (tape.last_seq, tape.final_seq, tape.dropped) == (4, 4, 4)
    assert drops.counts == {DropReason.AFTER_TERMINAL: 3, DropReason.DUPLICATE_FINAL: 1}
    taken = [(drop.reason, drop.body) for drop in drops.drops[2:]]
    assert taken == [
        (DropReason.AFTER_TERMINAL, "too late"),
        (DropReason.DUPLICATE_FINAL, {"outcome": "succeeded"}),
    ]
    was = {one.rule: one.was for one in mended.repairs}[AuditRule.FINAL_NOT_LAST]
    assert was == [
        {
            "seq": 5,
            "attempt": 1,
            "offer": 9,
            "type": "log",
            "ts": "1970-01-01T00:00:00.000001Z",
            "body": '"too late"',
        }
    ]
    assert report.violations == ()


async def test_first_final_decides_between_two(store_url: str) -> None:
    """A second final of another outcome is taken off, and the row that followed it is corrected."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        final = BREACHES[AuditRule.MULTIPLE_FINAL][0].replace('"succeeded"', '"cancelled"')
        await run_round(store_url, final.format(key=key))
        await run_round(store_url, f"UPDATE tasks SET status = 'cancelled' WHERE id = {key}")
        mended = await store.maintenance.repair(attempt.task_id, by="the tests")
        task = await store.get(attempt.task_id)
        report = await audit_store(store)

    assert {one.rule for one in mended.repairs} == {
        AuditRule.MULTIPLE_FINAL,
        AuditRule.OUTCOME_MISMATCH,
    }
    assert (task.status, mended.left, report.violations) == (TaskStatus.SUCCEEDED, (), ())


@pytest.mark.parametrize(
    ("final", "code"),
    [
        (FinalEvent.succeeded({"n": 1}), None),
        (FinalEvent.failed(ErrorInfo("boom", "it went boom")), "boom"),
    ],
    ids=["succeeded", "failed"],
)
async def test_lost_final_is_written_from_the_row(
    store_url: str, final: FinalEvent, code: str | None
) -> None:
    """It says what the row says, that it was repaired, and reads as any other final."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store, final)
        before = await store.get(attempt.task_id)
        await run_round(store_url, f"DELETE FROM events WHERE task = {key} AND seq = 4")
        await store.maintenance.repair(attempt.task_id, by="the tests")
        tape = await store.read_tape(attempt.task_id)
        task = await store.get(attempt.task_id)
        report = await audit_store(store)

    event = tape.events[-1]
    read = FinalEvent.from_event(event)
    assert (tape.final_seq, event.body["repaired"], report.violations) == (4, True, ())
    assert (read.outcome, read.result) == (final.outcome, None)
    assert (read.error and read.error.code) == code
    assert task == before
    assert event.ts == before.finished_at


async def test_lost_final_of_a_cancelled_task_names_the_cancel(store_url: str) -> None:
    """The cancel on record is in the final that a repair writes."""
    async with find_store(store_url) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        await store.request_cancel(task.task_id, message="enough", by="ann")
        await run_round(store_url, f"DELETE FROM events WHERE task = {task.key}")
        await store.maintenance.repair(task.task_id, by="the tests")
        tape = await store.read_tape(task.task_id)

    read = FinalEvent.from_event(tape.events[0])
    assert read.outcome is Outcome.CANCELLED
    assert read.cancel is not None
    assert (read.cancel.message, read.cancel.by) == ("enough", "ann")


async def test_closed_tape_ends_a_row_that_runs(store_url: str) -> None:
    """A row set back by hand follows its final again, and its late events are possible again."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        await run_round(
            store_url,
            f"UPDATE tasks SET status = 'running', finished_at = NULL, lease_expires_at = 1 "
            f"WHERE id = {key}",
        )
        mended = await store.maintenance.repair(attempt.task_id, by="the tests")
        task = await store.get(attempt.task_id)
        report = await audit_store(store)

    assert [one.rule for one in mended.repairs] == [AuditRule.OUTCOME_MISMATCH]
    assert mended.repairs[0].was == {"status": "running", "finished_at": None, "error_code": None}
    assert task.status is TaskStatus.SUCCEEDED
    assert task.finished_at is not None
    assert (mended.left, report.violations) == ((), ())


async def test_final_that_cannot_be_read_is_left(store_url: str) -> None:
    """No event is rewritten: a final that is no JSON, and what is beside it, is for a person."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        await run_round(
            store_url, f"UPDATE events SET body = 'no json' WHERE task = {key} AND seq = 4"
        )
        mended = await store.maintenance.repair(attempt.task_id, by="the tests")

    assert mended.repairs == ()
    assert [found.rule for found in mended.left] == [AuditRule.OUTCOME_MISMATCH, AuditRule.BAD_ROW]


@pytest.mark.parametrize("lease", ["1", "NULL"], ids=["ended", "none"])
async def test_stuck_task_is_handed_to_the_rescue(store_url: str, lease: str) -> None:
    """It fails as lost, also when it has no lease at all, which no rescue would find."""
    async with find_store(store_url) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        await store.claim_if_pending(task, "me", 60)
        await run_round(
            store_url,
            f"UPDATE tasks SET lease_expires_at = {lease}, claimed_at = 1 WHERE id = {task.key}",
        )
        (found,) = (await audit_store(store)).violations
        mended = await store.maintenance.repair(task.task_id, by="the tests")
        after = await store.get(task.task_id)
        report = await audit_store(store)

    assert found.rule is AuditRule.STUCK_RUNNING
    assert [one.text for one in mended.repairs] == ["attempt 1 is handed to the rescue"]
    ended = None if lease == "NULL" else "1970-01-01T00:00:00.000001Z"
    assert mended.repairs[0].was == {"owner": "me", "lease_expires_at": ended}
    assert (after.status, after.error_code) == (TaskStatus.FAILED, "worker_lost")
    assert (mended.left, report.violations) == ((), ())


async def test_count_that_cannot_be_is_forgotten(store_url: str) -> None:
    """A count below one goes, and the repair log keeps it; at least what is kept stays counted."""
    async with find_store(store_url) as store:
        attempt, _ = await make_ended(store)
        await run_statement(
            store_url, f"UPDATE drop_counts SET n = -3 WHERE task_id = '{attempt.task_id}'"
        )
        mended = await store.maintenance.repair(attempt.task_id, by="the tests")
        drops = await store.read_quarantine(attempt.task_id)

    assert [one.was[0]["n"] for one in mended.repairs] == [-3]
    assert drops.counts == {DropReason.AFTER_TERMINAL: 2}
    assert mended.left == ()


async def test_sound_task_is_left_alone(store_url: str) -> None:
    """A repair of a task on which all is well writes nothing, not even a trace."""
    async with find_store(store_url) as store:
        attempt, _ = await make_ended(store)
        before = await store.read_tape(attempt.task_id)
        mended = await store.maintenance.repair(attempt.task_id, by="the tests")

        assert await store.maintenance.read_repairs() == []
        assert await store.read_tape(attempt.task_id) == before

    assert (mended.repairs, mended.left) == ((), ())


async def test_bad_input_is_refused(store_url: str) -> None:
    """An unknown task, and a repair without a name, are errors."""
    async with find_store(store_url) as store:
        with pytest.raises(UnknownTask):
            await store.maintenance.repair(new_task_id(), by="the tests")
        with pytest.raises(UnknownTask):
            await store.maintenance.repair("what", by="the tests")
        with pytest.raises(BadSetting, match="by"):
            await store.maintenance.repair(new_task_id(), by=" ")


async def _attack(url: str, statement: str) -> None:
    with pytest.raises(  # one of the two, as the store is
        (sqlite3.IntegrityError, asyncpg.PostgresError), match="tapescope I"
    ):
        await run_statement(url, statement)


@pytest.mark.parametrize("dry_run", [False, True], ids=["repair", "dry run"])
async def test_guards_hold_after_a_repair(store_url: str, dry_run: bool) -> None:
    """Each guard that a repair passes refuses a raw session as before; so does the log's own."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        await run_round(store_url, LOG_AFTER.format(key=key))
        mended = await store.maintenance.repair(attempt.task_id, by="the tests", dry_run=dry_run)
        if not dry_run:
            await _attack(store_url, "UPDATE repairs SET repaired_by = 'nobody'")
            await _attack(store_url, "DELETE FROM repairs")
        await _attack(store_url, LOG_AFTER.format(key=key).replace(", 5, 1,", ", 6, 1,"))
        await _attack(store_url, f"DELETE FROM events WHERE task = {key} AND seq = 4")
        await _attack(store_url, f"UPDATE tasks SET error_code = 'x' WHERE id = {key}")

    assert len(mended.repairs) == 1


async def test_repair_beside_writers(store_url: str) -> None:
    """Tasks go on while others are mended: every append is stored, and the audit finds nothing."""
    async with find_store(store_url) as store, find_store(store_url) as other:
        broken = [await make_ended(store) for _ in range(10)]
        for _, key in broken:
            await run_round(store_url, LOG_AFTER.format(key=key))

        async def work(on: TaskStore) -> None:
            for _ in range(4):
                await make_ended(on)

        working = asyncio.gather(*(work(on) for on in (store, other) for _ in range(5)))
        mended = [
            await store.maintenance.repair(attempt.task_id, by="the tests") for attempt, _ in broken
        ]
        await working
        report = await audit_store(store)

    assert [len(one.repairs) for one in mended] == [1] * 10
    assert (report.checked, report.violations) == (50, ())


async def test_repair_waits_for_who_writes(postgres_url: str) -> None:
    """What it mends is the row as the last writer left it: this one was renewed meanwhile."""
    async with find_store(postgres_url) as store, session(postgres_url) as raw:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        await store.claim_if_pending(task, "me", 0.000_001)
        async with raw.transaction(), session(postgres_url) as other:
            await raw.execute("UPDATE tasks SET lease_expires_at = $1", 2**53)
            repair = store.maintenance.repair(task.task_id, by="me", grace=0)
            repairing = asyncio.ensure_future(repair)

            async def waits() -> bool:
                found = await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
                return bool(found)

            await until(waits)
        mended = await repairing

    assert mended.repairs == ()


async def test_role_that_does_not_own_the_tables_may_not_repair(postgres_url: str) -> None:
    """On PostgreSQL the guards are off for the tables' owner only; others are told so."""
    schema = schema_of(postgres_url)
    role = f"app_{schema}"
    async with find_store(postgres_url) as owner, session(postgres_url) as conn:
        attempt, key = await make_ended(owner)
        await run_round(postgres_url, LOG_AFTER.format(key=key))
        await conn.execute(
            f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role};"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};"
        )
        url = postgres_url.replace("postgres@", f"{role}@")
        async with find_store(url) as store:
            with pytest.raises(StoreRefused, match=r"owner|permission"):
                await store.maintenance.repair(attempt.task_id, by="the tests")
            tape = await store.read_tape(attempt.task_id)
            await _attack(postgres_url, f"DELETE FROM events WHERE task = {key}")

    assert tape.last_seq == 5


async def test_crash_in_mid_repair_leaves_the_guards(sqlite_url: str) -> None:
    """A SQLite session that dies between taking the guards off and the commit changes nothing."""
    path = sqlite_url.removeprefix("sqlite:///")
    async with find_store(sqlite_url) as store:
        _, key = await make_ended(store)
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("BEGIN IMMEDIATE")
            conn.execute("DROP TRIGGER events_live_with_task")
            conn.execute("DELETE FROM events WHERE seq = 4")
        await _attack(sqlite_url, f"DELETE FROM events WHERE task = {key} AND seq = 4")
        late = await store.append((await make_ended(store))[0], [NewEvent("log", "late")])

    assert late.dropped is DropReason.AFTER_TERMINAL
