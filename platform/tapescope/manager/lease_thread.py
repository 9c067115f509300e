"""The thread beside a manager's loop: it extends the leases, also while a runner blocks the loop.

The thread has an event loop and a connection of its own. The answers of its heartbeats are handed
to the manager's loop, which handles them as soon as it goes on.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from tapescope.errors import StoreUnavailable, TapescopeError
from tapescope.manager.loop_watchdog import TOLD_AFTER, LoopWatchdog
from tapescope.model.leases import Leases
from tapescope.model.telemetry import LoopName
from tapescope.service import Service, Vitals
from tapescope.store.flush import StoreAway
from tapescope_telemetry import error_type_of
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.model.tasks import Attempt, Task
    from tapescope.store.backend import LeaseRenewer
    from tapescope.store.port import TaskStore

__all__ = ["LeaseHolder", "LeaseThread"]

_log = Logger("tapescope")

_CHECK_EVERY: Final = 1 / 9
"""The part of a lease between two checks of the loop: a block of a third is seen by a half."""
_ANSWER_WITHIN: Final = 1 / 3
"""The part of a lease that one heartbeat may take, so that there is time for another."""
_LONGEST_ANSWER: Final = 60.0
"""Seconds that one may take, however long the lease: a heartbeat also brings cancels."""
_FIRST_RETRY: Final = 0.05
_LAST_RETRY: Final = 1.0
"""Seconds between heartbeats that fail, doubled from the first to the last."""
_WARN_EVERY: Final = 30.0
"""Seconds between warnings of a store that is away."""


class LeaseHolder(Protocol):
    """The holder of the leases of one owner. Its properties may be read from another thread."""

    @property
    def store(self) -> TaskStore:
        """The store that keeps the leases."""
        ...

    @property
    def owner(self) -> str:
        """The owner, as the rows of its running tasks name it."""
        ...

    @property
    def lease(self) -> float:
        """Seconds that a lease holds."""
        ...

    @property
    def attempts(self) -> Sequence[Attempt]:
        """The attempts that run now."""
        ...

    @property
    def claiming(self) -> Sequence[str]:
        """The tasks whose claim is under way, or was made and whose attempt has not begun."""
        ...

    @property
    def waiting(self) -> Sequence[str]:
        """The tasks that wait for their time or for a slot."""
        ...

    def note_ended(self, tasks: Sequence[Task]) -> None:
        """These tasks waited here and were ended by another process."""
        ...

    def find_ops(self, loop_task: object = None) -> set[str]:
        """The ops of the tasks that run now, or of the run in this asyncio task."""
        ...

    def renewed(self, attempts: Sequence[Attempt], leases: Leases, until: float) -> None:
        """A heartbeat for these was answered: the leases that were not lost hold until then."""
        ...

    def tell_of_long_runs(self) -> None:
        """Say which runners have gone on for long."""
        ...

    def lapse(self, at: float) -> None:
        """No heartbeat was answered: leases that were over by then are taken for lost."""
        ...


class LeaseThread(Service):
    """Extends the leases every ``every`` seconds, or until the manager's loop is closed.

    A daemon thread: neither a crash nor the interpreter's exit waits for it. Between two heartbeats
    it keeps neither the manager nor the manager's loop alive, so an abandoned one can be collected.
    """

    def __init__(self, holder: LeaseHolder, renewer: LeaseRenewer, every: float) -> None:
        """Made in the manager's loop. The renewer is closed at the end."""
        super().__init__("tapescope-leases")
        self.vitals = Vitals(LoopName.LEASES, holder.store.telemetry.loop_failed, holder.lease)
        managers_loop = asyncio.get_running_loop()
        self._holder, self._managers_loop = weakref.ref(holder), weakref.ref(managers_loop)
        self._renewer = renewer
        self._every = every
        self._check_every = min(every, holder.lease * _CHECK_EVERY, TOLD_AFTER / 3)
        self._watchdog = LoopWatchdog(threading.get_ident(), holder.lease)
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(False)  # a slow step in this loop delays no runner
        self._stop_asked = asyncio.Event()
        self._thread_ended = asyncio.Event()
        """Set in the manager's loop. No executor is asked: at a program's exit there is none."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._away_since: float | None = None
        self._warned_at = 0.0
        self._retry_in = _FIRST_RETRY

    def _begin(self) -> None:
        self.vitals.beat()
        self._thread.start()

    async def _end(self) -> None:
        """Disconnect, and wait until the thread has ended."""
        with suppress(RuntimeError):  # the thread has ended already, and its loop is closed
            self._loop.call_soon_threadsafe(self._stop_asked.set)
        await self._thread_ended.wait()
        self._thread.join()  # it does nothing more
        self.vitals.rest()

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._renew_until_stopped())
        finally:
            self._loop.close()
            if (managers_loop := self._managers_loop()) is not None:
                _hand_over(managers_loop, self._thread_ended.set)

    async def _renew_until_stopped(self) -> None:
        renewing = asyncio.ensure_future(self._renew())
        stopping = asyncio.ensure_future(self._stop_asked.wait())
        await asyncio.wait([renewing, stopping], return_when=asyncio.FIRST_COMPLETED)
        for loop_task in (renewing, stopping):
            loop_task.cancel()
        await asyncio.wait([renewing, stopping])
        await self._renewer.aclose()

    async def _renew(self) -> None:
        now = self._loop.time
        due = now() + self._every  # what is claimed until then has a whole lease
        while True:
            began = now()
            pause = min(self._check_every, max(0.0, due - began))
            await asyncio.sleep(pause)
            holder, managers_loop = self._holder(), self._managers_loop()
            if holder is None or managers_loop is None or managers_loop.is_closed():
                return
            late = now() - began - pause
            self.vitals.beat()
            try:
                self._watchdog.check(managers_loop, holder.find_ops, pause, late)
                # A loop that does not run works on no task: its leases must run out.
                if now() >= due and managers_loop.is_running():
                    due = now() + await self._renew_once(holder, managers_loop)
            except Exception as error:  # noqa: BLE001  # a defect of ours must not end every lease
                self.vitals.failed(error)
                due = now() + _LAST_RETRY
            del holder, managers_loop

    async def _renew_once(
        self, holder: LeaseHolder, managers_loop: asyncio.AbstractEventLoop
    ) -> float:
        """Send one heartbeat; gives the seconds until the next. Raises nothing."""
        attempts, claiming = holder.attempts, holder.claiming
        if not attempts and not claiming:
            return self._every
        clock, lease = holder.store.clock, holder.lease
        sent = clock.monotonic()
        failure: Exception | None = None
        leases: Leases | None = None
        try:
            async with asyncio.timeout(min(lease * _ANSWER_WITHIN, _LONGEST_ANSWER)):
                held = await self._renewer.extend_leases(
                    holder.owner,
                    round(lease * 1_000_000),
                    [*(attempt.task_id for attempt in attempts), *claiming],
                )
            leases = Leases.sort(held, attempts)
        except StoreAway as error:
            failure = StoreUnavailable(holder.store.name, str(error))
        except TimeoutError:
            failure = StoreUnavailable(holder.store.name, "it does not answer in time")
        except TapescopeError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  # as above
            self.vitals.failed(error)
            failure = error
        seconds = clock.monotonic() - sent

        def deliver() -> None:
            error_type = None if failure is None else error_type_of(failure)
            holder.store.meter.operation("extend_leases", seconds, error_type)
            if leases is None:
                holder.lapse(sent + seconds)
            else:
                holder.renewed(attempts, leases, sent + lease)

        _hand_over(managers_loop, deliver)
        if failure is None:
            self._away_since, self._retry_in = None, _FIRST_RETRY
            return self._every
        self._warn(holder.owner, failure, seconds)
        wait, self._retry_in = self._retry_in, min(self._retry_in * 2, _LAST_RETRY)
        return min(wait, self._every)

    def _warn(self, owner: str, error: Exception, seconds: float) -> None:
        now = self._loop.time()
        if self._away_since is None:
            self._away_since = now - seconds
        elif now - self._warned_at < _WARN_EVERY:
            return
        self._warned_at = now
        _log.warning(
            "The leases of %s could not be extended for %.1f s; this is tried again: %s",
            owner,
            now - self._away_since,
            str(error) or type(error).__name__,
        )


def _hand_over(managers_loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
    with suppress(RuntimeError):  # the loop was closed just now, and its runs with it
        managers_loop.call_soon_threadsafe(call)
