"""The guards of pauses and drains: what a person has stopped stands still, and what must not does
not."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, POSTGRES, SQLITE, STORE, TAPESCOPE, Edit, Guard, row

_SUITE: Final = "tests/contract/test_conformance.py"
_OF_MANAGER: Final = "tests/manager/test_pauses.py"
_OF_CLI: Final = "tests/cli/test_pauses.py"
_CLAIM: Final = "test_no_claim_that_begins_after_a_pause_takes_a_task"
_DRAIN: Final = "test_a_draining_worker_claims_no_task"
_FIRST: Final = "test_a_pause_says_who_when_and_why"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "pauses.claim_sqlite",
        "No claim takes a task of a paused op, on SQLite",
        Edit(
            f"{SQLITE}/sql/due.sql",
            "       AND o.value NOT IN (SELECT p.op FROM pauses p)\n",
        ),
        f"{_SUITE}::TestSqlite::{_CLAIM}",
    ),
    row(
        "pauses.claim_postgres",
        "No claim takes a task of a paused op, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/list_claimable.sql", "WHERE p.op IS NULL", "WHERE o.op <> ''"
        ),
        f"{_SUITE}::TestPostgres::{_CLAIM}",
        on="postgresql",
    ),
    row(
        "pauses.claim_memory",
        "No claim takes a task of a paused op, in memory",
        Edit(f"{TAPESCOPE}/testing/_memory.py", "set(ops) - self._pauses.keys()", "set(ops)"),
        f"{_SUITE}::TestMemory::{_CLAIM}",
        on="memory",
    ),
    row(
        "pauses.next_due_sqlite",
        "A worker does not look again and again for tasks of a paused op, on SQLite",
        Edit(
            f"{SQLITE}/sql/due.sql",
            "     WHERE o.value NOT IN (SELECT p.op FROM pauses p)\n",
        ),
        f"{_SUITE}::TestSqlite::test_no_worker_claims_tasks_of_a_paused_op",
    ),
    row(
        "pauses.next_due_postgres",
        "A worker does not look again and again for tasks of a paused op, on PostgreSQL",
        Edit(f"{POSTGRES}/sql/due.sql", "     WHERE p.op IS NULL\n"),
        f"{_SUITE}::TestPostgres::test_no_worker_claims_tasks_of_a_paused_op",
        on="postgresql",
    ),
    row(
        "pauses.first_sqlite",
        "The first pause stands, with who and why, on SQLite",
        Edit(
            f"{SQLITE}/sql/ops.sql",
            "DO UPDATE SET op = excluded.op\n",
            "DO UPDATE SET reason = excluded.reason\n",
        ),
        f"{_SUITE}::TestSqlite::{_FIRST}",
    ),
    row(
        "pauses.first_postgres",
        "The first pause stands, with who and why, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/ops.sql",
            "DO UPDATE SET op = excluded.op\n",
            "DO UPDATE SET reason = excluded.reason\n",
        ),
        f"{_SUITE}::TestPostgres::{_FIRST}",
        on="postgresql",
    ),
    row(
        "pauses.pkey",
        "An op is paused once, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/migrations/0013_pauses.sql",
            ",\n    CONSTRAINT pauses_pkey PRIMARY KEY (op)",
        ),
        f"{_SUITE}::TestPostgres::{_FIRST}",
        on="postgresql",
    ),
    row(
        "pauses.drain_sqlite",
        "A worker that drains claims nothing, on SQLite",
        Edit(
            f"{SQLITE}/sql/due.sql", "w.owner = :owner AND w.drained_at", "w.owner = '' AND :owner"
        ),
        f"{_SUITE}::TestSqlite::{_DRAIN}",
    ),
    row(
        "pauses.drain_postgres",
        "A worker that drains claims nothing, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/list_claimable.sql", "        RETURN '{}';", "        NULL;"
        ),
        f"{_SUITE}::TestPostgres::{_DRAIN}",
        on="postgresql",
    ),
    row(
        "pauses.drain_stays",
        "A worker that tells anew that it lives drains on, in memory",
        Edit(
            f"{TAPESCOPE}/testing/_memory.py",
            "replace(told, ops=tuple(ops), queues=taken, heard_us=now)",
            "replace(told, ops=tuple(ops), queues=taken, heard_us=now, drain=None)",
        ),
        f"{_SUITE}::TestMemory::{_DRAIN}",
        on="memory",
    ),
    row(
        "pauses.unknown_worker",
        "A worker that is gone is not said to drain",
        Edit(
            f"{STORE}/ops.py", "        if drain is None:\n            raise UnknownWorker(owner)\n"
        ),
        f"{_SUITE}::TestMemory::test_a_drain_goes_with_its_worker",
        on="memory",
    ),
    row(
        "pauses.lost_reply",
        "What was claimed before a pause, and whose reply was lost, is handed out after it",
        Edit(
            f"{POSTGRES}/sql/functions/claim_due.sql",
            "    IF cardinality(x_queues) = 0 THEN\n",
            "    IF cardinality(x_ops) = 0 THEN RETURN NULL; END IF;\n"
            "    IF cardinality(x_queues) = 0 THEN\n",
        ),
        "tests/adapters/postgres/test_claims.py::"
        "test_claims_whose_reply_was_lost_are_told_though_the_op_is_paused_since",
        on="postgresql",
    ),
    row(
        "pauses.wake",
        "A resume wakes the workers of its process",
        Edit(
            f"{STORE}/ops.py",
            '            _log.info("The op %s is resumed.", op)\n        await self._wake()\n',
            '            _log.info("The op %s is resumed.", op)\n',
        ),
        f"{_OF_MANAGER}::test_a_resume_wakes_the_workers_of_its_process",
        on="memory",
    ),
    row(
        "pauses.unattended",
        "A paused op is not one that no worker can run",
        Edit(f"{TAPESCOPE}/model/backlog.py", " and self.paused is None"),
        f"{_SUITE}::TestMemory::test_the_numbers_say_what_is_paused",
        on="memory",
    ),
    row(
        "pauses.drain_is_seen",
        "A worker that drains says so, and claims again when it is let",
        Edit(f"{MANAGER}/worker.py", "                await self._find_drain()\n"),
        f"{_OF_MANAGER}::test_a_drained_worker_runs_on_and_claims_nothing",
        on="memory",
    ),
    row(
        "pauses.drain_is_ready",
        "A worker that drains is not restarted by its probe",
        Edit(
            f"{MANAGER}/readiness.py",
            'Check("worker", True, worker)',
            'Check("worker", False, worker)',
        ),
        f"{_OF_MANAGER}::test_a_drained_worker_runs_on_and_claims_nothing",
        on="memory",
    ),
    row(
        "pauses.one_line",
        "A reason makes no line of its own in the answer of a probe, or in a log",
        Edit(
            f"{TAPESCOPE}/model/wording.py",
            'make_printable(f"{who}: {reason}" if reason else who)',
            'f"{who}: {reason}" if reason else who',
        ),
        f"{_OF_MANAGER}::test_a_drained_worker_runs_on_and_claims_nothing",
        on="memory",
    ),
    row(
        "pauses.drain_unseen",
        "A worker whose role may not look whether it drains works",
        Edit(
            f"{MANAGER}/worker.py",
            "        except StoreRefused:  # of a role that may not look there",
            "        except ZeroDivisionError:  # of a role that may not look there",
        ),
        "tests/manager/test_backlog_reader.py::test_a_worker_that_may_not_tell_works",
        on="memory",
    ),
    row(
        "pauses.bound_shown",
        "A task that its own process will run is not shown as waiting for a resume",
        Edit(
            f"{TAPESCOPE}/cli/_wording.py",
            "task.status is TaskStatus.PENDING and task.lease_expires_us is None",
            "task.status is TaskStatus.PENDING",
        ),
        f"{_OF_CLI}::test_what_waits_for_a_resume_says_so",
    ),
    row(
        "pauses.whole_process",
        "A whole host and process names no other whose number begins so",
        Edit(
            f"{TAPESCOPE}/cli/commands/workers.py",
            '[one for one in begin_so if one.owner.startswith(f"{named}:")] or begin_so',
            "begin_so",
        ),
        f"{_OF_CLI}::test_a_worker_is_drained_by_its_host_and_process",
    ),
)
