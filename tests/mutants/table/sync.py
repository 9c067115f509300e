"""The guards of the sync door: its thread, its end, forks, interrupts, callers' connections."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import ADAPTERS, TAPESCOPE, Edit, Guard, row

_THREAD: Final = f"{TAPESCOPE}/sync/loop_thread.py"
_DOOR: Final = f"{TAPESCOPE}/sync/door.py"
_LEASES: Final = f"{TAPESCOPE}/manager/lease_thread.py"

_CALLERS: Final = f"{ADAPTERS}/_callers.py"

_LENT: Final = "tests/adapters/test_lent_connections.py"
_TESTS: Final = "tests/sync/test_sync_manager.py"
_EXIT: Final = f"{_TESTS}::test_a_program_that_closes_nothing_leaves_nothing_open"
_FORKED: Final = f"{_TESTS}::test_a_forked_child_has_a_manager_of_its_own"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "sync.in_a_loop",
        "A call does not block the event loop that it is made in",
        Edit(_DOOR, "        if not self._block_loop or", "        if"),
        f"{_TESTS}::test_a_call_in_a_loop_is_refused_unless_it_may_block",
    ),
    row(
        "sync.in_its_own_loop",
        "A call in the manager's own loop does not wait for itself",
        Edit(_DOOR, " or (life is not None and loop is life.loop)", ""),
        _EXIT,
    ),
    row(
        "sync.fork_lock",
        "A lock that another thread held at the fork does not hold the child",
        Edit(_DOOR, "        door.renew_lock()\n", "        pass\n"),
        _FORKED,
    ),
    row(
        "sync.fork_anew",
        "A child uses nothing of its parent's loop",
        Edit(
            _DOOR,
            "if life is not None and not (self._closed or life.forked or life.over):",
            "if life is not None and not (self._closed or life.over):",
        ),
        _FORKED,
    ),
    row(
        "sync.one_opening",
        "Threads that come at once begin one loop",
        Edit(
            _DOOR,
            "            life = self._life\n            if life is not None and (",
            "            life = None\n            if life is not None and (",
        ),
        f"{_TESTS}::test_many_threads_submit_at_once[sqlite-960]",
    ),
    row(
        "sync.exit",
        "What a program leaves open is closed at its exit",
        Edit(_THREAD, "            atexit.register(close_all)\n", ""),
        _EXIT,
    ),
    row(
        "sync.exit_is_the_end",
        "Nothing is opened once the program has closed what was open",
        Edit(_THREAD, "    _exiting.set()\n", ""),
        _EXIT,
    ),
    row(
        "sync.no_executor_at_exit",
        "The end of a manager needs no executor, which a program that exits has no more",
        Edit(
            _LEASES, "await self._thread_ended.wait()", "await asyncio.to_thread(self._thread.join)"
        ),
        _EXIT,
    ),
    row(
        "sync.interrupt",
        "An interrupted submit leaves no task at work",
        Edit(
            _THREAD,
            "            future.cancel()  # of no account where it has ended\n",
            "            pass\n",
        ),
        f"{_TESTS}::test_ctrl_c_in_a_submit_leaves_no_task_at_work",
    ),
    row(
        "sync.interrupted_close",
        "An interrupted close skips the drain, and goes on to its end",
        Edit(_THREAD, "            self._closing.cancel()\n", "            pass\n"),
        f"{_TESTS}::test_ctrl_c_while_it_closes_skips_the_drain",
    ),
    row(
        "sync.no_call_after_the_end",
        "A call comes before the end, or is refused: none waits for a loop that has ended",
        Edit(
            _THREAD,
            "                if self._over or self._end is not None:\n                    raise ManagerClosed\n",
            "",
        ),
        "tests/sync/test_loop_thread.py::test_no_call_waits_for_a_loop_that_has_ended",
    ),
    row(
        "sync.callers_of_a_dead_loop",
        "Who waits when the loop ends is told so, however it ends",
        Edit(
            _THREAD,
            "                    future.cancel()\n                _lives",
            "                    pass\n                _lives",
        ),
        "tests/sync/test_loop_thread.py::test_an_exit_in_the_loop_leaves_no_caller_waiting",
    ),
    row(
        "callers.alchemy_begins",
        "SQLAlchemy knows of the transaction that the task is in, and commits it",
        Edit(
            _CALLERS,
            '        sent: Any = _ask(connection, "exec_driver_sql", "SELECT 1")\n        sent.close()\n',
            "",
        ),
        f"{_LENT}::test_a_task_is_in_the_transaction_of_who_blocks[SQLAlchemy connection, sqlite3]",
    ),
    row(
        "callers.no_blocking_in_a_loop",
        "A caller's connection does not block the event loop",
        Edit(
            _CALLERS,
            "_is_django(connection)\n        or isinstance(connection, sqlite3.Connection)",
            "False",
        ),
        f"{_LENT}::test_each_door_refuses_the_connections_of_the_other",
    ),
    row(
        "callers.django_rolls_back",
        "What Django is to roll back takes no task",
        Edit(_CALLERS, "if connection.needs_rollback:", "if False:"),
        f"{_LENT}::test_who_has_to_roll_back_is_told[Django, psycopg]",
        on="postgresql",
    ),
)
