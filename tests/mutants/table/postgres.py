"""The guards of the PostgreSQL store."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import POSTGRES, Edit, Guard, Kind, row

_SQL: Final = f"{POSTGRES}/sql"
_INITIAL: Final = f"{_SQL}/migrations/0001_initial.sql"
_FLAT: Final = f"{_SQL}/migrations/0008_flat.sql"
_READABLE: Final = f"{_SQL}/migrations/0002_readable.sql"
_CANCEL_ROLE: Final = f"{_SQL}/migrations/0005_cancel_role.sql"
_CANCELLER: Final = f"{_SQL}/migrations/0011_canceller.sql"
_NUMBERS: Final = f"{_SQL}/migrations/0006_backlog.sql"
_TRACES: Final = f"{_SQL}/migrations/0007_traces.sql"
_FUNCTIONS: Final = f"{_SQL}/functions"
_FLUSH: Final = f"{_FUNCTIONS}/flush.sql"
_APPENDED: Final = f"{_FUNCTIONS}/guard_appended.sql"
_CLAIM_DUE: Final = f"{_FUNCTIONS}/claim_due.sql"
_RESCUE: Final = f"{_FUNCTIONS}/rescue_expired.sql"
_REPAIR: Final = f"{_FUNCTIONS}/repair_task.sql"
_CONNECTION: Final = f"{POSTGRES}/_connection.py"
_BACKEND: Final = f"{POSTGRES}/_backend.py"
_SCHEMA: Final = f"{POSTGRES}/_schema.py"
_LISTENER: Final = f"{POSTGRES}/_listener.py"
_LENT: Final = "tests/adapters/test_lent_connections.py"
_CALLER: Final = f"{POSTGRES}/_caller_transaction.py"

_TESTS: Final = "tests/adapters/postgres"
_ATTACKS: Final = f"{_TESTS}/test_guards.py"
_TWICE: Final = f"{_ATTACKS}::test_raw_session_cannot_write_twice"
_FLUSHES: Final = f"{_TESTS}/test_flush.py"
_CLAIMS: Final = f"{_TESTS}/test_claims.py"
_CONNECTIONS: Final = f"{_TESTS}/test_connection.py"
_SCHEMAS: Final = f"{_TESTS}/test_schema.py"
_RAW: Final = "tests/adapters/test_raw_sessions.py"
_BAD: Final = "tests/adapters/test_bad_rows.py"
_REPAIRS: Final = "tests/adapters/test_repair.py"
_COUNTED: Final = "tests/adapters/test_backlog.py::test_what_a_session_writes_is_counted"
_CONTRACT: Final = "tests/contract/test_conformance.py::TestPostgres"
_ON: Final[Kind] = "postgresql"


def _trigger(name: str, file: str = _INITIAL) -> Edit:
    return Edit(file, rf"^CREATE (?:OR REPLACE )?TRIGGER {name}\b.*?;$", pattern=True)


def _constraint(name: str, file: str = _INITIAL) -> Edit:
    """A line of a table, with the comma of the one before it."""
    return Edit(file, rf",\s+CONSTRAINT {name} [^\n]*?(?=,?\n)", pattern=True)


GUARDS: Final[tuple[Guard, ...]] = (
    # --- triggers ---------------------------------------------------------------------------------
    row(
        "postgres.let_go_fence",
        "An owner lets go what waits for it alone, as it has seen it",
        Edit(
            f"{_SQL}/tasks.sql",
            "concat(status) = 'pending' AND attempt = $2 AND lease_expires_at IS NOT NULL\n   AND coalesce(owner, $3) = $3",
            "$2::integer IS NOT NULL AND $3::text IS NOT NULL",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_what_an_owner_lets_go_is_lost",
    ),
    row(
        "postgres.server_version",
        "a server that is too old is refused, and nothing is made in it",
        Edit(_BACKEND, "        self._guard.require_version(conn)\n", ""),
        "tests/adapters/test_probes.py::test_a_server_that_is_too_old_is_refused",
    ),
    row(
        "postgres.server_version_told",
        "who asks for the version of the schema is told of the server, too",
        Edit(_BACKEND, "            guard.require_version(conn)\n", ""),
        "tests/adapters/test_probes.py::test_a_server_that_is_too_old_is_refused",
    ),
    row(
        "postgres.events_follow",
        "I1 I3 I4 I5: an event follows the last one of an open tape, and a final ends its task",
        _trigger("events_follow_predecessor"),
        _ATTACKS,
        on=_ON,
        vital=True,
    ),
    row(
        "postgres.event_after_final",
        "I1: nothing comes after the final",
        Edit(
            _APPENDED,
            "(p.type <> 'final'\n                              AND (p.attempt",
            "(p.type IS NOT NULL\n                              AND (p.attempt",
        ),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[event after the final]",
        on=_ON,
        held_by="postgres.event_of_open_task",
    ),
    row(
        "postgres.event_offer",
        "I7: an offer is on the tape once",
        Edit(
            _APPENDED,
            "OR (p.attempt = i.attempt AND p.offer < i.offer)",
            "OR p.attempt = i.attempt",
        ),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[offer that is on the tape]",
        on=_ON,
    ),
    row(
        "postgres.event_attempt_order",
        "I5: attempts go up along a tape",
        Edit(_APPENDED, "AND (p.attempt < i.attempt\n", "AND (true\n"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[offer that is on the tape]",
        on=_ON,
    ),
    row(
        "postgres.event_predecessor",
        "I3: an event has a predecessor",
        Edit(
            _APPENDED,
            "(i.seq = 1\n                          OR (p.type",
            "(i.seq = 1 OR p.type IS NULL\n                          OR (p.type",
        ),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[gap]",
        on=_ON,
    ),
    row(
        "postgres.event_attempt",
        "I5: an event is of its task's own attempt",
        Edit(
            _APPENDED,
            "AND t.attempt = i.attempt\n                         AND (t.status",
            "AND (t.status",
        ),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[event of an attempt to come]",
        on=_ON,
    ),
    row(
        "postgres.event_of_open_task",
        "I4 I5: only a running task takes events, and a pending one its final",
        Edit(
            _APPENDED,
            "AND (t.status = 'running' OR (t.status = 'pending' AND i.type = 'final'))",
            "AND t.status IS NOT NULL",
        ),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[event of a task that is not running]",
        on=_ON,
    ),
    row(
        "postgres.final_outcome",
        "I2: a final says succeeded, failed or cancelled, and ends its task",
        Edit(_APPENDED, "IF ended <> finals THEN", "IF false THEN"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[final without an outcome]",
        on=_ON,
    ),
    row(
        "postgres.event_never_changes",
        "I4: an event never changes",
        _trigger("events_never_change"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[update of an event]",
        on=_ON,
    ),
    row(
        "postgres.event_lives_with_task",
        "I4: an event lives as long as its task",
        _trigger("events_live_with_task"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[delete of an event]",
        on=_ON,
    ),
    row(
        "postgres.task_begins_pending",
        "I2: a task is inserted as pending, with no attempt",
        _trigger("tasks_begin_pending"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[task inserted as terminal]",
        on=_ON,
    ),
    row(
        "postgres.task_attempt_zero",
        "I5: no task is inserted with attempts behind it",
        Edit(_INITIAL, " OR NEW.attempt <> 0"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[task inserted with an attempt]",
        on=_ON,
    ),
    row(
        "postgres.new_task_unfinished",
        "I2: no task is inserted as finished",
        Edit(_INITIAL, " OR NEW.finished_at IS NOT NULL"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[task inserted as finished]",
        on=_ON,
    ),
    row(
        "postgres.task_changes_by_rule",
        "I4 I5: an ended task never changes, and the attempt counts up with a claim alone",
        _trigger("tasks_change_by_rule"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[terminal task set running]",
        on=_ON,
    ),
    row(
        "postgres.task_terminal",
        "I4: a task that has ended never changes",
        Edit(
            _INITIAL,
            "WHEN (OLD.status NOT IN ('pending', 'running')\n          OR NEW.attempt",
            "WHEN (NEW.attempt",
        ),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[terminal task set running]",
        on=_ON,
    ),
    row(
        "postgres.task_counts_attempts",
        "I5: the attempt counts up by one when a task is claimed, and only then",
        Edit(
            _INITIAL,
            r"\s+OR NEW.attempt\s+<> OLD.attempt \+ \(OLD.status = 'pending' AND NEW.status ="
            r" 'running'\)::integer\)",
            ")",
            pattern=True,
        ),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[attempt set back]",
        on=_ON,
    ),
    row(
        "postgres.task_identity",
        "I4: a task keeps its id, op, params and key",
        _trigger("tasks_keep_identity"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[another task id]",
        on=_ON,
    ),
    row(
        "postgres.task_ends_with_final",
        "I2: a task ends with a final of the same outcome",
        _trigger("tasks_end_with_final"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[status set terminal without a final]",
        on=_ON,
    ),
    row(
        "postgres.task_takes_tape",
        "I4: a task that is deleted takes its tape and its counts with it",
        _trigger("tasks_take_their_tape"),
        "tests/adapters/postgres/test_guards.py::test_deleting_a_task_deletes_its_tape",
        on=_ON,
    ),
    row(
        "postgres.task_takes_counts",
        "I7: the counts of a task's drops go with it",
        Edit(f"{_FUNCTIONS}/take_tapes.sql", r"    DELETE FROM drop_counts.*?;\n", pattern=True),
        "tests/contract/test_conformance.py::TestPostgres::test_prune_takes_old_ended_tasks_whole",
        on=_ON,
    ),
    *(
        row(
            f"postgres.{table}_truncated",
            f"I4: {table} is never emptied whole",
            _trigger(f"{table}_no_truncate"),
            _ATTACKS,
            on=_ON,
        )
        for table in ("tasks", "events", "quarantine", "drop_counts", "lanes")
    ),
    *(
        row(
            f"postgres.{said}_truncated",
            "The numbers of what waits are never emptied whole",
            _trigger(f"{table}_no_truncate", _NUMBERS),
            f"{_ATTACKS}::test_raw_session_cannot_break_an_invariant[truncate of the {said}]",
            on=_ON,
        )
        for table, said in (("backlog", "numbers"), ("backlog_moves", "moves"))
    ),
    *(
        row(
            f"postgres.count_{name}",
            "What waits and runs is counted on every path",
            _trigger(f"tasks_count_{name}", _NUMBERS),
            f"{_COUNTED}[postgresql-{test}]",
            on=_ON,
        )
        for name, test in (("new", "lease"), ("changed", "sooner"), ("deleted", "pending gone"))
    ),
    row(
        "postgres.count_ours_alone",
        "Nobody has tasks counted that are not there",
        Edit(
            f"{_FUNCTIONS}/count_moves.sql",
            "REVOKE EXECUTE ON FUNCTION count_moves() FROM PUBLIC;",
        ),
        f"{_TESTS}/test_roles.py::test_role_can_do_in_sql_what_the_page_says[worker]",
        on=_ON,
    ),
    *(
        row(
            f"postgres.{name.removeprefix('backlog_')}",
            holds,
            _constraint(name, _NUMBERS),
            test,
            on=_ON,
            vital=vital,
        )
        for name, holds, test, vital in (
            ("backlog_pkey", "One number an op, state and second", _CONTRACT, True),
            ("backlog_snapshot_pkey", "One reading is kept", _TWICE, False),
            ("backlog_snapshot_one_row", "No other reading is kept", _TWICE, False),
            ("workers_pkey", "One row a worker, which is told anew", _CONTRACT, False),
        )
    ),
    row(
        "postgres.one_reads_for_all",
        "One session folds, and no other waits for it",
        Edit(f"{_FUNCTIONS}/read_backlog.sql", " FOR NO KEY UPDATE SKIP LOCKED"),
        "tests/adapters/test_backlog.py::test_one_process_reads_for_all",
        on=_ON,
    ),
    *(
        row(
            f"postgres.mend_{name}",
            "No task moves, and no number is folded, while they are counted anew",
            Edit(f"{_FUNCTIONS}/mend_backlog.sql", old),
            f"tests/adapters/test_backlog.py::test_a_mend_waits_for[{name}]",
            on=_ON,
        )
        for name, old in (
            ("writers", "    LOCK TABLE tasks IN SHARE ROW EXCLUSIVE MODE;\n"),
            ("folds", " FOR UPDATE"),
        )
    ),
    row(
        "postgres.repairs_change",
        "I4: the repair log never changes",
        _trigger("repairs_never_change"),
        "tests/adapters/test_repair.py::test_guards_hold_after_a_repair[postgresql-repair]",
        on=_ON,
    ),
    row(
        "postgres.task_readable",
        "A new task has its times, its numbers, and params that are a JSON object",
        _trigger("tasks_can_be_read", _CANCEL_ROLE),
        "tests/adapters/test_raw_sessions.py::test_task_that_cannot_be_read_is_refused[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.task_key",
        "A raw row of a task has a key over 0",
        Edit(_CANCEL_ROLE, "NEW.id <= 0\n          OR NEW.created_at", "NEW.created_at"),
        "tests/adapters/test_raw_sessions.py::test_task_that_cannot_be_read_is_refused[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.cancel_names_session",
        "A cancel names the role of the session that records it, whatever its caller says",
        _trigger("tasks_name_who_cancels", _CANCELLER),
        f"{_TESTS}/test_cancel_roles.py::test_no_session_can_name_another_role",
        on=_ON,
    ),
    row(
        "postgres.new_task_no_role",
        "A new task has no role that cancelled it",
        Edit(_CANCEL_ROLE, "coalesce(NEW.cancel_reason, NEW.cancel_role)", "NEW.cancel_reason"),
        f"{_TESTS}/test_cancel_roles.py::test_no_session_can_name_another_role",
        on=_ON,
    ),
    row(
        "postgres.task_stays_readable",
        "A time or a cancel that a reader cannot show is not written later either",
        _trigger("tasks_stay_readable", f"{_SQL}/migrations/0020_expiry.sql"),
        "tests/adapters/test_raw_sessions.py::test_change_that_cannot_be_read_is_refused[postgresql]",
        on=_ON,
    ),
    # --- constraints ------------------------------------------------------------------------------
    row(
        "postgres.event_time",
        "An event has a time that a reader can show",
        Edit(_READABLE, r"\s+ADD CONSTRAINT events_ts_is_a_time.*?NOT VALID,", pattern=True),
        "tests/adapters/test_raw_sessions.py::test_event_that_cannot_be_read_is_refused[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.event_body",
        "I2: a body is JSON, and a final an object no two members of which have one name",
        Edit(_READABLE, r",\s+ADD CONSTRAINT events_body_is_json.*?NOT VALID;", ";", pattern=True),
        "tests/adapters/test_raw_sessions.py::test_event_that_cannot_be_read_is_refused[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.final_unambiguous",
        "I2: a final says one outcome, whichever of two keys of one name is read",
        Edit(_READABLE, "body IS JSON OBJECT WITH UNIQUE KEYS", "body IS JSON OBJECT"),
        "tests/adapters/test_raw_sessions.py::test_event_that_cannot_be_read_is_refused[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.drop_time",
        "A late event has a time that a reader can show",
        Edit(_READABLE, r"\s+ADD CONSTRAINT quarantine_ts_is_a_time.*?NOT VALID,", pattern=True),
        "tests/adapters/test_raw_sessions.py::test_change_that_cannot_be_read_is_refused[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.drop_reason",
        "A late event has a known reason",
        Edit(_READABLE, r"\s+ADD CONSTRAINT quarantine_reason_known.*?NOT VALID,", pattern=True),
        "tests/adapters/test_raw_sessions.py::test_change_that_cannot_be_read_is_refused[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.drop_body",
        "The body of a late event is JSON",
        Edit(
            _READABLE, r",\s+ADD CONSTRAINT quarantine_body_is_json.*?NOT VALID;", ";", pattern=True
        ),
        "tests/adapters/test_raw_sessions.py::test_change_that_cannot_be_read_is_refused[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.unique_seq",
        "I3: one event a place on a tape",
        _constraint("events_task_seq_unique"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_break_an_invariant[insert or update of an event]",
        on=_ON,
    ),
    row(
        "postgres.unique_task_id",
        "One row a task",
        _constraint("tasks_task_id_unique"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_write_twice",
        on=_ON,
    ),
    row(
        "postgres.tasks_key",
        "One row a key",
        _constraint("tasks_pkey"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_write_twice",
        on=_ON,
        vital=True,  # what refers to a key cannot be made without it
    ),
    row(
        "postgres.status_known",
        "A status is one of the five",
        Edit(
            _INITIAL,
            r",\s+CONSTRAINT tasks_status_known\s+CHECK \(status IN \([^)]*\)\)",
            pattern=True,
        ),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_make_up_a_status",
        on=_ON,
        held_by="postgres.task_ends_with_final",
    ),
    row(
        "postgres.unique_key",
        "One task an op and idempotency key",
        Edit(
            _FLAT,
            "CREATE UNIQUE INDEX tasks_idempotency_key_unique",
            "CREATE INDEX tasks_idempotency_key_unique",
        ),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_write_twice",
        on=_ON,
    ),
    row(
        "postgres.unique_drop",
        "I7: a late event is kept once",
        _constraint("quarantine_event_unique"),
        "tests/adapters/postgres/test_guards.py::test_raw_session_cannot_write_twice",
        on=_ON,
    ),
    *(
        row(
            f"postgres.{name.removeprefix('schema_')}",
            holds,
            _constraint(name),
            test,
            on=_ON,
            vital=vital,
        )
        for name, holds, test, vital in (
            ("schema_version_pkey", "A version is applied once", _TWICE, False),
            ("schema_compatibility_pkey", "One row a version of the schema", _TWICE, False),
            ("quarantine_pkey", "One row a late event", _TWICE, False),
            ("drop_counts_pkey", "I7: one count for each kind of drop", _CONTRACT, False),
            ("lanes_pkey", "A lane has one last flush", _FLUSHES, True),
            ("ops_pkey", "One row an op, which is told anew", _CONTRACT, False),
            ("repairs_pkey", "One entry a repair", _TWICE, False),
            ("maintenance_pkey", "One row says who leads", _TWICE, False),
            ("maintenance_one_row", "No other row says who leads", _TWICE, False),
        )
    ),
    # --- flushes ----------------------------------------------------------------------------------
    row(
        "postgres.flush_once",
        "I6: a flush that is sent again is carried out once, and answered as the first time",
        Edit(
            _FLUSH,
            "        WHERE l.number < excluded.number;\n    IF NOT FOUND THEN\n        SELECT coalesce(l.answer",
            "        WHERE true;\n    IF NOT FOUND THEN\n        SELECT coalesce(l.answer",
        ),
        "tests/adapters/postgres/test_flush.py::test_lost_reply_is_answered_as_the_first_time[Loss.REPLY]",
        on=_ON,
    ),
    row(
        "postgres.flush_answer_kept",
        "I6: what a flush was answered is kept for its resend",
        Edit(_FLUSH, "    UPDATE lanes l SET answer = reply WHERE l.lane = flush.lane;\n"),
        "tests/adapters/postgres/test_flush.py::test_lost_reply_is_answered_as_the_first_time[Loss.REPLY]",
        on=_ON,
    ),
    row(
        "postgres.flush_locks",
        "I5: what a flush has seen of a task holds until its commit",
        Edit(
            _FLUSH,
            "WHERE t.id = ANY (keys) ORDER BY t.id FOR NO KEY UPDATE) t",
            "WHERE t.id = ANY (keys) ORDER BY t.id) t",
        ),
        "tests/adapters/postgres/test_flush.py::test_blocked_row_delays_only_its_task",
        on=_ON,
    ),
    row(
        "postgres.append_fence",
        "I5: only the running attempt of its owner appends",
        Edit(
            _FLUSH,
            "           t.status = 'running' AND t.attempt = r.attempt\n"
            "           AND t.owner = coalesce(r.owner, r_owner[1]), false);",
            "           t.id IS NOT NULL, false);",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_audit_finds_nothing_while_tasks_run",
        on=_ON,
    ),
    row(
        "postgres.append_owner",
        "I5: another owner's attempt of the same number appends nothing",
        Edit(
            _FLUSH,
            "           AND t.owner = coalesce(r.owner, r_owner[1]), false);",
            "           , false);",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_drop_reasons_are_tried_in_order[False]",
        on=_ON,
    ),
    row(
        "postgres.give_up_fence",
        "I5: only the task's own attempt makes it pending again",
        Edit(
            _FLUSH,
            "           AND t.attempt = r_attempt[g.row_at + 1]\n"
            "           AND t.owner = coalesce(r_owner[g.row_at + 1], r_owner[1]);",
            ";",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_an_old_attempt_gives_up_nothing",
        on=_ON,
    ),
    row(
        "postgres.overrule_fence",
        "A cancel on record overrules only the attempt that has the task",
        Edit(_FLUSH, " AND (g.row_at + 1 = ANY (failed)) IS NOT TRUE"),
        "tests/contract/test_conformance.py::TestPostgres::test_an_old_attempt_gives_up_nothing",
        on=_ON,
    ),
    row(
        "postgres.cancel_overrules",
        "A cancel on record is not lost where the attempt gives its task up",
        Edit(_FLUSH, "WHERE t.cancel_requested_at IS NOT NULL AND", "WHERE false AND"),
        "tests/contract/test_conformance.py::TestPostgres::test_an_old_attempt_gives_up_nothing",
        on=_ON,
    ),
    row(
        "postgres.claim_pending",
        "A claim takes a pending task alone",
        Edit(
            _FLUSH,
            "WHERE p.status = 'pending' AND p.attempt = k.attempt",
            "WHERE p.attempt = k.attempt",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_claim_takes_only_what_is_pending_and_due",
        on=_ON,
    ),
    row(
        "postgres.claim_attempt_seen",
        "A claim takes the task only as it was seen: not one that was run since",
        Edit(
            _FLUSH,
            "WHERE p.status = 'pending' AND p.attempt = k.attempt AND",
            "WHERE p.status = 'pending' AND",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_claim_takes_a_task_only_as_it_was_seen",
        on=_ON,
    ),
    row(
        "postgres.claim_due_only",
        "A claim takes no task before it is due",
        Edit(_FLUSH, " AND p.run_at <= now\n", "\n"),
        "tests/contract/test_conformance.py::TestPostgres::test_retry_later_makes_the_task_pending_again",
        on=_ON,
    ),
    row(
        "postgres.claim_same_task",
        "A key that is of another task by now, in a store that was made anew, is not claimed",
        Edit(_FLUSH, "\n                       AND p.task_id = k.task_id\n", "\n"),
        "tests/adapters/postgres/test_claims.py::test_key_of_another_task_is_not_claimed",
        on=_ON,
    ),
    row(
        "postgres.create_conflict",
        "A create that meets its own earlier try, or its key, is answered with what stands there",
        Edit(
            _FLUSH,
            "                ON CONFLICT DO NOTHING\n            RETURNING id\n",
            "            RETURNING id\n",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_same_idempotency_key_gives_the_same_task",
        on=_ON,
    ),
    row(
        "postgres.unknown_cap_lock",
        "Flushes that drop events of unknown tasks at once do not exceed the cap together",
        Edit(
            f"{_FUNCTIONS}/drop_rows.sql",
            "PERFORM 1 FROM maintenance m FOR NO KEY UPDATE;",
            "NULL;",
        ),
        "tests/adapters/postgres/test_flush.py::test_one_session_at_a_time_counts_unknown_tasks[calls0]",
        on=_ON,
    ),
    row(
        "postgres.unknown_prune_lock",
        "I7: a prune of late events and a drop at the same time keep the count of what is kept",
        Edit(
            f"{_FUNCTIONS}/delete_drops.sql",
            "PERFORM 1 FROM maintenance m FOR NO KEY UPDATE;",
            "NULL;",
        ),
        "tests/adapters/postgres/test_flush.py::test_one_session_at_a_time_counts_unknown_tasks[calls1]",
        on=_ON,
    ),
    row(
        "postgres.quarantine_bound",
        "The quarantine of a task is bounded, and the count goes on",
        Edit(
            f"{_FUNCTIONS}/drop_rows.sql",
            "WHERE d.task_id = l.task_id) <= keep_per_task END",
            "WHERE d.task_id = l.task_id) >= 0 END",
        ),
        "tests/adapters/postgres/test_flush.py::test_quarantine_of_a_task_is_bounded_and_the_count_goes_on",
        on=_ON,
    ),
    row(
        "postgres.unknown_bound",
        "The quarantine of unknown tasks has one cap",
        Edit(
            f"{_FUNCTIONS}/drop_rows.sql",
            "WHERE d.reason = 'unknown_task') <= keep_unknown",
            "WHERE d.reason = 'unknown_task') >= 0",
        ),
        "tests/adapters/postgres/test_flush.py::test_unknown_tasks_cannot_fill_the_store",
        on=_ON,
    ),
    row(
        "postgres.forget_unknown",
        "I7: the count of an unknown task stays while a late event of it is kept",
        Edit(
            f"{_FUNCTIONS}/delete_drops.sql",
            "\n                    AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.task_id = d.task_id)",
        ),
        "tests/adapters/postgres/test_retention.py::test_late_event_beside_a_prune_keeps_its_count",
        on=_ON,
    ),
    row(
        "postgres.own_final_again",
        "I7: the tape's own final, sent again, is no drop",
        Edit(
            f"{_FUNCTIONS}/drop_reason.sql",
            "    WHEN final_attempt = attempt AND final_body = body THEN NULL\n",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_finish_again_is_answered_as_the_first_time",
        on=_ON,
    ),
    row(
        "postgres.cancel_lock",
        "A cancel and a claim at the same time never miss each other",
        Edit(
            f"{_FUNCTIONS}/cancel_task.sql",
            "WHERE task_id = x_task_id FOR NO KEY UPDATE;",
            "WHERE task_id = x_task_id;",
        ),
        "tests/adapters/postgres/test_flush.py::test_blocked_row_delays_only_its_task",
        on=_ON,
        held_by="postgres.flush_locks",
    ),
    row(
        "postgres.cancel_terminal",
        "A cancel leaves a task alone that has ended",
        Edit(
            f"{_FUNCTIONS}/cancel_task.sql",
            "IF t.status NOT IN ('pending', 'running') THEN",
            "IF false THEN",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_cancel_of_an_ended_task_does_nothing",
        on=_ON,
    ),
    row(
        "postgres.cancel_first_stays",
        "The first cancel request stays",
        Edit(
            f"{_FUNCTIONS}/cancel_task.sql",
            "ELSIF t.cancel_requested_at IS NOT NULL THEN",
            "ELSIF false THEN",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_cancel_of_a_running_task_is_recorded",
        on=_ON,
    ),
    row(
        "postgres.load_offer",
        "I7: an attempt that is taken up again goes on behind its last offer on the tape",
        Edit(f"{_SQL}/events.sql", "greatest(coalesce(mine.offer, 0),", "greatest(0,"),
        "tests/contract/test_conformance.py::TestPostgres::test_another_process_may_go_on_with_the_tape",
        on=_ON,
    ),
    row(
        "postgres.load_dropped_offer",
        "I7: an attempt that is taken up again goes on behind its last offer that was dropped",
        Edit(
            f"{_SQL}/events.sql",
            "(SELECT coalesce(max(d.last_offer), 0) FROM drop_counts d",
            "(SELECT 0 FROM drop_counts d",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_another_process_may_go_on_with_the_late_events",
        on=_ON,
    ),
    # --- fates ------------------------------------------------------------------------------------
    row(
        "postgres.fence_refused_resend",
        "A lost flush whose resend is refused is not carried out behind its refusal",
        Edit(
            _BACKEND, "if self._doubtful.get(name) != flush.number:\n                raise", "raise"
        ),
        "tests/adapters/postgres/test_flush.py::test_lost_flush_that_is_refused_is_never_carried_out",
        on=_ON,
    ),
    row(
        "postgres.fenced",
        "The same: its number is spent",
        Edit(
            _BACKEND,
            'stored = await lane.fence(self._sql["fence"], name, flush.number)',
            "stored = None",
        ),
        "tests/adapters/postgres/test_flush.py::test_lost_flush_that_is_refused_is_never_carried_out",
        on=_ON,
    ),
    row(
        "postgres.fence_spends",
        "What fences a flush spends its number",
        Edit(
            f"{_FUNCTIONS}/fence.sql",
            "        WHERE l.number < excluded.number;",
            "        WHERE false;",
        ),
        "tests/adapters/postgres/test_flush.py::test_lost_flush_that_is_refused_is_never_carried_out",
        on=_ON,
    ),
    row(
        "postgres.doubt_noted",
        "A flush whose reply was lost is known for one",
        Edit(
            _BACKEND,
            "            if flush.sent:\n                self._doubtful[name] = flush.number\n            raise",
            "            raise",
        ),
        "tests/adapters/postgres/test_flush.py::test_lost_flush_that_is_refused_is_never_carried_out",
        on=_ON,
    ),
    row(
        "postgres.error_quotes_no_row",
        "An error says nothing of what stands in a row",
        Edit(_CONNECTION, 'why = str(error).partition("\\n")[0]', "why = str(error)"),
        "tests/adapters/postgres/test_flush.py::test_error_does_not_quote_the_row",
        on=_ON,
    ),
    row(
        "postgres.durable_carried",
        "I6: the same, where the session keeps no setting",
        Edit(
            _CONNECTION,
            "replace(current_setting('synchronous_commit'), 'off', 'on')",
            "current_setting('synchronous_commit')",
        ),
        "tests/adapters/postgres/test_pools.py::test_durability_holds_on_a_pool[commit-on]",
        on=_ON,
    ),
    row(
        "postgres.lock_timeout",
        "A flush waits for a row that a session holds no longer than a moment",
        Edit(_CONNECTION, '                "lock_timeout": str(_LOCK_TIMEOUT),\n'),
        "tests/adapters/postgres/test_flush.py::test_submit_that_waits_for_a_key_is_found_and_waits_alone",
        on=_ON,
    ),
    row(
        "postgres.longest_pause",
        "A transaction that is left in the middle is ended, and holds nobody up",
        Edit(
            _CONNECTION,
            '                "idle_in_transaction_session_timeout": str(self.longest_pause),\n',
        ),
        f"{_CONNECTIONS}::test_a_transaction_in_which_nothing_comes_is_ended",
        on=_ON,
    ),
    row(
        "postgres.longest_pause_local",
        "So is a migration, where no session keeps a setting",
        Edit(
            _SCHEMA,
            "idle_in_transaction_session_timeout = {connector.longest_pause}",
            "idle_in_transaction_session_timeout = 0",
        ),
        f"{_SCHEMAS}::test_a_loop_that_is_closed_in_mid_migration_locks_nobody_out",
        on=_ON,
    ),
    row(
        "postgres.hush",
        "A full queue of notifications stops no commit",
        Edit(
            _CONNECTION,
            "            if is_queue_full(error):\n                self._connector.hush()\n            raise await",
            "            raise await",
        ),
        "tests/adapters/postgres/test_notify_queue.py::test_work_goes_on_beside_a_full_queue",
        on=_ON,
    ),
    row(
        "postgres.look_again",
        "I9: what was notified to nobody meanwhile is looked for",
        Edit(
            _CONNECTION,
            "            await conn.fetchval(LOOK_AGAIN, self.address.schema, timeout=self.patience)\n",
        ),
        "tests/adapters/postgres/test_notify_queue.py::test_work_goes_on_beside_a_full_queue",
        on=_ON,
    ),
    # --- workers, leases, maintenance -------------------------------------------------------------
    row(
        "postgres.claim_due_once",
        "A claim of due tasks that is sent again is answered with what it has claimed",
        Edit(
            _CLAIM_DUE,
            "        WHERE l.number < excluded.number;\n    IF NOT FOUND THEN\n        SELECT l.answer",
            "        WHERE true;\n    IF NOT FOUND THEN\n        SELECT l.answer",
        ),
        "tests/adapters/postgres/test_claims.py::test_claims_whose_reply_was_lost_are_told_after_all[Loss.REPLY]",
        on=_ON,
    ),
    row(
        "postgres.claim_due_spent",
        "A resend spends its number also where nothing is due: the first try may come later",
        Edit(_CLAIM_DUE, "IF levels IS NULL AND NOT x_again THEN", "IF levels IS NULL THEN"),
        "tests/adapters/postgres/test_claims.py::test_a_call_that_comes_after_its_resend_claims_nothing",
        on=_ON,
    ),
    row(
        "postgres.claim_due_passes",
        "A task that a session holds keeps no worker waiting",
        (
            Edit(_CLAIM_DUE, "FOR NO KEY UPDATE SKIP LOCKED) a\n", "FOR NO KEY UPDATE) a\n"),
            Edit(_CLAIM_DUE, "FOR NO KEY UPDATE SKIP LOCKED) b) d;", "FOR NO KEY UPDATE) b) d;"),
        ),
        "tests/adapters/postgres/test_claims.py::test_row_that_a_session_holds_keeps_no_other[claim_due]",
        on=_ON,
    ),
    row(
        "postgres.claim_due_locks",
        "Two workers never claim one task",
        (
            Edit(_CLAIM_DUE, "FOR NO KEY UPDATE SKIP LOCKED) a\n", ") a\n"),
            Edit(_CLAIM_DUE, "FOR NO KEY UPDATE SKIP LOCKED) b) d;", ") b) d;"),
        ),
        "tests/adapters/postgres/test_claims.py::test_row_that_a_session_holds_keeps_no_other[claim_due]",
        on=_ON,
    ),
    row(
        "postgres.claim_due_run_at",
        "A worker is given no task before it is due",
        Edit(
            _CLAIM_DUE,
            "AND t.op = share.op\n"
            "                               AND t.priority = level AND t.run_at <= now AND t.id",
            "AND t.op = share.op\n                               AND t.priority = level AND t.id",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_no_room_brings_a_task_before_its_time",
        on=_ON,
    ),
    row(
        "postgres.claim_due_queue_at",
        "A worker of a queue is given no task before it is due",
        Edit(
            _CLAIM_DUE,
            "COLLATE \"C\" = share.op || '/' || share.queue\n"
            "                               AND t.priority = level AND t.run_at <= now AND t.id",
            "COLLATE \"C\" = share.op || '/' || share.queue\n"
            "                               AND t.priority = level AND t.id",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_no_room_brings_a_task_before_its_time",
        on=_ON,
    ),
    row(
        "postgres.claim_due_singly",
        "A row that cannot be claimed keeps no other from it",
        Edit(_CLAIM_DUE, "    ELSIF sound THEN\n", "    ELSIF true THEN\n"),
        "tests/adapters/test_bad_rows.py::test_bad_rows_end_and_are_named_beside_good_tasks[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.claim_singly_caught",
        "A row that cannot be claimed ends as failed",
        Edit(
            f"{_FUNCTIONS}/claim_singly.sql",
            "            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR"
            " raise_exception OR SQLSTATE 'TS001' THEN\n                BEGIN",
            "            EXCEPTION WHEN division_by_zero THEN\n                BEGIN",
        ),
        "tests/adapters/test_bad_rows.py::test_bad_rows_end_and_are_named_beside_good_tasks[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.claim_singly_passes",
        "Neither does a bad row have a worker wait for one that a session holds",
        (
            Edit(
                f"{_FUNCTIONS}/claim_singly.sql",
                " FOR NO KEY UPDATE SKIP LOCKED) AS others",
                ") AS others",
            ),
            Edit(
                f"{_FUNCTIONS}/claim_singly.sql",
                " FOR NO KEY UPDATE SKIP LOCKED) AS of_queue",
                ") AS of_queue",
            ),
        ),
        "tests/adapters/postgres/test_claims.py::test_bad_row_beside_one_that_is_held",
        on=_ON,
    ),
    row(
        "postgres.rescue_one",
        "A task that cannot be rescued keeps no other from it",
        Edit(
            _RESCUE,
            "EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception OR"
            " SQLSTATE 'TS001' THEN",
            "EXCEPTION WHEN division_by_zero THEN",
        ),
        "tests/adapters/test_bad_rows.py::test_lost_bad_rows_are_rescued_with_the_others[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.rescue_passes",
        "A task that a session holds keeps no rescue waiting",
        Edit(
            _RESCUE,
            "ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED",
            "ORDER BY r.id FOR NO KEY UPDATE",
        ),
        "tests/adapters/postgres/test_claims.py::test_row_that_a_session_holds_keeps_no_other[rescue]",
        on=_ON,
    ),
    row(
        "postgres.rescue_locks",
        "Two managers never rescue one task",
        Edit(_RESCUE, "ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED", "ORDER BY r.id"),
        "tests/adapters/postgres/test_claims.py::test_row_that_a_session_holds_keeps_no_other[rescue]",
        on=_ON,
    ),
    row(
        "postgres.rescue_pending_op",
        "A pending task that workers can run by now is not lost with its submitter",
        Edit(_RESCUE, " AND r.op <> ALL (x_ops)))", "))"),
        "tests/contract/test_conformance.py::TestPostgres::test_rescue_ends_what_a_dead_owner_alone_could_run",
        on=_ON,
    ),
    row(
        "postgres.rescue_cancel",
        "A cancel on record is not lost where the owner is",
        Edit(_RESCUE, "CASE WHEN t.cancel_reason IS NOT NULL\n", "CASE WHEN false\n"),
        "tests/contract/test_conformance.py::TestPostgres::test_rescue_honours_a_cancel_on_record",
        on=_ON,
    ),
    row(
        "postgres.rescue_retries",
        "A rescue makes no attempt that no retry is left for",
        Edit(_RESCUE, "WHEN t.retries_spent < t.retries AND", "WHEN"),
        "tests/contract/test_conformance.py::TestPostgres::test_a_rescued_task_without_retries_is_claimed_by_nobody",
        on=_ON,
    ),
    row(
        "postgres.heartbeat_passes",
        "A row that a session holds delays no other lease",
        Edit(
            f"{_SQL}/tasks.sql",
            "     ORDER BY t.id FOR NO KEY UPDATE SKIP LOCKED\n",
            "     ORDER BY t.id FOR NO KEY UPDATE\n",
        ),
        "tests/adapters/postgres/test_leases.py::test_a_held_row_keeps_no_other_from_its_lease[keeper]",
        on=_ON,
    ),
    row(
        "postgres.heartbeat_waits",
        "A lease whose row was held for a moment is extended all the same",
        Edit(f"{POSTGRES}/_leases.py", "        if stuck < _STUCK:\n", "        if False:\n"),
        "tests/adapters/postgres/test_leases.py::test_a_row_that_is_let_go_in_time_is_waited_for[keeper]",
        on=_ON,
    ),
    row(
        "postgres.heartbeat_wait_ends",
        "A heartbeat waits for a row for no longer than a part of its lease",
        (
            Edit(
                f"{_SQL}/tasks.sql",
                "SELECT set_config('lock_timeout', $4::text, true)",
                "SELECT $4::text",
            ),
            Edit(f"{_SQL}/tasks.sql", "\n       FOR NO KEY UPDATE OF t\n", "\n"),
        ),
        "tests/adapters/postgres/test_leases.py::test_a_held_row_keeps_no_other_from_its_lease[pool]",
        on=_ON,
    ),
    row(
        "postgres.delete_ended",
        "I4: a prune deletes no task that lives",
        Edit(f"{_SQL}/retention.sql", " AND t.status NOT IN ('pending', 'running')\n", "\n"),
        "tests/contract/test_conformance.py::TestPostgres::test_what_lives_is_deleted_by_nobody",
        on=_ON,
    ),
    row(
        "postgres.delete_passes",
        "A prune makes no flush wait",
        Edit(
            f"{_SQL}/retention.sql",
            "     ORDER BY t.id FOR UPDATE SKIP LOCKED\n",
            "     ORDER BY t.id FOR UPDATE\n",
        ),
        "tests/adapters/postgres/test_claims.py::test_row_that_a_session_holds_keeps_no_other[delete_tasks]",
        on=_ON,
    ),
    row(
        "postgres.one_leader",
        "One manager leads at a time",
        Edit(
            f"{_SQL}/maintenance.sql",
            "\n WHERE holder IS NULL OR holder = $1 OR held_until < now_us()",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_one_owner_leads",
        on=_ON,
    ),
    row(
        "postgres.leader_records",
        "Who does not lead records nothing",
        Edit(
            f"{_SQL}/maintenance.sql",
            "audited_at = now_us() WHERE holder = $1",
            "audited_at = now_us() WHERE $1::text IS NOT NULL",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_jobs_are_on_record",
        on=_ON,
    ),
    row(
        "postgres.leader_resigns",
        "Only the leader resigns",
        Edit(
            f"{_SQL}/maintenance.sql",
            "held_until = 0 WHERE holder = $1",
            "held_until = 0 WHERE $1::text IS NOT NULL",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_one_owner_leads",
        on=_ON,
    ),
    row(
        "postgres.repair_table_lock",
        "No session writes while a repair has taken the guards off",
        Edit(_REPAIR, "    LOCK TABLE tasks, events IN SHARE ROW EXCLUSIVE MODE;\n"),
        "tests/adapters/test_repair.py::test_repair_waits_for_who_writes",
        on=_ON,
        held_by="postgres.repair_row_lock",
    ),
    row(
        "postgres.repair_row_lock",
        "The row that a repair has read is the one that it mends",
        Edit(_REPAIR, "WHERE task_id = x_task_id FOR UPDATE;", "WHERE task_id = x_task_id;"),
        "tests/adapters/test_repair.py::test_repair_waits_for_who_writes",
        on=_ON,
        held_by="postgres.repair_table_lock",
    ),
    row(
        "postgres.repair_guards_back",
        "A repair puts the guards back that it has taken off",
        Edit(_REPAIR, "    ALTER TABLE events ENABLE TRIGGER events_follow_predecessor;\n"),
        "tests/adapters/test_repair.py::test_stuck_task_is_handed_to_the_rescue[postgresql-ended]",
        on=_ON,
    ),
    row(
        "postgres.repair_live_back",
        "A repair puts the guard of events back that live with their task",
        Edit(_REPAIR, "    ALTER TABLE events ENABLE TRIGGER events_live_with_task;\n"),
        "tests/adapters/test_repair.py::test_guards_hold_after_a_repair[postgresql-repair]",
        on=_ON,
    ),
    row(
        "postgres.repair_rule_back",
        "A repair puts the guard of ended tasks back",
        Edit(_REPAIR, "    ALTER TABLE tasks ENABLE TRIGGER tasks_change_by_rule;\n"),
        "tests/adapters/test_repair.py::test_guards_hold_after_a_repair[postgresql-repair]",
        on=_ON,
    ),
    row(
        "postgres.repair_dry_run",
        "A dry run of a repair leaves nothing behind",
        Edit(
            f"{POSTGRES}/_repair.py",
            "            if dry_run:\n                raise _TakenBackError(mended)\n",
        ),
        "tests/adapters/test_repair.py::test_dry_run_changes_nothing[postgresql]",
        on=_ON,
    ),
    # --- the schema -------------------------------------------------------------------------------
    row(
        "postgres.migrate_lock",
        "One process migrates at a time",
        Edit(
            f"{_SQL}/schema_version.sql",
            "LOCK TABLE schema_version IN SHARE ROW EXCLUSIVE MODE;",
            "SELECT 1;",
        ),
        "tests/adapters/postgres/test_schema.py::test_older_schema_is_migrated_by_one_of_many",
        on=_ON,
    ),
    row(
        "postgres.due_in_order",
        "Of those due at once the first goes first, whatever its op",
        Edit(
            f"{_SQL}/functions/claim_due.sql",
            "ORDER BY d.run_at, d.id LIMIT x_limit - cardinality(picked)) f",
            "ORDER BY d.run_at LIMIT x_limit - cardinality(picked)) f",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_of_those_due_at_once_the_first_goes_first_whatever_its_op",
        on=_ON,
    ),
    row(
        "postgres.made_meanwhile",
        "Stores that make one schema at once all open it",
        Edit(
            _SCHEMA,
            "            if taken in met:\n",
            "            if True:\n",
        ),
        "tests/adapters/postgres/test_schema.py::test_stores_that_open_at_once_share_one_migration",
        on=_ON,
    ),
    row(
        "postgres.parts_gone",
        "A store whose tables or functions are gone is not ready",
        Edit(
            _SCHEMA,
            "if missing := sorted(self._seen - found):",
            "if missing := sorted(self._seen - self._seen):",
        ),
        "tests/adapters/test_probes.py::test_the_next_heartbeat_says_so[postgresql-without_function]",
        on=_ON,
    ),
    row(
        "postgres.renamed",
        "A schema that was renamed is not used with functions that work on another",
        Edit(
            _SCHEMA,
            'if strange := [path for path in row["paths"] if not path.replace(\'"\', "").startswith(own)]:',
            "if strange := list[str]():",
        ),
        "tests/adapters/test_probes.py::test_a_renamed_schema_is_refused",
        on=_ON,
    ),
    row(
        "postgres.probe_barred",
        "A store whose role may not write is not ready",
        Edit(_SCHEMA, '        if row["barred"]:\n', "        if False:\n"),
        "tests/adapters/postgres/test_roles.py::test_role_may_call_what_the_page_says[reader]",
        on=_ON,
    ),
    # --- callers' connections, other processes ----------------------------------------------------
    row(
        "postgres.caller_ours",
        "A task in a caller's transaction is in the store's own schema",
        Edit(f"{_SQL}/tasks.sql", "FROM clock c, here h WHERE h.ours\n", "FROM clock c, here h\n"),
        "tests/adapters/test_transactions.py::test_postgres_connection_to_another_database_is_refused",
        on=_ON,
    ),
    row(
        "postgres.caller_begun",
        "A task in a caller's transaction needs one",
        Edit(_CALLER, "if not found.is_in_transaction():", "if False:"),
        "tests/adapters/test_transactions.py::test_connection_without_a_transaction_is_refused[postgresql]",
        on=_ON,
    ),
    row(
        "postgres.psycopg_begun",
        "A task in a caller's transaction needs one that is not committed at once",
        Edit(
            _CALLER,
            "if status == psycopg.pq.TransactionStatus.IDLE and found.autocommit:",
            "if False:",
        ),
        f"{_LENT}::test_who_blocks_and_is_in_no_transaction_is_told[psycopg, autocommit-with connection.transaction]",
        on=_ON,
    ),
    row(
        "postgres.pool_comes_clean",
        "A caller's pool gets its connections back",
        Edit(
            _CONNECTION,
            "        if not self._connector.keeps and self._conn is not None:\n            conn, self._conn",
            "        if False:\n            conn, self._conn",
        ),
        "tests/adapters/postgres/test_pools.py::test_pool_is_borrowed_and_left_as_it_was",
        on=_ON,
    ),
    row(
        "postgres.listener_resync",
        "I9: what was committed before it listened is looked for",
        Edit(
            _LISTENER,
            "        self._changes.publish(RESYNC)\n        self._cancels",
            "        self._cancels",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_a_follower_of_all_looks_at_first",
        on=_ON,
    ),
    row(
        "postgres.listener_cancels",
        "A cancel that was recorded before it listened is heard of",
        Edit(
            _LISTENER,
            "        self._cancels = True  # also those that were recorded before it listened\n",
        ),
        "tests/adapters/postgres/test_connection.py::test_owner_is_told_of_another_instances_cancel",
        on=_ON,
    ),
    row(
        "postgres.rescue_learned",
        "A rescue whose reply was lost tells what it took all the same",
        Edit(f"{POSTGRES}/_leases.py", "            self._unanswered = order\n"),
        "tests/adapters/postgres/test_lost_ends.py"
        "::test_an_end_whose_reply_was_lost_is_counted_once[rescue, failed-Loss.REPLY-in time]",
        on=_ON,
    ),
    row(
        "postgres.rescue_spent",
        "A rescue that comes after its resend takes nothing",
        Edit(
            f"{POSTGRES}/sql/tasks.sql",
            "WHEN d.rescued <> '[]' AND NOT EXISTS",
            "WHEN d.rescued IS NULL AND NOT EXISTS",
        ),
        "tests/adapters/postgres/test_lost_ends.py::test_a_rescue_that_comes_after_its_resend_takes_nothing",
        on=_ON,
    ),
    row(
        "postgres.trace_once",
        "An attempt has one trace, which stays",
        _constraint("attempts_traced_pkey", _TRACES),
        "tests/contract/test_conformance.py::TestPostgres::test_each_attempt_has_its_own",
        on=_ON,
    ),
    row(
        "postgres.traces_go",
        "A task that is deleted leaves no trace",
        _constraint("attempts_traced_task_fkey", _TRACES),
        "tests/adapters/test_traces.py::test_a_deleted_task_leaves_no_trace[postgresql]",
        on=_ON,
    ),
)
