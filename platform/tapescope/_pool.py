"""The runs of one manager: who waits, who runs, who is a zombie, and when all are gone."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from typing import Final as Constant

from tapescope._ending import Ending
from tapescope._run import Run
from tapescope._runner import Runner
from tapescope.errors import StoreUnavailable, TapescopeError
from tapescope.flush import CancelAnswer, CancelState
from tapescope.tasks import Attempt, CancelReason, CancelRequest, Task

if TYPE_CHECKING:
    from tapescope.store import TaskStore
    from tapescope_telemetry import Telemetry

__all__ = ["RunPool"]

_log = logging.getLogger("tapescope")

_LINGER: Constant = 1.0
"""Seconds that the store goes on listening for cancels after the last run: the next may be near."""
_RECORD_WITHIN: Constant = 1.0
"""Seconds that a shutdown waits for its cancels to be on record before it stops runners anyway."""
_SHUTDOWN: Constant = "the manager was closed"


class RunPool:
    """Starts runs as slots get free, first come first served; keeps nothing of those that ended.

    A run waits without an asyncio task of its own. Times are in seconds.
    """

    def __init__(
        self,
        store: TaskStore,
        telemetry: Telemetry,
        owner: str,
        *,
        max_running: int,
        max_zombies: int,
        lease: float,
        cancel_grace: float,
        coalesce_progress: float,
        retry_delay: float,
    ) -> None:
        self.store = store
        self.telemetry = telemetry
        self.owner = owner
        self.lease = lease
        self.cancel_grace = cancel_grace
        self.coalesce_progress = coalesce_progress
        self.retry_delay = retry_delay
        self._free = max_running
        self._max_zombies = max_zombies
        self._warned = False
        self._runs: dict[str, Run] = {}
        self._waiting: deque[Run] = deque()
        self._not_due: dict[str, asyncio.TimerHandle] = {}
        self._zombies: set[Run] = set()
        self._kept: set[asyncio.Task[None]] = set()
        self._enlisted = False
        self._discharge: asyncio.TimerHandle | None = None
        self._expected = 0
        self._stopping = False
        self._idle: asyncio.Future[None] | None = None
        self.closing = False
        """Whether the manager is being closed; nobody may be left then to ask for a result."""
        self.lost: Exception | None = None
        """The first error that kept a ``final`` from being written since the closing began."""

    # --- for the manager --------------------------------------------------------------------------

    def admit(self, task: Task, runner: Runner) -> Ending:
        """Queue a pending task; it starts when it is due and a slot is free.

        Admitting it twice runs it once.
        """
        known = self._runs.get(task.task_id)
        if known is not None:
            return known.ending
        ending = Ending()
        self._queue(Run(self, task, runner, ending))
        return ending

    def ending_of(self, task_id: str) -> Ending | None:
        """How a task of this pool ends; ``None`` for a task that is not here, or not any more."""
        run = self._runs.get(task_id)
        return None if run is None else run.ending

    def note_cancel(self, task_id: str, answer: CancelAnswer) -> None:
        """The store answered a cancel: a task that it ended while it waited here is done with."""
        run = self._runs.get(task_id)
        if run is not None and answer.state is CancelState.CANCELLED and answer.request is not None:
            run.cancelled_before_start(answer.request)

    def listen(self, task_id: str, request: CancelRequest) -> None:
        """Hear of a cancel on record for a running task of ours; maybe repeatedly."""
        run = self._runs.get(task_id)
        if run is not None:
            run.cancel(request)

    def read_ages(self) -> Iterator[tuple[str, float]]:
        """The op of each task here that is due and has not ended, and since when, in seconds."""
        now = self.store.clock.now()
        for run in list(self._runs.values()):  # at once: the loop's thread goes on meanwhile
            if run.task.run_at <= now:
                yield run.task.op, (now - run.task.run_at) / 1e6

    @property
    def attempts(self) -> list[Attempt]:
        """Those that run now."""
        return [run.attempt for run in self._runs.values() if run.attempt is not None]

    @property
    def running_ops(self) -> set[str]:
        """The ops of those that run now."""
        return {run.task.op for run in self._runs.values() if run.attempt is not None}

    def renewed(self, attempts: Sequence[Attempt], lost: Sequence[Attempt]) -> None:
        """The leases of ``attempts`` hold from now on, but for those that are ``lost``."""
        gone = set(lost)
        for attempt in attempts:
            run = self._runs.get(attempt.task_id)
            if run is None or run.attempt != attempt:
                continue  # it ended meanwhile
            if attempt in gone:
                run.lose_lease()
            else:
                run.renew()

    def expect(self, n: int) -> None:
        """``n`` submits (or, negative, fewer) are under way: it is not idle before they are in."""
        self._expected += n
        self._check_idle()

    async def wait_idle(self) -> None:
        """Wait until nothing waits, runs or is being settled; zombies do not count."""
        while self._busy:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    async def stop(self) -> None:
        """Cancel everything with the reason ``shutdown`` and wait until all of it has ended.

        A runner may clean up within the grace. What is left after that is fenced and goes on as a
        zombie, which nobody waits for.
        """
        self._stopping = True
        for run in list(self._runs.values()):
            self.keep(self._shut(run))
        await self.wait_idle()
        self._leave()
        for zombie in self._zombies:
            _log.warning("The runner of task %s goes on after the shutdown.", zombie.task.task_id)

    # --- for the runs: RunHost --------------------------------------------------------------------

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this in a task of its own, with an empty context, and wait for it when closing."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._kept.add(task)
        task.add_done_callback(self._forget)

    def fence(self, run: Run) -> None:
        """The runner goes on without its task: its slot is free, it is a zombie from now on."""
        self._zombies.add(run)
        self._free += 1
        self._start_waiting()

    def lay_to_rest(self, run: Run) -> None:
        """A zombie has ended."""
        self._zombies.discard(run)
        self._start_waiting()

    def end(self, run: Run) -> None:
        """The run is over, its ``final`` is written or lost."""
        if self._runs.pop(run.task.task_id, None) is None:
            return
        if (timer := self._not_due.pop(run.task.task_id, None)) is not None:
            timer.cancel()
        if self.closing and self.lost is None:
            self.lost = run.ending.error
        if run.started and not run.fenced:
            self._free += 1
        self._start_waiting()
        self._check_idle()

    def retry(self, run: Run, task: Task) -> None:
        """The run is over, and its task is pending again: run it when it is due."""
        if run.started and not run.fenced:
            self._free += 1
        self._queue(Run(self, task, run.runner, run.ending))
        self._start_waiting()

    def _queue(self, run: Run) -> None:
        task = run.task
        self._runs[task.task_id] = run
        wait = (task.run_at - self.store.clock.now()) / 1e6
        if wait > 0:
            self._not_due[task.task_id] = asyncio.get_running_loop().call_later(
                wait, self._fall_due, run
            )
        else:
            self._waiting.append(run)
            self._start_waiting()
        if self._stopping:
            self.keep(self._shut(run))  # it began before the shutdown and came too late

    def _fall_due(self, run: Run) -> None:
        self._not_due.pop(run.task.task_id, None)
        self._waiting.append(run)
        self._start_waiting()

    # --- slots ------------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        while self._waiting and self._free > 0 and not self._stopping:
            if not self._waiting[0].waits:
                self._waiting.popleft()  # cancelled while it waited
                continue
            if len(self._zombies) >= self._max_zombies:
                self._warn_of_zombies()
                return
            self._free -= 1
            self._join()
            self._waiting.popleft().start()

    def _warn_of_zombies(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "%d runners go on after their cancel, as many as max_zombies allows: "
                "no task starts until one of them ends.",
                len(self._zombies),
            )

    def _join(self) -> None:
        """Have the store tell us of cancels, as long as something runs."""
        if self._discharge is not None:
            self._discharge.cancel()
            self._discharge = None
        if not self._enlisted:
            self._enlisted = True
            self.store.enlist(self.owner, self.listen)

    def _leave(self) -> None:
        if self._discharge is not None:
            self._discharge.cancel()
            self._discharge = None
        if self._enlisted:
            self._enlisted = False
            self.store.discharge(self.owner)

    @property
    def _busy(self) -> bool:
        return bool(self._runs or self._kept or self._expected)

    # --- ending -----------------------------------------------------------------------------------

    async def _shut(self, run: Run) -> None:
        """Cancel one run for the shutdown: on record where the store can be reached, else here."""
        task_id = run.task.task_id
        request = CancelRequest(CancelReason.SHUTDOWN, _SHUTDOWN, None, self.store.clock.now())
        unrecorded: Exception | None = None
        try:
            async with asyncio.timeout(_RECORD_WITHIN):
                answer = await self.store.request_cancel(
                    task_id, CancelReason.SHUTDOWN, _SHUTDOWN, None
                )
            request = answer.request or request
            self.note_cancel(task_id, answer)
        except TapescopeError as error:
            unrecorded = error
        except TimeoutError:
            unrecorded = StoreUnavailable(self.store.name, "it does not answer")
        run.cancel(request)
        run.give_up_waiting(unrecorded)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._kept.discard(task)
        if not task.cancelled():
            task.result()  # it never raises; if it did, the loop's handler must hear of it
        self._check_idle()

    def _check_idle(self) -> None:
        if self._busy:
            return
        if self._idle is not None:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None
        if self._enlisted and self._discharge is None:
            self._discharge = asyncio.get_running_loop().call_later(_LINGER, self._leave)
