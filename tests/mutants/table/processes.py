"""The guards of a worker's processes: how they are told to end, and what is begun again."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import TAPESCOPE, Edit, Guard, row

_PROCESSES: Final = f"{TAPESCOPE}/cli/_processes.py"
_TESTS: Final = "tests/cli/test_processes.py"
_ONCE: Final = f"{_TESTS}::test_ctrl_c_reaches_each_process_once"
_REPLACED: Final = f"{_TESTS}::test_who_dies_is_replaced_and_the_log_says_so"
_NOT_AGAIN: Final = f"{_TESTS}::test_what_cannot_start_is_not_started_again"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "processes.session",
        "A key of the terminal reaches the parent alone",
        Edit(_PROCESSES, "                start_new_session=True,\n"),
        _ONCE,
    ),
    row(
        "processes.parents_end",
        "A child drains when its parent is killed",
        Edit(_PROCESSES, "        os.kill(os.getpid(), signal.SIGTERM)\n", "        pass\n"),
        f"{_TESTS}::test_no_child_stays_behind_its_parent",
    ),
    row(
        "processes.second_signal",
        "The second signal is handed on, too",
        Edit(_PROCESSES, "        self._tell(signal.SIGINT)\n"),
        f"{_TESTS}::test_the_first_signal_drains_and_the_second_skips_the_wait",
    ),
    row(
        "processes.alone",
        "The first child is alone, so that a mistake is told once",
        Edit(_PROCESSES, "        if number > 0:\n", "        if False:\n"),
        f"{_NOT_AGAIN}[sys.exit(3)-3-says0]",
    ),
    row(
        "processes.no_loop",
        "What cannot start is not started again and again",
        Edit(
            _PROCESSES,
            "            elif status and not self._one_works:",
            "            elif False:",
        ),
        f"{_TESTS}::test_a_slow_start_that_fails_ends_the_others",
    ),
    row(
        "processes.last_breath",
        "A child that has worked, and died at once, could start",
        Edit(
            _PROCESSES,
            "            self._hear(child)  # it may have said so with its last breath\n",
        ),
        f"{_TESTS}::test_one_that_dies_at_once_has_worked",
    ),
    row(
        "processes.unborn",
        "A child without a handler yet, which our signal ends, has not failed",
        Edit(_PROCESSES, "0 if status == -signal.SIGTERM else status", "status"),
        f"{_TESTS}::test_a_child_without_a_handler_ends_well",
    ),
    row(
        "processes.none_anew",
        "No child is begun once an end was asked for",
        Edit(_PROCESSES, "        while not self._ending.is_set():", "        while True:"),
        f"{_TESTS}::test_an_end_in_a_pause_starts_no_other",
    ),
    row(
        "processes.no_process",
        "A child that the system cannot start for now is tried again",
        Edit(
            _PROCESSES,
            "            if not self._one_works:\n                raise\n",
            "            raise\n",
        ),
        _REPLACED,
    ),
    row(
        "processes.own_words",
        "A program that calls the command line with its own words is not begun again",
        Edit(
            _PROCESSES,
            'told != words or not any(word.partition("=")[0] == option for word in words)',
            "told != words",
        ),
        f"{_TESTS}::test_a_child_is_begun_as_its_parent",
    ),
)
