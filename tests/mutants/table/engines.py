"""The guards of engines: what is theirs no claim takes, and the lease decides who has it."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, POSTGRES, SQLITE, STORE, TAPESCOPE, Edit, Guard, row

_SUITE: Final = "tests/contract/test_conformance.py"
_OF_MANAGER: Final = "tests/manager/test_engines.py"
_OF_METRICS: Final = "tests/manager/test_engine_metrics.py"
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
        f"{_SUITE}::TestMemory::test_it_has_no_queue_of_its_own",
        on="memory",
    ),
    row(
        "engines.queue_claimed",
        "What has a queue is claimed from it, and brought by no engine",
        Edit(
            f"{MANAGER}/manager.py",
            "claimed = runner is not None or queue != DEFAULT_QUEUE or ",
            "claimed = runner is not None or ",
        ),
        f"{_OF_MANAGER}::test_what_has_a_queue_is_claimed_from_it",
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
        "engines.confirmed_postgres",
        "What an engine has is noted without a wait for a lock, on PostgreSQL",
        Edit(f"{POSTGRES}/sql/engines.sql", "FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE"),
        "tests/adapters/postgres/test_confirmed.py::test_what_a_session_holds_is_passed_over",
        on="postgresql",
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
        Edit(
            _DESK,
            r"if limit is not None and pool\.running_of\(op\) >= limit:\n.*?"
            r"if \(limit is None or pool\.taken_of\(op\) < limit\) and pool",
            "if pool",
            pattern=True,
        ),
        f"{_OF_MANAGER}::test_a_task_is_held_that_cannot_begin_here",
    ),
    row(
        "engines.slots_coming",
        "What a worker is claiming counts where an engine brings another task of the op",
        Edit(_DESK, "(limit is None or pool.taken_of(op) < limit) and pool", "pool"),
        f"{_OF_MANAGER}::test_an_op_has_its_limit_while_its_worker_claims",
    ),
    row(
        "engines.slots_brought",
        "What an engine is bringing counts where the worker claims another task of the op",
        Edit(
            _DESK,
            "            with pool.coming([task.op], 1):\n",
            "            with pool.coming([], 1):\n",
        ),
        f"{_OF_MANAGER}::test_an_op_has_its_limit_while_an_engine_brings",
    ),
    row(
        "engines.pause",
        "A task of a paused op is held, whoever brings it",
        Edit(_DESK, "        if task.op in await self._read_pauses():\n", "        if False:\n"),
        f"{_OF_MANAGER}::test_a_task_is_held_that_cannot_begin_here",
    ),
    row(
        "engines.slots_of_schedules",
        "What a schedule makes of an op with slots over the store has no engine",
        Edit(
            f"{MANAGER}/manager.py",
            "engine=self._find_engine_of(None, slots, known.queue, asked=False)",
            "engine=self._engine_name",
        ),
        f"{_OF_MANAGER}::test_what_needs_a_slot_over_the_whole_store_is_claimed_as_ever",
    ),
    row(
        "engines.slots_of_submits",
        "A task that needs a slot because of its op has no engine",
        Edit(
            f"{MANAGER}/manager.py",
            " or (slots is not None and not asked)\n        return",
            "\n        return",
        ),
        f"{_OF_MANAGER}::test_what_needs_a_slot_over_the_whole_store_is_claimed_as_ever",
    ),
    row(
        "engines.slot_of_a_defect",
        "A task that could not be started leaves its slot",
        Edit(_DESK, "            if completion is None:\n", "            if claim is None:\n"),
        f"{_OF_MANAGER}::test_a_defect_at_the_start_of_a_task_takes_no_slot",
    ),
    row(
        "engines.count_of_a_defect",
        "A task that could not be started is not counted in its op's limit",
        Edit(
            f"{MANAGER}/pool.py",
            "        self._listen_for_cancels()\n        self._claimed[task.op] += 1",
            "        self._claimed[task.op] += 1\n        self._listen_for_cancels()",
        ),
        f"{_OF_MANAGER}::test_a_defect_at_the_start_of_a_task_takes_no_slot",
    ),
    row(
        "engines.pauses_at_once",
        "Who asks for the paused ops while they are read waits for that read",
        Edit(
            _DESK,
            "            await self._pauses_read.join(",
            "            self._pauses_at = now\n            await self._pauses_read.join(",
        ),
        f"{_OF_MANAGER}::test_a_paused_ops_tasks_are_held_however_many_are_brought_at_once",
    ),
    row(
        "engines.reconcile_failed",
        "A turn says where the engine cannot be asked",
        Edit(
            f"{TAPESCOPE}/engine/reconciler.py",
            "        done.failed = done.failed or told.failed\n",
            "",
        ),
        f"{_OF_MANAGER}::test_the_reconciler_brings_what_got_lost",
    ),
    row(
        "engines.reconcile_runs",
        "A cancel in the engine holds for what runs, too",
        Edit(
            f"{TAPESCOPE}/engine/reconciler.py",
            "not task.status.terminal and task.cancel is None:",
            "task.owner is None and task.cancel is None:",
        ),
        f"{_OF_MANAGER}::test_what_was_cancelled_there_while_it_runs_is_cancelled_here",
    ),
    row(
        "engines.reconcile_left",
        "A cancel that an engine tells of once is kept until it is settled",
        Edit(
            f"{TAPESCOPE}/engine/reconciler.py",
            "    left = {} if left is None else left\n",
            "    left = {}\n",
        ),
        f"{_OF_MANAGER}::test_a_cancel_there_is_not_lost_while_the_store_is_away",
    ),
    row(
        "engines.reconcile_goes_on",
        "A task that the engine does not take keeps none of the next page",
        Edit(
            f"{TAPESCOPE}/engine/reconciler.py",
            "        if not settled or len(tasks) < _PAGE:\n",
            "        if told.failed or len(tasks) < _PAGE:\n",
        ),
        f"{_OF_MANAGER}::test_a_task_that_the_engine_does_not_take_keeps_no_other_one",
    ),
    row(
        "engines.reconcile_each",
        "A task that cannot be cancelled keeps none of the others from it",
        Edit(
            f"{TAPESCOPE}/engine/reconciler.py",
            "        return False\n    return True\n",
            "        raise\n    return True\n",
        ),
        f"{_OF_MANAGER}::test_a_task_that_cannot_be_cancelled_keeps_no_other_one",
    ),
    row(
        "engines.told_brought",
        "What an engine brings is counted",
        Edit(
            f"{TAPESCOPE}/manager/desk.py",
            "        self._pool.store.telemetry.engines.brought(self._engine, op, result, held)\n",
            "",
        ),
        f"{_OF_METRICS}::test_what_is_brought_is_counted_by_what_became_of_it",
    ),
    row(
        "engines.told_held",
        "What is held says why",
        Edit(
            f"{TAPESCOPE}/manager/desk.py",
            "        held = answer.reason.value if isinstance(answer, Held) else None\n",
            "        held = None\n",
        ),
        f"{_OF_METRICS}::test_what_is_brought_is_counted_by_what_became_of_it",
    ),
    row(
        "engines.told_engine",
        "The span of a run names what brought it",
        Edit(
            f"{TAPESCOPE}/run/attempt.py",
            "            engine=task.engine,\n",
            "",
        ),
        f"{_OF_METRICS}::test_what_is_brought_is_counted_by_what_became_of_it",
    ),
    row(
        "engines.told_left",
        "What a turn could not settle is counted",
        Edit(
            f"{TAPESCOPE}/engine/reconciler.py",
            "        meter.reconciled(engine.name, ReconcileResult.LEFT.value, len(tasks) - settled)\n",
            "",
        ),
        f"{_OF_METRICS}::test_a_reconciler_counts_what_it_came_to",
    ),
    row(
        "engines.told_overdue",
        "A turn tells how much is overdue",
        Edit(
            f"{TAPESCOPE}/engine/reconciler.py",
            "            await self._count_overdue()\n",
            "",
        ),
        f"{_OF_METRICS}::test_what_an_engine_does_not_take_is_told_as_overdue",
    ),
    row(
        "engines.told_no_longer",
        "A number of overdue tasks ends when nobody reads it",
        Edit(
            "telemetry/tapescope_telemetry/engines.py",
            "            if read_at >= since:\n",
            "            if read_at:\n",
        ),
        f"{_OF_METRICS}::test_what_an_engine_does_not_take_is_told_as_overdue",
    ),
    row(
        "engines.told_while_read",
        "And with the reconciler that read it",
        Edit(
            f"{TAPESCOPE}/engine/reconciler.py",
            "        self._store.telemetry.engines.overdue_left(self._store.name, self._engine.name)\n",
            "",
        ),
        f"{_OF_METRICS}::test_what_an_engine_does_not_take_is_told_as_overdue",
    ),
)
