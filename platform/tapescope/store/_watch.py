"""Watching for commits of other processes, only while something here follows or runs."""

from __future__ import annotations

import asyncio
import contextvars

from tapescope.service import Vitals, keep_alive
from tapescope.shielded import raise_defect
from tapescope.store.backend import StoreBackend
from tapescope.store.notifications import Changes

__all__ = ["CommitWatch"]


class CommitWatch:
    """One store's subscriptions, and the backend's watcher while there are any."""

    def __init__(self, backend: StoreBackend, vitals: Vitals) -> None:
        self.changes = Changes(self._set_wanted)
        self._backend = backend
        self._vitals = vitals
        self._watcher: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        """Watchers that were cancelled and still disconnect: the store closes after them."""

    async def tell_owners(self) -> None:
        """Pass on the cancel requests that other processes have recorded for this one's tasks."""
        if owners := self.changes.owners:
            for task_id, owner, request in await self._backend.read_cancels(owners):
                self.changes.tell_owner(owner, task_id, request)

    async def aclose(self) -> None:
        """End every subscription, and wait until the watcher has disconnected."""
        self.changes.close()
        self._set_wanted(False)
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _set_wanted(self, wanted: bool) -> None:
        if wanted and self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(
                keep_alive(self._vitals, lambda: self._backend.watch()),
                name="tapescope-watch",
                context=contextvars.Context(),
            )
        elif not wanted and self._watcher is not None:
            if self._watcher.get_loop().is_closed():
                return  # it ends with its loop
            self._watcher.cancel()
            self._leaving.add(self._watcher)
            self._watcher.add_done_callback(self._watcher_left)
            self._watcher = None

    def _watcher_left(self, watcher: asyncio.Task[None]) -> None:
        self._leaving.discard(watcher)
        raise_defect(watcher)
        if self._watcher is None:
            self._vitals.rest()
