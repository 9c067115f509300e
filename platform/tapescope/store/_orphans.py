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
from tapescope.model.tasks import CancelReason
from tapescope.shielded import Insisting
from tapescope.store.core import StoreCore
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.store._pending import PendingCreate
    from tapescope.store.flush import CancelAnswer

__all__ = ["Orphans"]

_log = Logger("tapescope")

_MESSAGE: Final = "its submit was cancelled"
_UNKNOWN: Final = "it is not known whether its submit was stored"

RequestCancel = Callable[[str, CancelReason, str], Awaitable["CancelAnswer"]]


class Orphans:
    """The orphans of one store. A task with an idempotency key is none: the key finds it."""

    def __init__(self, core: StoreCore, request_cancel: RequestCancel) -> None:
        self._core = core
        self._request_cancel = request_cancel
        self._ending = Insisting("tapescope-orphan")

    def adopt(self, call: PendingCreate) -> None:
        """The caller of this create was cancelled, or was told that its fate is unknown."""
        if call.withdrawn or call.row.idempotency_key is not None:
            return
        self._ending.begin(partial(self._end, call))

    async def ended(self) -> None:
        """Wait until every orphan has ended, or could not be ended within the store's patience."""
        await self._ending.ended()

    async def _end(self, call: PendingCreate) -> None:
        task_id = call.row.task_id
        try:
            await call.find_fate()
        except EventFateUnknown:
            message = _UNKNOWN
        except TapescopeError:
            return  # nothing was written
        else:
            message = _MESSAGE
        try:
            await self._cancel(task_id, message)
        except UnknownTask:
            _log.debug("The submit of %s, whose caller is gone, left no task.", task_id)
        except TapescopeError as error:
            _log.warning(
                "Task %s may be left pending: %s, and it could not be cancelled: %s",
                task_id,
                message,
                error,
                extra={"task_id": task_id},
            )

    async def _cancel(self, task_id: str, message: str) -> None:
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
                return
