"""The upkeep of a store, done by one of the managers on it: the online audit and the retention."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

from tapescope.errors import BadSetting, TapescopeError
from tapescope.maintenance.auditor import Auditor

if TYPE_CHECKING:
    from tapescope.maintenance.retention import Retention
    from tapescope.model.leadership import LeaderTerm
    from tapescope.store.port import TaskStore

__all__ = ["Maintainer"]

_log = logging.getLogger("tapescope")

_EVERY: Final = 60.0
"""Seconds between two looks at what was closed, and between two tries to have the turn."""
_LEASE: Final = 180.0
"""Seconds that a turn holds when its process falls silent."""
_LEAVE: Final = 2.0
"""Seconds that a stop waits for the turn to be left: without it, the next one waits for longer."""
_BATCH: Final = 200
"""Tasks or late events that one transaction of a prune deletes: a writer waits for one at most."""
_REST: Final = 4
"""How many times as long as it took a prune rests after each transaction."""


class _TurnLostError(Exception):
    """Somebody else has the turn, for this process was silent for too long."""


class Maintainer:
    """Looks after a store once a minute, from ``start`` to ``stop``, while it has the turn.

    The first time is a minute after the start: a process that is short-lived leaves it to others.
    Errors of the store are warned of, and it is tried again. Raises ``BadSetting``.
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
        for name, seconds in (("audit_every", audit_every), ("audit_rate", rows_per_second)):
            if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
                raise BadSetting(name, seconds, "a number over 0")
        self._owner = owner
        self._audit_every = audit_every
        self._rate = rows_per_second
        self._retention = retention
        self.move(store)
        self._going: asyncio.Task[None] | None = None
        self._tried = False
        self._taken_at = 0.0

    def move(self, store: TaskStore) -> None:
        """Look after this store instead; before the start."""
        self._store = store
        # What nobody else can open needs no audit on a schedule: it was never out of our sight.
        audits = self._audit_every if store.outlives_process else None
        self._auditor = None if audits is None else Auditor(store, audits, self._pace)

    def start(self) -> None:
        """Begin; a second call does nothing, nor does one where there is nothing to do."""
        if self._going is None and (self._auditor or self._retention):
            self._going = asyncio.get_running_loop().create_task(
                self._go_on(), name="tapescope-maintainer", context=contextvars.Context()
            )

    async def stop(self) -> None:
        """End at once, wherever it is, and let somebody else have the turn."""
        going, self._going = self._going, None
        if going is None:
            return
        going.cancel()
        with suppress(asyncio.CancelledError):  # ours
            await going
        if self._tried:  # perhaps it has the turn, and was stopped before it heard of it
            try:
                async with asyncio.timeout(_LEAVE):
                    await self._store.leadership.resign(self._owner)
            except (TapescopeError, TimeoutError) as error:
                _log.info("The turn of %s ends with its lease: %s", self._owner, error)

    async def run_once(self) -> None:
        """One minute's work, if it is our turn. Raises what the store raises."""
        try:
            turn = await self._take()
            if self._auditor is not None:
                await self._auditor.look()
                await self._auditor.go_on(turn, self._owner, _EVERY)
            if self._retention is not None:
                await self._prune(turn, self._retention)
        except _TurnLostError:
            if self._auditor is not None:
                self._auditor.forget()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self.run_once()
            except TapescopeError as error:
                _log.warning("The upkeep is tried again in %g s: %s", _EVERY, error)

    async def _take(self) -> LeaderTerm:
        self._tried = True
        taking = asyncio.ensure_future(self._store.leadership.acquire(self._owner, _LEASE))
        try:
            turn = await asyncio.shield(taking)
        except asyncio.CancelledError:  # a turn that is had after it was left would hold
            await asyncio.wait([taking], timeout=_LEAVE)
            taking.cancel()
            with suppress(asyncio.CancelledError, TapescopeError):  # it is being left
                await taking
            raise
        self._taken_at = self._store.clock.monotonic()
        if turn is None:
            raise _TurnLostError
        return turn

    async def _pace(self, rows: int) -> None:
        await self._rest(rows / self._rate)

    async def _rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._store.clock.monotonic() - self._taken_at > _LEASE / 3:
            await self._take()

    async def _prune(self, turn: LeaderTerm, retention: Retention) -> None:
        if not turn.is_due("pruned", retention.every):
            return
        store = self._store
        for age, outcome, op in retention.rules():
            outcomes = None if outcome is None else [outcome]
            pages = store.maintenance.prune_pages(
                older_than=age, outcomes=outcomes, op=op, limit=_BATCH
            )
            pruned = await self._take_pages(pages)
            if pruned:
                what = " ".join(filter(None, (outcome, op))) or "any"
                _log.info("Retention: %d tasks (%s) older than %g s deleted.", pruned, what, age)
        if retention.quarantine is not None:
            age = retention.quarantine
            pruned = await self._take_pages(
                store.maintenance.prune_quarantine_pages(older_than=age, limit=_BATCH)
            )
            if pruned:
                _log.info("Retention: %d late events older than %g s deleted.", pruned, age)
        await store.leadership.record_job(self._owner, "pruned")

    async def _take_pages(self, pages: AsyncGenerator[int, None]) -> int:
        pruned = 0
        clock = self._store.clock
        async with aclosing(pages):
            began = clock.monotonic()
            async for n in pages:
                pruned += n
                await self._rest(_REST * (clock.monotonic() - began))
                began = clock.monotonic()
        return pruned
