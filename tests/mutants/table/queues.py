"""The guards of the queues, and of the bound on what waits: who takes what, and what is refused."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, POSTGRES, SQLITE, STORE, TAPESCOPE, Edit, Guard, row

_SUITE: Final = "tests/contract/test_conformance.py"
_OF_MANAGER: Final = "tests/manager/test_queues.py"
_GROWTH: Final = "tests/adapters/growth/test_growth.py"
_TAKES: Final = "test_a_claim_takes_from_its_queues"
_ORDER: Final = "test_claims_from_some_queues_keep_the_order"
_TOLD: Final = "test_a_queue_without_a_worker_is_told_of"
_OF_BOUND: Final = "tests/manager/test_waiting_bound.py"
_BOUND: Final = f"{MANAGER}/waiting_bound.py"
_UNSERVED: Final = f"{POSTGRES}/sql/functions/read_unserved.sql"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "queues.takes",
        "A claim takes from its queues alone, in memory",
        Edit(
            f"{STORE}/orders.py",
            "task.op in self.ops and (self.queues is None or task.queue in self.queues)",
            "task.op in self.ops",
        ),
        f"{_SUITE}::TestMemory::{_TAKES}",
        on="memory",
    ),
    row(
        "queues.takes_sqlite",
        "A claim takes from its queues alone, on SQLite",
        Edit(
            f"{SQLITE}/_claims.py",
            '    return _MARKED.sub(r"\\1", text).replace("tasks_due_op", "tasks_due_queue")\n',
            "    return text\n",
        ),
        f"{_SUITE}::TestSqlite::{_TAKES}",
    ),
    row(
        "queues.index_sqlite",
        "A claim from some queues walks no others, on SQLite",
        Edit(f"{SQLITE}/_claims.py", '.replace("tasks_due_op", "tasks_due_queue")'),
        f"{_GROWTH}::test_no_statement_of_sqlite_grows[big]",
    ),
    row(
        "queues.share_postgres",
        "Of the second priority a claim shares out what is left to take, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/claim_due.sql",
            "LIMIT x_limit - cardinality(picked)) f",
            "LIMIT x_limit) f",
        ),
        f"{_SUITE}::TestPostgres::{_ORDER}",
        on="postgresql",
    ),
    row(
        "queues.within_postgres",
        "A task in a caller's transaction is stored with its queue, on PostgreSQL",
        Edit(
            f"{POSTGRES}/_caller_transaction.py",
            "None if row.queue == DEFAULT_QUEUE else row.queue,",
            "None,",
        ),
        f"{_OF_MANAGER}::test_a_task_in_a_callers_transaction_has_its_queue",
        on="postgresql",
    ),
    row(
        "queues.made_memory",
        "A new task has the queue that was said, in memory",
        Edit(f"{STORE}/task_rows.py", "        queue=row.queue,\n"),
        f"{_SUITE}::TestMemory::{_TAKES}",
        on="memory",
    ),
    row(
        "queues.ops_default",
        "A task takes its op's queue where its submit says none",
        Edit(
            f"{MANAGER}/known_ops.py",
            "            known.queue if queue is None else queue,\n",
            '            queue or "default",\n',
        ),
        f"{_OF_MANAGER}::test_a_submit_says_its_queue_or_takes_the_ops",
    ),
    row(
        "queues.of_worker",
        "A worker claims from its queues",
        Edit(
            f"{MANAGER}/worker.py",
            "pool.owner, names, slots, pool.lease, queues=self.queues",
            "pool.owner, names, slots, pool.lease",
        ),
        f"{_OF_MANAGER}::test_a_worker_takes_from_its_queues",
    ),
    row(
        "queues.ops_of_worker",
        "A worker leaves to others the ops that it was not given",
        Edit(
            f"{MANAGER}/worker.py",
            "return {name: op for name, op in ops.items() if name in self._work_ops}",
            "return ops",
        ),
        f"{_OF_MANAGER}::test_an_op_that_is_left_to_others_is_not_worked_on",
        on="memory",
    ),
    row(
        "queues.own_runner",
        "A queue beside a runner that is run here is refused",
        Edit(
            f"{MANAGER}/manager.py",
            "            if submission.queue is not None:\n",
            "            if submission is None:\n",
        ),
        f"{_OF_MANAGER}::test_a_runner_of_ones_own_has_no_queue",
        on="memory",
    ),
    row(
        "queues.few",
        "A worker has a hundred queues at most",
        Edit(
            f"{STORE}/validation.py",
            "    if not 0 < len(names) <= _MOST_QUEUES:\n",
            "    if not names:\n",
        ),
        f"{_SUITE}::TestMemory::test_the_queues_of_a_worker_are_few",
        on="memory",
    ),
    row(
        "queues.whole",
        "Where a worker takes all queues of an op, none is without one",
        Edit(
            f"{TAPESCOPE}/model/backlog.py",
            "    return {op: queues for op, queues in taken.items() if op not in whole}\n",
            "    return taken\n",
        ),
        f"{_SUITE}::TestMemory::{_TOLD}",
        on="memory",
    ),
    row(
        "queues.whole_postgres",
        "Where a worker takes all queues of an op, none is without one, on PostgreSQL",
        Edit(_UNSERVED, " HAVING bool_and(w.queues IS NOT NULL)"),
        f"{_SUITE}::TestPostgres::{_TOLD}",
        on="postgresql",
    ),
    row(
        "queues.due_postgres",
        "A queue in which nothing is due yet needs no worker, on PostgreSQL",
        Edit(_UNSERVED, " AND t.run_at <= now"),
        f"{_SUITE}::TestPostgres::{_TOLD}",
        on="postgresql",
    ),
    row(
        "queues.shared_postgres",
        "A claim looks no more where all that is due was shared out, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/claim_due.sql",
            "OR (SELECT sum(f.n) FROM found f) >= x_limit - cardinality(picked)",
            "OR true",
        ),
        "tests/adapters/postgres/test_claims.py::test_what_was_shared_out_is_not_looked_for_again",
        on="postgresql",
    ),
    row(
        "queues.taken_postgres",
        "Queues that are taken hide none that is not, on PostgreSQL",
        Edit(_UNSERVED, "s.nth + (s.queue <> ALL (coalesce(n.taken, '{}')))::integer", "s.nth + 1"),
        f"{_SUITE}::TestPostgres::test_queues_that_are_taken_hide_none",
        on="postgresql",
    ),
    row(
        "queues.taken_sqlite",
        "Queues that are taken hide none that is not, on SQLite",
        Edit(
            f"{SQLITE}/sql/backlog.sql",
            "s.nth + (s.queue NOT IN (SELECT value FROM json_each(:taken)))",
            "s.nth + 1",
        ),
        f"{_SUITE}::TestSqlite::test_queues_that_are_taken_hide_none",
    ),
    row(
        "queues.behind_postgres",
        "What a submitter holds hides nothing behind it, on PostgreSQL",
        Edit(_UNSERVED, "LIMIT 100) d", "LIMIT 1) d"),
        f"{_SUITE}::TestPostgres::test_a_queue_is_told_of_behind_what_its_submitter_holds",
        on="postgresql",
    ),
    row(
        "queues.behind_sqlite",
        "What a submitter holds hides nothing behind it, on SQLite",
        Edit(f"{SQLITE}/sql/backlog.sql", "d.id LIMIT 100)", "d.id LIMIT 1)"),
        f"{_SUITE}::TestSqlite::test_a_queue_is_told_of_behind_what_its_submitter_holds",
    ),
    row(
        "queues.due_sqlite",
        "A queue in which nothing is due yet needs no worker, on SQLite",
        Edit(
            f"{SQLITE}/sql/backlog.sql",
            "AND d.priority = l.priority AND d.run_at <= :now",
            "AND d.priority = l.priority",
        ),
        f"{_SUITE}::TestSqlite::{_TOLD}",
    ),
    row(
        "queues.held_sqlite",
        "A task that only its submitter can run needs no worker of its queue, on SQLite",
        Edit(f"{SQLITE}/sql/backlog.sql", "WHERE held IS NULL", "WHERE true"),
        f"{_SUITE}::TestSqlite::{_TOLD}",
    ),
    row(
        "queues.range_sqlite",
        "A raw session gives no queue that has no name, on SQLite",
        Edit(
            f"{SQLITE}/sql/migrations/0019_queues.sql",
            "\n    CONSTRAINT tasks_queue_known CHECK (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 128);",
            ";",
        ),
        "tests/adapters/test_raw_sessions.py::test_a_queue_without_a_name_is_refused",
    ),
    row(
        "queues.range_postgres",
        "A raw session gives no queue that has no name, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/migrations/0019_queues.sql",
            "\n    CONSTRAINT tasks_queue_known CHECK (length(queue) BETWEEN 1 AND 128);",
            ";",
        ),
        "tests/adapters/test_raw_sessions.py::test_a_queue_without_a_name_is_refused",
        on="postgresql",
    ),
    row(
        "queues.metric",
        "The number of an op's workers is 0 where none of them takes what is due",
        Edit(
            "telemetry/tapescope_telemetry/backlogs.py",
            "    if one.unserved:\n        return 0  # none that takes what is due there\n",
        ),
        f"{_OF_MANAGER}::test_a_queue_that_nobody_takes_is_told_of",
    ),
    # --- the bound on what waits ------------------------------------------------------------------
    row(
        "queues.bound",
        "A submit beyond the bound of its op is refused",
        Edit(_BOUND, "            raise OpFull(op, waiting, most)\n"),
        f"{_OF_BOUND}::test_a_submit_beyond_the_bound_is_refused",
    ),
    row(
        "queues.bound_since",
        "What was submitted since the numbers were read counts",
        Edit(_BOUND, "        self._begun[op] += 1\n"),
        f"{_OF_BOUND}::test_many_at_once_are_as_many_as_may",
    ),
    row(
        "queues.bound_under_way",
        "What is under way when the numbers are read counts",
        Edit(_BOUND, "self._begun - self._under_way  #", "self._begun.copy()  #"),
        f"{_OF_BOUND}::test_what_is_under_way_counts",
        on="memory",
    ),
    row(
        "queues.bound_told_again",
        "What ended after the numbers were made counts, though they are told again",
        Edit(_BOUND, "self._before = before - missed", "self._before = before"),
        f"{_OF_BOUND}::test_numbers_that_are_told_again_lack_what_was_submitted_since",
    ),
    row(
        "queues.bound_now",
        "No submit is refused by old numbers, nor by what was submitted since",
        Edit(_BOUND, "            await self._read(store, 0.0)\n", "            pass\n"),
        f"{_OF_BOUND}::test_what_workers_take_makes_room_at_once",
    ),
    row(
        "queues.bound_made",
        "A submit that made no task takes no place",
        Edit(
            _BOUND, "        if not made:\n            self._begun[op] -= 1\n            return\n"
        ),
        f"{_OF_BOUND}::test_a_key_leaves_the_numbers_as_they_are",
        on="memory",
    ),
    row(
        "queues.bound_reads",
        "Refusals in a row do not read the numbers each",
        Edit(_BOUND, "return not (sure and self._is_known(store, _TO_REFUSE))", "return True"),
        f"{_OF_BOUND}::test_numbers_are_read_now_and_then",
        on="memory",
    ),
    row(
        "queues.bound_once",
        "Many submits wait for one reading, and have its one end",
        Edit(
            f"{TAPESCOPE}/shielded.py",
            "        if self._call is None:\n            self._call",
            "        if True:\n            self._call",
        ),
        f"{_OF_BOUND}::test_many_that_wait_for_a_reading_have_one_answer",
        on="memory",
    ),
    row(
        "queues.bound_shielded",
        "Who is cancelled takes the reading from no other",
        Edit(f"{TAPESCOPE}/shielded.py", "await_child(asyncio.shield(self._call))", "self._call"),
        f"{_OF_BOUND}::test_many_that_wait_for_a_reading_have_one_answer",
        on="memory",
    ),
    row(
        "queues.bound_life",
        "A manager knows nothing of another store or event loop",
        Edit(
            f"{MANAGER}/manager.py",
            "        self._bound = WaitingBound()\n",
            "        self._bound = getattr(self, '_bound', None) or WaitingBound()\n",
        ),
        f"{_OF_BOUND}::test_another_store_has_numbers_of_its_own",
        on="memory",
    ),
    row(
        "queues.bound_lock",
        "A reading for a submit waits for no lock of SQLite's",
        Edit(
            "adapters/tapescope_adapters/sqlite/_backend.py",
            "            fresh >= _UNHURRIED\n            and ",
            "            ",
        ),
        f"{_OF_BOUND}::test_a_reading_waits_for_no_lock",
        on="sqlite",
    ),
    row(
        "queues.bound_lock_long",
        "The numbers are read though another session holds the file",
        Edit(
            "adapters/tapescope_adapters/sqlite/_backend.py",
            "with suppress(StoreLocked):",
            "with suppress():",
        ),
        f"{_OF_BOUND}::test_a_reading_waits_for_no_lock",
        on="sqlite",
    ),
    row(
        "queues.bound_key",
        "A key finds its task though the op is full",
        Edit(_BOUND, " and not await _is_there(store, op, idempotency_key)"),
        f"{_OF_BOUND}::test_a_key_finds_its_task_also_where_it_is_full",
    ),
    row(
        "queues.bound_elsewhere",
        "Who has not registered the op keeps to its bound",
        Edit(f"{MANAGER}/known_ops.py", "            known.max_waiting,\n"),
        f"{_OF_BOUND}::test_who_has_not_registered_the_op_keeps_to_its_bound",
    ),
    row(
        "queues.bound_of_many",
        "Of many tasks that are retried one that is refused stops no other",
        Edit(f"{TAPESCOPE}/cli/commands/retry.py", "UniqueKeyTaken, OpFull)", "UniqueKeyTaken)"),
        "tests/cli/test_waiting_bound.py::test_a_submit_beyond_the_bound_says_so",
    ),
    row(
        "queues.bound_counted",
        "A refusal is counted",
        Edit(_BOUND, "            store.telemetry.tasks.refused(op)\n"),
        f"{_OF_BOUND}::test_refusals_are_counted",
        on="memory",
    ),
    row(
        "queues.bound_client",
        "A client waits for no op that is full",
        Edit(f"{TAPESCOPE}/client/verbs.py", " or is_full(error)"),
        "tests/http/test_submits.py::test_an_op_that_is_full_is_said_to_be",
        "tests/client/test_client.py::test_an_op_that_is_full_is_not_asked_again",
    ),
)
