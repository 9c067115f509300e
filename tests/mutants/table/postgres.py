"""The guards of the PostgreSQL store."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import POSTGRES, Edit, Guard, Kind, row

_SQL: Final = f"{POSTGRES}/sql"
_INITIAL: Final = f"{_SQL}/migrations/0001_initial.sql"
_READABLE: Final = f"{_SQL}/migrations/0002_readable.sql"
_BOUND: Final = f"{_SQL}/migrations/0003_bound_tasks.sql"
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
_CONTRACT: Final = "tests/contract/test_conformance.py::TestPostgres"
_ON: Final[Kind] = "postgresql"


def _trigger(name: str, file: str = _INITIAL) -> Edit:
    return Edit(file, rf"^CREATE TRIGGER {name}\b.*?;$", pattern=True)


def _constraint(name: str, file: str = _INITIAL) -> Edit:
    """A line of a table, with the comma of the one before it."""
    return Edit(file, rf",\s+CONSTRAINT {name} [^\n]*?(?=,?\n)", pattern=True)


GUARDS: Final[tuple[Guard, ...]] = (
    # --- triggers ---------------------------------------------------------------------------------
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
        _ATTACKS,
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
        _ATTACKS,
        on=_ON,
    ),
    row(
        "postgres.event_attempt_order",
        "I5: attempts go up along a tape",
        Edit(_APPENDED, "AND (p.attempt < i.attempt\n", "AND (true\n"),
        _ATTACKS,
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
        _ATTACKS,
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
        _ATTACKS,
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
        _ATTACKS,
        on=_ON,
    ),
    row(
        "postgres.final_outcome",
        "I2: a final says succeeded, failed or cancelled, and ends its task",
        Edit(_APPENDED, "IF ended <> finals THEN", "IF false THEN"),
        _ATTACKS,
        on=_ON,
    ),
    row(
        "postgres.event_never_changes",
        "I4: an event never changes",
        _trigger("events_never_change"),
        _ATTACKS,
        on=_ON,
    ),
    row(
        "postgres.event_lives_with_task",
        "I4: an event lives as long as its task",
        _trigger("events_live_with_task"),
        _ATTACKS,
        on=_ON,
    ),
    row(
        "postgres.task_begins_pending",
        "I2: a task is inserted as pending, with no attempt",
        _trigger("tasks_begin_pending"),
        _ATTACKS,
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
        _ATTACKS,
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
        _ATTACKS,
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
        _ATTACKS,
        on=_ON,
    ),
    row(
        "postgres.task_identity",
        "I4: a task keeps its id, op, params and key",
        _trigger("tasks_keep_identity"),
        _ATTACKS,
        on=_ON,
    ),
    # --- constraints ------------------------------------------------------------------------------
    # --- flushes ----------------------------------------------------------------------------------
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
    # --- workers, leases, maintenance -------------------------------------------------------------
    # --- the schema -------------------------------------------------------------------------------
    # --- callers' connections, other processes ----------------------------------------------------
)
