"""The guards of tags, parents and what is cancelled with them."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, POSTGRES, RUN, SQLITE, STORE, TAPESCOPE, Edit, Guard, row

_SUITE: Final = "tests/contract/test_conformance.py"
_OF_MANAGER: Final = "tests/manager/test_context.py"
_RAW: Final = "tests/adapters/test_raw_sessions.py::test_tags_and_a_parent_are_those_of_the_submit"
_OF_SQLITE: Final = f"{SQLITE}/sql/migrations/0015_context.sql"
_OF_POSTGRES: Final = f"{POSTGRES}/sql/migrations/0015_context.sql"
_FINDS: Final = "test_list_and_count_by_tag"
_DELETED: Final = "test_a_deleted_task_leaves_no_tag"
_LOCKED: Final = "tests/adapters/postgres/test_followers.py"
_FOLLOWS: Final = "test_what_is_not_to_be_cancelled_goes_on"
_CHILD: Final = "test_a_task_of_a_runner_is_its_tasks_child"


_CONFLICT: Final = (Edit(_OF_SQLITE, r"\s+ON CONFLICT[^;]*", pattern=True),)
"""What finds no key to heed where there is none."""


def _trigger(name: str, file: str) -> Edit:
    end = r"^END;$" if file == _OF_SQLITE else r";$"
    return Edit(file, rf"^CREATE TRIGGER {name}\b.*?{end}", pattern=True)


GUARDS: Final[tuple[Guard, ...]] = (
    *(
        guard
        for store, file, suite in (
            ("sqlite", _OF_SQLITE, f"{_SUITE}::TestSqlite"),
            ("postgresql", _OF_POSTGRES, f"{_SUITE}::TestPostgres"),
        )
        for guard in (
            row(
                f"context.tagged_{store}",
                f"A tag leads to a new task, on {store}",
                _trigger("tasks_are_tagged", file),
                f"{suite}::{_FINDS}",
                on="postgresql" if store == "postgresql" else "sqlite",
            ),
            row(
                f"context.untagged_{store}",
                f"No tag leads to a task that is deleted, on {store}",
                _trigger("tasks_take_their_tags", file),
                _RAW,
                on="postgresql" if store == "postgresql" else "sqlite",
            ),
            row(
                f"context.kept_{store}",
                f"I4: a task keeps its tags and its parent, on {store}",
                _trigger("tasks_keep_context", file),
                _RAW,
                on="postgresql" if store == "postgresql" else "sqlite",
            ),
            row(
                f"context.tag_once_{store}",
                f"A tag leads to a task once, on {store}",
                (
                    Edit(
                        file,
                        r",\s+CONSTRAINT tagged_pkey PRIMARY KEY \([^)]*\)\s+\)[^;]*",
                        ")",
                        pattern=True,
                    ),
                    *(_CONFLICT if file == _OF_SQLITE else ()),
                ),
                _RAW,
                on="postgresql" if store == "postgresql" else "sqlite",
            ),
        )
    ),
    row(
        "context.a_list_sqlite",
        "The tags of a row are a list, on SQLite",
        _trigger("tasks_tags_are_a_list", _OF_SQLITE),
        _RAW,
    ),
    row(
        "context.a_list_postgres",
        "The tags of a row are a list, on PostgreSQL",
        Edit(
            _OF_POSTGRES, "\n    CONSTRAINT tasks_tags_are_a_list CHECK (tags IS JSON ARRAY);", ";"
        ),
        _RAW,
        on="postgresql",
    ),
    row(
        "context.by_tag_and_more",
        "A list by a tag heeds its other conditions",
        Edit(
            "adapters/tapescope_adapters/_sql.py",
            "        of_row = status | parent\n",
            "        pass\n",
        ),
        f"{_SUITE}::TestSqlite::{_FINDS}",
    ),
    row(
        "context.by_parent",
        "A list by a parent walks its children alone, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/tasks.sql",
            "WHERE (parent_id, task_id) < ($4, $1) AND parent_id >= $4 /*range*/",
            "WHERE (parent_id, task_id) < ($4, $1) /*range*/",
        ),
        f"{_SUITE}::TestPostgres::test_list_by_parent",
        on="postgresql",
    ),
    row(
        "context.within_postgres",
        "A task in a caller's transaction is stored with its tags, on PostgreSQL",
        Edit(
            f"{POSTGRES}/_caller_transaction.py",
            '"tags pg_catalog.text": row.tags',
            '"tags pg_catalog.text": None',
        ),
        f"{_OF_MANAGER}::test_tasks_of_a_callers_transaction_have_their_context",
        on="postgresql",
    ),
    row(
        "context.few",
        "A task has a few tags",
        Edit(f"{STORE}/validation.py", "    if len(tags) > MOST_TAGS:", "    if False:"),
        f"{_SUITE}::TestMemory::test_bad_tags_are_refused",
        on="memory",
    ),
    row(
        "context.redacted",
        "The redaction hook is asked for what a span has of the tags",
        Edit(
            f"{MANAGER}/manager.py",
            "        if redactor is None or not submission.tags:",
            "        if True:",
        ),
        f"{_OF_MANAGER}::test_a_span_has_the_tags_and_no_metric_has",
        on="memory",
    ),
    row(
        "context.detached",
        "A detached task has no parent",
        Edit(f"{MANAGER}/manager.py", "None if submission.detached else "),
        f"{_OF_MANAGER}::{_CHILD}",
        on="memory",
    ),
    row(
        "context.same_store",
        "A parent is of the same store",
        Edit(
            f"{RUN}/current.py",
            "return store.backend.outlives_process and store.name ==",
            "return store.name ==",
        ),
        f"{_OF_MANAGER}::test_a_parent_is_of_the_same_store",
        on="memory",
    ),
    row(
        "context.ended_sqlite",
        "A child follows a parent that has ended as cancelled, and no other, on SQLite",
        Edit(f"{SQLITE}/sql/tasks.sql", " AND +c.status = 'cancelled'\n", "\n"),
        f"{_SUITE}::TestSqlite::{_FOLLOWS}",
    ),
    row(
        "context.ended_postgres",
        "A child follows a parent that has ended as cancelled, and no other, on PostgreSQL",
        Edit(f"{POSTGRES}/sql/tasks.sql", "WHERE c.status = 'cancelled'\n", "WHERE true\n"),
        f"{_SUITE}::TestPostgres::{_FOLLOWS}",
        on="postgresql",
    ),
    row(
        "context.told_memory",
        "A child follows where it was told to, in memory",
        Edit(
            f"{TAPESCOPE}/testing/_memory.py",
            "if t.cancel_with_parent and t.cancel is None",
            "if t.cancel is None",
        ),
        f"{_SUITE}::TestMemory::{_FOLLOWS}",
        on="memory",
    ),
    row(
        "context.locked",
        "A child that is locked is withdrawn, and holds up no other",
        Edit(f"{STORE}/_cancel_looks.py", "timeout=_WAIT)", "timeout=None)"),
        f"{_LOCKED}::test_a_locked_child_holds_up_no_other",
        on="postgresql",
    ),
    row(
        "context.warned_once",
        "A child that cannot be cancelled is warned of once",
        Edit(
            f"{STORE}/_cancel_looks.py",
            "if one.task_id not in self._told and one.task_id not in self._stuck",
            "",
        ),
        f"{_LOCKED}::test_a_locked_child_holds_up_no_other",
        on="postgresql",
    ),
    row(
        "context.bad_parent",
        "A parent whose words cannot be read keeps no other's child from its end",
        Edit(f"{STORE}/_cancel_looks.py", "StoreBusy | StoreRefused | BadSetting", "StoreBusy"),
        "tests/adapters/test_bad_rows.py::test_children_follow_beside_bad_rows[sqlite]",
    ),
    row(
        "context.goes_on",
        "A look for followers goes on where the last one ended",
        Edit(
            f"{STORE}/_followers.py",
            "self._after = page.after or FIRST_FOLLOWER",
            "self._after = FIRST_FOLLOWER",
        ),
        f"{_SUITE}::TestMemory::test_looks_go_round_the_parents",
        on="memory",
    ),
    row(
        "context.goes_round",
        "The looks for followers begin anew at the first parent",
        Edit(
            f"{STORE}/_followers.py",
            "self._after = page.after or FIRST_FOLLOWER",
            "self._after = page.after or self._after",
        ),
        f"{_SUITE}::TestMemory::test_looks_go_round_the_parents",
        on="memory",
    ),
    row(
        "context.heartbeat",
        "A heartbeat cancels what is to be cancelled with its parent",
        Edit(
            f"{MANAGER}/heartbeat.py",
            "self._find_ended, self._rescue, self._follow)",
            "self._find_ended, self._rescue)",
        ),
        f"{_OF_MANAGER}::test_a_cancel_reaches_the_children_that_are_to_end_with_it",
        on="memory",
    ),
    row(
        "context.again",
        "A child that is submitted again does not follow",
        Edit(
            f"{MANAGER}/manager.py",
            "            tags=task.tags,\n",
            "            tags=task.tags,\n            cancel_with_parent=task.cancel_with_parent,\n",
        ),
        f"{_OF_MANAGER}::test_a_cancel_reaches_the_children_that_are_to_end_with_it",
        on="memory",
    ),
)
