"""Tasks whose creator is gone: each is cancelled once the fate of its own create is known.

A cancel that is sent at once may be carried out before the create, on another lane, and find no
task; the create would then commit a task that nobody has a handle on, and that perhaps nobody runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from tapescope.clock import Backoff
from tapescope.errors import EventFateUnknown, TapescopeError, UnknownTask
from tapescope.model.error_codes import LEASE_LOST
from tapescope.model.tasks import Attempt, AttemptOutcome, CancelReason
from tapescope.shielded import Insisting
from tapescope.store._pending import PendingBirth
from tapescope.store.core import StoreCore
from tapescope.store.flush import CancelState
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.model.leases import GivenUp
    from tapescope.store._pending import PendingCreate
    from tapescope.store.flush import CancelAnswer

__all__ = ["Orphans"]

_log = Logger("tapescope")

_RUNS: Final = frozenset({CancelState.RECORDED, CancelState.ALREADY_RECORDED})

_MESSAGE: Final = "its submit was cancelled"
_UNKNOWN: Final = "it is not known whether its submit was stored"

RequestCancel = Callable[[str, CancelReason, str], Awaitable["CancelAnswer"]]
Release = Callable[[Attempt, str], Awaitable["GivenUp"]]


class Orphans:
    """The orphans of one store. A task with an idempotency key is none: the key finds it. Nor is
    one with a unique key that any worker can run: it may be the answer of other submits."""

    def __init__(self, core: StoreCore, request_cancel: RequestCancel, release: Release) -> None:
        self._core = core
        self._request_cancel, self._release = request_cancel, release
        self._ending = Insisting("tapescope-orphan")

    def adopt(self, call: PendingCreate) -> None:
        """The caller of this create was cancelled, or was told that its fate is unknown."""
        row = call.row
        others = row.unique_key is not None and row.lease is None
        if call.withdrawn or others or row.idempotency_key is not None:
            return
        self._ending.begin(partial(self._end, call))

    async def ended(self) -> None:
        """Wait until every orphan has ended, or could not be ended within the store's patience."""
        await self._ending.ended()

    async def _end(self, call: PendingCreate) -> None:
        task_id = call.row.task_id
        begun = False
        try:
            fate = await call.find_fate()
            begun = isinstance(call, PendingBirth) and fate[2] is not None
        except EventFateUnknown:
            message = _UNKNOWN
        except TapescopeError:
            return  # nothing was written
        else:
            message = _MESSAGE
        try:
            answer = await self._cancel(task_id, message)
            if isinstance(call, PendingBirth) and answer.state in _RUNS:
                attempt = Attempt(task_id, 1, call.claim.owner)
                if (answer.attempt, answer.owner) == (attempt.number, attempt.owner):
                    begun = True
                    released = await self._release(attempt, message)  # ends it: see the cancel
                    self._end_span(call, released)
        except UnknownTask:
            _log.debug("The submit of %s, whose caller is gone, left no task.", task_id)
        except TapescopeError as error:
            if begun:
                self._end_span(call, error)
            _log.warning(
                "Task %s may be left as it is: %s, and it could not be cancelled: %s",
                task_id,
                message,
                error,
                extra={"task_id": task_id},
            )

    def _end_span(self, call: PendingCreate, ended: GivenUp | TapescopeError) -> None:
        """Tell of the attempt that no runner was begun in (invariant I8)."""
        assert isinstance(call, PendingBirth)
        row, owner = call.row, call.claim.owner
        span = self._core.telemetry.start_run_span(row.op, row.task_id, 1, owner, row.traceparent)
        if isinstance(ended, TapescopeError):
            span.end(AttemptOutcome.LOST, error=ended)
        elif ended.final is not None and ended.final.cancel is not None:
            reason = ended.final.cancel.reason.value
            span.end(
                AttemptOutcome.CANCELLED,
                cancel_reason=reason,
                cancel_requested=True,
                tape_length=ended.last_seq,
            )
        else:  # another owner has taken it
            span.end(
                AttemptOutcome.LOST,
                error_type=LEASE_LOST if ended.dropped is None else ended.dropped.value,
                tape_length=ended.last_seq,
            )

    async def _cancel(self, task_id: str, message: str) -> CancelAnswer:
        """Where the fate is unknown the create may yet be carried out: ask for some time."""
        deadline = self._core.clock.monotonic() + self._core.patience
        backoff = Backoff()
        while True:
            try:
                answer = await self._request_cancel(task_id, CancelReason.USER, message)
            except UnknownTask:
                left = deadline - self._core.clock.monotonic()
                if message != _UNKNOWN or left <= 0:
                    raise
                await backoff.wait(left)
            else:
                if message == _UNKNOWN:  # it was, and its reply was lost: nobody has counted it
                    self._core.telemetry.tasks.submitted(answer.op)
                return answer
