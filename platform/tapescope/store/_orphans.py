"""Tasks whose creator is gone: each is cancelled once the fate of its own create is known.

A cancel that is sent at once may be carried out before the create, on another lane, and find no
task; the create would then commit a task that nobody has a handle on, and that perhaps nobody runs.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from tapescope.clock import Backoff
from tapescope.errors import EventFateUnknown, TapescopeError, UnknownTask
from tapescope.model.tasks import CancelReason
from tapescope.store.core import StoreCore
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.model.tasks import Task
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
        self._ending: set[asyncio.Task[None]] = set()

    def adopt(self, call: PendingCreate) -> None:
        """The caller of this create was cancelled, or was told that its fate is unknown."""
        if call.withdrawn or call.row.idempotency_key is not None:
            return
        ending = asyncio.get_running_loop().create_task(
            self._end(call.row.task_id, call.find_fate()),
            name="tapescope-orphan",
            context=contextvars.Context(),
        )
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def ended(self) -> None:
        """Wait until every orphan has ended, or could not be ended within the store's patience."""
        while self._ending:
            await asyncio.wait(self._ending)

    async def _end(self, task_id: str, fate: asyncio.Future[tuple[Task, bool]]) -> None:
        try:
            await fate
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
