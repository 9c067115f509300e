"""The thread beside a manager's loop: it extends the leases, also while a runner blocks the loop.

It needs nothing of that loop: it has an event loop and a connection of its own. What it learns it
hands over, to be dealt with as soon as the loop goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from typing import Final as Constant

from tapescope.errors import StoreUnavailable, TapescopeError
from tapescope.manager.loop_watchdog import LoopWatch
from tapescope.model.leases import Leases
from tapescope.store.flush import StoreAway
from tapescope_telemetry import error_type_of

if TYPE_CHECKING:
    from tapescope.model.tasks import Attempt, Task
    from tapescope.store.backend import LeaseRenewer
    from tapescope.store.port import TaskStore

__all__ = ["LeaseHolder", "LeaseThread"]

_log = logging.getLogger("tapescope")

_STEP: Constant = 1 / 9
"""The part of a lease between two looks at the loop: a block of a third is seen by a half."""
_ANSWER_WITHIN: Constant = 1 / 3
"""The part of a lease that one heartbeat may take: there shall be time for another."""
_FIRST_RETRY: Constant = 0.05
_LAST_RETRY: Constant = 1.0
"""Seconds between heartbeats that fail, doubled from the first to the last."""
_WARN_EVERY: Constant = 30.0
"""Seconds between warnings of a store that is away."""


class LeaseHolder(Protocol):
    """Who holds leases. What is read here may be read from another thread."""

    store: TaskStore
    owner: str
    lease: float

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Those that run now."""
        ...

    @property
    def claiming(self) -> Sequence[str]:
        """The tasks whose claim is under way, or was made and not yet heard of."""
        ...

    @property
    def waiting(self) -> Sequence[str]:
        """The tasks that wait for their time or for a slot."""
        ...

    def note_ended(self, tasks: Sequence[Task]) -> None:
        """Tasks that waited have ended, by another's hand."""
        ...

    def find_ops(self, job: object = None) -> set[str]:
        """The ops of those that run now, or (``job``) of the run that is this asyncio task."""
        ...

    def renewed(self, attempts: Sequence[Attempt], leases: Leases, until: float) -> None:
        """A heartbeat for these was answered: leases that were not lost hold until then."""
        ...

    def lapse(self, at: float) -> None:
        """No heartbeat could be sent: leases that were over by then are taken for lost."""
        ...


class LeaseThread:
    """Beats every ``every`` seconds from ``start`` to ``stop``, or until its loop is closed.

    A daemon thread: neither a crash nor the interpreter's exit waits for it. Between two beats it
    keeps neither the manager nor the loop alive, so one that is given up can be collected.
    """

    def __init__(self, holder: LeaseHolder, renewer: LeaseRenewer, every: float) -> None:
        host = asyncio.get_running_loop()
        self._holder, self._host = weakref.ref(holder), weakref.ref(host)
        self._renewer = renewer
        self._every = every
        self._step = min(every, holder.lease * _STEP)
        self._watch = LoopWatch(threading.get_ident(), holder.lease)
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(False)  # what takes long here holds nobody up
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="tapescope-leases", daemon=True)
        self._away_since: float | None = None
        self._warned_at = 0.0
        self._retry_in = _FIRST_RETRY

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    async def stop(self) -> None:
        """Beat no more, disconnect, and wait until the thread has ended."""
        with suppress(RuntimeError):  # it has ended already, and its loop is closed
            self._loop.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join)

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._live())
        finally:
            self._loop.close()

    async def _live(self) -> None:
        keeping = asyncio.ensure_future(self._keep())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([keeping, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (keeping, stopping):
            task.cancel()
        await asyncio.wait([keeping, stopping])
        await self._renewer.aclose()
        if not keeping.cancelled():
            keeping.result()  # it never raises; if it did, the thread's handler must hear of it

    async def _keep(self) -> None:
        now = self._loop.time
        due = now() + self._every  # what is claimed until then has a whole lease
        while True:
            began = now()
            pause = min(self._step, max(0.0, due - began))
            await asyncio.sleep(pause)
            holder, host = self._holder(), self._host()
            if holder is None or host is None or host.is_closed():
                return
            self._watch.look(host, holder.find_ops, pause, now() - began - pause)
            # A loop that is not even running works for nobody: its leases shall run out.
            if now() >= due and host.is_running():
                due = now() + await self._beat(holder, host)
            del holder, host

    async def _beat(self, holder: LeaseHolder, host: asyncio.AbstractEventLoop) -> float:
        """One heartbeat; gives the seconds until the next. Raises nothing."""
        attempts, claiming = holder.attempts, holder.claiming
        if not attempts and not claiming:
            return self._every
        clock, lease = holder.store.clock, holder.lease
        sent = clock.monotonic()
        failure: Exception | None = None
        leases: Leases | None = None
        try:
            async with asyncio.timeout(lease * _ANSWER_WITHIN):
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
        except Exception as error:  # noqa: BLE001  # a defect of ours must not end every lease
            _log.exception("A heartbeat of %s met a defect.", holder.owner)
            failure = error
        seconds = clock.monotonic() - sent

        def tell() -> None:
            error_type = None if failure is None else error_type_of(failure)
            holder.store.meter.operation("extend_leases", seconds, error_type)
            if leases is None:
                holder.lapse(sent + seconds)
            else:
                holder.renewed(attempts, leases, sent + lease)

        _hand_over(host, tell)
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
            "The leases of %s could not be extended for %.1f s (it goes on trying): %s",
            owner,
            now - self._away_since,
            str(error) or type(error).__name__,
        )


def _hand_over(host: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
    with suppress(RuntimeError):  # it was closed just now: nobody is left to be told
        host.call_soon_threadsafe(call)
