"""The guards of the tools for tests."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import TAPESCOPE, Edit, Guard, row

_MANAGERS: Final = f"{TAPESCOPE}/testing/managers.py"
_CLOCK: Final = f"{TAPESCOPE}/testing/clock.py"
_CLEANING: Final = f"{TAPESCOPE}/testing/cleaning.py"
_PLUGIN: Final = f"{TAPESCOPE}/testing/plugin.py"
_RUN: Final = f"{TAPESCOPE}/testing/op_run.py"

_OF_MANAGERS: Final = "tests/testing/test_managers.py"
_OF_CLOCK: Final = "tests/testing/test_manual_clock.py"
_OF_RUN: Final = "tests/testing/test_run_op.py"
_OF_PLUGIN: Final = "tests/testing/test_plugin.py"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "testing.judged",
        "A manager for tests is judged when it is closed",
        Edit(_MANAGERS, "        if breaches:", "        if not breaches and breaches:"),
        f"{_OF_MANAGERS}::test_a_breach_is_told_when_it_is_closed",
    ),
    row(
        "testing.own_error",
        "The error of a test goes before what its manager finds",
        Edit(_MANAGERS, "self._to_judge and not self._raised", "self._to_judge"),
        f"{_OF_MANAGERS}::test_the_error_of_a_test_goes_first",
    ),
    row(
        "testing.left",
        "A task that a worker gave back at the end still ran",
        Edit(_MANAGERS, "stopped = await self._was_released(task_id)", "stopped = False"),
        f"{_OF_MANAGERS}::test_a_task_that_still_runs_at_the_end_is_named",
    ),
    row(
        "testing.own_close",
        "A test that closes its manager is about the shutdown",
        Edit(_MANAGERS, "if self._names_left else []", "if True else []"),
        f"{_OF_MANAGERS}::test_a_test_of_a_shutdown_closes_by_itself",
    ),
    row(
        "testing.eager_delay",
        "An eager submit does not wait for a delay",
        Edit(_MANAGERS, "                if not task.attempt:\n                    return\n", ""),
        f"{_OF_MANAGERS}::test_what_waits_for_something_is_not_waited_for",
    ),
    row(
        "testing.not_ours",
        "A store with tasks that no test made is left as it is",
        Edit(_CLEANING, "if number and _MARK not in await store.ops.read():", "if False:"),
        f"{_OF_MANAGERS}::test_the_data_of_others_is_refused[sqlite]",
    ),
    row(
        "testing.in_use",
        "A store in which another process has a task running is left as it is",
        Edit(_CLEANING, "        if page.tasks:\n", "        if not page.tasks and page.tasks:\n"),
        f"{_OF_MANAGERS}::test_a_store_in_which_a_task_runs_is_refused",
    ),
    row(
        "testing.schema",
        "A schema that may be somebody's is not a test's",
        Edit(_PLUGIN, 'if "test" not in schema:', "if False:"),
        f"{_OF_PLUGIN}::test_a_schema_that_may_be_somebodys_is_refused",
    ),
    row(
        "testing.not_closed",
        "A manager that a plain test left open is told of",
        Edit(_PLUGIN, "if not manager.was_ended:", "if False:"),
        f"{_OF_PLUGIN}::test_a_project_with_two_plugins_in_strict_mode",
    ),
    row(
        "testing.forgotten_timers",
        "A loop keeps no timers that are over",
        Edit(_CLOCK, "if len(self._timers) >= self._forget_from:", "if False:"),
        f"{_OF_CLOCK}::test_what_is_over_is_forgotten",
    ),
    row(
        "testing.threads_time",
        "Time does not go on while a runner is at work in a thread",
        Edit(
            _CLOCK,
            "        while thread := self._find_new_thread():\n",
            "        while thread := None:\n",
        ),
        f"{_OF_CLOCK}::test_a_function_in_a_thread_has_time_for_its_work",
    ),
    row(
        "testing.loop_kind",
        "The timers of another kind of loop are not asyncio's",
        Edit(_CLOCK, "if not isinstance(loop, asyncio.BaseEventLoop):", "if False:"),
        f"{_OF_CLOCK}::test_the_timers_of_another_kind_of_loop_are_refused",
    ),
    row(
        "testing.cancel_moment",
        "A run is cancelled before the report of the chosen event returns",
        Edit(
            _RUN,
            "        if self._moment is not None and answer.stored:\n"
            "            await self._moment.note(events)\n",
            "",
        ),
        f"{_OF_RUN}::test_a_run_is_cancelled_at_the_event_that_was_chosen",
    ),
)
