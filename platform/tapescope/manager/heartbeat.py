"""The heartbeat of one manager: extends its leases, and rescues the tasks of lost owners."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from tapescope.errors import StoreUnavailable, TapescopeError
from tapescope.manager.lease_thread import LeaseHolder, LeaseThread
from tapescope.manager.loop_watchdog import BLOCKED
from tapescope.manager.lost_tasks import rescue_lost
from tapescope.manager.readiness import LastHeartbeat
from tapescope.manager.size_reader import SizeReader
from tapescope.model.telemetry import LoopName
from tapescope.service import LoopService, Vitals
from tapescope_telemetry.logger import Logger

__all__ = ["Heartbeat"]

_log = Logger("tapescope")

_QUERY_BATCH: Final = 1_000
"""Waiting tasks that one query asks about."""

_FOLLOWERS: Final = 100
"""Children whose cancels are requested at a time, of ten times as many parents."""

_EXPIRED: Final = 500
"""Tasks that have expired which one look ends."""
_EXPIRED_LOOKS: Final = 5
"""Such looks of one beat: it has other things to do."""

_MOMENT: Final = 0.5
"""Seconds for which a store may be away before a manager is not ready."""

_SKEW_TOLD: Final = 1.0
"""Seconds between the clocks of the store and of this process from which they are warned of."""


class Heartbeat(LoopService):
    """Beats every ``every`` seconds.

    The first beat is at once: the tasks that a dead process of this host left behind need not wait.
    Leases are extended by a thread (``LeaseThread``), or here where the store has no renewer for
    one.
    """

    def __init__(self, holder: LeaseHolder, every: float) -> None:
        super().__init__(
            "tapescope-heartbeat", Vitals(LoopName.HEARTBEAT, holder.store.telemetry.loop_failed)
        )
        self._holder = holder
        self._every = every
        self._thread: LeaseThread | None = None
        self._skew_told = False
        self.last: LastHeartbeat | None = None
        """The beat that ended last; any thread may read it."""
        self.answered_at = holder.store.clock.monotonic()
        """When the store last answered a whole beat, or when it began to be asked; as above."""
        self._sizes = SizeReader(holder.store)
        self._began: float | None = None
        """When the beat under way began, in seconds of the store's monotonic clock."""

    def describe_wait(self) -> str | None:
        """Why the beat under way has no answer yet, once that has taken a moment; for any thread.

        A call waits for a store that is away as long as its patience lasts: a submit, too.
        """
        began, store = self._began, self._holder.store
        if began is None or (why := store.away) is None:
            return None
        waited = store.clock.monotonic() - began
        if waited < _MOMENT:
            return None
        return f"it has not answered a heartbeat for {waited:.1f} s: {why}"

    async def run_once(self) -> None:
        """Extend the leases of running tasks, end what has expired, ask about waiting ones, rescue
        lost ones, and probe the store.

        What a step raises is warned of and kept in ``last``; it is not raised, and the steps behind
        it are made all the same.
        """
        self._began = self._holder.store.clock.monotonic()
        self._holder.tell_of_long_runs()
        try:
            failure = await self._take_steps()
        finally:
            self._began = None
        now = self._holder.store.clock.monotonic()
        self.last = LastHeartbeat(now, failure)
        if failure is None:
            self.answered_at = now
        self.vitals.beat()

    async def _take_steps(self) -> str | None:
        failure: str | None = None
        extending = [self._extend_leases] if self._thread is None else []
        ending = (self._expire, self._find_ended, self._rescue, self._follow)
        steps = (*extending, self._note_traces, *ending, self._probe, self._sizes.read_if_due)
        for step in steps:
            try:
                await step()
            except StoreUnavailable as error:
                failure = self._warn(error)
                break  # no step goes without the store, and each would wait for as long
            except TapescopeError as error:
                failure = failure or self._warn(error)
            except Exception as error:  # noqa: BLE001  # a defect of one step is not the others'
                failure = failure or f"a defect of tapescope: {type(error).__name__}"
                self.vitals.failed(error)
        return failure

    def _warn(self, error: TapescopeError) -> str:
        _log.warning("A heartbeat of %s failed: %s", self._holder.owner, error)
        return str(error)

    @property
    def all_vitals(self) -> Sequence[Vitals]:
        """Its own, and those of the thread that extends the leases."""
        return [self.vitals] if self._thread is None else [self.vitals, self._thread.vitals]

    def _begin(self) -> None:
        self.answered_at = self._holder.store.clock.monotonic()
        renewer = self._holder.store.leases.make_renewer()
        if renewer is not None:
            self._thread = LeaseThread(self._holder, renewer, self._every)
            self._thread.start()
        super()._begin()

    async def _end(self) -> None:
        await super()._end()
        self._sizes.leave()
        if self._thread is not None:
            await self._thread.stop()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.run_once()
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

    async def _extend_leases(self) -> None:
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

    async def _note_traces(self) -> None:
        """Have the spans of runs kept that write nothing: at the end it would be late to look."""
        await self._holder.store.note_traces(self._holder.attempts)

    async def _probe(self) -> None:
        """See whether a submit or a final would be written: nothing else may have been, lately."""
        store = self._holder.store
        await store.probe()
        skew = await store.measure_skew()
        if skew is None:
            return
        store.meter.skewed(skew)
        told, self._skew_told = self._skew_told, abs(skew) >= _SKEW_TOLD
        if self._skew_told and not told:
            _log.warning(
                "The clock of the store %s is %.1f s %s this process's. Due times go by the "
                "store's; times that this process writes do not. Set the clock of this host.",
                store.name,
                abs(skew),
                "ahead of" if skew > 0 else "behind",
            )

    async def _expire(self) -> None:
        """End what waits and has expired; tasks that wait here are then found to have ended."""
        for _ in range(_EXPIRED_LOOKS):
            if not await self._holder.store.end_expired(_EXPIRED):
                break  # there may be more; where none has ended, the next beat looks further

    async def _find_ended(self) -> None:
        """Ask about the tasks that wait here: a cancel by another process may have ended one."""
        holder = self._holder
        waiting = holder.waiting
        for first in range(0, len(waiting), _QUERY_BATCH):
            batch = waiting[first : first + _QUERY_BATCH]
            holder.note_ended(await holder.store.leases.find_ended(batch))

    async def _rescue(self) -> None:
        await rescue_lost(self._holder.store)

    async def _follow(self) -> None:
        """Cancel what is to be cancelled with its parent: of those that a rescue ended, too."""
        while await self._holder.store.cancel_followers(_FOLLOWERS):
            pass  # there may be more; where nothing was cancelled, the next beat looks further
