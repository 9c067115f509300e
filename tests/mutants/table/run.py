"""The guards of one run."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import RUN, Edit, Guard, row

_WRITES: Final = f"{RUN}/durable_writes.py"
_RUN: Final = f"{RUN}/run.py"
_ATTEMPT: Final = f"{RUN}/attempt.py"
_TAPE: Final = f"{RUN}/tape_writer.py"
_REPORTER: Final = f"{RUN}/reporter.py"

_OUTSIDE: Final = "tests/run/test_outside_cancels.py"
_AWAY: Final = "tests/run/test_store_away.py"
_CANCELS: Final = "tests/run/test_cancel_table.py"
_REPORTS: Final = "tests/run/test_reporter.py"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "run.claim_shield",
        "A cancel from outside while a task is claimed: the run is cancelled, its claim not lost",
        Edit(_WRITES, "forget_cancels()\n            cancelled = True", "raise"),
        "tests/run/test_outside_cancels.py::test_at_the_claim[memory]",
        on="memory",
    ),
    row(
        "run.claim_cancel_told",
        "The same: the runner is not begun",
        Edit(
            _WRITES,
            "            forget_cancels()\n            cancelled = True\n",
            "            forget_cancels()\n",
        ),
        _OUTSIDE,
        on="memory",
    ),
    row(
        "run.final_shield",
        "I2: a cancel from outside while the final is written does not leave the tape open",
        Edit(_WRITES, "forget_cancels()\n            in_doubt = True", "raise"),
        "tests/run/test_outside_cancels.py::test_at_the_final[memory]",
        on="memory",
    ),
    row(
        "run.claim_found",
        "A claim whose answer was lost is found in the row",
        Edit(_WRITES, "claim = _find_claim(row, task, owner)", "claim = None"),
        _AWAY,
        _OUTSIDE,
        on="memory",
    ),
    row(
        "run.claim_not_due",
        "A task that is not due by the store's clock is not lost",
        Edit(
            _WRITES,
            "if claim is None and (row.status, row.attempt) == (task.status, task.attempt):",
            "if False:",
        ),
        "tests/run/test_claim_not_due.py",
    ),
    row(
        "run.claim_waits",
        "A claim waits for a store that is away",
        Edit(_WRITES, "if unwanted() or clock.monotonic() >= deadline:", "if True:"),
        _AWAY,
        on="memory",
    ),
    row(
        "run.final_waits",
        "I2: a final waits for a store that is away",
        Edit(_WRITES, "if clock.monotonic() >= deadline():", "if True:"),
        _AWAY,
        on="memory",
    ),
    row(
        "run.final_reduced",
        "I2: a final that a tape cannot hold is reduced",
        Edit(_WRITES, "if reduced or verdict is None:", "if True:"),
        on="memory",
    ),
    row(
        "run.retry_doubt",
        "A retry that was written, its answer lost, is not told as the loss of the task",
        Edit(
            _WRITES,
            "(await _resolve_doubt(store, attempt, answer) if in_doubt else answer), verdict",
            "answer, verdict",
        ),
        "tests/run/test_store_away.py::test_a_retry_whose_reply_is_lost_is_made_once",
        on="memory",
    ),
    row(
        "run.release_doubt",
        "A release that was written, its answer lost, is not told as the loss of the task",
        Edit(
            _WRITES,
            "return await _resolve_doubt(store, attempt, answer) if in_doubt else answer",
            "return answer",
        ),
        "tests/run/test_store_away.py::test_a_release_whose_reply_is_lost_is_made_once",
        on="memory",
    ),
    row(
        "run.own_context",
        "A run's context is its own: nothing of the submitter's is current in it",
        Edit(_RUN, ", context=contextvars.Context()\n        )", "\n        )"),
        "tests/store/test_contexts.py::test_a_run_and_its_shutdown_are_in_no_callers_context",
        on="memory",
    ),
    row(
        "run.first_reason",
        "The first reason to stop a runner stays, and it is cancelled once",
        Edit(
            _RUN,
            "        if self.stop_reason is not None:\n            return\n        if self._phase is _Phase.CLAIMING:",
            "        if self._phase is _Phase.CLAIMING:",
        ),
        _CANCELS,
        on="memory",
    ),
)
