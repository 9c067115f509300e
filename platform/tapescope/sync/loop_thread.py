"""One life of a manager, in an event loop that has a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from tapescope.errors import ManagerClosed, TapescopeError
from tapescope.manager import TaskManager
from tapescope.store.lent import LentConnection
from tapescope.store.port import TaskStore
from tapescope_telemetry.logger import Logger

__all__ = ["STUBBORN_WAIT", "LoopThread"]

T = TypeVar("T")
R = TypeVar("R")

_log = Logger("tapescope")

STUBBORN_WAIT: Final = 1.0
"""Seconds that the loop waits at its end for what ignores its cancel, as a runner may."""

_lives: set[LoopThread] = set()
"""Those that have not ended: each is closed at the program's exit, whoever has forgotten it."""
_exiting = threading.Event()


class LoopThread:
    """The thread, its loop, and the manager that is open in it from the first call on.

    A daemon thread, which the interpreter's exit does not wait for: it is closed there, by
    ``atexit``.
    """

    def __init__(self, manager: TaskManager, store: TaskStore | None) -> None:
        """``store`` is one that was handed in: opened before the manager, and closed after it.

        Raises ``ManagerClosed`` where the program is at its exit, and has closed what was open.
        """
        if _exiting.is_set():
            raise ManagerClosed
        self.manager = manager
        self._store = store
        self._pid = os.getpid()
        self._lock = threading.Lock()
        """A call is begun before the end, or not at all."""
        self._over = False
        self._waiting = set[concurrent.futures.Future[Any]]()
        self._end: concurrent.futures.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._opened = False
        self.loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="tapescope-sync", daemon=True)
        if not _lives:
            atexit.unregister(close_all)  # the last one registered is the first one called
            atexit.register(close_all)
        _lives.add(self)
        self._thread.start()

    @property
    def forked(self) -> bool:
        """Whether it is another process's: its thread is not in this one."""
        return os.getpid() != self._pid

    @property
    def over(self) -> bool:
        """Whether the loop takes no more calls: it was closed, or an exit of a runner ended it."""
        return self._over

    def call(self, verb: Callable[[TaskManager], Awaitable[T]]) -> T:
        """Carry the verb out in the loop, in the caller's context, and wait for it.

        Raises what the verb raises, what ``TaskManager.open`` raises where this is the first call,
        or the first since that failed; ``ManagerClosed``. A caller that is interrupted, as by
        Ctrl-C, cancels the verb.
        """
        return self._carry_out(concurrent.futures.Future(), verb)

    def lend(
        self, connection: object, verb: Callable[[TaskManager, LentConnection], Awaitable[T]]
    ) -> T:
        """``call`` for a verb that uses a connection of the caller's: in this thread, meanwhile."""
        asked = SimpleQueue[Callable[[], None] | None]()

        async def run(work: Callable[[], R]) -> R:
            answer: asyncio.Future[R] = self.loop.create_future()
            asked.put(partial(self._do_here, work, answer))
            return await answer

        lent = LentConnection(connection, run)
        future = concurrent.futures.Future[T]()
        future.add_done_callback(lambda _: asked.put(None))
        return self._carry_out(future, lambda manager: verb(manager, lent), asked)

    def _carry_out(
        self,
        future: concurrent.futures.Future[T],
        verb: Callable[[TaskManager], Awaitable[T]],
        asked: SimpleQueue[Callable[[], None] | None] | None = None,
    ) -> T:
        """Wait for the verb. The future is there before the loop hears of it: wherever an interrupt
        strikes, it has what is to be cancelled."""

        async def carry_out() -> T:
            await self._ensure_open()
            return await verb(self.manager)

        def begin() -> None:
            if not future.cancelled():
                _chain(self.loop.create_task(carry_out()), future)

        try:
            with self._lock:
                if self._over or self._end is not None:
                    raise ManagerClosed
                self._waiting.add(future)
                self.loop.call_soon_threadsafe(begin)
            while asked is not None and (work := asked.get()) is not None:
                work()
            return future.result()
        except concurrent.futures.CancelledError:
            raise ManagerClosed from None
        except BaseException:
            future.cancel()  # of no account where it has ended
            raise
        finally:
            self._waiting.discard(future)

    def _do_here(self, work: Callable[[], R], answer: asyncio.Future[R]) -> None:
        """Do work for the loop. An interrupt of the caller's passes: it is none of the loop's."""
        said: Any = None
        failed: Exception | None = None
        try:
            said = work()
        except Exception as error:  # noqa: BLE001  # it is raised in the verb, and by it here
            failed = error

        def tell() -> None:
            if answer.done():  # the verb was cancelled meanwhile
                return
            if failed is None:
                answer.set_result(said)
            else:
                answer.set_exception(failed)

        with suppress(RuntimeError):  # the loop has ended, and nobody waits there
            self.loop.call_soon_threadsafe(tell)

    def close(self) -> None:
        """Close the manager, and end the thread; a second call waits for the first.

        A Ctrl-C skips the drain, and is raised after the end; one more is raised at once. Raises
        what ``TaskManager.aclose`` raises.
        """
        first = False
        try:
            with self._lock:
                if self._over:
                    return
                if self._end is None:
                    first = True
                    self._end = asyncio.run_coroutine_threadsafe(self._close(), self.loop)
                    self._waiting.add(self._end)
            concurrent.futures.wait([self._end])
        except BaseException:
            if self._end is not None:
                self.loop.call_soon_threadsafe(self._skip_drain)
                concurrent.futures.wait([self._end])
                self._join()
            raise
        self._join()
        if first:
            self._end.result()

    # --- in the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        loop = self.loop
        try:
            loop.run_until_complete(self._stop.wait())
        except BaseException as told:  # noqa: BLE001  # an exit that a runner raised ends its loop
            _log.error("%s ended the loop of a sync manager.", type(told).__name__, error=told)
        finally:
            try:
                # As asyncio.run does, but for its executor: that would begin a thread, which a
                # program that ends has no more of.
                loop.run_until_complete(_cancel_others())
                loop.run_until_complete(loop.shutdown_asyncgens())
            finally:
                with self._lock:
                    self._over = True
                loop.close()
                for future in tuple(self._waiting):
                    future.cancel()
                _lives.discard(self)

    async def _ensure_open(self) -> None:
        if self._opened:
            return
        if self._opening is None:
            self._opening = self.loop.create_task(self._open(), context=contextvars.Context())
        # Shielded: the others that wait for it are not interrupted with one of them.
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        try:
            if self._store is not None:
                await self._store.open()
            await self.manager.open()
            self._opened = True
        finally:
            self._opening = None

    async def _close(self) -> None:
        self._closing = asyncio.current_task()
        if self._opening is not None:
            await asyncio.wait([self._opening])
        try:
            await self.manager.aclose()
        finally:
            if self._store is not None:
                await self._store.aclose()

    def _skip_drain(self) -> None:
        if self._closing is not None:
            self._closing.cancel()

    def _join(self) -> None:
        with suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


def _chain(task: asyncio.Task[T], future: concurrent.futures.Future[T]) -> None:
    """Have the caller's future end as the task does, and the task be cancelled with it."""
    loop = task.get_loop()

    def tell(ended: asyncio.Task[T]) -> None:
        error = None if ended.cancelled() else ended.exception()
        with suppress(concurrent.futures.InvalidStateError):  # its caller was interrupted just now
            if ended.cancelled():
                future.cancel()
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(ended.result())

    def hear(ended: concurrent.futures.Future[T]) -> None:
        if ended.cancelled():
            with suppress(RuntimeError):  # the loop is closed, and the task with it
                loop.call_soon_threadsafe(task.cancel)

    task.add_done_callback(tell)
    future.add_done_callback(hear)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=STUBBORN_WAIT)


def close_all() -> None:
    """Close what the program leaves open at its exit."""
    _exiting.set()
    for life in tuple(_lives):
        if not life.forked:
            try:
                life.close()
            except TapescopeError:
                _log.exception("A sync manager could not be closed without an error.")
