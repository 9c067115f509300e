"""The runs of one manager: who waits, who runs, who is a zombie, and when all are gone."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from typing import Final as Constant

from tapescope.errors import StoreUnavailable, TapescopeError
from tapescope.model.tasks import Attempt, CancelReason, CancelRequest, Claim, Task, TaskStatus
from tapescope.run.completion import Completion
from tapescope.run.host import Phase
from tapescope.run.run import Run
from tapescope.run.runner import Runner
from tapescope.store.flush import CancelAnswer, CancelState

if TYPE_CHECKING:
    from tapescope.model.leases import Leases
    from tapescope.store.port import TaskStore
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
        self._superseded: set[Run] = set()
        self._claimed = Counter[str]()
        self._waiting: deque[Run] = deque()
        self._not_due: dict[str, asyncio.TimerHandle] = {}
        self._zombies: set[Run] = set()
        self._kept: set[asyncio.Task[None]] = set()
        self._enlisted = False
        self._discharge: asyncio.TimerHandle | None = None
        self._expected = 0
        self._stopping = False
        self._idle: asyncio.Future[None] | None = None
        self.on_room: Callable[[], object] = bool
        """Called when a slot is free, or may be."""
        self.closing = False
        """Whether the manager is being closed; nobody may be left then to ask for a result."""
        self.lost: Exception | None = None
        """The first error that kept a ``final`` from being written since the closing began."""

    # --- for the manager --------------------------------------------------------------------------

    def admit(self, task: Task, runner: Runner) -> Completion:
        """Queue a pending task; it starts when it is due and a slot is free.

        Admitting it twice runs it once.
        """
        known = self._runs.get(task.task_id)
        if known is not None:
            return known.ending
        ending = Completion()
        self._queue(Run(self, task, runner, ending))
        return ending

    def adopt(self, claim: Claim, runner: Runner) -> None:
        """Start a task that was claimed for a slot that was reserved.

        One that comes when the manager is being closed is given back, and its runner not begun.
        """
        task = claim.task
        if (known := self._runs.pop(task.task_id, None)) is not None:
            self._supersede(known)
        self._claimed[task.op] += 1
        self._runs[task.task_id] = run = Run(self, task, runner, Completion(), claim)
        self._join()
        run.start()
        if self.closing:
            run.release()

    def resize(self, max_running: int) -> None:
        """Change how many may run at once; only before anything does."""
        self._free = max_running

    @property
    def free(self) -> int:
        """Slots that nobody waits for."""
        if self.closing or not self._may_start():
            return 0
        return max(0, self._free)

    def running_of(self, op: str) -> int:
        """How many claimed tasks of an op hold a slot."""
        return self._claimed[op]

    def reserve(self, n: int) -> int:
        """Take up to ``n`` free slots; how many they are. Each is adopted for, or given back."""
        room = min(n, self.free)
        self._free -= room
        return room

    def give_back(self, n: int) -> None:
        """Free reserved slots."""
        if n:
            self._free += n
            self._start_waiting()

    def completion_of(self, task_id: str) -> Completion | None:
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
        for run in tuple(self._runs.values()):
            if run.task.run_at <= now:
                yield run.task.op, (now - run.task.run_at) / 1e6

    @property
    def holds_tasks(self) -> bool:
        """Whether a task waits or runs here."""
        return bool(self._runs)

    @property
    def attempts(self) -> list[Attempt]:
        """Those that run now; may be read from another thread, as the two below."""
        # tuple() of a view is one step of the interpreter: the loop cannot change it in between.
        return [run.attempt for run in tuple(self._runs.values()) if run.attempt is not None]

    @property
    def claiming(self) -> list[str]:
        """The tasks whose claim is under way, or was made and not yet heard of by their run."""
        runs = tuple(self._runs.values())
        return [run.task.task_id for run in runs if run.phase is Phase.CLAIMING]

    @property
    def waiting(self) -> list[str]:
        """The tasks that wait for their time or for a slot."""
        return [task_id for task_id, run in self._runs.items() if run.waits]

    def note_ended(self, tasks: Sequence[Task]) -> None:
        """Tasks that waited have ended, by another's hand."""
        for task in tasks:
            run = self._runs.get(task.task_id)
            if run is not None and task.status is TaskStatus.CANCELLED and task.cancel is not None:
                run.cancelled_before_start(task.cancel)
            elif run is not None:
                run.give_up_waiting(None)  # whoever asks for its end reads it from the tape

    def find_ops(self, job: object = None) -> set[str]:
        """The ops of those that run now, or (``job``) of the run that is this asyncio task."""
        runs = [run for run in tuple(self._runs.values()) if run.attempt is not None]
        return {run.task.op for run in runs if job is None or run.is_job(job)}

    def renewed(self, attempts: Sequence[Attempt], leases: Leases, until: float) -> None:
        """A heartbeat for these was answered: leases that were not lost hold until then."""
        gone, busy = set(leases.lost), set(leases.busy)
        if busy:
            _log.warning(
                "The leases of %d tasks could not be extended: another session holds them "
                "locked (%s, …).",
                len(busy),
                leases.busy[0].task_id,
            )
        now = self.store.clock.monotonic()
        for attempt in attempts:
            run = self._runs.get(attempt.task_id)
            if run is None or run.attempt != attempt:
                continue  # it ended meanwhile
            if attempt in gone:
                run.lose_lease()
            elif attempt in busy:
                run.lapse(now)
            else:
                run.renew(until)
        for task_id, request in leases.cancels:
            self.listen(task_id, request)

    def lapse(self, at: float) -> None:
        """No heartbeat could be sent: leases that were over by then are taken for lost."""
        for run in tuple(self._runs.values()):
            run.lapse(at)

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
        """End everything and wait until it has ended: release what another worker can go on with,
        cancel the rest with the reason ``shutdown``.

        A runner may clean up within the grace. What is left after that is fenced and goes on as a
        zombie, which nobody waits for.
        """
        self._stopping = True
        for run in list(self._runs.values()):
            if run.claimed:
                run.release()
            else:
                self.spawn(self._shut(run))
        await self.wait_idle()
        self._leave()
        for zombie in self._zombies:
            _log.warning("The runner of task %s goes on after the shutdown.", zombie.task.task_id)

    # --- for the runs: RunHost --------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this in a task of its own, with an empty context, and wait for it when closing."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._kept.add(task)
        task.add_done_callback(self._forget)

    def fence(self, run: Run) -> None:
        """The runner goes on without its task: its slot is free, it is a zombie from now on."""
        self._zombies.add(run)
        self._vacate(run)
        self._start_waiting()

    def zombie_ended(self, run: Run) -> None:
        """A zombie has ended."""
        self._zombies.discard(run)
        self._start_waiting()

    def end(self, run: Run) -> None:
        """The run is over, its ``final`` is written or lost."""
        self._forget_run(run)
        if (timer := self._not_due.pop(run.task.task_id, None)) is not None:
            timer.cancel()
        if self.closing and self.lost is None:
            self.lost = run.ending.error
        if run.started and not run.fenced:
            self._vacate(run)
        self._start_waiting()
        self._check_idle()

    def retry(self, run: Run, task: Task) -> None:
        """The run is over, and its task is pending again: run it when it is due.

        One that was claimed by the worker is anybody's again: the worker finds it when it is due.
        """
        if run.claimed:
            run.ending.resolve(None, None)
            self.end(run)
            return
        if not run.fenced:
            self._vacate(run)
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
            self.spawn(self._shut(run))  # it began before the shutdown and came too late

    def _supersede(self, run: Run) -> None:
        """Another attempt has the task, and that one is ours, too: this run has lost its lease."""
        if run.waits:
            run.give_up_waiting(None)
        else:
            self._superseded.add(run)
            run.lose_lease()

    def _forget_run(self, run: Run) -> None:
        self._superseded.discard(run)
        if self._runs.get(run.task.task_id) is run:
            del self._runs[run.task.task_id]

    def _vacate(self, run: Run) -> None:
        self._free += 1
        if run.claimed:
            self._claimed[run.task.op] -= 1
            if not self._claimed[run.task.op]:
                del self._claimed[run.task.op]

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
            if not self._may_start():
                return
            self._free -= 1
            self._join()
            self._waiting.popleft().start()
        if self._free > 0:
            self.on_room()

    def _may_start(self) -> bool:
        """Whether there is not a zombie too many; says it once."""
        if len(self._zombies) < self._max_zombies:
            return True
        if not self._warned:
            self._warned = True
            _log.warning(
                "%d runners go on after their cancel, as many as max_zombies allows: "
                "no task starts until one of them ends.",
                len(self._zombies),
            )
        return False

    def _join(self) -> None:
        """Have the store tell us of cancels, as long as something runs."""
        if self._discharge is not None:
            self._discharge.cancel()
            self._discharge = None
        if not self._enlisted:
            self._enlisted = True
            self.store.listen_for_cancels(self.owner, self.listen)

    def _leave(self) -> None:
        if self._discharge is not None:
            self._discharge.cancel()
            self._discharge = None
        if self._enlisted:
            self._enlisted = False
            self.store.stop_listening(self.owner)

    @property
    def _busy(self) -> bool:
        return bool(self._runs or self._superseded or self._kept or self._expected)

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
