"""The heartbeat of one manager: extends its leases, and looks after tasks that others lost."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from typing import Final as Constant

from tapescope._giving_up import WORKER_LOST, RescueResult
from tapescope._owner import find_dead
from tapescope._pulse import Beat
from tapescope.errors import TapescopeError

if TYPE_CHECKING:
    from tapescope._giving_up import Rescued
    from tapescope.store import TaskStore
    from tapescope.tasks import Attempt, CancelRequest
    from tapescope_telemetry import Telemetry

__all__ = ["Heartbeat", "Holder"]

_log = logging.getLogger("tapescope")

_BATCH: Constant = 100
"""Tasks that one transaction rescues."""
_BLOCKED: Constant = 1 / 3
"""The part of a lease that the loop may be blocked before it is said."""


class Holder(Protocol):
    """Who holds leases."""

    store: TaskStore
    telemetry: Telemetry
    owner: str
    lease: float

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Those that run now."""
        ...

    @property
    def running_ops(self) -> Collection[str]:
        """The ops of those that run now."""
        ...

    def listen(self, task_id: str, request: CancelRequest) -> None:
        """Hear of a cancel on record for a running task; maybe repeatedly."""
        ...

    def renewed(self, attempts: Sequence[Attempt], lost: Sequence[Attempt]) -> None:
        """The leases of ``attempts`` hold from now on, but for those that are ``lost``."""
        ...


class Heartbeat:
    """Beats every ``every`` seconds, from ``start`` to ``stop``.

    The first beat is at once: what a process of this host left behind need not wait.
    """

    def __init__(self, holder: Holder, every: float) -> None:
        self._holder = holder
        self._every = every
        self._beating: asyncio.Task[None] | None = None
        self.last: Beat | None = None
        """The beat that ended last; any thread may read it."""

    def start(self) -> None:
        """Begin to beat; a second call does nothing."""
        if self._beating is None:
            self._beating = asyncio.get_running_loop().create_task(
                self._go_on(), name="tapescope-heartbeat", context=contextvars.Context()
            )

    async def stop(self) -> None:
        """Beat no more."""
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
            with suppress(asyncio.CancelledError):  # ours
                await beating

    async def beat(self) -> None:
        """Extend what runs here, then rescue what is lost. Raises nothing of the store's."""
        failure: str | None = None
        try:
            await self._extend()
            await self._rescue()
        except TapescopeError as error:
            failure = str(error)
            _log.warning("A heartbeat of %s failed: %s", self._holder.owner, error)
        self.last = Beat(self._holder.store.clock.monotonic(), failure)

    async def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.beat()
            due = loop.time() + self._every
            await asyncio.sleep(self._every)
            late = loop.time() - due
            if late > self._holder.lease * _BLOCKED:
                _log.warning(
                    "The event loop was blocked for %.3f s, %.0f %% of a lease; running here: %s.",
                    late,
                    100 * late / self._holder.lease,
                    ", ".join(sorted(self._holder.running_ops)) or "nothing",
                )

    async def _extend(self) -> None:
        holder = self._holder
        attempts = holder.attempts
        if not attempts:
            return
        leases = await holder.store.extend_leases(holder.owner, holder.lease, attempts)
        holder.renewed(attempts, leases.lost)
        for task_id, request in leases.cancels:
            holder.listen(task_id, request)

    async def _rescue(self) -> None:
        store = self._holder.store
        dead = find_dead(await store.read_owners())
        while True:
            rescued = await store.rescue_expired(_BATCH, dead_owners=dead)
            for one in rescued:
                self._tell(one)
            if len(rescued) < _BATCH:
                return

    def _tell(self, one: Rescued) -> None:
        telemetry, task = self._holder.telemetry, one.task
        span = telemetry.start_rescue_span(
            task.op, task.task_id, task.attempt, task.owner or "", task.traceparent
        )
        cancel = None if one.result is not RescueResult.CANCELLED else task.cancel
        span.end(
            one.result.value,
            error_type=WORKER_LOST,
            message="its owner is dead, or did not renew its lease",
            cancel_reason=None if cancel is None else cancel.reason.value,
            tape_length=one.last_seq,
        )
        telemetry.tasks.rescued(task.op, one.result.value)
        _log.warning(
            "Task %s (%s) was taken from %s, which is dead or silent: %s.",
            one.task.task_id,
            one.task.op,
            one.task.owner,
            one.result.value,
        )
