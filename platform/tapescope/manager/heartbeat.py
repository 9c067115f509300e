"""The heartbeat of one manager: extends its leases, and looks after tasks that others lost."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from contextlib import suppress
from typing import Final as Constant

from tapescope.errors import TapescopeError
from tapescope.manager.identity import find_dead
from tapescope.manager.lease_thread import LeaseHolder, LeaseThread
from tapescope.manager.loop_watchdog import BLOCKED
from tapescope.manager.readiness import Beat

__all__ = ["Heartbeat"]

_log = logging.getLogger("tapescope")

_BATCH: Constant = 100
"""Tasks that one transaction rescues."""

_QUESTION: Constant = 1_000
"""Waiting tasks that one query asks about."""


class Heartbeat:
    """Beats every ``every`` seconds, from ``start`` to ``stop``.

    The first beat is at once: what a process of this host left behind need not wait. Leases are
    extended by a thread (``LeaseThread``), or here where the store has no renewer for one.
    """

    def __init__(self, holder: LeaseHolder, every: float) -> None:
        self._holder = holder
        self._every = every
        self._beating: asyncio.Task[None] | None = None
        self._thread: LeaseThread | None = None
        self.last: Beat | None = None
        """The beat that ended last; any thread may read it."""

    def start(self) -> None:
        """Begin to beat; a second call does nothing."""
        if self._beating is None:
            renewer = self._holder.store.leases.make_renewer()
            if renewer is not None:
                self._thread = LeaseThread(self._holder, renewer, self._every)
                self._thread.start()
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
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.stop()

    async def beat(self) -> None:
        """Extend what runs here, ask about what waits, and rescue what is lost.

        Raises nothing of the store's.
        """
        failure: str | None = None
        try:
            if self._thread is None:
                await self._extend()
            await self._hear_of_ends()
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
            if self._thread is None and late > self._holder.lease * BLOCKED:
                _log.warning(
                    "The event loop was blocked for %.3f s, %.0f %% of a lease; running here: %s.",
                    late,
                    100 * late / self._holder.lease,
                    ", ".join(sorted(self._holder.find_ops())) or "nothing",
                )

    async def _extend(self) -> None:
        holder = self._holder
        attempts = holder.attempts
        if not attempts:
            return
        until = holder.store.clock.monotonic() + holder.lease
        try:
            leases = await holder.store.leases.extend(holder.owner, holder.lease, attempts)
        except TapescopeError:
            holder.lapse(holder.store.clock.monotonic())
            raise
        holder.renewed(attempts, leases, until)

    async def _hear_of_ends(self) -> None:
        """Ask about what waits here: a cancel by another process has ended it unheard."""
        holder = self._holder
        waiting = holder.waiting
        for first in range(0, len(waiting), _QUESTION):
            holder.note_ended(
                await holder.store.leases.find_ended(waiting[first : first + _QUESTION])
            )

    async def _rescue(self) -> None:
        store = self._holder.store
        dead = find_dead(await store.leases.read_owners())
        ops = await store.ops.read()  # whoever has registered them: a worker will run them again
        while True:
            rescued = await store.leases.rescue_expired(_BATCH, ops=ops, dead_owners=dead)
            if len(rescued) < _BATCH:
                return
