"""The verbs on the port by which somebody is told of commits, here and in other processes."""

from __future__ import annotations

import abc
import asyncio
import contextvars

from tapescope.store.backend import StorePrimitives
from tapescope.store.notifications import CancelListener, Changes, Subscription

__all__ = ["WatchVerbs"]


class WatchVerbs(StorePrimitives):
    """The part of ``TaskStore`` that tells of what was committed."""

    _changes: Changes
    _watcher: asyncio.Task[None] | None
    _leaving: set[asyncio.Task[None]]
    """Watchers that were cancelled and still disconnect: the store closes after them."""

    @abc.abstractmethod
    def _require_open(self) -> object: ...

    def changes(self, task_id: str | None = None) -> Subscription:
        """Be told of commits, of one task's or of every one, from this moment on (invariant I9).

        Of every one there is also a ``RESYNC`` where tasks were created.
        """
        self._require_open()
        return self._changes.subscribe(task_id)

    def arrivals(self) -> Subscription:
        """Be told, with a ``RESYNC``, when tasks come to wait for a claim, here or elsewhere.

        They were created, or given back by a retry, a release or a rescue; when they are due is
        what ``next_due`` says. Costs a worker less than to hear of every commit.
        """
        self._require_open()
        return self._changes.await_arrivals()

    def listen_for_cancels(self, owner: str, listener: CancelListener) -> None:
        """Have ``listener`` told of cancels of ``owner``'s running tasks, perhaps repeatedly."""
        self._require_open()
        self._changes.listen_for_cancels(owner, listener)

    def stop_listening(self, owner: str) -> None:
        """Undo ``listen_for_cancels``."""
        self._changes.stop_listening(owner)

    def _interest(self, wanted: bool) -> None:
        """Watch for other processes' commits only while somebody here follows or runs something."""
        if wanted and self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(
                self._watch(), name="tapescope-watch", context=contextvars.Context()
            )
        elif not wanted and self._watcher is not None:
            self._watcher.cancel()
            self._leaving.add(self._watcher)
            self._watcher.add_done_callback(self._watcher_left)
            self._watcher = None

    def _watcher_left(self, watcher: asyncio.Task[None]) -> None:
        self._leaving.discard(watcher)
        if not watcher.cancelled():
            watcher.result()  # it never raises; if it did, the loop's handler must hear of it

    async def _tell_owners(self) -> None:
        """Pass on the cancel requests that other processes have recorded for this one's tasks."""
        if owners := self._changes.owners:
            for task_id, owner, request in await self._read_cancels(owners):
                self._changes.tell_owner(owner, task_id, request)
