"""The error codes of the platform's own.

A code stands in the ``error`` of a ``final`` or an ``attempt_failed``, and as ``error.type`` on
spans and metrics. The set is open: where a runner raised, the code is the exception's qualified
name.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BAD_PARAMS",
    "BAD_RESULT",
    "BAD_ROW",
    "ERROR_CODES",
    "LEASE_LOST",
    "LOOP_CLOSED",
    "RELEASED",
    "STALLED",
    "TIMEOUT",
    "UNREQUESTED_CANCEL",
    "WORKER_LOST",
]

TIMEOUT: Final = "timeout"
"""The attempt ran longer than the task's timeout."""
STALLED: Final = "stalled"
"""The runner reported nothing for as long as the ``stall_timeout`` of its op."""
BAD_PARAMS: Final = "bad_params"
"""The task's params are not what the runner takes: it was not begun."""
BAD_RESULT: Final = "bad_result"
"""The runner returned a value that cannot be a result: JSON cannot carry it, or it is too large."""
BAD_ROW: Final = "bad_row"
"""The task's row was written past tapescope, and cannot be read: its runner was not begun."""
UNREQUESTED_CANCEL: Final = "unrequested_cancel"
"""The runner ended with a ``CancelledError`` that no cancel request had caused."""
WORKER_LOST: Final = "worker_lost"
"""The process that ran the attempt has ended, or did not renew its lease; or it could not claim a
task that it alone could run."""

ERROR_CODES: Final = (
    *(TIMEOUT, STALLED),
    *(BAD_PARAMS, BAD_RESULT, BAD_ROW),
    *(UNREQUESTED_CANCEL, WORKER_LOST),
)
"""The codes with which the platform itself may fail an attempt."""

RELEASED: Final = "released"
"""Not a failure: the attempt gave its task back when its manager was closed."""
LEASE_LOST: Final = "lease_lost"
"""On a run span alone: the attempt's lease was lost while its runner went on."""
LOOP_CLOSED: Final = "loop_closed"
"""On a run span alone: the event loop was closed under the run."""
