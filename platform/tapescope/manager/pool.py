"""The runs of one manager: which wait, which run, which are zombies, and when all have ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from tapescope.errors import EventFateUnknown, ManagerClosed, StoreUnavailable, TapescopeError
from tapescope.manager.lent_slots import LentSlots
from tapescope.manager.nested_waits import NestedWaits
from tapescope.model.tasks import Attempt, CancelReason, CancelRequest, Claim, Task, TaskStatus
from tapescope.run import (
    CLOSED,
    Completion,
    Redactor,
    Run,
    Runner,
    RunSettings,
    TypedValues,
    find_current_run,
    let_go,
)
from tapescope.shielded import EXITS, Insisting
from tapescope.store.flush import CancelAnswer, CancelState
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.model.leases import Leases
    from tapescope.store.home import Home
    from tapescope.store.notifications import Subscription
    from tapescope.store.port import TaskStore
    from tapescope.values import Values

__all__ = ["RunPool"]

_log = Logger("tapescope")

_LINGER: Final = 1.0
"""Seconds that the store goes on listening for cancels after the last run: another may follow."""
_RECORD_WITHIN: Final = 1.0
"""Seconds that a shutdown waits for a cancel to be recorded before it stops the runner anyway."""


class RunPool:
    """Starts runs as slots get free, by priority, then in the order they came; keeps nothing of
    ended ones.

    A run waits without an asyncio task of its own. Times are in seconds. The pool is the host of
    its runs (``RunHost``), and the holder of their leases (``LeaseHolder``).
    """

    def __init__(
        self, settings: RunSettings, *, max_running: int, max_zombies: int, max_lent: int = 0
    ) -> None:
        self._settings = settings
        self._free = max_running
        self._max_zombies = max_zombies
        self._warned_of_zombies = False
        self._runs: dict[str, Run] = {}
        self._superseded: set[Run] = set()
        self._claimed = Counter[str]()
        self._coming = Counter[str]()
        """By op how many of its tasks the claims under way may bring."""
        self._waiting: list[tuple[int, int, Run]] = []
        """A heap: the highest priority first, of one priority who came first."""
        self._comes = count()
        self._not_due: dict[str, asyncio.TimerHandle] = {}
        self._zombies: set[Run] = set()
        self._beginning: set[str] = set()
        """Tasks that are created and claimed just now."""
        self._followers = WeakKeyDictionary["Subscription", str]()
        self._drain_until: int | None = None
        self._spawned = Insisting("tapescope-aside", self._check_idle)
        self._listening = False
        self._linger: asyncio.TimerHandle | None = None
        self._expected = 0
        self._stopping = False
        self._idle: asyncio.Future[None] | None = None
        self.home: Home | None = None
        """Where the manager was opened, while it is open."""
        self.lent = LentSlots(max_lent, self._lend_slot, self._take_slot)
        """The slots of runners that wait for tasks."""
        self.waits = NestedWaits(self._find_waiting, self._read, self.spawn)
        """The waits of its runners for tasks."""
        self.limit_of: Callable[[str], int | None] = lambda _: None
        """How many claimed tasks of a registered op may run at once; ``None``: as many as of all,
        and -1 for an op that is not registered here."""
        self.has_slots: Callable[[str], bool] = lambda _: True
        """Whether a registered op has slots of concurrency keys."""
        self.types_of: Callable[[str | None], TypedValues | None] = lambda _: None
        """What the annotations of an op say of its values; of ``None``: those of any op whose
        result is more than JSON."""
        self.on_free_slot: Callable[[], object] = bool
        """Called when a slot is free, or may be."""
        self.on_cancelled: Callable[[str], object] = bool
        """Called with a task that a cancel from here has ended while it was pending."""
        self.closing = False
        """Whether the manager is being closed: perhaps no handle is left to ask for a result."""
        self.lost: Exception | None = None
        """The first error that kept a ``final`` from being written since the closing began."""

    # --- its settings -----------------------------------------------------------------------------

    @property
    def store(self) -> TaskStore:
        """The store of the tasks."""
        return self._settings.store

    @property
    def values(self) -> Values:
        """How params, results and events are stored."""
        return self._settings.values

    def check_home(self) -> None:
        """Raise ``UsedAfterFork`` or ``UsedInAnotherLoop`` to who is not where the manager is."""
        if self.home is not None:
            self.home.check()

    @property
    def redactor(self) -> Redactor | None:
        """What is asked before a value is kept or told."""
        return self._settings.redactor

    @property
    def owner(self) -> str:
        """The manager, as the rows of its running tasks name it."""
        return self._settings.owner

    @property
    def lease(self) -> float:
        """Seconds that a claim holds."""
        return self._settings.lease

    # --- for the manager --------------------------------------------------------------------------

    def admit(self, task: Task, runner: Runner) -> Completion:
        """Queue a pending task; it starts when it is due and a slot is free.

        Admitting it twice runs it once.
        """
        known = self._runs.get(task.task_id)
        if known is not None:
            return known.completion
        completion = Completion()
        self._queue(Run(self, self._settings, task, runner, completion))
        return completion

    def reserve_for(self, task_id: str) -> bool:
        """Reserve a slot for a task that is being created and claimed, if one is free.

        ``begin`` starts the task in it; until then, or until ``unreserve``, it is one of those
        whose claim is under way.
        """
        if not self.reserve(1):
            return False
        self._beginning.add(task_id)
        self._listen_for_cancels()  # before there is a task whose cancel might be missed
        return True

    def unreserve(self, task_id: str) -> None:
        """The task was not claimed: its slot is free again."""
        self._beginning.discard(task_id)
        self.give_back(1)

    def begin(self, claim: Claim, runner: Runner) -> Completion:
        """Start a task that was created and claimed for its reserved slot."""
        task = claim.task
        self._beginning.discard(task.task_id)
        completion = Completion()
        run = Run(self, self._settings, task, runner, completion, claim)
        self._runs[task.task_id] = run
        run.start()
        if self._stopping:  # as in _queue
            self.spawn(partial(self._cancel_for_shutdown, run))
        return completion

    def adopt(self, claim: Claim, runner: Runner) -> Completion:
        """Start a task that was claimed for a reserved slot; gives the end of this attempt of it.

        While the manager is being closed the task is released instead, and its runner not begun.
        """
        task = claim.task
        if (known := self._runs.pop(task.task_id, None)) is not None:
            self._supersede(known)
        completion = Completion()
        run = Run(self, self._settings, task, runner, completion, claim, shared=True)
        self._listen_for_cancels()
        self._claimed[task.op] += 1  # what raises before has taken nothing
        self._runs[task.task_id] = run
        run.start()
        if self.closing:
            run.release()
        return completion

    def find_attempt(self, task_id: str, number: int) -> Completion | None:
        """The end of this attempt, where it goes on here."""
        run = self._runs.get(task_id)
        if run is None or run.attempt is None or run.attempt.number != number:
            return None
        return run.completion

    def release(self, task_id: str, why: str) -> None:
        """Give a task back that a worker claimed: any of them can run it."""
        run = self._runs.get(task_id)
        if run is not None and run.claimed:
            run.release(why)

    def find_place(self, task_id: str) -> tuple[int, int] | None:
        """The attempt of a task that runs here, and how often it has reported; for any thread."""
        run = self._runs.get(task_id)
        if run is None or run.attempt is None:
            return None
        return run.attempt.number, run.reports

    @property
    def free(self) -> int:
        """Slots that no waiting task takes."""
        if self.closing or not self._may_start():
            return 0
        return max(0, self._free)

    def running_of(self, op: str) -> int:
        """How many claimed tasks of an op hold a slot."""
        return self._claimed[op]

    def taken_of(self, op: str) -> int:
        """``running_of``, and how many more the claims under way may bring."""
        return self._claimed[op] + self._coming[op]

    @contextmanager
    def coming(self, ops: Sequence[str], n: int) -> Generator[None]:
        """In here up to ``n`` tasks of each of these ops are claimed, for reserved slots.

        ``adopt`` or ``give_back`` follows at once, with no ``await`` in between.
        """
        more = dict.fromkeys(ops, n)
        self._coming.update(more)
        try:
            yield
        finally:
            self._coming.subtract(more)
            self._coming = +self._coming  # without the zeros

    def reserve(self, n: int) -> int:
        """Reserve up to ``n`` free slots, for ``adopt`` or ``give_back``; gives how many."""
        slots = min(n, self.free)
        self._free -= slots
        return slots

    def give_back(self, n: int) -> None:
        """Free reserved slots."""
        if n:
            self._free += n
            self._start_waiting()

    def completion_of(self, task_id: str) -> Completion | None:
        """The completion of a task that waits or runs here; ``None`` for any other task."""
        run = self._runs.get(task_id)
        return None if run is None else run.completion

    def follow(self, task_id: str) -> Subscription:
        """Be told of a task's commits, for no longer than the manager takes part in the task.

        A runner that follows a task has the drain, and its own cancel, to come to an end.
        """
        changes = self.store.changes(task_id)
        if find_current_run() is not None:
            return changes
        self._followers[changes] = task_id
        if self.closing:
            self.end_following()
        return changes

    def end_following(self) -> None:
        """The manager closes: end the followers of tasks that do not end here."""
        if self.home is None:
            return  # it is closed, and a handle reads the store for itself
        for changes, task_id in list(self._followers.items()):
            if task_id not in self._runs:
                changes.close(ManagerClosed(task_id))

    def _find_waiting(self, parent: Run, task_id: str, row: Task | None) -> Task | None:
        """The task, if it waits here, or by ``row`` in the store, for a slot that is not free.

        One that ``parent`` has lent is in use, and gets free; a slot of a concurrency key is never
        lent.
        """
        none_free = self._free <= 0 and not self.lent.holds(parent)
        run = self._runs.get(task_id)
        if run is not None:
            waits = run.waiting and task_id not in self._not_due and none_free
            return run.task if waits else None
        if row is None or row.run_us > self.store.due_clock.now():
            return None
        own = parent.task
        if row.parked and (row.op, row.concurrency_key) == (own.op, own.concurrency_key):
            # Wherever it is to run, the parent has one of the slots that it waits for. The window
            # of a rate moves on by itself.
            return row if self.has_slots(row.op) else None
        limit = self.limit_of(row.op)
        if limit == -1:
            return None
        full = none_free or (limit is not None and limit <= self._claimed[row.op])
        return row if full else None

    async def _read(self, task_id: str) -> Task:
        return await self.store.get(task_id)

    @asynccontextmanager
    async def awaiting(self, run: Run, task_id: str) -> AsyncGenerator[None]:
        """A runner waits in here for a task: it is watched, and one of this pool's may lend."""
        with self.waits.watching(run, task_id):
            if self._holds_slot(run):
                async with self.lent.waiting(run, task_id):
                    yield
            else:
                yield

    def _holds_slot(self, run: Run) -> bool:
        return run.started and not run.fenced and self._runs.get(run.task.task_id) is run

    def note_cancel(self, task_id: str, answer: CancelAnswer) -> None:
        """The store answered a cancel: end the run of a task that it ended while it waited here."""
        run = self._runs.get(task_id)
        if answer.state is CancelState.CANCELLED:
            self.on_cancelled(task_id)
        if run is not None and answer.state is CancelState.CANCELLED and answer.request is not None:
            run.cancelled_before_start(answer.request)

    def deliver_cancel(self, task_id: str, request: CancelRequest) -> None:
        """Stop the run of a task with a recorded cancel; called once or more for each."""
        run = self._runs.get(task_id)
        if run is not None:
            run.cancel(request)

    def read_ages(self) -> Iterator[tuple[str, float]]:
        """(op, seconds since it fell due) of each task here that is due and has not ended."""
        now = self.store.due_clock.now()
        for run in tuple(self._runs.values()):
            if run.task.run_us <= now:
                yield run.task.op, (now - run.task.run_us) / 1e6

    def find_first_lapse(self, none: float) -> float:
        """When the first lease of what runs here is over, in seconds of the store's monotonic
        clock; ``none`` where none runs. Any thread may ask."""
        held = (run.held_until for run in tuple(self._runs.values()))
        return min((until for until in held if until is not None), default=none)

    @property
    def holds_tasks(self) -> bool:
        """Whether a task waits or runs here."""
        return bool(self._runs)

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts that run now; may be read from another thread, as the two below."""
        # tuple() of a view is one step of the interpreter: the loop cannot change it in between.
        return [run.attempt for run in tuple(self._runs.values()) if run.attempt is not None]

    @property
    def claiming(self) -> list[str]:
        """The tasks whose claim is under way, or was made and whose attempt has not begun."""
        runs = tuple(self._runs.values())
        beginning = tuple(self._beginning)
        return [*beginning, *(run.task.task_id for run in runs if run.claiming)]

    @property
    def waiting(self) -> list[str]:
        """The tasks that wait for their time or for a slot."""
        return [task_id for task_id, run in self._runs.items() if run.waiting]

    def note_ended(self, tasks: Sequence[Task]) -> None:
        """These tasks waited here and were ended by another process."""
        for task in tasks:
            run = self._runs.get(task.task_id)
            if run is not None and task.status is TaskStatus.CANCELLED and task.cancel is not None:
                run.cancelled_before_start(task.cancel)
            elif run is not None:
                run.give_up_waiting(None)  # a handle reads its end from the tape

    def find_ops(self, loop_task: object = None) -> set[str]:
        """The ops of the tasks that run now, or of the run in this asyncio task."""
        runs = [run for run in tuple(self._runs.values()) if run.attempt is not None]
        return {run.task.op for run in runs if loop_task is None or run.runs_in(loop_task)}

    def renewed(self, attempts: Sequence[Attempt], leases: Leases, until: float) -> None:
        """A heartbeat for these was answered: the leases that were not lost hold until then."""
        lost, busy = set(leases.lost), set(leases.busy)
        if busy:
            first = self._runs.get(leases.busy[0].task_id)
            _log.warning(
                "The leases of %d tasks could not be extended: another session holds them "
                "locked (%s, …).",
                len(busy),
                leases.busy[0].task_id,
                extra=None if first is None else first.ids,
            )
        now = self.store.clock.monotonic()
        for attempt in attempts:
            run = self._runs.get(attempt.task_id)
            if run is None or run.attempt != attempt:
                continue  # it ended meanwhile
            if attempt in lost:
                run.lose_lease()
            elif attempt in busy:
                run.lapse(now)
            else:
                run.renew(until)
        for task_id, request in leases.cancels:
            self.deliver_cancel(task_id, request)

    def tell_of_long_runs(self) -> None:
        """Log which runners have gone on for long; each seldom enough."""
        now = self.store.clock.monotonic()
        for run in tuple(self._runs.values()):
            run.tell_if_long(now)

    def lapse(self, at: float) -> None:
        """No heartbeat was answered: leases that were over by then are taken for lost."""
        for run in tuple(self._runs.values()):
            run.lapse(at)

    def expect_submits(self, n: int) -> None:
        """``n`` more submits are under way, or fewer: the pool is not idle before they end."""
        self._expected += n
        if n < 0:
            self._check_idle()

    def begin_drain(self, seconds: float) -> None:
        """Go on with what is due within so long; cancel at once what is due only later."""
        self._drain_until = self.store.due_clock.now() + round(seconds * 1_000_000)
        for task_id in list(self._not_due):
            self._cancel_if_too_late(self._runs[task_id])

    def _cancel_if_too_late(self, run: Run) -> None:
        if self._drain_until is not None and run.task.run_us > self._drain_until:
            self.spawn(partial(self._cancel_for_shutdown, run))

    async def wait_idle(self) -> None:
        """Wait until no task waits, runs or is being settled; zombies do not count."""
        while self._busy:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    async def stop(self) -> None:
        """End all runs and wait for their ends.

        A task that another worker can go on with is released; every other is cancelled with the
        reason ``shutdown``. A runner may clean up within the grace; after that it is fenced and
        goes on as a zombie, which is not waited for.
        """
        self._stopping = True
        for run in list(self._runs.values()):
            if run.claimed:
                run.release()
            else:
                self.spawn(partial(self._cancel_for_shutdown, run))
        await self.wait_idle()
        self._stop_listening()
        for zombie in self._zombies:
            text = "The runner of task %s goes on after the shutdown."
            _log.warning(text, zombie.task.task_id, extra=zombie.ids)

    # --- for the runs: RunHost --------------------------------------------------------------------

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this in a task of its own, with an empty context, and wait for it when closing.

        It is begun again when it is cancelled from outside.
        """
        self._spawned.begin(work)

    def fence(self, run: Run) -> None:
        """The runner goes on without its task: its slot is free, and it is a zombie from now on."""
        self._zombies.add(run)
        self._free_slot(run)
        self._start_waiting()

    def zombie_ended(self, run: Run) -> None:
        """The runner of a fenced run has ended."""
        self._zombies.discard(run)
        self._start_waiting()

    def end(self, run: Run) -> None:
        """The run is over: its ``final`` is written or lost."""
        self._forget_run(run)
        if (timer := self._not_due.pop(run.task.task_id, None)) is not None:
            timer.cancel()
        if self.closing and self.lost is None:
            self.lost = run.completion.error
        if run.started and not run.fenced:
            self._free_slot(run)
        if run.completion.final is not None:
            self.lent.note_ended(run.task.task_id)
        self._start_waiting()
        self._check_idle()

    def retry(self, run: Run, task: Task) -> None:
        """The run is over, and its task is pending again: run it when it is due.

        A task that the worker claimed is left to all workers: one of them claims it when it is due.
        """
        if run.claimed:
            run.completion.resolve(None, None)
            self.end(run)
            return
        if not run.fenced:
            self._free_slot(run)
        self._queue(Run(self, self._settings, task, run.runner, run.completion))
        self._start_waiting()

    def _queue(self, run: Run) -> None:
        task = run.task
        self._runs[task.task_id] = run
        wait = (task.run_us - self._settings.store.due_clock.now()) / 1e6
        if wait > 0:
            self._not_due[task.task_id] = asyncio.get_running_loop().call_later(
                wait, self._fall_due, run
            )
            self._cancel_if_too_late(run)
        else:
            self._wait_for_slot(run)
        if self._stopping:
            # Its submit began before the shutdown.
            self.spawn(partial(self._cancel_for_shutdown, run))

    def _supersede(self, run: Run) -> None:
        """A new attempt of this pool has the task: the older run has lost its lease."""
        if run.waiting:
            run.give_up_waiting(None)
        else:
            self._superseded.add(run)
            run.lose_lease()

    def _forget_run(self, run: Run) -> None:
        self._superseded.discard(run)
        if self._runs.get(run.task.task_id) is run:
            del self._runs[run.task.task_id]

    def _free_slot(self, run: Run) -> None:
        self._free += 0 if self.lent.forget(run) else 1
        if run.claimed:
            self._claimed[run.task.op] -= 1
            if not self._claimed[run.task.op]:
                del self._claimed[run.task.op]

    def _fall_due(self, run: Run) -> None:
        self._not_due.pop(run.task.task_id, None)
        self._wait_for_slot(run)

    def _wait_for_slot(self, run: Run) -> None:
        heappush(self._waiting, (-run.task.priority, next(self._comes), run))
        self._start_waiting()

    # --- slots ------------------------------------------------------------------------------------

    def _lend_slot(self) -> None:
        self._free += 1
        self._start_waiting()

    def _take_slot(self, at_once: bool) -> bool:
        """Take a slot for a run that has one lent; ``at_once`` although none may be free."""
        if self._free <= 0 and not at_once:
            return False
        self._free -= 1
        return True

    def _start_waiting(self) -> None:
        if self.home is not None and self.home.is_gone:
            return  # what waits here ends with its loop
        self.lent.readmit()
        while self._waiting and self._free > 0 and not self._stopping:
            if not self._waiting[0][-1].waiting:
                heappop(self._waiting)  # cancelled while it waited
                continue
            if not self._may_start():
                return
            self._free -= 1
            self._listen_for_cancels()
            heappop(self._waiting)[-1].start()
        if self._free > 0:
            self.on_free_slot()

    def _may_start(self) -> bool:
        """Whether there are fewer zombies than allowed; warns once when there are not."""
        if len(self._zombies) < self._max_zombies:
            return True
        if not self._warned_of_zombies:
            self._warned_of_zombies = True
            _log.warning(
                "%d runners go on after their cancel, as many as max_zombies allows: "
                "no task starts until one of them ends.",
                len(self._zombies),
            )
        return False

    def _listen_for_cancels(self) -> None:
        """Have the store deliver recorded cancels, as long as a task runs."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if not self._listening:
            self._listening = True
            self.store.listen_for_cancels(self.owner, self.deliver_cancel)

    def _stop_listening(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._listening:
            self._listening = False
            self.store.stop_listening(self.owner)

    @property
    def _busy(self) -> bool:
        return bool(self._runs or self._superseded or self._spawned or self._expected)

    # --- shutdown ---------------------------------------------------------------------------------

    async def _cancel_for_shutdown(self, run: Run) -> None:
        """Cancel one run: recorded where the store can be reached, else in this process only.

        A runner is soon stopped in any case. A task that waits has nothing to stop, and no end but
        the recorded one: the store has its whole patience for it.
        """
        task_id = run.task.task_id
        request = CancelRequest(CancelReason.SHUTDOWN, CLOSED, None, self.store.clock.now())
        anyway = asyncio.get_running_loop().call_later(_RECORD_WITHIN, run.cancel, request)
        unrecorded: Exception | None = None
        try:
            answer = await self.store.request_cancel(task_id, CancelReason.SHUTDOWN, CLOSED, None)
            request = answer.request or request
            self.note_cancel(task_id, answer)
        except (StoreUnavailable, EventFateUnknown) as error:
            unrecorded = error
        except TapescopeError as error:
            ended = run.waiting and await let_go(self.store, run.task, self.owner)
            unrecorded = None if ended else error
        except EXITS:
            run.give_up_waiting(None)  # its process is to end, and its task is rescued
            raise
        finally:
            anyway.cancel()
        run.cancel(request)
        run.give_up_waiting(unrecorded)

    def _check_idle(self) -> None:
        if self._busy or (self.home is not None and self.home.is_gone):
            return
        if self._idle is not None:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None
        if self._listening and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(_LINGER, self._stop_listening)
