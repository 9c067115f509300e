"""The maintenance of a store by one of its managers, the leader: online audit and retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from tapescope.errors import TapescopeError
from tapescope.maintenance.auditor import Auditor
from tapescope.model.telemetry import LoopName
from tapescope.service import LoopService, Vitals
from tapescope.store.validation import check_rate, check_seconds
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.maintenance.retention import Retention
    from tapescope.model.leadership import LeaderTerm
    from tapescope.store.port import TaskStore

__all__ = ["Maintainer"]

_log = Logger("tapescope")

_EVERY: Final = 60.0
"""Seconds between two rounds, and so between two tries to become the leader."""
_LEASE: Final = 180.0
"""Seconds that a leadership holds after its process fell silent."""
_CALLS: Final = 4
"""Calls of the store, one after the other, between two signs of life."""
_RESIGN_WITHIN: Final = 2.0
"""Seconds that a stop waits for the store to end the leadership; else its lease ends it later."""
_BATCH: Final = 200
"""Tasks or late events that one transaction of a prune deletes: a writer waits for one at most."""
_PRUNE_PAUSE: Final = 4
"""The pause after each transaction of a prune, as a multiple of the time that it took."""


class _NotLeaderError(Exception):
    """Another process is the leader, perhaps because this one was silent for too long."""


class Maintainer(LoopService):
    """Audits and prunes a store once a minute, while it is the store's leader.

    The first round is a minute after the start: a short-lived process leaves the maintenance to
    others. An error of the store is warned of, and the round is tried again. Raises ``BadSetting``.
    """

    def __init__(
        self,
        store: TaskStore,
        owner: str,
        *,
        audit_every: float | None,
        rows_per_second: float,
        retention: Retention | None,
    ) -> None:
        vitals = Vitals(
            LoopName.MAINTAINER, store.telemetry.loop_failed, _LEASE + _CALLS * store.patience
        )
        super().__init__("tapescope-maintainer", vitals)
        self._owner = owner
        self._audit_every = (
            None
            if audit_every is None
            else check_seconds("audit_every", audit_every, over_zero=True)
        )
        self._rate = check_rate("audit_rate", rows_per_second)
        self._retention = retention
        self._store = store
        # A store that no other process can open needs no audit on a schedule: only this process
        # has written to it.
        audits = self._audit_every if store.outlives_process else None
        self._auditor = None if audits is None else Auditor(store, audits, self._pace)
        self._candidate = False
        """Whether it has asked to be the leader, and perhaps is."""
        self._renewed_at = 0.0

    def start(self) -> None:
        """Begin, if there is an audit or a retention to do."""
        if self._auditor or self._retention:
            super().start()

    async def _end(self) -> None:
        """End at once, and resign, so that another process may be the leader."""
        await super()._end()
        if self._candidate:  # also when it was stopped before the store's answer came
            try:
                async with asyncio.timeout(_RESIGN_WITHIN):
                    await self._store.leadership.resign(self._owner)
            except (TapescopeError, TimeoutError) as error:
                _log.info("The leadership of %s ends with its lease: %s", self._owner, error)

    async def run_once(self) -> None:
        """One round, if this process is the leader. Raises what the store raises."""
        try:
            term = await self._lead()
            if self._auditor is not None:
                await self._auditor.audit_closed()
                await self._auditor.audit_whole(term, self._owner, _EVERY)
            if self._retention is not None:
                await self._prune(term, self._retention)
        except _NotLeaderError:
            if self._auditor is not None:
                self._auditor.forget()

    async def _run(self) -> None:
        while True:
            self.vitals.beat()
            await asyncio.sleep(_EVERY)
            try:
                await self.run_once()
            except TapescopeError as error:
                _log.warning("The maintenance is tried again in %g s: %s", _EVERY, error)

    async def _lead(self) -> LeaderTerm:
        """Become the leader, or renew the leadership."""
        self._candidate = True
        # Who is cancelled here has waited for the store: none is acquired after it was resigned.
        term = await self._store.leadership.acquire(self._owner, _LEASE)
        self._renewed_at = self._store.clock.monotonic()
        if term is None:
            raise _NotLeaderError
        return term

    async def _pace(self, rows: int) -> None:
        await self._pause(rows / self._rate)

    async def _pause(self, seconds: float) -> None:
        self.vitals.beat()
        await asyncio.sleep(seconds)
        if self._store.clock.monotonic() - self._renewed_at > _LEASE / 3:
            await self._lead()

    async def _prune(self, term: LeaderTerm, retention: Retention) -> None:
        if not term.is_due("pruned", retention.every):
            return
        store = self._store.maintenance
        for age, outcome, op in retention.rules():
            outcomes = None if outcome is None else [outcome]
            pages = store.prune_pages(older_than=age, outcomes=outcomes, op=op, limit=_BATCH)
            pruned = await self._prune_pages(pages)
            if pruned:
                kind = " ".join(filter(None, (outcome, op))) or "any"
                _log.info("Retention: %d tasks (%s) older than %g s deleted.", pruned, kind, age)
        if retention.quarantine is not None:
            age = retention.quarantine
            pruned = await self._prune_pages(
                store.prune_quarantine_pages(older_than=age, limit=_BATCH)
            )
            if pruned:
                _log.info("Retention: %d late events older than %g s deleted.", pruned, age)
        await self._store.leadership.record_job(self._owner, "pruned")

    async def _prune_pages(self, pages: AsyncGenerator[int, None]) -> int:
        pruned = 0
        clock = self._store.clock
        async with aclosing(pages):
            began = clock.monotonic()
            async for n in pages:
                pruned += n
                await self._pause(_PRUNE_PAUSE * (clock.monotonic() - began))
                began = clock.monotonic()
        return pruned
