"""The guards of unique keys and of slots: one open task of a key, and no more runs than a key has."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, POSTGRES, SQLITE, STORE, TAPESCOPE, Edit, Guard, row

_SUITE: Final = "tests/contract/test_conformance.py"
_GUARDS: Final = "tests/adapters/{}/test_guards.py"
_RAW: Final = "tests/adapters/test_raw_sessions.py"
_ATTACK: Final = "test_raw_session_cannot_break_an_invariant"
_OF_UNIQUE: Final = "tests/manager/test_unique_keys.py"
_OF_SLOTS: Final = "tests/manager/test_slots.py"
_SQLITE: Final = f"{SQLITE}/sql/migrations/0017_limits.sql"
_POSTGRES: Final = f"{POSTGRES}/sql/migrations/0017_limits.sql"
_ADMIT: Final = f"{POSTGRES}/sql/functions/admit_parked.sql"
_COUNT: Final = f"{POSTGRES}/sql/functions/count_slots.sql"
_SLOTS: Final = "tests/adapters/test_slots.py"
_HELD: Final = "test_a_session_that_holds_a_key_keeps_no_other_waiting"
_MOST: Final = "test_no_more_run_than_there_are_slots"
_FREE: Final = "test_a_slot_is_free_when_its_attempt_ends"
_ORDER: Final = "test_the_order_among_the_parked"
_RATES_SQLITE: Final = f"{SQLITE}/sql/migrations/0021_rates.sql"
_RATES_POSTGRES: Final = f"{POSTGRES}/sql/migrations/0021_rates.sql"
_WINDOW: Final = f"{POSTGRES}/sql/functions/open_window.sql"
_RATES: Final = "tests/adapters/test_rates.py"
_OF_RATES: Final = "tests/manager/test_rates.py"
_NO_MORE: Final = "test_no_more_begin_than_the_window_has"
_NEXT: Final = "test_the_next_one_begins_when_the_window_lets_it"
_GIVEN: Final = "test_what_may_begin_counts_until_it_has"
_BACK: Final = "test_a_cancel_before_the_claim_gives_the_place_back"
_CHANGE: Final = "test_an_op_may_change_its_rate"
_ROWS: Final = "test_a_key_has_no_more_rows_than_its_window"
_SET_BACK: Final = "test_a_clock_that_is_set_back_holds_nobody_for_long"
_PASSED: Final = "test_a_row_that_another_session_holds_is_passed_over"
_GONE: Final = "test_a_rate_that_is_gone_leaves_nothing"


def _in_sqlite(name: str) -> Edit:
    return Edit(_SQLITE, rf"^CREATE TRIGGER {name}\b.*?^END;$", pattern=True)


def _in_postgres(name: str) -> Edit:
    return Edit(_POSTGRES, rf"^CREATE TRIGGER {name}\b.*?;$", pattern=True)


GUARDS: Final[tuple[Guard, ...]] = (
    # --- unique keys ------------------------------------------------------------------------------
    row(
        "limits.unique_index_postgres",
        "One open task an op and unique key, on PostgreSQL",
        Edit(
            _POSTGRES,
            "CREATE UNIQUE INDEX tasks_unique_key_open",
            "CREATE INDEX tasks_unique_key_open",
        ),
        f"{_SUITE}::TestPostgres::test_an_open_task_is_the_answer",
        on="postgresql",
    ),
    row(
        "limits.unique_index_sqlite",
        "One open task an op and unique key, on SQLite",
        Edit(
            _SQLITE,
            "CREATE UNIQUE INDEX tasks_unique_key_open",
            "CREATE INDEX tasks_unique_key_open",
        ),
        f"{_GUARDS.format('sqlite')}::{_ATTACK}[insert or replace by the unique key]",
        held_by="limits.unique_not_replaced",
    ),
    row(
        "limits.unique_not_replaced",
        "I4: INSERT OR REPLACE replaces no open task by its unique key",
        _in_sqlite("tasks_unique_key_is_free"),
        f"{_GUARDS.format('sqlite')}::{_ATTACK}[insert or replace by the unique key]",
    ),
    row(
        "limits.unique_kept_sqlite",
        "I4: a task keeps its unique key, on SQLite",
        _in_sqlite("tasks_keep_unique_key"),
        f"{_GUARDS.format('sqlite')}::{_ATTACK}[another unique key]",
    ),
    row(
        "limits.unique_kept_postgres",
        "I4: a task keeps its unique key, on PostgreSQL",
        _in_postgres("tasks_keep_unique_key"),
        f"{_GUARDS.format('postgres')}::{_ATTACK}[another unique key]",
        on="postgresql",
    ),
    row(
        "limits.unique_memory",
        "A key is free when its task has ended, in memory",
        Edit(f"{TAPESCOPE}/testing/_memory.py", " and self.records[last].outcome is None"),
        f"{_SUITE}::TestMemory::test_a_key_is_free_when_its_task_has_ended",
        on="memory",
    ),
    row(
        "limits.unique_params",
        "A unique key says nothing of params",
        Edit(f"{STORE}/_results.py", "if same or by_unique_key or ", "if same or "),
        f"{_SUITE}::TestMemory::test_an_open_task_is_the_answer",
        on="memory",
    ),
    row(
        "limits.unique_orphan",
        "A cancelled submit by name leaves the task of a unique key, which may be another's answer",
        Edit(f"{STORE}/_orphans.py", "call.withdrawn or others or", "call.withdrawn or"),
        "tests/store/test_orphans.py::test_a_key_finds_what_a_cancelled_create_left[unique_key]",
        on="memory",
    ),
    row(
        "limits.unique_orphan_bound",
        "One that nobody else can run is cancelled, and its unique key is free",
        Edit(
            f"{STORE}/_orphans.py",
            "row.unique_key is not None and row.lease is None",
            "row.unique_key is not None",
        ),
        "tests/store/test_orphans.py::test_a_unique_key_keeps_nothing_that_nobody_runs",
        on="memory",
    ),
    row(
        "limits.unique_runner",
        "A callable is not run for the open task of another submit",
        Edit(f"{MANAGER}/manager.py", ' and found_by != "unique_key"'),
        f"{_OF_UNIQUE}::test_a_callable_is_not_run_for_a_task_by_its_name",
    ),
    row(
        "limits.unique_retry",
        "A retry does not answer with another task that has the unique key by then",
        Edit(f"{MANAGER}/manager.py", 'if again.found_by == "unique_key":', "if False:"),
        f"{_OF_UNIQUE}::test_a_retry_of_an_ended_task_keeps_the_key",
    ),
    row(
        "limits.unique_client",
        "A client tells an open task of another from its own submit, whose reply was lost",
        Edit(
            f"{TAPESCOPE}/client/verbs.py",
            '(made_here and shape.get("found_by") != "unique_key")',
            "made_here",
        ),
        "tests/client/test_client.py::test_a_unique_key_is_told_from_a_lost_reply",
    ),
    # --- slots ------------------------------------------------------------------------------------
    row(
        "limits.slots_memory",
        "No more run than there are slots, in memory",
        Edit(
            f"{STORE}/task_rows.py",
            " and self._held[name] >= known.max_concurrent:",
            " and self._held[name] < 0:",
        ),
        f"{_SUITE}::TestMemory::{_MOST}",
        on="memory",
    ),
    row(
        "limits.room_sqlite",
        "A claim gives no more slots than are free, on SQLite",
        Edit(f"{SQLITE}/_limits.py", "else most - held", "else most"),
        f"{_SUITE}::TestSqlite::{_FREE}",
        held_by="limits.kept_sqlite",
    ),
    row(
        "limits.room_postgres",
        "A claim gives no more slots than are free, on PostgreSQL",
        Edit(_ADMIT, "coalesce(most - taken,", "coalesce(most,"),
        f"{_SUITE}::TestPostgres::{_FREE}",
        on="postgresql",
        held_by="limits.kept_postgres",
    ),
    row(
        "limits.kept_sqlite",
        "The database refuses a holder more than a key has slots, on SQLite",
        _in_sqlite("limits_are_kept"),
        f"{_RAW}::test_raw_session_takes_no_slot_that_is_held[sqlite]",
    ),
    row(
        "limits.kept_postgres",
        "The database refuses a holder more than a key has slots, on PostgreSQL",
        Edit(_COUNT, "o.max_concurrent < taken", "false"),
        f"{_RAW}::test_raw_session_takes_no_slot_that_is_held[postgresql]",
        on="postgresql",
    ),
    row(
        "limits.not_due_sqlite",
        "What is parked is not due, whoever writes it, on SQLite",
        _in_sqlite("tasks_parked_is_not_due"),
        f"{_RAW}::test_raw_session_makes_nothing_due_that_is_parked[sqlite]",
    ),
    row(
        "limits.not_due_postgres",
        "What is parked is not due, whoever writes it, on PostgreSQL",
        _in_postgres("tasks_parked_is_not_due"),
        f"{_RAW}::test_raw_session_makes_nothing_due_that_is_parked[postgresql]",
        on="postgresql",
    ),
    row(
        "limits.born_parked_sqlite",
        "A task with a key is born parked, for a time that is one, on SQLite",
        _in_sqlite("tasks_begin_parked"),
        f"{_RAW}::test_task_that_cannot_be_read_is_refused[sqlite]",
    ),
    row(
        "limits.born_parked_postgres",
        "A task with a key is born parked, for a time that is one, on PostgreSQL",
        _in_postgres("tasks_begin_parked"),
        f"{_RAW}::test_task_that_cannot_be_read_is_refused[postgresql]",
        on="postgresql",
    ),
    row(
        "limits.key_kept_sqlite",
        "I4: a task keeps its concurrency key, on SQLite",
        _in_sqlite("tasks_keep_concurrency_key"),
        f"{_GUARDS.format('sqlite')}::{_ATTACK}[another concurrency key]",
    ),
    row(
        "limits.key_kept_postgres",
        "I4: a task keeps its concurrency key, on PostgreSQL",
        _in_postgres("tasks_keep_concurrency_key"),
        f"{_GUARDS.format('postgres')}::{_ATTACK}[another concurrency key]",
        on="postgresql",
    ),
    *(
        row(
            f"limits.{name.removeprefix('tasks_')}",
            holds,
            _in_sqlite(name),
            test,
        )
        for name, holds, test in (
            (
                "tasks_hold_slot_new",
                "A key is looked at when its new task is due, on SQLite",
                f"{_SUITE}::TestSqlite::{_MOST}",
            ),
            (
                "tasks_hold_slot",
                "Who is given a slot is counted, on SQLite",
                f"{_SUITE}::TestSqlite::{_FREE}",
            ),
            (
                "tasks_free_slot",
                "A slot is free when its attempt ends, on SQLite",
                f"{_SUITE}::TestSqlite::{_FREE}",
            ),
            (
                "tasks_free_slot_deleted",
                "The slot of a task that is deleted is free, on SQLite",
                f"{_RAW}::test_a_deleted_task_gives_its_slot_back[sqlite]",
            ),
            (
                "tasks_look_when_due",
                "A key is looked at when its retry is due, on SQLite",
                f"{_SUITE}::TestSqlite::test_what_gave_its_slot_up_waits_for_one",
            ),
        )
    ),
    *(
        row(
            f"limits.{name.removeprefix('tasks_').removeprefix('limit_')}_pg",
            holds,
            _in_postgres(name),
            test,
            on="postgresql",
        )
        for name, holds, test in (
            (
                "tasks_hold_slot_new",
                "A key is looked at when its new task is due, on PostgreSQL",
                f"{_SUITE}::TestPostgres::{_MOST}",
            ),
            (
                "tasks_hold_slot",
                "Who has a slot is counted, on PostgreSQL",
                f"{_SUITE}::TestPostgres::{_FREE}",
            ),
            (
                "tasks_free_slot_deleted",
                "The slot of a task that is deleted is free, on PostgreSQL",
                f"{_RAW}::test_a_deleted_task_gives_its_slot_back[postgresql]",
            ),
            (
                "ops_change_slots",
                "More slots are given at once, on PostgreSQL",
                f"{_SUITE}::TestPostgres::test_an_op_may_change_its_slots",
            ),
            (
                "limits_no_truncate",
                "I4: the slots are not truncated",
                f"{_GUARDS.format('postgres')}::{_ATTACK}[truncate of the slots]",
            ),
            (
                "limit_looks_no_truncate",
                "I4: the looks are not truncated",
                f"{_GUARDS.format('postgres')}::{_ATTACK}[truncate of the looks]",
            ),
        )
    ),
    row(
        "limits.one_count",
        "There is one count of a key",
        Edit(_POSTGRES, r",\s+CONSTRAINT limits_pkey [^\n]*", pattern=True),
        f"{_SUITE}::TestPostgres::{_MOST}",
        on="postgresql",
    ),
    row(
        "limits.looks_passed",
        "A look that another claim takes just now is passed over",
        Edit(_ADMIT, "LIMIT 1 FOR UPDATE SKIP LOCKED", "LIMIT 1"),
        f"{_SLOTS}::test_a_look_that_another_session_takes_is_passed_over",
        on="postgresql",
    ),
    row(
        "limits.key_locked",
        "A claim locks a key before it reads how many hold a slot",
        Edit(
            _ADMIT,
            "\n                FOR NO KEY UPDATE SKIP LOCKED;\n            CONTINUE WHEN FOUND;\n            again",
            ";\n            CONTINUE WHEN FOUND;\n            again",
        ),
        f"{_SLOTS}::{_HELD}",
        on="postgresql",
    ),
    row(
        "limits.parked_locked",
        "A parked task that another session holds just now is passed over",
        Edit(
            _ADMIT,
            "                               FOR NO KEY UPDATE SKIP LOCKED) d;",
            "                               ) d;",
        ),
        f"{_SLOTS}::{_HELD}",
        on="postgresql",
    ),
    row(
        "limits.keys_first",
        "Who frees slots of several keys locks the keys first, in one order",
        Edit(
            f"{POSTGRES}/sql/functions/lock_limits.sql",
            "\n                             FOR NO KEY UPDATE",
        ),
        f"{_SLOTS}::test_an_end_locks_its_key_before_its_task",
        on="postgresql",
    ),
    row(
        "limits.order_sqlite",
        "Of the parked the higher priority goes first, on SQLite",
        Edit(
            f"{SQLITE}/sql/limits.sql",
            " ORDER BY t.priority DESC, t.parked_at, t.id LIMIT :limit;",
            " ORDER BY t.parked_at, t.id LIMIT :limit;",
        ),
        f"{_SUITE}::TestSqlite::{_ORDER}",
    ),
    row(
        "limits.order_postgres",
        "Of the parked the higher priority goes first, on PostgreSQL",
        Edit(
            _ADMIT,
            "t.priority < level\n                     ORDER BY t.priority DESC",
            "t.priority < level\n                     ORDER BY t.priority",
        ),
        f"{_SUITE}::TestPostgres::{_ORDER}",
        on="postgresql",
    ),
    row(
        "limits.again_sqlite",
        "What a claim leaves of a key with free slots goes to the next one, on SQLite",
        Edit(f"{SQLITE}/_limits.py", "if len(found) > len(ids):", "if False:"),
        f"{_SUITE}::TestSqlite::test_a_claim_takes_no_more_than_it_may",
    ),
    row(
        "limits.again_postgres",
        "What a claim leaves of a key with free slots goes to the next one, on PostgreSQL",
        Edit(_ADMIT, "again[nth] := now;", "NULL;"),
        f"{_SUITE}::TestPostgres::test_a_claim_takes_no_more_than_it_may",
        on="postgresql",
    ),
    row(
        "limits.turns_sqlite",
        "What a claim leaves of a key has its turn after the other keys, on SQLite",
        Edit(f"{SQLITE}/sql/limits.sql", "VALUES (:op, :now, :key)", "VALUES (:op, 1, :key)"),
        f"{_SLOTS}::test_keys_take_turns_at_the_place_of_a_worker[sqlite]",
    ),
    row(
        "limits.turns_postgres",
        "What a claim leaves of a key has its turn after the other keys, on PostgreSQL",
        Edit(_ADMIT, "again[nth] := now;", "again[nth] := 1;"),
        f"{_SLOTS}::test_keys_take_turns_at_the_place_of_a_worker[postgresql]",
        on="postgresql",
    ),
    row(
        "limits.looks_at_once_sqlite",
        "All looks of a key that are due are taken at once, on SQLite",
        Edit(
            f"{SQLITE}/sql/limits.sql",
            "AND concurrency_key = :key AND due_at <= :now;",
            "AND concurrency_key = :key AND due_at <= (SELECT min(l.due_at) FROM limit_looks l);",
        ),
        f"{_SUITE}::TestSqlite::test_no_key_waits_behind_another",
    ),
    row(
        "limits.looks_at_once_postgres",
        "All looks of a key that are due are taken at once, on PostgreSQL",
        Edit(
            _ADMIT,
            "AND k.due_at <= now FOR UPDATE SKIP LOCKED));",
            "AND k.due_at <= now LIMIT 1 FOR UPDATE SKIP LOCKED));",
        ),
        f"{_SUITE}::TestPostgres::test_no_key_waits_behind_another",
        on="postgresql",
    ),
    row(
        "limits.op_by_op_sqlite",
        "The full keys of an op stand before no other op, on SQLite",
        Edit(f"{SQLITE}/_limits.py", "_KEYS_OF_OP: Final = 64", "_KEYS_OF_OP: Final = 1000"),
        f"{_SLOTS}::test_full_keys_of_one_op_are_not_before_another_op[sqlite]",
    ),
    row(
        "limits.op_by_op_postgres",
        "The full keys of an op stand before no other op, on PostgreSQL",
        Edit(_ADMIT, ">= 64 THEN", ">= 1000 THEN"),
        f"{_SLOTS}::test_full_keys_of_one_op_are_not_before_another_op[postgresql]",
        on="postgresql",
    ),
    row(
        "limits.held_claim",
        "A key that a session holds stops no claim",
        Edit(
            _ADMIT,
            "\n                FOR NO KEY UPDATE SKIP LOCKED;\n            CONTINUE WHEN FOUND;\n            again",
            "\n                FOR NO KEY UPDATE;\n            CONTINUE WHEN FOUND;\n            again",
        ),
        f"{_SLOTS}::{_HELD}",
        on="postgresql",
    ),
    row(
        "limits.held_rescue",
        "A key that a session holds stops no rescue",
        Edit(
            f"{POSTGRES}/sql/functions/rescue_expired.sql",
            "                            FOR NO KEY UPDATE SKIP LOCKED) l ON true",
            "                            FOR NO KEY UPDATE) l ON true",
        ),
        f"{_SLOTS}::{_HELD}",
        on="postgresql",
    ),
    row(
        "limits.held_left",
        "The tasks of a key that a session holds are left to the next rescue",
        Edit(
            f"{POSTGRES}/sql/functions/rescue_expired.sql",
            "           AND r.id <> ALL (busy)\n",
        ),
        f"{_SLOTS}::{_HELD}",
        on="postgresql",
    ),
    row(
        "limits.held_append",
        "An append waits for nobody who holds its key",
        Edit(
            f"{POSTGRES}/sql/functions/flush.sql",
            "r_type && '{final,attempt_failed,attempt_released}' THEN\n        these",
            "true THEN\n        PERFORM lock_limits(r_key);\n        these",
        ),
        f"{_SLOTS}::{_HELD}",
        on="postgresql",
    ),
    row(
        "limits.paused_sqlite",
        "A paused op's tasks are given no slots, on SQLite",
        Edit(
            f"{SQLITE}/sql/limits.sql",
            "   AND o.value NOT IN (SELECT p.op FROM pauses p)\n   AND NOT EXISTS",
            "   AND NOT EXISTS",
        ),
        f"{_SUITE}::TestSqlite::test_a_pause_holds_what_is_parked",
    ),
    row(
        "limits.without_key",
        "The tasks of an op that name no key have one together",
        Edit(
            f"{MANAGER}/manager.py",
            '        return ""\n    return concurrency_key',
            "        return None\n    return concurrency_key",
        ),
        f"{_OF_SLOTS}::test_a_task_is_parked_until_it_has_a_slot",
    ),
    row(
        "limits.waits_for_its_own_key",
        "A runner that waits for a task of its own concurrency key is warned of",
        Edit(f"{MANAGER}/pool.py", "if row.parked and (row.op", "if False and (row.op"),
        "tests/manager/test_waiting.py::"
        "test_a_runner_that_waits_for_a_slot_of_its_own_pool_is_named[concurrency key]",
    ),
    # --- rates ------------------------------------------------------------------------------------
    row(
        "limits.rate_memory",
        "No more begin than the window has, in memory",
        Edit(
            f"{STORE}/task_rows.py",
            "return task.run_us if full < 0 else",
            "return task.run_us if full < 9 else",
        ),
        f"{_SUITE}::TestMemory::{_NO_MORE}",
        on="memory",
    ),
    row(
        "limits.rate_memory_set_back",
        "A clock that is set back holds nobody for long, in memory",
        Edit(f"{STORE}/task_rows.py", "sorted(min(at, self._now) for", "sorted(at for"),
        "tests/store/test_starts.py::test_a_time_to_come_counts_from_now_on",
        on="memory",
    ),
    *(
        row(
            f"limits.rate_{name}_sqlite",
            f"{holds}, on SQLite",
            Edit(
                _RATES_SQLITE,
                rf"^CREATE TRIGGER {trigger}\b.*?^END;$",
                pattern=True,
            ),
            test,
        )
        for name, trigger, holds, test in (
            (
                "give",
                "tasks_give_start",
                "A place that is given counts before its claim",
                f"{_SUITE}::TestSqlite::{_GIVEN}",
            ),
            (
                "begin",
                "tasks_begin_start",
                "An attempt counts from its claim on",
                f"{_SUITE}::TestSqlite::{_NEXT}",
            ),
            (
                "back",
                "tasks_take_start_back",
                "What does not begin gives its place back",
                f"{_SUITE}::TestSqlite::{_BACK}",
            ),
            (
                "deleted",
                "tasks_take_start_deleted",
                "What is deleted before it begins gives its place back",
                f"{_RATES}::test_a_deleted_task_gives_its_place_back[sqlite]",
            ),
        )
    ),
    row(
        "limits.ops_change_slots",
        "More slots, and more in a window, are given at once, on SQLite",
        Edit(_RATES_SQLITE, r"^CREATE TRIGGER ops_change_slots\b.*?^END;$", pattern=True),
        f"{_SUITE}::TestSqlite::test_an_op_may_change_its_slots",
    ),
    row(
        "limits.change_twice_sqlite",
        "Slots that are changed twice before a look are registered, on SQLite",
        Edit(
            _RATES_SQLITE,
            r"^     WHERE NOT EXISTS \(SELECT 1 FROM limit_looks d.*?\);$",
            new=";",
            pattern=True,
        ),
        f"{_SLOTS}::test_an_op_may_change_its_slots_twice[sqlite]",
    ),
    row(
        "limits.rate_change_sqlite",
        "A key is looked at when its rate changes, on SQLite",
        Edit(_RATES_SQLITE, "    OR NEW.rate_times IS NOT OLD.rate_times\n"),
        f"{_SUITE}::TestSqlite::{_CHANGE}",
    ),
    row(
        "limits.rate_longer_sqlite",
        "A key is looked at when its window changes, on SQLite",
        Edit(_RATES_SQLITE, "\n    OR NEW.rate_per_us IS NOT OLD.rate_per_us"),
        f"{_SUITE}::TestSqlite::{_CHANGE}",
    ),
    row(
        "limits.rate_keys_sqlite",
        "A key that nobody holds is looked at when its rate changes, on SQLite",
        Edit(
            _RATES_SQLITE,
            "             UNION\n            SELECT s.concurrency_key FROM limit_starts s WHERE s.op = NEW.op) AS k",
            ") AS k",
        ),
        f"{_SUITE}::TestSqlite::{_CHANGE}",
    ),
    row(
        "limits.rate_gone_sqlite",
        "A rate that is gone leaves no rows, on SQLite",
        Edit(
            _RATES_SQLITE,
            "    DELETE FROM limit_starts WHERE op = NEW.op AND NEW.rate_times IS NULL;\n",
        ),
        f"{_RATES}::{_GONE}[sqlite]",
    ),
    row(
        "limits.rate_claim_look_sqlite",
        "A claim says when its window moves on, on SQLite",
        Edit(_RATES_SQLITE, "AND NEW.claimed_at + o.rate_per_us IS NOT NULL", "AND false"),
        f"{_SUITE}::TestSqlite::{_GIVEN}",
    ),
    row(
        "limits.rate_room_sqlite",
        "A claim makes no more due than may begin, on SQLite",
        Edit(f"{SQLITE}/_limits.py", "            room = min(room, times - begun)\n"),
        f"{_SUITE}::TestSqlite::{_NO_MORE}",
    ),
    row(
        "limits.rate_forget_sqlite",
        "What is out of its window counts no more, on SQLite",
        Edit(f"{SQLITE}/_limits.py", '            conn.execute(sql["forget_starts"], timed)\n'),
        f"{_SUITE}::TestSqlite::{_NEXT}",
    ),
    row(
        "limits.rate_set_back_sqlite",
        "A clock that is set back holds nobody for long, on SQLite",
        Edit(f"{SQLITE}/_limits.py", '            conn.execute(sql["mend_starts"], timed)\n'),
        f"{_RATES}::{_SET_BACK}[sqlite]",
    ),
    row(
        "limits.rate_look_sqlite",
        "A key is looked at when the oldest start leaves its window, on SQLite",
        Edit(
            f"{SQLITE}/_limits.py",
            '        if times is not None:\n            conn.execute(sql["look_at_window"], name)\n',
        ),
        f"{_RATES}::{_SET_BACK}[sqlite]",
    ),
    row(
        "limits.rate_locked_sqlite",
        "A claim begins what it takes when it has the lock, on SQLite",
        Edit(
            f"{SQLITE}/_claims.py", r"        now = read_now\(\)  # who had[^\n]*\n", pattern=True
        ),
        f"{_RATES}::test_a_claim_begins_when_it_has_the_lock",
    ),
    row(
        "limits.rate_by_id_sqlite",
        "What has a concurrency key is not claimed by its id, on SQLite",
        Edit(f"{SQLITE}/sql/tasks.sql", " AND tasks.concurrency_key IS NULL"),
        f"{_RATES}::test_what_a_session_makes_due_is_counted[sqlite]",
    ),
    *(
        row(f"limits.rate_{name}_pg", f"{holds}, on PostgreSQL", edit, test, on="postgresql")
        for name, holds, edit, test in (
            (
                "give",
                "A place that is given counts before its claim",
                Edit(_COUNT, "IF waits AND NOT waited THEN", "IF false THEN"),
                f"{_SUITE}::TestPostgres::{_GIVEN}",
            ),
            (
                "begin",
                "An attempt counts from its claim on",
                Edit(
                    _COUNT,
                    "ELSIF has AND NOT waits AND (waited OR NOT had) THEN",
                    "ELSIF false THEN",
                ),
                f"{_SUITE}::TestPostgres::{_NO_MORE}",
            ),
            (
                "back",
                "What does not begin gives its place back",
                Edit(_COUNT, "IF waited AND NOT waits THEN", "IF false THEN"),
                f"{_SUITE}::TestPostgres::{_BACK}",
            ),
            (
                "claim_look",
                "A claim says when its window moves on",
                Edit(_COUNT, "AND t.claimed_at + o.rate_per_us IS NOT NULL", "AND false"),
                f"{_RATES}::test_a_claim_that_is_not_committed_is_looked_at_later",
            ),
            (
                "one_look",
                "A claim of many tasks writes one look",
                Edit(_COUNT, "AND l.xmin = pg_current_xact_id()::xid", "AND false"),
                f"{_RATES}::{_ROWS}[postgresql]",
            ),
            (
                "own_look",
                "A claim goes by no look of another",
                Edit(_COUNT, "AND l.xmin = pg_current_xact_id()::xid"),
                f"{_RATES}::test_each_transaction_writes_a_look_of_its_own",
            ),
            (
                "room",
                "A claim makes no more due than may begin",
                Edit(
                    _ADMIT,
                    "coalesce(open_window(ops[nth], keys[nth], now), places + 1)",
                    "places + 1",
                ),
                f"{_SUITE}::TestPostgres::{_NO_MORE}",
            ),
            (
                "idle",
                "The window of a key that nobody holds is kept",
                Edit(
                    _ADMIT,
                    "                PERFORM open_window(one.op, one.concurrency_key, now);\n",
                ),
                f"{_RATES}::{_ROWS}[postgresql]",
            ),
            (
                "forget",
                "What is out of its window is deleted",
                Edit(_WINDOW, r"^    DELETE FROM limit_starts s\n.*?;\n", pattern=True),
                f"{_RATES}::{_ROWS}[postgresql]",
            ),
            (
                "left",
                "A row that a rate left goes with the next look",
                Edit(
                    _WINDOW,
                    "CASE WHEN times IS NULL THEN 253402300799999998 ELSE x_now - per END",
                    "x_now - per",
                ),
                f"{_RATES}::test_a_row_that_a_rate_left_goes_with_the_next_look",
            ),
            (
                "counted",
                "What is out of its window counts no more",
                Edit(_WINDOW, " AND s.begun_at > x_now - per;", ";"),
                f"{_RATES}::{_PASSED}",
            ),
            (
                "held_old",
                "A row out of its window that a session holds stops no claim",
                Edit(
                    _WINDOW,
                    "ELSE x_now - per END\n                                  FOR UPDATE SKIP LOCKED",
                    "ELSE x_now - per END\n                                  FOR UPDATE",
                ),
                f"{_RATES}::{_PASSED}",
            ),
            (
                "held_new",
                "A row of the time to come that a session holds stops no claim",
                Edit(
                    _WINDOW,
                    "w.begun_at < 253402300799999999\n                                  FOR UPDATE SKIP LOCKED",
                    "w.begun_at < 253402300799999999\n                                  FOR UPDATE",
                ),
                f"{_RATES}::{_PASSED}",
            ),
            (
                "set_back",
                "A clock that is set back holds nobody for long",
                Edit(_WINDOW, r"^    UPDATE limit_starts s SET.*?;\n", pattern=True),
                f"{_RATES}::{_SET_BACK}[postgresql]",
            ),
            (
                "set_back_now",
                "What began just now is made no earlier",
                Edit(_WINDOW, "SET begun_at = now_us()", "SET begun_at = x_now"),
                f"{_RATES}::test_a_start_of_meanwhile_is_made_no_earlier",
            ),
            (
                "look",
                "A key is looked at when the oldest start leaves its window",
                Edit(_WINDOW, "IF first < 253402300799999999 THEN", "IF false THEN"),
                f"{_RATES}::{_SET_BACK}[postgresql]",
            ),
            (
                "locked",
                "A claim begins what it takes after its locks",
                Edit(
                    f"{POSTGRES}/sql/functions/claim_due.sql",
                    r"        now := now_us\(\);  -- after the locks[^\n]*\n",
                    pattern=True,
                ),
                f"{_RATES}::test_a_claim_begins_after_its_locks[True]",
            ),
            (
                "locked_singly",
                "A claim of one task after the other begins each after its lock",
                Edit(
                    f"{POSTGRES}/sql/functions/claim_singly.sql",
                    "claimed_at = now_us(),",
                    "claimed_at = x_now,",
                ),
                f"{_RATES}::test_a_claim_begins_after_its_locks[False]",
            ),
            (
                "by_id",
                "What has a concurrency key is not claimed by its id",
                Edit(
                    f"{POSTGRES}/sql/functions/flush.sql",
                    r"                       AND p.concurrency_key IS NULL  --[^\n]*\n",
                    pattern=True,
                ),
                f"{_RATES}::test_what_a_session_makes_due_is_counted[postgresql]",
            ),
            (
                "change",
                "A key is looked at when its rate changes",
                Edit(_RATES_POSTGRES, r"^CREATE TRIGGER ops_change_rate\b.*?;$", pattern=True),
                f"{_SUITE}::TestPostgres::{_CHANGE}",
            ),
            (
                "change_keys",
                "A key that nobody holds is looked at when its rate changes",
                Edit(
                    f"{POSTGRES}/sql/functions/look_at_op.sql",
                    "             UNION\n            SELECT s.concurrency_key FROM limit_starts s WHERE s.op = NEW.op",
                ),
                f"{_SUITE}::TestPostgres::{_CHANGE}",
            ),
            (
                "gone",
                "A rate that is gone leaves no rows",
                Edit(
                    f"{POSTGRES}/sql/functions/look_at_op.sql",
                    "IF NEW.rate_times IS NULL THEN",
                    "IF false THEN",
                ),
                f"{_RATES}::{_GONE}[postgresql]",
            ),
            (
                "held_gone",
                "Who takes a rate away waits for no claim that begins an attempt",
                Edit(
                    f"{POSTGRES}/sql/functions/look_at_op.sql",
                    "FOR UPDATE SKIP LOCKED",
                    "FOR UPDATE",
                ),
                f"{_RATES}::{_PASSED}",
            ),
            (
                "no_truncate",
                "I4: the starts are not truncated",
                Edit(
                    _RATES_POSTGRES,
                    r"^CREATE TRIGGER limit_starts_no_truncate\b.*?;$",
                    pattern=True,
                ),
                f"{_GUARDS.format('postgres')}::{_ATTACK}[truncate of the starts]",
            ),
        )
    ),
    row(
        "limits.rate_without_key",
        "The tasks of an op with a rate that name no key have one together",
        Edit(
            f"{MANAGER}/manager.py",
            "(known.max_concurrent, known.rate_times) != (None, None)",
            "known.max_concurrent is not None",
        ),
        f"{_OF_RATES}::test_a_task_waits_for_the_window",
    ),
    row(
        "limits.rate_waits",
        "A runner that waits for the window of its own key is warned of no slot",
        Edit(f"{MANAGER}/pool.py", "return row if self.has_slots(row.op) else None", "return row"),
        f"{_OF_RATES}::test_a_runner_may_wait_for_the_window_of_its_key",
    ),
)
