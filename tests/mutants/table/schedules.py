"""The guards of schedules: one task a firing, whoever fires, and nothing that holds up the rest."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, POSTGRES, SQLITE, STORE, TAPESCOPE, Edit, Guard, row

_LOOP: Final = f"{TAPESCOPE}/schedules/scheduler.py"
_TIMING: Final = f"{TAPESCOPE}/schedules/timing.py"
_DEFINITION: Final = f"{TAPESCOPE}/schedules/definition.py"
_TESTS: Final = "tests/schedules/test_scheduler.py"
_TIMES: Final = "tests/schedules/test_timing.py"
_OF_MANAGER: Final = "tests/manager/test_schedules.py"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "schedules.key",
        "Two workers that fire at once make one task",
        Edit(
            f"{TAPESCOPE}/model/schedules.py",
            "{_FIRED}{self.name}@{format_time(firing_us)}",
            "{_FIRED}{self.name}@{format_time(firing_us)}{id(self)}",
        ),
        f"{_TESTS}::test_two_that_fire_at_once_make_one_task",
        on="memory",
    ),
    row(
        "schedules.ensured",
        "A schedule that differs is not taken for the one that is there",
        Edit(
            f"{TAPESCOPE}/manager/schedules.py",
            "            if not is_declared_so(schedule, kept):\n",
            "            if False:\n",
        ),
        f"{_OF_MANAGER}::test_a_schedule_is_ensured",
    ),
    row(
        "schedules.trigger_key",
        "A trigger makes one task for a key of its caller's",
        Edit(
            f"{TAPESCOPE}/model/schedules.py",
            "        if caller_key is not None:\n",
            "        if False:\n",
        ),
        f"{_OF_MANAGER}::test_a_trigger_with_a_key_makes_one_task",
    ),
    row(
        "schedules.revision",
        "A change that was made while a schedule was fired stays",
        Edit(
            f"{TAPESCOPE}/testing/_memory.py",
            "kept is None or kept.revision != row.revision",
            "kept is None",
        ),
        f"{_TESTS}::test_a_change_while_it_is_fired_stays",
        on="memory",
    ),
    row(
        "schedules.revision_sqlite",
        "Who has not seen the last revision of a row changes nothing, on SQLite",
        Edit(
            f"{SQLITE}/sql/schedules.sql",
            "WHERE name = ? AND revision = ? RETURNING 1",
            "WHERE name = ? AND ? > 0 RETURNING 1",
        ),
        "tests/contract/test_conformance.py::TestSqlite::test_who_has_not_seen_the_last_revision_changes_nothing",
    ),
    row(
        "schedules.revision_postgres",
        "Who has not seen the last revision of a row changes nothing, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/schedules.sql",
            "WHERE name = $1 AND revision = $20 RETURNING 1",
            "WHERE name = $1 AND $19 > 0 RETURNING 1",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_who_has_not_seen_the_last_revision_changes_nothing",
        on="postgresql",
    ),
    row(
        "schedules.pkey_postgres",
        "A name is of one schedule, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/migrations/0012_schedules.sql",
            ",\n    CONSTRAINT schedules_pkey PRIMARY KEY (name)\n",
            "\n",
        ),
        "tests/contract/test_conformance.py::TestPostgres::test_a_name_is_taken_once",
        on="postgresql",
    ),
    row(
        "schedules.lease",
        "One worker of many fires at a time",
        Edit(
            _LOOP, "if not (due or soon) or not await self._acquire(now):", "if not (due or soon):"
        ),
        f"{_TESTS}::test_what_a_crash_leaves_is_fired_once",
        on="memory",
    ),
    row(
        "schedules.lease_ahead",
        "A lease of a clock that was ahead holds nobody up",
        Edit(f"{SQLITE}/sql/schedules.sql", "OR firing_until > :furthest", "OR :furthest < 0"),
        "tests/contract/test_conformance.py::TestSqlite::test_a_lease_of_a_clock_that_was_ahead_holds_nobody_up",
    ),
    row(
        "schedules.resigns",
        "Another worker may fire at once when the one that did ends",
        Edit(_LOOP, "        if self._candidate:  # also", "        if False:  # also"),
        f"{_TESTS}::test_who_stops_lets_another_fire_at_once",
        on="memory",
    ),
    row(
        "schedules.overlap",
        "No task is made while the one before has not ended, where that is wanted",
        Edit(_LOOP, "if schedule.overlap is Overlap.SKIP and await", "if False and await"),
        f"{_TESTS}::test_an_overlap_is_left_out_where_it_is_not_wanted",
        on="memory",
    ),
    row(
        "schedules.unknown_op",
        "A schedule of an op that no worker knows waits for one",
        Edit(_LOOP, "if not await self._knows(schedule.op):", "if False:"),
        f"{_TESTS}::test_an_op_that_no_worker_knows_waits_for_one",
        on="memory",
    ),
    row(
        "schedules.one_bad",
        "What the store refuses of one schedule, or a defect of it, holds up no other",
        Edit(_LOOP, "await self._fire_alone(schedule, now)", "await self._fire(schedule, now)"),
        f"{_TESTS}::test_what_is_wrong_with_one_holds_up_no_other",
        on="memory",
    ),
    row(
        "schedules.review",
        "A clock that was ahead puts no firing off",
        Edit(_LOOP, "        await self._review()\n", ""),
        f"{_TESTS}::test_a_clock_that_was_ahead_puts_nothing_off",
        on="memory",
    ),
    row(
        "schedules.bounded",
        "After a year the last hundred times are caught up with, and no more",
        Edit(
            _TIMING,
            "passed: deque[int] = deque(maxlen=MOST_CAUGHT_UP)",
            "passed: deque[int] = deque()",
        ),
        f"{_TIMES}::test_the_last_of_what_passed_is_seen",
        on="memory",
    ),
    row(
        "schedules.twice_an_hour",
        "A time that a day has twice is asked for ahead, and not behind",
        Edit(_TIMING, "            if time > after:", "            if True:"),
        f"{_TIMES}::test_a_time_that_comes_twice_is_not_asked_for_behind",
        on="memory",
    ),
    row(
        "schedules.half_an_hour",
        "Where a zone's difference changes, expressions with a star go on from there",
        Edit(
            _TIMING,
            "times = self._iterate_elapsed if self._elapsed else self._iterate_wall",
            "times = self._iterate_wall",
        ),
        f"{_TIMES}::test_the_days_on_which_clocks_are_set",
        on="memory",
    ),
    row(
        "schedules.pause_stays",
        "A pause outlives what the code says of its schedule",
        Edit(
            _DEFINITION,
            "        origin=declared.origin,\n",
            "        origin=declared.origin,\n        paused=declared.paused,\n",
        ),
        f"{_OF_MANAGER}::test_a_pause_holds_until_it_is_resumed",
        on="memory",
    ),
    row(
        "schedules.declared_at_open",
        "A declaration that does not fit its runner keeps the manager closed",
        Edit(
            f"{MANAGER}/manager.py",
            "                declared.encoded(self._encode_scheduled(declared.submission))\n        except",
            "                pass\n        except",
        ),
        f"{_OF_MANAGER}::test_a_declaration_that_does_not_fit_its_runner_keeps_the_manager_closed",
    ),
    row(
        "schedules.lost_answer",
        "A schedule that was added in a try whose answer was lost is taken for added",
        Edit(f"{STORE}/schedules.py", "return await self.find(row.name) == row", "return False"),
        f"{_OF_MANAGER}::test_a_schedule_whose_answer_was_lost_is_added",
        on="memory",
    ),
)
