"""The guards of engines: what is theirs no claim takes, and the lease decides who has it."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, POSTGRES, SQLITE, STORE, TAPESCOPE, Edit, Guard, row

_SUITE: Final = "tests/contract/test_conformance.py"
_OF_MANAGER: Final = "tests/manager/test_engines.py"
_LEFT: Final = "test_a_claim_of_due_tasks_leaves_them"
_RESCUED: Final = "test_a_rescue_leaves_it_pending_whatever_ops_are_known"
_DESK: Final = f"{MANAGER}/desk.py"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "engines.claim_memory",
        "A claim of due tasks leaves those of an engine, in memory",
        Edit(f"{TAPESCOPE}/testing/_memory.py", " and task.engine is None:", ":"),
        f"{_SUITE}::TestMemory::{_LEFT}",
        on="memory",
    ),
    row(
        "engines.claim_sqlite",
        "A claim of due tasks leaves those of an engine, on SQLite",
        Edit(
            f"{SQLITE}/sql/due.sql",
            r"AND d\.op = f\.op AND d\.engine = ''(\S+ queues:  AND d\.queue = f\.queue\S+ AND d\.priority = f\.priority\s+AND d\.run_at <= :now\s+ORDER)",
            r"AND d.op = f.op\1",
            pattern=True,
        ),
        f"{_SUITE}::TestSqlite::{_LEFT}",
    ),
    row(
        "engines.claim_postgres",
        "A claim of due tasks leaves those of an engine, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/claim_due.sql",
            "t.engine = '' AND t.op = share.op",
            "t.op = share.op",
        ),
        f"{_SUITE}::TestPostgres::{_LEFT}",
        on="postgresql",
    ),
    row(
        "engines.queue_postgres",
        "A claim from some queues leaves those of an engine, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/claim_due.sql",
            "share.queue IS NOT NULL AND t.status = 'pending' AND t.engine = ''",
            "share.queue IS NOT NULL AND t.status = 'pending'",
        ),
        f"{_SUITE}::TestPostgres::{_LEFT}",
        on="postgresql",
    ),
    row(
        "engines.no_queue",
        "A task of an engine has no queue of its own",
        Edit(f"{STORE}/port.py", " and new.queue != DEFAULT_QUEUE:", " and new is None:"),
        f"{_OF_MANAGER}::test_a_queue_beside_an_engine_is_refused",
    ),
    row(
        "engines.no_unserved",
        "What an engine brings waits in no queue that a worker is to take, in memory",
        Edit(f"{TAPESCOPE}/model/backlog.py", " and not task.engine"),
        f"{_SUITE}::TestMemory::test_it_waits_in_no_queue_for_a_worker",
        on="memory",
    ),
    row(
        "engines.ops_of_worker",
        "An engine brings a worker the ops alone that it was given",
        Edit(
            _DESK,
            "        op = self._worker.find_ops().get(task.op)\n",
            "        op = self._worker._registry.get(task.op)\n",
        ),
        f"{_OF_MANAGER}::test_it_brings_the_ops_alone_that_a_worker_was_given",
    ),
    row(
        "engines.rescue_memory",
        "A task of an engine is pending after a rescue, whatever ops are known",
        Edit(f"{STORE}/orders.py", "task.retries and task.engine is not None:", "0:"),
        f"{_SUITE}::TestMemory::{_RESCUED}",
        on="memory",
    ),
    row(
        "engines.rescue_postgres",
        "A task of an engine is pending after a rescue, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/rescue_expired.sql",
            "(t.op = ANY (x_ops) OR t.engine <> '')",
            "t.op = ANY (x_ops)",
        ),
        f"{_SUITE}::TestPostgres::{_RESCUED}",
        on="postgresql",
    ),
    row(
        "engines.own_run",
        "Who brings a task that runs here waits for that run",
        Edit(_DESK, "        if task.owner != self._pool.owner:\n", "        if task.owner:\n"),
        f"{_OF_MANAGER}::test_who_brings_a_task_twice_waits_for_its_one_run",
    ),
    row(
        "engines.slots",
        "No more of an op's tasks run at once than it allows, whoever brings them",
        Edit(_DESK, "self._pool.running_of(op) >= limit", "self._pool.running_of(op) < 0"),
        f"{_OF_MANAGER}::test_a_task_is_held_that_cannot_begin_here",
    ),
    row(
        "engines.pause",
        "A task of a paused op is held, whoever brings it",
        Edit(_DESK, "        if task.op in await self._read_pauses():\n", "        if False:\n"),
        f"{_OF_MANAGER}::test_a_task_is_held_that_cannot_begin_here",
    ),
    row(
        "engines.reconcile_failed",
        "A turn ends where the engine cannot be asked, and says so",
        Edit(
            f"{TAPESCOPE}/engine/reconciler.py",
            "        if told.failed:\n            done.failed = told.failed\n            break\n",
            "",
        ),
        f"{_OF_MANAGER}::test_the_reconciler_brings_what_got_lost",
    ),
)
