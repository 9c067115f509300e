"""The guards of the order: what goes first among what waits, and that no look walks what does not."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, POSTGRES, SQLITE, STORE, TAPESCOPE, Edit, Guard, row

_SUITE: Final = "tests/contract/test_conformance.py"
_OF_MANAGER: Final = "tests/manager/test_order.py"
_GROWTH: Final = "tests/adapters/growth/test_growth.py"
_FIRST: Final = "test_the_higher_priority_goes_first"
_SIZES: Final = "test_claims_of_any_size_keep_the_order"
_KEPT: Final = "test_a_task_keeps_its_priority"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "order.memory",
        "The higher priority goes first, in memory",
        Edit(f"{TAPESCOPE}/testing/_memory.py", "(-record.task.priority, ", "("),
        f"{_SUITE}::TestMemory::{_FIRST}",
        on="memory",
    ),
    row(
        "order.sqlite",
        "The higher priority goes first, on SQLite",
        Edit(
            f"{SQLITE}/sql/due.sql",
            "         ORDER BY t.priority DESC, t.run_at, t.id LIMIT :limit);",
            "         ORDER BY t.run_at, t.id LIMIT :limit);",
        ),
        f"{_SUITE}::TestSqlite::{_FIRST}",
    ),
    row(
        "order.postgres",
        "The higher priority goes first, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/claim_due.sql",
            "ORDER BY f.priority DESC) INTO levels",
            "ORDER BY f.priority) INTO levels",
        ),
        f"{_SUITE}::TestPostgres::{_FIRST}",
        on="postgresql",
    ),
    row(
        "order.shares_postgres",
        "Of the next priority so many are shared out as there is room for, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/claim_due.sql",
            "LIMIT x_limit - cardinality(picked)) f",
            "LIMIT x_limit) f",
        ),
        f"{_SUITE}::TestPostgres::test_a_claim_goes_on_with_the_longest_due_of_the_next_priority",
        on="postgresql",
    ),
    row(
        "order.enough_sqlite",
        "Priorities are looked at until there are enough tasks, on SQLite",
        Edit(f"{SQLITE}/sql/due.sql", "LIMIT :limit)) < :limit", "LIMIT :limit)) < 1"),
        f"{_SUITE}::TestSqlite::{_SIZES}",
    ),
    row(
        "order.later_sqlite",
        "What is due later by a higher priority is not walked, on SQLite",
        Edit(
            f"{SQLITE}/sql/due.sql",
            "                       AND t.id IN (SELECT d.id FROM tasks d INDEXED BY tasks_due_op\n",
            "                       AND t.id IN (SELECT d.id FROM tasks d NOT INDEXED\n",
        ),
        f"{_GROWTH}::test_no_statement_of_sqlite_grows[big]",
    ),
    row(
        "order.made_memory",
        "A new task has the priority that was said, in memory",
        Edit(f"{STORE}/task_rows.py", "        priority=row.priority,\n"),
        f"{_SUITE}::TestMemory::{_KEPT}",
        on="memory",
    ),
    row(
        "order.flush_postgres",
        "A new task is stored with its priority, on PostgreSQL",
        Edit(f"{POSTGRES}/sql/functions/flush.sql", "coalesce(c.priority, 0), ", "0, "),
        f"{_SUITE}::TestPostgres::{_FIRST}",
        on="postgresql",
    ),
    row(
        "order.within_postgres",
        "A task in a caller's transaction is stored with its priority, on PostgreSQL",
        Edit(
            f"{POSTGRES}/_caller_transaction.py",
            '"priority pg_catalog.int2": row.priority',
            '"priority pg_catalog.int2": 0',
        ),
        f"{_OF_MANAGER}::test_a_task_in_a_callers_transaction_has_its_priority",
        on="postgresql",
    ),
    row(
        "order.ops_default",
        "A task takes its op's priority where its submit says none",
        Edit(
            f"{MANAGER}/known_ops.py",
            "            known.priority if priority is None else priority,\n",
            "            priority or 0,\n",
        ),
        f"{_OF_MANAGER}::test_a_submit_says_its_priority_or_takes_the_ops",
    ),
    row(
        "order.pool",
        "Callables wait for a slot of their manager by priority",
        Edit(f"{MANAGER}/pool.py", "(-run.task.priority, next(", "(0, next("),
        f"{_OF_MANAGER}::test_callables_wait_in_their_order",
        on="memory",
    ),
    row(
        "order.range",
        "A priority is one of a few",
        Edit(
            f"{STORE}/validation.py",
            "        check_priority(new.priority),",
            "        new.priority,",
        ),
        f"{_SUITE}::TestMemory::test_a_priority_is_one_of_a_few",
        on="memory",
    ),
    row(
        "order.range_sqlite",
        "A raw session gives no priority that no claim would look for, on SQLite",
        Edit(
            f"{SQLITE}/sql/migrations/0014_order.sql",
            "\n    CONSTRAINT tasks_priority_known CHECK (typeof(priority) = 'integer' AND priority BETWEEN -9 AND 9);",
            ";",
        ),
        "tests/adapters/test_raw_sessions.py::test_a_priority_that_no_claim_looks_for_is_refused",
    ),
    row(
        "order.range_postgres",
        "A raw session gives no priority that no claim would look for, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/migrations/0014_order.sql",
            "\n    CONSTRAINT tasks_priority_known CHECK (priority BETWEEN -9 AND 9);",
            ";",
        ),
        "tests/adapters/test_raw_sessions.py::test_a_priority_that_no_claim_looks_for_is_refused",
        on="postgresql",
    ),
)
