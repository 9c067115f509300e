"""From a caller's thread to the loop of the manager: begun at the first call, anew after a fork."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakSet

from tapescope.errors import ManagerClosed, ManagerOpen, WouldBlockLoop
from tapescope.manager import TaskManager
from tapescope.store.port import TaskStore
from tapescope.sync.loop_thread import LoopThread
from tapescope_telemetry.logger import Logger

__all__ = ["Door"]

T = TypeVar("T")

_log = Logger("tapescope")

_doors = WeakSet["Door"]()
_left_behind: list[LoopThread] = []
"""The parent's, in a child that was forked. They are kept: what would end with them, connections
and threads, is the parent's."""


class Door:
    """Which life of the manager a call goes to."""

    def __init__(
        self, make: Callable[[], TaskManager], store: TaskStore | None, *, block_loop: bool
    ) -> None:
        """``make`` makes the manager, and another one where that is left to the parent process.
        ``store`` is one that was handed in."""
        self._make = make
        self._block_loop = block_loop
        self.store = store
        self._manager = make()
        self._life: LoopThread | None = None
        self._closed = False
        self.renew_lock()
        _doors.add(self)

    @property
    def manager(self) -> TaskManager:
        """The manager: for what needs no loop."""
        return self._manager

    @property
    def is_open(self) -> bool:
        """Whether a loop runs for it."""
        life = self._life
        return not (self._closed or life is None or life.forked or life.over)

    def renew_lock(self) -> None:
        """In a child that was forked: a thread that is not there may hold the lock for ever."""
        self._lock = threading.Lock()

    def call(self, verb: Callable[[TaskManager], Awaitable[T]]) -> T:
        """See ``LoopThread.call``. Raises ``WouldBlockLoop`` to a caller in an event loop."""
        return self.find().call(verb)

    def find(self) -> LoopThread:
        """The life that calls go to. Raises ``ManagerClosed`` and ``WouldBlockLoop``."""
        life = self._life
        self._check_caller(life)
        if life is not None and not (self._closed or life.forked or life.over):
            return life
        with self._lock:
            if self._closed:
                raise ManagerClosed
            life = self._life
            if life is not None and (life.forked or life.over):
                # The manager belongs to that loop still: it can be neither used nor closed here.
                if life.forked:
                    _left_behind.append(life)
                    _log.info("This process was forked: it opens a manager of its own.")
                self._manager, life = self._make(), None
            if life is None:
                life = LoopThread(self._manager, self.store)
            self._life = life
            return life

    def open(self) -> None:
        """Take calls, again where it was closed."""
        with self._lock:
            self._closed = False

    def close(self) -> None:
        """Take no more calls, and close the manager. See ``LoopThread.close``."""
        life = self._life
        self._check_caller(life)
        with self._lock:
            self._closed = True
        if life is not None and not life.forked:
            try:
                life.close()
            finally:
                with self._lock:
                    if self._life is life:
                        self._life = None

    def require_closed(self) -> None:
        """Raises ``ManagerOpen``."""
        if self.is_open:
            raise ManagerOpen

    def renew(self, store: TaskStore | None) -> None:
        """Make the manager anew, with other settings; ``store`` is as in the constructor."""
        self.store, self._manager = store, self._make()

    def _check_caller(self, life: LoopThread | None) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if not self._block_loop or (life is not None and loop is life.loop):
            raise WouldBlockLoop


def _renew_locks() -> None:
    for door in tuple(_doors):
        door.renew_lock()


os.register_at_fork(after_in_child=_renew_locks)
