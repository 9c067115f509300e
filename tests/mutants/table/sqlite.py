"""The guards of the SQLite store."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import SQLITE, Edit, Guard, row

_SQL: Final = f"{SQLITE}/sql"
_INITIAL: Final = f"{_SQL}/migrations/0001_initial.sql"
_FLAT: Final = f"{_SQL}/migrations/0008_flat.sql"
_READABLE: Final = f"{_SQL}/migrations/0002_readable.sql"
_BOUND: Final = f"{_SQL}/migrations/0003_bound_tasks.sql"
_NUMBERS: Final = f"{_SQL}/migrations/0006_backlog.sql"
_TRACES: Final = f"{_SQL}/migrations/0007_traces.sql"
_TASKS: Final = f"{_SQL}/tasks.sql"
_EVENTS: Final = f"{_SQL}/events.sql"
_FLUSH: Final = f"{SQLITE}/_flush.py"
_CONNECTION: Final = f"{SQLITE}/_connection.py"
_BACKEND: Final = f"{SQLITE}/_backend.py"
_OPENED: Final = f"{SQLITE}/_opened_file.py"
_SCHEMA: Final = f"{SQLITE}/_schema.py"
_CLAIMS: Final = f"{SQLITE}/_claims.py"

_ATTACKS: Final = "tests/adapters/sqlite/test_guards.py"
_RAW: Final = "tests/adapters/test_raw_sessions.py"
_BAD: Final = "tests/adapters/test_bad_rows.py"
_COUNTED: Final = "tests/adapters/test_backlog.py::test_what_a_session_writes_is_counted"
_STORE: Final = "tests/adapters/sqlite/test_store.py"
_CONTRACT: Final = "tests/contract/test_conformance.py::TestSqlite"


def _trigger(name: str, file: str) -> Edit:
    return Edit(file, rf"^CREATE TRIGGER {name}\b.*?^END;$", pattern=True)


GUARDS: Final[tuple[Guard, ...]] = (
    # --- triggers ---------------------------------------------------------------------------------
    row(
        "sqlite.events_follow",
        "I1 I3 I4 I5: an event follows the last one of an open tape, from its own attempt",
        _trigger("events_follow_predecessor", _READABLE),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[event after the final]",
    ),
    row(
        "sqlite.event_seq",
        "I3: the number of an event is one more than that of the one before it",
        Edit(_READABLE, "e.seq = NEW.seq - 1 AND e.type <> 'final'", "e.type <> 'final'"),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[gap]",
    ),
    row(
        "sqlite.event_after_final",
        "I1: nothing comes after the final",
        Edit(_READABLE, "e.seq = NEW.seq - 1 AND e.type <> 'final'", "e.seq = NEW.seq - 1"),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[event after the final]",
        held_by="sqlite.event_of_open_task",
    ),
    row(
        "sqlite.event_offer",
        "I7: an offer is on the tape once",
        Edit(
            _READABLE,
            "(e.attempt = NEW.attempt AND e.offer < NEW.offer)",
            "(e.attempt = NEW.attempt)",
        ),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[offer that is on the tape]",
    ),
    row(
        "sqlite.event_first_seq",
        "I3: a tape begins at 1",
        Edit(_READABLE, "        NEW.seq = 1)\n", "        true)\n"),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[tape that begins at 2]",
    ),
    row(
        "sqlite.event_attempt",
        "I5: an event is of its task's own attempt",
        Edit(
            _READABLE, "WHERE t.id = NEW.task AND t.attempt = NEW.attempt", "WHERE t.id = NEW.task"
        ),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[event of an attempt to come]",
    ),
    row(
        "sqlite.event_of_open_task",
        "I4 I5: only a running task takes events, and a pending one its final",
        Edit(
            _READABLE,
            "AND (t.status = 'running' OR (t.status = 'pending' AND NEW.type = 'final')))",
            ")",
        ),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[event of a task that is not running]",
    ),
    row(
        "sqlite.event_not_replaced",
        "I4: INSERT OR REPLACE replaces no event by its key",
        Edit(_READABLE, "OR (NEW.n > 0 AND EXISTS (SELECT 1 FROM events e WHERE e.n = NEW.n))"),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[insert or replace by the event's own key]",
    ),
    row(
        "sqlite.event_readable",
        "An event has a time, a number of its offer, and a body that is JSON",
        _trigger("events_can_be_read", _READABLE),
        "tests/adapters/test_raw_sessions.py::test_event_that_cannot_be_read_is_refused[sqlite]",
    ),
    row(
        "sqlite.final_unambiguous",
        "I2: a final says one outcome, whichever of two keys of one name is read",
        _trigger("events_final_is_unambiguous", _READABLE),
        "tests/adapters/test_raw_sessions.py::test_event_that_cannot_be_read_is_refused[sqlite]",
    ),
    row(
        "sqlite.final_has_outcome",
        "I2: a final says succeeded, failed or cancelled",
        _trigger("events_final_has_outcome", _INITIAL),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[final without an outcome]",
    ),
    row(
        "sqlite.final_ends_task",
        "I2: the final sets the task's status, in the same statement",
        _trigger("events_final_ends_task", _INITIAL),
        _ATTACKS,
        vital=True,
    ),
    row(
        "sqlite.event_never_changes",
        "I4: an event never changes",
        _trigger("events_never_change", _INITIAL),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[update of an event]",
    ),
    row(
        "sqlite.event_lives_with_task",
        "I4: an event lives as long as its task",
        _trigger("events_live_with_task", _INITIAL),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[delete of an event]",
    ),
    row(
        "sqlite.event_key",
        "A raw row of an event with a key below 1 blocks nobody",
        _trigger("events_have_a_key", _READABLE),
        "tests/adapters/test_raw_sessions.py::test_sqlite_row_of_a_key_of_its_own_is_refused",
    ),
    row(
        "sqlite.task_key",
        "A raw row of a task with a key below 1 blocks nobody",
        _trigger("tasks_have_a_key", _READABLE),
        "tests/adapters/test_raw_sessions.py::test_task_that_cannot_be_read_is_refused[sqlite]",
    ),
    row(
        "sqlite.repair_key",
        "A raw entry of the repair log with a key below 1 blocks nobody",
        _trigger("repairs_have_a_key", _READABLE),
        "tests/adapters/test_raw_sessions.py::test_sqlite_repair_of_a_key_of_its_own_is_refused",
    ),
    row(
        "sqlite.task_begins_pending",
        "I2 I4: a task is inserted once, as pending",
        _trigger("tasks_begin_pending", _READABLE),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[task inserted as terminal]",
    ),
    row(
        "sqlite.task_status_pending",
        "I2: no task is inserted as ended or as running",
        Edit(_READABLE, "NEW.status <> 'pending' OR NEW.attempt <> 0\n", "NEW.attempt <> 0\n"),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[task inserted as terminal]",
    ),
    row(
        "sqlite.task_attempt_zero",
        "I5: no task is inserted with attempts behind it",
        Edit(
            _READABLE, "NEW.status <> 'pending' OR NEW.attempt <> 0\n", "NEW.status <> 'pending'\n"
        ),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[task inserted with an attempt]",
    ),
    row(
        "sqlite.task_not_replaced",
        "I4: INSERT OR REPLACE replaces no task by its key",
        Edit(_READABLE, "OR (NEW.id > 0 AND EXISTS (SELECT 1 FROM tasks t WHERE t.id = NEW.id))"),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[insert or replace by the task's key]",
    ),
    row(
        "sqlite.task_id_not_replaced",
        "I4: INSERT OR REPLACE replaces no task by its id",
        Edit(_READABLE, "OR EXISTS (SELECT 1 FROM tasks t WHERE t.task_id = NEW.task_id)"),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[insert or replace by the task's id]",
    ),
    row(
        "sqlite.task_name_not_replaced",
        "I4: INSERT OR REPLACE replaces no task by its idempotency key",
        Edit(
            _READABLE,
            r"OR EXISTS \(SELECT 1 FROM tasks t\s+WHERE t.op = NEW.op AND t.idempotency_key ="
            r" NEW.idempotency_key\)",
            pattern=True,
        ),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[insert or replace by the idempotency key]",
    ),
    row(
        "sqlite.task_readable",
        "A new task has its times, its numbers, and params that are a JSON object",
        _trigger("tasks_can_be_read", _BOUND),
        "tests/adapters/test_raw_sessions.py::test_task_that_cannot_be_read_is_refused[sqlite]",
    ),
    row(
        "sqlite.task_unfinished",
        "I2: no task is inserted as finished, claimed or cancelled",
        Edit(_BOUND, r"    OR coalesce\(NEW.claimed_at.*?IS NOT NULL\n", pattern=True),
        "tests/adapters/test_raw_sessions.py::test_task_that_cannot_be_read_is_refused[sqlite]",
    ),
    row(
        "sqlite.task_terminal",
        "I4: a task that has ended never changes",
        _trigger("tasks_terminal_never_change", _INITIAL),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[terminal task set running]",
    ),
    row(
        "sqlite.task_ends_with_final",
        "I2: a task ends with a final of the same outcome",
        _trigger("tasks_end_with_final", _INITIAL),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[status set terminal without a final]",
    ),
    row(
        "sqlite.task_identity",
        "I4: a task keeps its id, op, params and key",
        _trigger("tasks_keep_identity", _INITIAL),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[another id]",
    ),
    row(
        "sqlite.task_counts_attempts",
        "I5: the attempt counts up by one when a task is claimed, and only then",
        _trigger("tasks_count_attempts", _INITIAL),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[attempt set back]",
    ),
    row(
        "sqlite.task_takes_tape",
        "I4: a task that is deleted takes its tape and its counts with it",
        _trigger("tasks_take_their_tape", _INITIAL),
        "tests/adapters/sqlite/test_guards.py::test_deleting_a_task_deletes_its_tape",
    ),
    row(
        "sqlite.task_takes_counts",
        "I7: the counts of a task's drops go with it",
        Edit(_INITIAL, "    DELETE FROM drop_counts WHERE task_id = OLD.task_id;\n"),
        "tests/contract/test_conformance.py::TestSqlite::test_prune_takes_old_ended_tasks_whole",
    ),
    *(
        row(
            f"sqlite.{column}_time",
            f"{column} is a time that a reader can show, whoever sets it",
            _trigger(f"tasks_{column}_is_a_time", _READABLE),
            f"{_RAW}::test_change_that_cannot_be_read_is_refused[sqlite]",
        )
        for column in ("run_at", "claimed_at", "lease_expires_at", "finished_at")
    ),
    row(
        "sqlite.cancel_readable",
        "A cancel on record has a time and one of the four reasons",
        _trigger("tasks_cancel_can_be_read", f"{_SQL}/migrations/0020_expiry.sql"),
        "tests/adapters/test_raw_sessions.py::test_change_that_cannot_be_read_is_refused[sqlite]",
    ),
    row(
        "sqlite.drop_readable",
        "A late event in the quarantine has a time, a known reason, and a body that is JSON",
        _trigger("quarantine_can_be_read", _READABLE),
        "tests/adapters/test_raw_sessions.py::test_change_that_cannot_be_read_is_refused[sqlite]",
    ),
    row(
        "sqlite.repairs_change",
        "I4: the repair log never changes",
        _trigger("repairs_never_change", _INITIAL),
        "tests/adapters/test_repair.py::test_guards_hold_after_a_repair[sqlite-repair]",
    ),
    row(
        "sqlite.repairs_stay",
        "I4: the repair log is never deleted from",
        _trigger("repairs_stay", _INITIAL),
        "tests/adapters/test_repair.py::test_guards_hold_after_a_repair[sqlite-repair]",
    ),
    row(
        "sqlite.repairs_new",
        "I4: INSERT OR REPLACE replaces no entry of the repair log",
        _trigger("repairs_are_new", _READABLE),
        "tests/adapters/test_raw_sessions.py::test_sqlite_repair_of_a_key_of_its_own_is_refused",
    ),
    # --- constraints ------------------------------------------------------------------------------
    row(
        "sqlite.unique_task_id",
        "One row a task",
        Edit(_INITIAL, "    CONSTRAINT tasks_task_id_unique UNIQUE (task_id),\n"),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[insert or replace by the task's id]",
        held_by="sqlite.task_id_not_replaced",
    ),
    row(
        "sqlite.status_known",
        "A status is one of the five",
        Edit(
            _INITIAL,
            r",\s+CONSTRAINT tasks_status_known\s+CHECK \(status IN \([^)]*\)\)",
            pattern=True,
        ),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_make_up_a_status",
        held_by="sqlite.task_ends_with_final",
    ),
    row(
        "sqlite.unique_key",
        "One task an op and idempotency key",
        Edit(
            _FLAT,
            "CREATE UNIQUE INDEX tasks_idempotency_key_unique",
            "CREATE INDEX tasks_idempotency_key_unique",
        ),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[insert or replace by the idempotency key]",
        held_by="sqlite.task_name_not_replaced",
    ),
    row(
        "sqlite.unique_seq",
        "I3: one event a place on a tape",
        Edit(_INITIAL, r",\s+CONSTRAINT events_task_seq_unique UNIQUE \(task, seq\)", pattern=True),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_break_an_invariant[gap]",
        held_by="sqlite.event_seq",
    ),
    row(
        "sqlite.unique_drop",
        "I7: a late event is kept once",
        Edit(_INITIAL, r",\s+CONSTRAINT quarantine_event_unique UNIQUE \([^)]*\)", pattern=True),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_write_twice[a late event]",
    ),
    row(
        "sqlite.counts_key",
        "I7: one count for each kind of drop, which goes up",
        Edit(
            _INITIAL,
            r",\s+CONSTRAINT drop_counts_pkey PRIMARY KEY \([^)]*\)\s+\) WITHOUT ROWID",
            ")",
            pattern=True,
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_audit_finds_nothing_while_tasks_run",
    ),
    row(
        "sqlite.ops_key",
        "One row an op, which is told anew",
        Edit(
            _INITIAL,
            r",\s+CONSTRAINT ops_pkey PRIMARY KEY \(op\)\s+\) WITHOUT ROWID",
            ")",
            pattern=True,
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_what_a_worker_registers_is_known",
    ),
    *(
        row(
            f"sqlite.count_{name}",
            "What waits and runs is counted on every path",
            _trigger(f"tasks_count_{name}", _NUMBERS),
            f"{_COUNTED}[sqlite-{test}]",
        )
        for name, test in (
            ("new", "sooner"),
            ("not_pending", "sooner"),
            ("pending", "later"),
            ("deleted_pending", "pending gone"),
            ("deleted_running", "running gone"),
        )
    ),
    *(
        row(
            f"sqlite.count_{name}",
            "What runs and has ended is counted on every path",
            _trigger(f"tasks_count_{name}", _NUMBERS),
            f"{_CONTRACT}::test_a_task_is_counted_once_on_its_way",
        )
        for name in ("not_running", "status")
    ),
    row(
        "sqlite.backlog_key",
        "One number an op, state and second",
        Edit(
            _NUMBERS,
            r",\s+CONSTRAINT backlog_pkey PRIMARY KEY \([^)]*\)\s+\) WITHOUT ROWID",
            ")",
            pattern=True,
        ),
        f"{_CONTRACT}::test_a_task_is_counted_once_on_its_way",
        vital=True,
    ),
    row(
        "sqlite.workers_key",
        "One row a worker, which is told anew",
        Edit(
            _NUMBERS,
            r",\s+CONSTRAINT workers_pkey PRIMARY KEY \(owner\)\s+\) WITHOUT ROWID",
            ")",
            pattern=True,
        ),
        f"{_CONTRACT}::test_workers_are_those_that_live",
    ),
    *(
        row(name, holds, Edit(f"{SQLITE}/_backlog.py", old, new), test)
        for name, holds, old, new, test in (
            (
                "sqlite.backlog_moment",
                "The numbers are as of one moment",
                "    with read_transaction(conn):\n        counts =",
                "    if True:\n        counts =",
                "tests/adapters/test_backlog.py::test_numbers_are_as_of_one_moment[read_waits]",
            ),
            (
                "sqlite.recount_moment",
                "Numbers and tasks are counted as of one moment",
                "    with read_transaction(conn):\n        return _recount",
                "    if True:\n        return _recount",
                "tests/adapters/test_backlog.py::test_numbers_are_as_of_one_moment[recount_backlog]",
            ),
            (
                "sqlite.fold_whole",
                "A fold adds and takes away, or neither",
                "    with write_transaction(conn):\n        passed =",
                "    if True:\n        passed =",
                "tests/adapters/test_backlog.py::test_what_ends_half_way_changes_no_number[forget_passed]",
            ),
            (
                "sqlite.mend_whole",
                "Numbers are counted anew with their entry in the repair log, or not at all",
                "    with write_transaction(conn):\n        counted =",
                "    if True:\n        counted =",
                "tests/adapters/test_backlog.py::test_what_ends_half_way_changes_no_number[log_mended]",
            ),
        )
    ),
    row(
        "sqlite.compatibility_key",
        "One row a version of the schema",
        Edit(
            _INITIAL,
            r",\s+CONSTRAINT schema_compatibility_pkey PRIMARY KEY \(version\)",
            pattern=True,
        ),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_write_twice[a version]",
    ),
    row(
        "sqlite.one_leader_row",
        "One row says who leads",
        Edit(_INITIAL, r",\s+CONSTRAINT maintenance_one_row CHECK \(id = 1\)", pattern=True),
        "tests/adapters/sqlite/test_guards.py::test_raw_session_cannot_write_twice[the row of the leader]",
    ),
    row(
        "sqlite.key_never_again",
        "A key is never given to another task, so that a late event reaches no other tape",
        Edit(
            _INITIAL,
            "    id                  INTEGER PRIMARY KEY AUTOINCREMENT,",
            "    id                  INTEGER PRIMARY KEY,",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_late_event_of_a_pruned_task_is_of_an_unknown_one",
    ),
    # --- transactions and fences ------------------------------------------------------------------
    row(
        "sqlite.begin_immediate",
        "A transaction that writes has the lock before it reads: none meets a newer file",
        Edit(
            _CONNECTION,
            'conn.execute("BEGIN IMMEDIATE")\n    try:\n        yield',
            'conn.execute("BEGIN")\n    try:\n        yield',
        ),
        "tests/adapters/sqlite/test_connection.py::test_a_write_has_the_lock_from_its_start",
    ),
    row(
        "sqlite.rollback",
        "What raises in a transaction leaves nothing of it behind",
        Edit(_CONNECTION, 'conn.execute("ROLLBACK")', 'conn.execute("COMMIT")'),
        "tests/adapters/sqlite/test_connection.py::test_what_raises_in_a_write_leaves_nothing",
    ),
    row(
        "sqlite.lets_call_go",
        "The thread of a connection keeps no store that its loop left open",
        Edit(_CONNECTION, "        del future, function, tell, said\n", ""),
        f"{_STORE}::test_a_store_that_its_loop_left_open_is_let_go",
    ),
    row(
        "sqlite.lets_opening_go",
        "What is collected with its loop is closed without a wait",
        Edit(_CONNECTION, "asyncio._get_running_loop() is not self._loop", "False"),
        f"{_STORE}::test_an_opening_that_its_loop_left_half_done_is_let_go",
    ),
    row(
        "sqlite.one_read",
        "The audit sees one moment in all its queries",
        Edit(
            _CONNECTION,
            '    conn.execute("BEGIN")\n    try:\n        yield\n    finally:\n        conn.execute("COMMIT")',
            "    yield",
        ),
        "tests/adapters/sqlite/test_connection.py::test_a_read_sees_one_moment",
    ),
    row(
        "sqlite.write_flush",
        "A flush is written whole or not at all",
        Edit(
            _FLUSH,
            "        with write_transaction(conn):\n            if flush.creates",
            "        if True:\n            if flush.creates",
        ),
        "tests/adapters/sqlite/test_connection.py::test_each_verb_is_one_transaction[write_flush]",
    ),
    row(
        "sqlite.claim_due",
        "Due tasks are claimed in one transaction",
        Edit(_CLAIMS, "    with write_transaction(conn):\n", "    if True:\n"),
        "tests/adapters/sqlite/test_connection.py::test_each_verb_is_one_transaction[claim_due]",
    ),
    row(
        "sqlite.rescue",
        "Lost tasks are rescued in one transaction",
        Edit(f"{SQLITE}/_leases.py", "    with write_transaction(conn):\n", "    if True:\n"),
        "tests/adapters/sqlite/test_connection.py::test_each_verb_is_one_transaction[rescue]",
    ),
    row(
        "sqlite.repair",
        "A repair, with the guards off, is one transaction",
        Edit(f"{SQLITE}/_repair.py", "    with write_transaction(conn):\n", "    if True:\n"),
        "tests/adapters/sqlite/test_connection.py::test_each_verb_is_one_transaction[repair]",
    ),
    row(
        "sqlite.audit",
        "A page of the audit is as of one moment",
        Edit(
            f"{SQLITE}/_maintenance.py",
            "    with read_transaction(conn):\n        upto",
            "    if True:\n        upto",
        ),
        "tests/adapters/sqlite/test_connection.py::test_each_verb_is_one_transaction[audit]",
    ),
    row(
        "sqlite.find_open",
        "The open tasks and the highest key are as of one moment",
        Edit(
            f"{SQLITE}/_maintenance.py",
            "    with read_transaction(conn):\n        top",
            "    if True:\n        top",
        ),
        "tests/adapters/sqlite/test_connection.py::test_each_verb_is_one_transaction[find_open]",
    ),
    row(
        "sqlite.read_tape",
        "A page of a tape and its end are as of one moment",
        Edit(
            f"{SQLITE}/_rows.py",
            "    with read_transaction(conn):\n        end",
            "    if True:\n        end",
        ),
        "tests/adapters/sqlite/test_connection.py::test_each_verb_is_one_transaction[read_tape]",
    ),
    row(
        "sqlite.read_quarantine",
        "A page of late events and their counts are as of one moment",
        Edit(
            f"{SQLITE}/_rows.py",
            "    with read_transaction(conn):\n        within",
            "    if True:\n        within",
        ),
        "tests/adapters/sqlite/test_connection.py::test_each_verb_is_one_transaction[read_quarantine]",
    ),
    row(
        "sqlite.claim_attempt_seen",
        "A claim takes the task only as it was seen: not one that was run since",
        Edit(_TASKS, "AND tasks.attempt = v.column2 "),
        "tests/contract/test_conformance.py::TestSqlite::test_claim_takes_a_task_only_as_it_was_seen",
    ),
    row(
        "sqlite.claim_pending",
        "A claim takes a pending task alone",
        Edit(_TASKS, "AND tasks.status = 'pending'\n   AND tasks.run_at", "AND tasks.run_at"),
        "tests/contract/test_conformance.py::TestSqlite::test_claim_takes_only_what_is_pending_and_due",
    ),
    row(
        "sqlite.claim_due_only",
        "A claim takes no task before it is due",
        Edit(
            _TASKS,
            "AND tasks.status = 'pending'\n   AND tasks.run_at <= v.column5",
            "AND tasks.status = 'pending'",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_retry_later_makes_the_task_pending_again",
    ),
    row(
        "sqlite.claim_without_event",
        "A claim of an earlier flush is not taken for one of this flush",
        Edit(
            _TASKS,
            r"\n WHERE coalesce\(\(SELECT e.attempt FROM events e WHERE e.task = t.id ORDER BY e.seq"
            r" DESC LIMIT 1\), 0\)\s+< t.attempt",
            pattern=True,
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_a_claim_that_was_won_is_not_won_again",
    ),
    row(
        "sqlite.claim_holder",
        "Of claims of one task in a flush the one that the row names has won",
        Edit(
            _FLUSH,
            "if holders.get(row.key) == (row.attempt + 1, row.owner, TaskStatus.RUNNING)",
            "if row.key in holders",
        ),
        "tests/adapters/sqlite/test_store.py::test_running_row_without_a_tape_is_claimed_by_nobody",
    ),
    row(
        "sqlite.claim_twice_in_flush",
        "The second claim of an attempt in one flush has lost",
        Edit(
            _FLUSH,
            "answers.get(name) if first[name] is row else None",
            "answers.get(name)",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_claim_has_one_winner",
    ),
    row(
        "sqlite.append_fence",
        "I5: only the running attempt of its owner appends",
        Edit(
            _EVENTS,
            "WHERE t.id = v.column1 AND t.status = 'running' AND t.attempt = v.column3 AND t.owner ="
            " v.column8",
            "WHERE t.id = v.column1",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_audit_finds_nothing_while_tasks_run",
    ),
    row(
        "sqlite.append_owner",
        "I5: another owner's attempt of the same number appends nothing",
        Edit(_EVENTS, " AND t.owner = v.column8"),
        "tests/contract/test_conformance.py::TestSqlite::test_drop_reasons_are_tried_in_order[False]",
    ),
    row(
        "sqlite.give_up_fence",
        "I5: only the task's own attempt makes it pending again",
        Edit(
            _TASKS,
            "WHERE id = ? AND status = 'running' AND attempt = ? AND owner = ?",
            "WHERE id = ? AND status = 'running' AND (? IS NOT ?)",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_an_old_attempt_gives_up_nothing",
    ),
    row(
        "sqlite.let_go_fence",
        "An owner lets go what waits for it alone, as it has seen it",
        Edit(
            _TASKS,
            "+status = 'pending' AND attempt = ? AND +lease_expires_at IS NOT NULL\n   AND (owner IS NULL OR owner = ?)",
            "? IS NOT ?",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_what_an_owner_lets_go_is_lost",
    ),
    row(
        "sqlite.overrule_fence",
        "A cancel on record overrules only the attempt that has the task",
        Edit(
            _FLUSH,
            "request = on_record.get((row.key, row.attempt, row.owner))",
            "request = next((one for (key, *_), one in on_record.items() if key == row.key), None)",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_an_old_attempt_gives_up_nothing",
        held_by="sqlite.append_fence",
    ),
    row(
        "sqlite.cancel_overrules",
        "A cancel on record is not lost where the attempt gives its task up",
        Edit(
            _FLUSH,
            "rows = self._overrule(conn, flush, answer) if flush.give_ups else flush.rows",
            "rows = flush.rows",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_a_cancel_on_record_beats_a_retry",
    ),
    row(
        "sqlite.cancel_terminal",
        "A cancel leaves a task alone that has ended",
        Edit(
            _FLUSH,
            "        if carry(TaskStatus, status).terminal:\n            return CancelAnswer(",
            "        if False:\n            return CancelAnswer(",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_cancel_of_an_ended_task_does_nothing",
    ),
    row(
        "sqlite.cancel_first_stays",
        "The first cancel request stays",
        Edit(
            _FLUSH,
            "        if request is not None:\n            return CancelAnswer(CancelState.ALREADY",
            "        if False:\n            return CancelAnswer(CancelState.ALREADY",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_cancel_of_a_running_task_is_recorded",
    ),
    row(
        "sqlite.foreign_offer",
        "An event that is not of the run itself has an offer that no run takes",
        Edit(
            _EVENTS,
            "max(coalesce(last.offer, 0), (1 << 30) - 1) + 1",
            "coalesce(last.offer, 0) + 1",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_writes_of_a_rescued_attempt_are_refused",
    ),
    row(
        "sqlite.load_offer",
        "I7: an attempt that is taken up again goes on behind its last offer on the tape",
        Edit(
            _EVENTS,
            "(SELECT e.offer FROM events e WHERE e.task = t.id AND e.attempt = :attempt\n"
            "                      ORDER BY e.seq DESC LIMIT 1)",
            "NULL",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_another_process_may_go_on_with_the_tape",
    ),
    row(
        "sqlite.load_dropped_offer",
        "I7: an attempt that is taken up again goes on behind its last offer that was dropped",
        Edit(
            _EVENTS,
            "(SELECT max(d.last_offer) FROM drop_counts d\n"
            "                      WHERE d.task_id = w.task_id AND d.attempt = :attempt)",
            "NULL",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_another_process_may_go_on_with_the_late_events",
        held_by="store.read_again_once",
    ),
    row(
        "sqlite.resent_event",
        "I7: an event that is on the tape, and sent again, is no drop",
        Edit(_FLUSH, "            if state.stored:\n                continue\n"),
        "tests/contract/test_conformance.py::TestSqlite::test_give_ups_share_a_flush_with_everything_else",
    ),
    row(
        "sqlite.quarantine_bound",
        "The quarantine of a task is bounded, and the count goes on",
        Edit(_FLUSH, "room = state.dropped < self._limits.quarantine_per_task", "room = True"),
        "tests/contract/test_conformance.py::TestSqlite::test_quarantine_is_bounded_and_the_count_goes_on",
    ),
    row(
        "sqlite.unknown_bound",
        "The quarantine of unknown tasks has one cap",
        Edit(_FLUSH, "room = unknown < self._limits.quarantine_unknown", "room = True"),
        "tests/contract/test_conformance.py::TestSqlite::test_quarantine_of_unknown_tasks_has_one_cap",
    ),
    row(
        "sqlite.unknown_counts_bound",
        "Past that cap the counts grow by no row a task",
        Edit(_FLUSH, "if not room:  # the count goes on", "if False:  # the count goes on"),
        "tests/adapters/sqlite/test_store.py::test_counts_of_unknown_tasks_are_bounded",
    ),
    row(
        "sqlite.odd_value_refused",
        "A value that SQLite has no place for fails its own call, and no neighbour's",
        Edit(_FLUSH, 'raise FlushRefused(f"{type(error).__name__}: {error}") from error', "raise"),
        "tests/adapters/sqlite/test_store.py::test_value_without_a_place_is_refused",
        held_by="sqlite.odd_value_translated",
    ),
    row(
        "sqlite.odd_value_translated",
        "The same, where no flush is written",
        Edit(
            _CONNECTION,
            'raise FlushRefused(f"{type(error).__name__}: {error}") from error',
            "raise",
        ),
        "tests/adapters/sqlite/test_store.py::test_value_without_a_place_is_refused",
        held_by="sqlite.odd_value_refused",
    ),
    row(
        "sqlite.due_run_at",
        "A worker is given no task before it is due",
        Edit(
            f"{_SQL}/due.sql",
            "                           AND d.run_at <= :now\n                         ORDER BY",
            "                         ORDER BY",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_due_tasks_are_claimed_the_longest_due_first",
    ),
    row(
        "sqlite.due_singly",
        "A row that cannot be claimed keeps no other from it",
        Edit(
            _CLAIMS,
            '            if not blames_row(error):\n                raise\n            conn.execute("ROLLBACK TO many")',
            '            raise\n            conn.execute("ROLLBACK TO many")',
        ),
        "tests/adapters/test_bad_rows.py::test_bad_rows_end_and_are_named_beside_good_tasks[sqlite]",
    ),
    row(
        "sqlite.rescue_one",
        "A task that cannot be rescued keeps no other from it",
        Edit(
            f"{SQLITE}/_leases.py",
            "        if not blames_row(error):  # a guard's, for one: a broken task must not keep the others\n            raise\n",
            "        raise\n",
        ),
        "tests/adapters/test_bad_rows.py::test_lost_bad_rows_are_rescued_with_the_others[sqlite]",
    ),
    row(
        "sqlite.rescue_pending_op",
        "A pending task that workers can run by now is not lost with its submitter",
        Edit(
            _TASKS,
            "   AND (+status = 'running' OR op NOT IN (SELECT value FROM json_each(:ops)))\n",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_rescue_ends_what_a_dead_owner_alone_could_run",
    ),
    row(
        "sqlite.heartbeat_owner",
        "A heartbeat extends its own owner's leases alone",
        Edit(
            _TASKS,
            "AND +status = 'running' AND +owner = ?",
            "AND +status = 'running' AND ? IS NOT NULL",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_heartbeat_extends_no_lease_of_another_owner",
    ),
    row(
        "sqlite.delete_ended",
        "I4: a prune deletes no task that lives",
        Edit(f"{_SQL}/retention.sql", " AND status NOT IN ('pending', 'running');", ";"),
        "tests/contract/test_conformance.py::TestSqlite::test_what_lives_is_deleted_by_nobody",
    ),
    row(
        "sqlite.forget_unknown",
        "I7: the count of an unknown task stays while a late event of it is kept",
        Edit(
            f"{_SQL}/retention.sql",
            r"\s+AND NOT EXISTS \(SELECT 1 FROM quarantine q\s+WHERE q.task_id ="
            r" drop_counts.task_id\)",
            pattern=True,
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_count_of_an_unknown_task_stays_while_an_event_is_kept",
    ),
    row(
        "sqlite.delete_drops_whole",
        "I7: late events and their counts go in one transaction",
        Edit(
            f"{SQLITE}/_maintenance.py",
            "    with write_transaction(conn):\n        unknown",
            "    if True:\n        unknown",
        ),
        "tests/adapters/sqlite/test_connection.py::test_each_verb_is_one_transaction[delete_drops]",
    ),
    row(
        "sqlite.one_leader",
        "One manager leads at a time",
        Edit(
            f"{_SQL}/maintenance.sql",
            "\n WHERE holder IS NULL OR holder = :owner OR held_until < :now",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_one_owner_leads",
    ),
    row(
        "sqlite.leader_records",
        "Who does not lead records nothing",
        Edit(
            f"{_SQL}/maintenance.sql",
            "audited_at = :now WHERE holder = :owner",
            "audited_at = :now",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_jobs_are_on_record",
    ),
    row(
        "sqlite.leader_resigns",
        "Only the leader resigns",
        Edit(f"{_SQL}/maintenance.sql", "held_until = 0 WHERE holder = :owner", "held_until = 0"),
        "tests/contract/test_conformance.py::TestSqlite::test_one_owner_leads",
    ),
    row(
        "sqlite.repair_guards_back",
        "A repair puts the guards back that it has taken off",
        Edit(
            f"{SQLITE}/_repair.py",
            "        for _, text in guards:\n            conn.execute(text)\n",
        ),
        "tests/adapters/test_repair.py::test_each_breach_is_mended[sqlite-missing_final]",
    ),
    row(
        "sqlite.repair_dry_run",
        "A dry run of a repair leaves nothing behind",
        Edit(f"{SQLITE}/_repair.py", "if dry_run or not mended:", "if not mended:"),
        "tests/adapters/test_repair.py::test_dry_run_changes_nothing[sqlite]",
    ),
    row(
        "sqlite.repair_keeps",
        "What a repair takes off a tape is kept",
        Edit(
            f"{SQLITE}/_repair.py",
            r"        conn.execute\(\s+sql\[\"keep_taken\"\],.*?row.body\),\s+\)\n",
            pattern=True,
        ),
        "tests/adapters/test_repair.py::test_what_is_taken_off_a_tape_is_kept[sqlite]",
    ),
    # --- the file ---------------------------------------------------------------------------------
    row(
        "sqlite.synchronous",
        "I6: with durability 'commit' an acknowledged event outlives a power loss",
        Edit(_BACKEND, '"FULL" if durability', '"OFF" if durability'),
        "tests/adapters/sqlite/test_store.py::test_commit_is_as_durable_as_asked_for[commit-2]",
    ),
    row(
        "sqlite.synchronous_set",
        "I6: each connection that writes has that setting",
        Edit(_CONNECTION, '    conn.execute(f"PRAGMA synchronous = {synchronous}")\n'),
        "tests/adapters/sqlite/test_store.py::test_commit_is_as_durable_as_asked_for[relaxed-1]",
    ),
    row(
        "sqlite.wal",
        "Readers and the writer do not wait for each other",
        Edit(_CONNECTION, 'conn.execute("PRAGMA journal_mode = WAL").fetchone()', "pass"),
        "tests/adapters/sqlite/test_store.py::test_commit_is_as_durable_as_asked_for[commit-2]",
    ),
    row(
        "sqlite.own_checkpoints",
        "No flush waits for a checkpoint that SQLite begins by itself",
        Edit(_CONNECTION, 'conn.execute("PRAGMA wal_autocheckpoint = 0")', "pass"),
        "tests/adapters/sqlite/test_store.py::test_commit_is_as_durable_as_asked_for[commit-2]",
    ),
    row(
        "sqlite.reader_query_only",
        "Who only reads changes nothing in the file",
        Edit(_CONNECTION, 'conn.execute("PRAGMA query_only = ON")', "pass"),
        "tests/adapters/sqlite/test_store.py::test_who_reads_changes_nothing",
    ),
    row(
        "sqlite.reader_trusts_no_schema",
        "What stands in a file's schema calls no function that does more than compute",
        Edit(_CONNECTION, 'conn.execute("PRAGMA trusted_schema = OFF")', "pass"),
        "tests/adapters/sqlite/test_foreign_file.py::test_schema_is_not_trusted_by_who_reads",
    ),
    row(
        "sqlite.file_before",
        "I6: nothing is written to a file that was deleted, moved or replaced while it was open",
        Edit(_BACKEND, "            opened.require_before()\n"),
        "tests/adapters/test_probes.py::test_nothing_is_durable_in_a_file_that_is_gone[deleted]",
    ),
    row(
        "sqlite.file_after",
        "I6: nothing is acknowledged that was written to such a file",
        Edit(_BACKEND, "            opened.require_after()\n"),
        "tests/adapters/sqlite/test_store.py::test_file_that_goes_in_mid_write_is_of_unknown_fate",
    ),
    row(
        "sqlite.renewer_file",
        "The lease thread makes no new file where the old one was",
        Edit(
            f"{SQLITE}/_lease_renewer.py",
            "                self._opened.require_before()  # else it would ask another store, or make one\n",
        ),
        "tests/adapters/test_probes.py::test_nothing_is_durable_in_a_file_that_is_gone[deleted]",
    ),
    row(
        "sqlite.renewer_rw",
        "The lease thread opens a file that is there, and makes none",
        Edit(f"{SQLITE}/_lease_renewer.py", '"mode=rw"', '"mode=rwc"'),
        "tests/adapters/test_probes.py::test_nothing_is_durable_in_a_file_that_is_gone[deleted]",
        held_by="sqlite.renewer_file",
    ),
    row(
        "sqlite.renewer_knocks",
        "A heartbeat comes through beside a busy writer",
        Edit(
            f"{SQLITE}/_lease_renewer.py",
            'if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:',
            "if True:",
        ),
        "tests/adapters/test_lease_renewers.py::test_a_keeper_waits_for_who_writes",
    ),
    row(
        "sqlite.probe_objects",
        "A store whose guards are gone is not ready",
        Edit(
            _OPENED,
            "missing = sorted(self._objects - _list_objects(conn))",
            "missing = list[str]()",
        ),
        "tests/adapters/test_probes.py::test_the_next_heartbeat_says_so[sqlite-without_table]",
    ),
    row(
        "sqlite.unlocked_read",
        "What was read without locks while another process wrote is read again",
        Edit(
            _BACKEND,
            "        await self._check_unchanged()\n        return done",
            "        return done",
        ),
        "tests/adapters/sqlite/test_read_access.py::test_file_that_is_written_while_it_is_read_is_read_again",
    ),
    row(
        "sqlite.checkpoint_behind",
        "The log does not outgrow its checkpoints without end",
        Edit(
            _BACKEND,
            "            await asyncio.wait([self._checkpoint])\n        answer",
            "            pass\n        answer",
        ),
        "tests/adapters/sqlite/test_store.py::test_flush_waits_for_a_checkpoint_that_is_far_behind",
    ),
    row(
        "sqlite.checkpoint_restart",
        "Past its cap the log begins anew although writers never pause",
        Edit(_BACKEND, "if pages > _WAL_CAP:", "if False:"),
        "tests/adapters/sqlite/test_store.py::test_checkpoints_keep_the_log_short",
    ),
    row(
        "sqlite.file_mode",
        "A new file is its owner's alone",
        Edit(_CONNECTION, "        os.fchmod(made, mode)\n", "        os.fchmod(made, 0o644)\n"),
        "tests/adapters/sqlite/test_permissions.py::test_a_file_is_its_owners_unless_the_url_says_so[0o22--384]",
    ),
    row(
        "sqlite.thread_outlives_loops",
        "A caller's loop that is closed ends no connection of others",
        Edit(
            _CONNECTION,
            "with suppress(RuntimeError):  # the caller's loop is closed: nobody waits\n",
            "if True:\n",
        ),
        "tests/adapters/sqlite/test_store.py::test_a_callers_loop_that_is_closed_does_not_end_the_thread",
    ),
    row(
        "sqlite.thread_ended",
        "A store whose thread has ended says so, and waits for nothing",
        Edit(
            _CONNECTION,
            '        if not self._thread.is_alive():\n            raise StoreAway("the thread of its connection has ended: open the store again")\n',
        ),
        "tests/adapters/sqlite/test_store.py::test_a_store_whose_thread_has_ended_is_unavailable",
    ),
    row(
        "sqlite.bad_text",
        "A text that is not UTF-8 costs no page",
        Edit(_CONNECTION, "if not str(error).startswith(_NO_TEXT):\n            raise", "raise"),
        "tests/adapters/test_bad_rows.py::test_bad_rows_end_and_are_named_beside_good_tasks[sqlite]",
    ),
    # --- the schema -------------------------------------------------------------------------------
    row(
        "sqlite.migrate_once",
        "Stores that open at once migrate once: it is asked again under the lock",
        Edit(
            _SCHEMA,
            "        versions = read_versions(conn)\n        if must_migrate",
            "        if must_migrate",
        ),
        "tests/adapters/sqlite/test_store.py::test_migration_that_another_process_has_made_is_not_made_again",
    ),
    row(
        "sqlite.migrate_whole",
        "I4: a schema is migrated whole or not at all",
        Edit(
            _SCHEMA,
            "    with write_transaction(conn):\n        versions",
            "    if True:\n        versions",
        ),
        "tests/adapters/sqlite/test_store.py::test_a_migration_that_fails_leaves_nothing_of_itself",
    ),
    row(
        "sqlite.migrate_alone",
        "A migration that is to be alone waits for no other process, and keeps it out",
        Edit(_SCHEMA, "        _keep_others_out(conn, versions, name)\n", "        pass\n"),
        "tests/adapters/sqlite/test_store.py::test_migration_that_is_to_be_alone_is_refused_beside_others",
    ),
    row(
        "sqlite.keeps_others_out",
        "The same: the lock that every open connection shares is had before",
        Edit(
            _SCHEMA, "        with write_transaction(conn):\n            pass\n", "        pass\n"
        ),
        "tests/adapters/sqlite/test_store.py::test_migration_that_is_to_be_alone_is_refused_beside_others",
    ),
    row(
        "sqlite.others_file",
        "A file of another program is left alone",
        Edit(
            _SCHEMA,
            "if (version := _version(conn)) and not _has_tables(conn):",
            "if (version := 0):",
        ),
        "tests/adapters/sqlite/test_store.py::test_file_of_another_program_is_left_alone",
    ),
    row(
        "sqlite.no_views",
        "A view in the place of a table is refused: to read it may never end",
        Edit(_SCHEMA, "    _refuse_views(conn)\n"),
        "tests/adapters/sqlite/test_foreign_file.py::test_view_in_the_place_of_a_table_is_refused",
    ),
    row(
        "sqlite.audit_schema",
        "The audit says whether the guards themselves are in place",
        Edit(
            f"{SQLITE}/_maintenance.py",
            "changed = find_schema_faults(conn) if after == 0 else []",
            "changed = list[str]()",
        ),
        "tests/adapters/sqlite/test_foreign_file.py::test_schema_that_the_migrations_do_not_make_is_found[a trigger]",
    ),
    row(
        "sqlite.network",
        "A file on a network file system is warned of",
        Edit(
            _BACKEND,
            "if kind := await asyncio.to_thread(find_network_type, self.path):",
            "if kind := None:",
        ),
        "tests/adapters/sqlite/test_network_mounts.py::test_store_on_a_network_is_warned_about_once",
    ),
    row(
        "sqlite.file_before_fork",
        "A child does not open a file that was open when it was forked",
        Edit(f"{SQLITE}/_connection.py", "and held[2] != os.getpid()", "and False"),
        "tests/adapters/sqlite/test_forked_process.py",
    ),
    row(
        "sqlite.caller_main",
        "A task in a caller's transaction is in the store's own file",
        Edit(
            f"{SQLITE}/_caller_transaction.py",
            "if not main or not Path(main).samefile(path):",
            "if False:",
        ),
        "tests/adapters/test_transactions.py::test_sqlite_connection_to_another_file_is_refused",
    ),
    row(
        "sqlite.caller_begun",
        "A task in a caller's transaction needs one",
        Edit(
            f"{SQLITE}/_caller_transaction.py",
            "if not (conn.in_transaction or _begins_itself(conn)):",
            "if False:",
        ),
        "tests/adapters/test_transactions.py::test_connection_without_a_transaction_is_refused[sqlite]",
    ),
    row(
        "sqlite.traces_go",
        "A task that is deleted leaves no trace",
        _trigger("tasks_take_their_traces", _TRACES),
        "tests/adapters/test_traces.py::test_a_deleted_task_leaves_no_trace[sqlite]",
    ),
)
