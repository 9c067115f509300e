"""Short scenarios: tasks of every kind are submitted, run, followed, cancelled and closed.

A seed draws the callers of one, and the settings. It is played once undisturbed, to learn its
steps, and then once for each step and act. Of those that were played on one database all that is
left is given to a second store and manager, as another process has them, and judged.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
import time
import traceback
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence, Set
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Final

from opentelemetry.metrics import NoOpMeterProvider

from tapescope import Reporter, RunCall, Submission, TaskHandle, TaskManager, ThreadReporter
from tapescope.clock import Clock
from tapescope.errors import (
    EventFateUnknown,
    OpFull,
    OpNotRegistered,
    ResultTimeout,
    StoreClosed,
    TapescopeError,
    TaskCancelled,
    TaskEnded,
    TaskFailed,
    UnknownWorker,
)
from tapescope.model.tape import PARTIAL, Event, NewEvent, Outcome
from tapescope.model.tasks import Claim, ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.model.wording import shorten_id
from tapescope.store.backend import StoreBackend
from tapescope.store.flush import FateUnknown, FlushRefused, StoreAway
from tapescope.store.follow import TapeBatch, follow_tape
from tapescope.store.short_ids import find_ids
from tapescope.store.validation import new_task_id
from tapescope.testing import Breach, History, MemoryBackend, check, until
from tapescope_telemetry import LedgerReading, Telemetry
from tests.cancels.steps import Conductor, Site, Step
from tests.cancels.told import Told, Witness
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop
from tests.support.workbench import RecordedMemory, RecordedPostgres, RecordedSqlite, RecordedStore

__all__ = ["Act", "Place", "Played", "find_steps", "judge", "play"]


class Act(Enum):
    """What is done at a step."""

    CANCEL = "cancel"
    """The task that stands there is cancelled."""
    TWICE = "cancel twice"
    """And once more with the next turn of the loop."""
    LATER = "cancel later"
    """The task is cancelled some turns of the loop on: what it waits for is under way by then."""
    SHUTDOWN = "shutdown"
    """The manager is closed."""
    TIMEOUT = "timeout"
    """The time of every caller and runner is over."""
    AWAY = "store away"
    """The next call of the store cannot reach it."""
    OUTAGE = "store away for long"
    """No call of the store reaches it for longer than its patience."""
    REFUSED = "store refuses"
    """The next call of the store is refused."""
    FATE_UNKNOWN = "reply lost"
    """The next flush or claim of due tasks is carried out, and its reply lost."""
    DOUBT = "reply lost for long"
    """And no call of the store reaches it for longer than its patience."""
    LATE = "answer late"
    """The next call of the store is carried out, and answered when its patience is over."""
    SLOW = "store slow"
    """Every call of the store takes seconds, before it is carried out and after, for a time that is
    longer than its patience."""
    LEASE_LOST = "lease lost"
    """Another process takes all running tasks."""
    INTERRUPT = "KeyboardInterrupt"
    """It is raised in the loop, and the program ends as ``asyncio.run`` ends it."""
    LOOP_CLOSED = "loop closed"
    """The loop stops and is closed, with everything in it."""

    def can_come(self, place: Place) -> bool:
        """Whether it can be done there: SQLite's reply is never lost, real patience takes long."""
        if self in (Act.OUTAGE, Act.DOUBT, Act.LATE, Act.SLOW):
            return place.kind == "memory"
        return not (self is Act.FATE_UNKNOWN and place.kind == "sqlite")

    @property
    def kills(self) -> bool:
        """Whether the process does not live on."""
        return self in (Act.INTERRUPT, Act.LOOP_CLOSED)

    @property
    def cancels(self) -> bool:
        """Whether it cancels an asyncio task that the step names."""
        return self in (Act.CANCEL, Act.TWICE, Act.LATER)


@dataclass(frozen=True)
class Place:
    """Where the tasks are kept: a URL, or a memory that outlives its store."""

    url: str
    memory: MemoryBackend | None = None
    history: History = field(default_factory=History)
    """Of all that is played here."""

    @property
    def kind(self) -> str:
        """memory, sqlite or postgresql."""
        return self.url.partition(":")[0]

    def make_store(self, telemetry: Telemetry) -> RecordedStore:
        """A store of its own on this place."""
        history = self.history
        if self.kind == "memory":
            clock, memory = VirtualClock(), self.memory
            return RecordedMemory(telemetry=telemetry, clock=clock, history=history, backend=memory)
        kind = RecordedSqlite if self.kind == "sqlite" else RecordedPostgres
        return kind(
            self.url, telemetry=telemetry, clock=Clock(), history=history, durability="relaxed"
        )

    def make_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that a scenario runs in."""
        return VirtualTimeLoop() if self.kind == "memory" else asyncio.SelectorEventLoop()


@dataclass
class Played:
    """What a scenario came to."""

    conductor: Conductor
    seed: int
    step: Step | None = None
    act: Act | None = None
    bad: list[str] = field(default_factory=list[str])
    left: Left | None = None
    """For the judge."""

    def __str__(self) -> str:
        act = self.act.value if self.act else "undisturbed"
        return f"{self.seed} {self.step} {act}"

    @property
    def died(self) -> bool:
        """Whether its process did not live on."""
        return self.act is not None and self.act.kills

    @property
    def struck_at(self) -> Site | None:
        """The innermost line of the product at which the act met the task."""
        return self.conductor.struck_at


@dataclass(frozen=True)
class Left:
    """What a process leaves of itself, beside what is in the store."""

    owner: str
    ops: Sequence[str]
    part: History
    """Of the place's history."""
    told: Told
    ledger: LedgerReading
    answers: Sequence[tuple[str, str]]
    """(task, outcome) that a caller was told."""
    keys: Set[str]
    """The idempotency keys of callables: who submits with one again runs what waits."""
    by_hand: Set[str]
    """Tasks that no manager ran: there is no span of them."""


_LEASE: Final = 3_600.0
"""Seconds, over for nobody here, however slow the machine: what is lost is taken by its owner's
name. A lease that is over lets the next scenario's manager end what this one has left."""
_SETTINGS: Final[dict[str, Any]] = {
    "cancel_grace": 0.02,
    "drain": 5.0,
    "retry_delay": 0.001,
    "audit_every": None,
    "max_lent": 8,
    "lease": _LEASE,
}
_BY_HAND: Final = "here:1:0:by-hand"
"""The owner of the runs that a caller leads himself."""
_OUTAGE: Final = 12.0
"""Seconds of an outage: the store has patience for 10."""
_LAG: Final = 3.0
"""Seconds that a slow store lets a call wait at most, before it is carried out and after."""
_WAIT: Final = 30.0
"""Seconds that nothing here takes: a caller that has no answer by then hangs."""
_MANY: Final = 100
"""Tasks that have expired, or follow their parent, to be ended at a time."""
_PRIMITIVES: Final = tuple(
    name for name, value in vars(StoreBackend).items() if iscoroutinefunction(value)
)
_ENDING: Final = ("tapescope-leases", "asyncio_")
"""Threads that end with their loop, also with a closed one: until then they hold what it leaves."""
_RESENT: Final = ("write", "claim_due")
"""What may have been carried out though its reply was lost, and is sent again under its number."""
_SOUND: Final = ("close",)
"""What no fault is made of: it gives up."""

_in_primitive: Final = ContextVar("in_primitive", default=False)
"""Whether a backend calls itself: what is in its midst is no call that a network could lose."""
_CANCELLED: Final = ("_Stage.", "Run.", "TaskManager.")
"""What a program may cancel: its callers, the runs, the closing. What else runs is cancelled with
its loop alone, as ``KeyboardInterrupt`` does it."""
_NOT_OURS: Final = ("BaseEventLoop.", "_perform.")
_GONE: Final = ("Event loop is closed", "no running event loop")
"""What asyncio says of a loop that is closed."""


def find_steps(undisturbed: Played, act: Act) -> list[Step]:
    """The steps of a scenario at which this act is done, one by one."""
    return [
        Step(kind, number)
        for kind, suspensions in undisturbed.conductor.counts.items()
        if not kind.startswith(_NOT_OURS) and (not act.cancels or kind.startswith(_CANCELLED))
        for number in range(1, suspensions + 1)
    ]


class _Stage:
    """The first process: a store, a manager and their callers."""

    def __init__(self, place: Place, played: Played) -> None:
        self.place = place
        self.played = played
        self._witness = Witness()
        self.telemetry = self._witness.telemetry
        self.store = place.make_store(self.telemetry)
        self._began_with = self.store.meter.ledger.read()
        self._began_at = place.history.now
        self._died_at: int | None = None
        self._first_call = len(place.history.calls)
        self._first_order = len(place.history.orders)
        self._first_follow = len(place.history.follows)
        self.chance = random.Random(played.seed)
        self.manager = TaskManager(
            self.store,
            max_running=self.chance.choice([1, 2, 8]),
            coalesce_progress=self.chance.choice([0.0, 0.002]),
            heartbeat=self.chance.choice([0.01, 0.1]),
            around_run=self.chance.choice([[], [_around]]),
            around_submit=self.chance.choice([[], [_before]]),
            **_SETTINGS,
        )
        self.key = new_task_id()
        """The idempotency key of this scenario: the database is used for more than one."""
        self.op = f"shared-{self.key}"
        """The op of this scenario: no other one's worker takes its tasks."""
        self.elsewhere = f"elsewhere-{self.key}"
        """And one that the next process alone has registered."""
        self.halted = f"halted-{self.key}"
        """And one that is paused for a while."""
        self.shared = self.manager.op(self.op, retries=2)(_weigh)
        self.pooled = f"pooled-{self.key}"
        """And one with a resource."""
        self.bounded = f"bounded-{self.key}"
        """And one of which a single task may wait."""
        self.manager.op(self.halted, retries=2)(_work)
        self.manager.op(self.pooled, retries=2, resource=_open_pool)(_use)
        self.manager.op(self.bounded, retries=2, max_waiting=1)(_work)
        self.answers: list[tuple[str, str]] = []
        self.keys: set[str] = set()
        self.by_hand: set[str] = set()
        self._limits: set[asyncio.Timeout] = set()
        self._submitted = asyncio.Event()
        self._handle: TaskHandle | None = None
        self._extra: list[asyncio.Task[Any]] = []
        self._fault: Act | None = None
        self._back_at = self._slow_until = 0.0
        self._break_store()

    # --- the story --------------------------------------------------------------------------------

    async def perform(self) -> None:
        """From open to close, each caller in a task of its own."""
        await self._act_out(self.open)
        await self._act_out(self.open)  # who was struck while opening opens again
        await self._act_out(*self._cast())
        await self._act_out(self.close)
        await self._act_out(self.close)  # who was struck while closing closes again
        await self._gather(self._extra)

    def _cast(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """The callers of this scenario, in the order of their beginnings: some of all."""
        parts: list[list[Callable[[], Coroutine[Any, Any, None]]]] = [
            [self.submit, self.follow],
            [self.submit_keyed],
            [self.submit_keyed, self.submit_keyed],
            [self.submit_many],
            [self.cancel],
            [self.cancel_pending],
            [self.ignore],
            [self.call_an_op],
            [self.look],
            [self.nest],
            [self.report_to_the_store],
            [self.give_up_by_hand],
            [self.follow_the_store],
            [self.leave_waiting],
            [self.submit_elsewhere],
            [self.pause],
            [self.talk],
            [self.use_a_pool],
            [self.crowd],
            [self.let_expire],
            [self.lead],
        ]
        drawn = self.chance.sample(parts, self.chance.choice([2, 3, 3, 4]))
        callers = [caller for part in drawn for caller in part]
        self.chance.shuffle(callers)
        return callers

    async def open(self) -> None:
        """Open store and manager."""
        async with self._limit():
            await self.store.open()
            await self.manager.open()

    async def submit(self) -> None:
        """A callable that fails once, and its result."""
        async with self._limit():
            try:
                self._handle = await self.manager.submit("flaky", self._flaky, retries=1)
            except (Exception, asyncio.CancelledError):
                self._submitted.set()
                raise
            self._submitted.set()
            await self._result(self._handle)

    async def submit_keyed(self) -> None:
        """A callable with an idempotency key."""
        async with self._limit():
            self.keys.add(self.key)
            handle = await self.manager.submit("keyed", _work, idempotency_key=self.key)
            await self._result(handle)

    async def submit_many(self) -> None:
        """Ops that any worker runs, one due at once and one a little later."""
        async with self._limit():
            handles = await self.manager.submit_many(
                [Submission(self.op), Submission(self.op, delay=0.005)]
            )
            for handle in handles:
                await self._result(handle)
            if self.place.kind != "memory":  # its loop waits for no thread
                await self._result(await self.manager.submit("threaded", _work_in_thread))

    async def follow(self) -> None:
        """Follow a task from its beginning to its end."""
        async with self._limit():
            await self._submitted.wait()
            if self._handle is not None:
                tape = self._handle.follow()
                if self.played.seed % 2:
                    tape = _one_by_one(self._handle.follow_batches())
                async for _ in self.place.history.following(self._handle.task_id, tape):
                    pass

    async def cancel(self) -> None:
        """Cancel a task that runs; where that is not to be, its time runs out: it has a slot."""
        async with self._limit():
            handle = await self.manager.submit("waits", self._wait, timeout=0.5)
            async for event in handle.follow():
                if event.type == PARTIAL:
                    break
            await handle.cancel("enough")
            await self._result(handle)

    async def cancel_pending(self) -> None:
        """Cancel a task that is not due, and one whose time runs out."""
        async with self._limit():
            handle = await self.manager.submit("later", _work, delay=3_600)
            await handle.cancel("not needed")
            await self._result(handle)
            await self._result(await self.manager.submit("slow", _wait_on, timeout=0.005))

    async def ignore(self) -> None:
        """A runner that ignores that its time is over, until it is fenced."""
        async with self._limit():
            await self._result(await self.manager.submit("stubborn", _work_on, timeout=0.005))

    async def call_an_op(self) -> None:
        """An op as an object, by itself and bound with others."""
        async with self._limit():
            handles = [await self.shared.submit()]
            bound = [self.shared.bind(), self.shared.bind()]
            if self.played.seed % 2:
                handles += await self.shared.submit_many(bound)
            else:
                made = await self.shared.submit_many(bound, return_exceptions=True)
                handles += [one for one in made if isinstance(one, TaskHandle)]
            handles.append(await self.shared.options(delay=0.001).submit())
            for handle in handles:
                await self._result(handle)

    async def look(self) -> None:
        """Read what there is to read, and submit an ended task again."""
        async with self._limit():
            handle = await self.manager.submit(self.op)
            await self._result(handle)
            await self._result(self.manager.handle(handle.task_id))
            await handle.status()
            await handle.tape()
            await handle.drops()
            await self.manager.tape(handle.task_id)
            await self.manager.drops()
            await self.manager.announce()
            await self.store.probe()
            await self.store.list(limit=1)
            await self.store.list(op=f"nobody-{self.key}", limit=1)
            for named in (shorten_id(handle.task_id), handle.task_id[:13]):
                await find_ids(self.store, named)
            await self.store.count()
            await self.store.ops.read()
            await self.store.find_traced("1" * 32)
            await self.store.backlog.read(max_age=0)
            with suppress(ResultTimeout):
                await (await self.manager.submit("later", _work, delay=0.02)).result(timeout=0.001)
            await self._result(await self.manager.resubmit(handle.task_id))

    async def nest(self) -> None:
        """A task that waits for another one's end."""
        async with self._limit():
            await self._result(await self.manager.submit("outer", self._wait_for_another))

    async def report_to_the_store(self) -> None:
        """A run that a caller leads himself, on the store's own verbs."""
        async with self._limit():
            new = NewTask(new_task_id(), "by-hand", only_by=_BY_HAND)
            self.by_hand.add(new.task_id)
            task, _ = await self.store.create(new)
            claim = await self.store.claim_if_pending(task, _BY_HAND, _LEASE)
            if claim is not None:
                await self.store.append(claim.attempt, [NewEvent("mine", {"n": 1})])
                await self.store.finish_if_running(claim.attempt, FinalEvent.succeeded())
                with suppress(OpNotRegistered):
                    await self.manager.resubmit(task.task_id)

    async def give_up_by_hand(self) -> None:
        """Such a run that fails after a cancel was put on record, and asks again for its end."""
        async with self._limit():
            new = NewTask(new_task_id(), "by-hand", only_by=_BY_HAND, retries=1)
            self.by_hand.add(new.task_id)
            task, _ = await self.store.create(new)
            claim = await self.store.claim_if_pending(task, _BY_HAND, _LEASE)
            if claim is None:
                return
            await self.store.request_cancel(task.task_id)
            for _ in range(2):
                with suppress(EventFateUnknown):
                    error, run_at = ErrorInfo("Failed"), self.store.clock.now()
                    await self.store.retry_later(claim.attempt, error, run_at)

    async def follow_the_store(self) -> None:
        """A follower that no manager sends away: it is there when the store is closed."""
        async with self._limit():
            task, _ = await self.store.create(NewTask(new_task_id(), self.elsewhere))
            self._extra.append(asyncio.ensure_future(self._follow_to_its_end(task.task_id)))

    async def _follow_to_its_end(self, task_id: str) -> None:
        tape = follow_tape(self.store, task_id)
        with suppress(StoreClosed):
            async for _ in self.place.history.following(task_id, tape):
                pass

    async def leave_waiting(self) -> None:
        """A task that is not due, and that its manager ends when it is closed."""
        async with self._limit():
            handle = await self.manager.submit("later", _work, delay=3_600)
            self._extra.append(asyncio.ensure_future(self._read_result(handle)))

    async def _read_result(self, handle: TaskHandle) -> None:
        async with self._limit():
            await self._result(handle)

    async def submit_elsewhere(self) -> None:
        """An op that this process has not registered, which is asked for in the store."""
        async with self._limit():
            handle = await self.manager.submit(self.elsewhere)
            await handle.cancel("not needed")
            await self._result(handle)

    async def pause(self) -> None:
        """An op that is paused while tasks of it are submitted, one for too long; and workers that
        are looked at."""
        async with self._limit():
            await self.manager.pause(self.halted, reason="not now")
            handle = await self.manager.submit(self.halted)
            expired = await self.manager.submit(self.halted, expires_in=0.001)
            await asyncio.sleep(0.002)
            await self.manager.list_paused()
            await self.store.ops.list_workers()
            with suppress(UnknownWorker):
                await self.store.ops.drain(f"nobody-{self.key}")
            with suppress(UnknownWorker):  # the worker of this manager has told of itself, or not
                await self.store.ops.undrain(self.manager.owner)
            await self.manager.resume(self.halted)
            await self._result(handle)
            await self._result(expired)

    async def talk(self) -> None:
        """Messages to a task that takes two, and one that comes when it has ended."""
        async with self._limit():
            handle = await self.manager.submit("listens", self._listen, timeout=0.5)
            await handle.send({"n": 1})
            await self.manager.send(handle.task_id, {"n": 2})
            await self._result(handle)
            await handle.messages()
            with suppress(TaskEnded):  # it ended, or nobody runs it
                await handle.send({"n": 3})

    async def use_a_pool(self) -> None:
        """An op with a resource."""
        async with self._limit():
            await self._result(await self.manager.submit(self.pooled))

    async def crowd(self) -> None:
        """More of an op than may wait, one of them twice by its key."""
        async with self._limit():
            handles: list[TaskHandle] = []
            for key in (self.key, None, None, self.key):
                with suppress(OpFull):
                    handles.append(await self.manager.submit(self.bounded, idempotency_key=key))
            for handle in handles:
                await self._result(handle)

    async def let_expire(self) -> None:
        """A task that nobody here begins in time, which a heartbeat ends, or a claim by its id."""
        async with self._limit():
            handle = await self.manager.submit(self.elsewhere, expires_in=0.001)
            late = NewTask(new_task_id(), "by-hand", only_by=_BY_HAND, expires_in=0.000_001)
            self.by_hand.add(late.task_id)
            task, _ = await self.store.create(late)
            await asyncio.sleep(0.001)
            await self.store.claim_if_pending(task, _BY_HAND, _LEASE)
            await self._result(handle)

    async def lead(self) -> None:
        """A task that is cancelled, and whose child is to end with it, by a heartbeat."""
        async with self._limit():
            handle = await self.manager.submit("leads", self._lead, timeout=0.5)
            async for event in handle.follow():
                if event.type == PARTIAL:
                    break
            await handle.cancel("enough")
            await self._result(handle)
            for child in (await self.store.list(parent_id=handle.task_id)).tasks:
                with suppress(ResultTimeout, TaskCancelled):  # its parent ended before the cancel
                    await self.manager.handle(child.task_id).result(timeout=1.0)

    async def close(self) -> None:
        """Close manager and store."""
        async with self._limit():
            await self.manager.aclose()
            late, unwanted = (
                asyncio.ensure_future(
                    self._create(NewTask(new_task_id(), "by-hand", only_by=_BY_HAND))
                )
                for _ in range(2)
            )
            self._extra += (late, unwanted)
            for _ in range(3):
                await asyncio.sleep(0)  # they are taken, and answered before the store is closed
            unwanted.cancel()  # who closes the store waits for what this has left
        await self.store.aclose()

    async def _create(self, task: NewTask) -> None:
        with suppress(StoreClosed):  # who was struck while closing closes again
            await self.store.create(task)

    async def _result(self, handle: TaskHandle) -> None:
        if not self.manager.is_open:
            return  # a handle of a closed manager waits for whoever runs the task: nobody does
        try:
            await handle.result(timeout=_WAIT)
        except TaskFailed:
            self.answers.append((handle.task_id, Outcome.FAILED.value))
        except TaskCancelled:
            self.answers.append((handle.task_id, Outcome.CANCELLED.value))
        else:
            self.answers.append((handle.task_id, Outcome.SUCCEEDED.value))

    # --- its runners ------------------------------------------------------------------------------

    async def _flaky(self, report: Reporter) -> str:
        async with self._limit():
            await report.log("info", "here")
            _ = report.emit_nowait("mine", {"n": 1})
            await report.progress("work", 1, 2)
            await report.emit("mine", {"n": 2})
            await report.read_tape()
            if report.attempt == 1:
                raise ValueError("the first attempt fails")
            return "done"

    async def _listen(self, report: Reporter) -> list[Any]:
        async with self._limit():
            told = [await report.message()]
            async for message in report.messages():
                told.append(message)
                break
            return [message.body for message in told]

    async def _wait(self, report: Reporter) -> None:
        async with self._limit():
            await report.partial("first", [1])
            try:
                await asyncio.Event().wait()
            finally:
                await report.log("info", "cleaned up")

    async def _lead(self, report: Reporter) -> None:
        async with self._limit():
            await self.manager.submit(self.elsewhere, cancel_with_parent=True)
            await report.partial("first", [1])
            await asyncio.Event().wait()

    async def _wait_for_another(self, report: Reporter) -> str:
        async with self._limit():
            inner = await self.manager.submit("inner", _work)
            await inner.result()
            await report.log("info", "it has ended")
            return "done"

    # --- how it is disturbed ----------------------------------------------------------------------

    def strike(self, task: asyncio.Task[Any]) -> None:
        """Do the act; ``task`` is the one that stands at the step."""
        loop = asyncio.get_running_loop()
        match self.played.act:
            case Act.CANCEL:
                task.cancel()
            case Act.TWICE:
                task.cancel()
                loop.call_soon(task.cancel)
            case Act.LATER:
                _cancel_in(self.chance.randint(2, 6), task)
            case Act.SHUTDOWN:
                self._extra.append(loop.create_task(self.manager.aclose()))
            case Act.TIMEOUT:
                for limit in self._limits:
                    if not limit.expired():
                        limit.reschedule(loop.time())
            case Act.AWAY | Act.REFUSED | Act.FATE_UNKNOWN | Act.DOUBT | Act.LATE:
                self._fault = self.played.act
            case Act.OUTAGE:
                self._back_at = loop.time() + _OUTAGE
            case Act.SLOW:
                self._slow_until = loop.time() + _OUTAGE
            case Act.LEASE_LOST:
                self._extra.append(loop.create_task(self._take_leases()))
            case Act.INTERRUPT:
                loop.call_soon(self._interrupt)
            case Act.LOOP_CLOSED:
                self._died_at = self.place.history.now
                loop.stop()
            case None:
                pass

    def _interrupt(self) -> None:
        self._died_at = self.place.history.now
        raise KeyboardInterrupt

    async def _take_leases(self) -> None:
        owner = self.manager.owner
        async with _beside(self.place, self.store, self.telemetry) as store:
            await store.leases.rescue_expired(ops=[self.op], dead_owners=[owner])

    def _break_store(self) -> None:
        """Let the primitives of this one backend fail when the act says so."""
        backend = self.store.backend
        for name in _PRIMITIVES:
            setattr(backend, name, partial(self._call, name, getattr(type(backend), name), backend))

    async def _call(self, name: str, primitive: Callable[..., Any], *arguments: Any) -> Any:
        if _in_primitive.get():
            return await primitive(*arguments)
        if name in _SOUND:
            if name == "close" and self.place.kind == "memory":
                await asyncio.sleep(0)  # who hangs up waits, too
            return await primitive(*arguments)
        fault = self._fault
        if fault in (Act.FATE_UNKNOWN, Act.DOUBT) and name not in _RESENT:
            fault = None
        if fault is not None:
            self._fault = None
        if (lag := self._lag()) or self.place.kind == "memory":
            await asyncio.sleep(lag)  # who asks a database waits
        if fault is Act.AWAY or asyncio.get_running_loop().time() < self._back_at:
            raise StoreAway("the test's network is down")
        if fault is Act.REFUSED:
            raise FlushRefused("the test's database refuses")
        token = _in_primitive.set(True)
        try:
            answer = await primitive(*arguments)
        finally:
            with suppress(ValueError):  # it is closed with its loop, in another context
                _in_primitive.reset(token)
        if fault is Act.DOUBT:
            self._back_at = asyncio.get_running_loop().time() + _OUTAGE
        if fault in (Act.FATE_UNKNOWN, Act.DOUBT):
            raise FateUnknown("the test's network lost the reply")
        lag = _OUTAGE if fault is Act.LATE else self._lag()
        if lag or self.place.kind == "memory":
            await asyncio.sleep(lag)  # and what it has done is done before he hears of it
        return answer

    def _lag(self) -> float:
        """Seconds that a call of a slow store waits just now."""
        slow = asyncio.get_running_loop().time() < self._slow_until
        return self.chance.uniform(0.0, _LAG) if slow else 0.0

    @asynccontextmanager
    async def _limit(self) -> AsyncGenerator[None]:
        """A time limit of a caller's or runner's own, that is over when the act says so."""
        async with asyncio.timeout(None) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def leave(self) -> Left:
        """The process has ended: what it leaves."""
        history, part = self.place.history, History()
        if self._died_at is not None and self.played.act is not None:
            history.died(self.played.act.value, began=self._began_at, at=self._died_at)
        part.calls = history.calls[self._first_call :]
        part.orders = history.orders[self._first_order :]
        part.follows = history.follows[self._first_follow :]
        part.began_with = self._began_with
        for call in part.calls:
            if call.ended is None and self.played.died:  # its caller has gone with its process
                history.failed(call, asyncio.CancelledError())
            if isinstance(call.answer, Claim):  # its cursor would keep what waited to be written
                bare = replace(call.answer.attempt, cursor=None)
                call.answer = replace(call.answer, attempt=bare)
        for name in _PRIMITIVES:  # a memory is the next store's, too
            delattr(self.store.backend, name)
        return Left(
            self.manager.owner,
            (self.op, self.elsewhere, self.halted, self.pooled, self.bounded),
            part,
            self._witness.read(),
            self.store.meter.ledger.read(),
            self.answers,
            self.keys,
            self.by_hand,
        )

    # --- its callers ------------------------------------------------------------------------------

    async def _act_out(self, *callers: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._gather([asyncio.ensure_future(caller()) for caller in callers])

    async def _gather(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Every caller ends, with its answer, or with an error that it is promised."""
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=_WAIT)
        for task in late:
            self.played.bad.append(f"{_name(task)} hangs")
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_WAIT)
        for task in tasks:
            if task in late or task.cancelled():
                continue
            error = task.exception()
            if error is not None and not self._is_promised(error):
                self.played.bad.append(f"{_name(task)} raised {error!r}")

    def _is_promised(self, error: BaseException) -> bool:
        if self.played.act is None:
            return False
        late = self.played.act is Act.TIMEOUT and isinstance(error, TimeoutError)
        return late or isinstance(error, TapescopeError)


async def _work(report: Reporter) -> str:
    await report.log("info", "at work")
    await report.progress("work", 1, 1)
    return "done"


async def _around(run: RunCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
    await run.report.log("info", "around")
    return await proceed()


async def _before(
    submission: Submission, proceed: Callable[[Submission], Awaitable[TaskHandle]]
) -> TaskHandle:
    await asyncio.sleep(0)
    return await proceed(submission)


@asynccontextmanager
async def _open_pool() -> AsyncGenerator[str]:
    await asyncio.sleep(0)
    yield "a pool"


async def _use(report: Reporter, pool: str) -> str:
    await report.log("info", pool)
    return pool


async def _weigh(report: Reporter) -> Decimal:
    await _work(report)
    return Decimal("1.5")  # who has but the task's id asks what type it is of


async def _wait_on(report: Reporter) -> None:
    await report.log("info", "waits")
    await asyncio.Event().wait()


async def _work_on(_: Reporter) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)


def _work_in_thread(report: ThreadReporter) -> str:
    report.log("info", "in a thread")
    return "done"


def _cancel_in(turns: int, task: asyncio.Task[Any]) -> None:
    if turns:
        asyncio.get_running_loop().call_soon(_cancel_in, turns - 1, task)
    else:
        task.cancel()


async def _one_by_one(batches: AsyncGenerator[TapeBatch]) -> AsyncGenerator[Event]:
    async for batch in batches:
        for event in batch.events:
            yield event


def _name(task: asyncio.Task[Any]) -> str:
    coroutine: Any = task.get_coro()
    return str(getattr(coroutine, "kind", coroutine))


@asynccontextmanager
async def _beside(
    place: Place, store: RecordedStore, telemetry: Telemetry
) -> AsyncGenerator[RecordedStore]:
    """A store as another process has it; of memory there is but the one."""
    if place.kind == "memory":
        yield store
        return
    async with place.make_store(telemetry) as other:
        yield other


def look_at_end(place: Place, one: Played) -> None:
    """Judge a process at its end, before another one is there: what it told, by what it left."""
    if not one.died:
        with asyncio.Runner(loop_factory=place.make_loop) as runner:
            runner.run(asyncio.wait_for(_look_at_end(place, one), 4 * _WAIT))


async def _look_at_end(place: Place, one: Played) -> None:
    assert one.left is not None
    left, told = one.left, one.left.told
    async with place.make_store(Telemetry(meter_provider=NoOpMeterProvider())) as store:
        found = await check(
            left.part,
            store,
            spans=told.spans,
            dropped_metric=told.dropped,
            ended_metric=told.ended,
            ledger=left.ledger,
        )
        one.bad += [
            f"at its end: {_describe(breach)}"
            for breach in found
            if not (breach.invariant == "I8" and breach.task_id in left.by_hand)
        ]
        # What no lease keeps for it: every heartbeat would end that, so the next scenario's, too.
        while await store.end_expired(_MANY):
            pass
        while await store.cancel_followers(_MANY):
            pass


def judge(place: Place, played: Sequence[Played]) -> None:
    """Give what was played on a place to another process, and judge what became of it."""
    errors: list[str] = []
    died = any(one.died for one in played)
    with (
        warnings.catch_warnings(record=True) as warned,
        _unraisable(played[-1], postgres=place.kind == "postgresql"),  # what a dead one has left
    ):
        warnings.simplefilter("always")
        with asyncio.Runner(loop_factory=place.make_loop) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: errors.append(str(context)))
            try:
                runner.run(asyncio.wait_for(_mend(place, played), 4 * _WAIT + len(played)))
            except TimeoutError:
                errors.append("the judge waits")
        said = _collect(warned, place.history, died)  # a memory has held the last one of its stores
    if not died:
        errors += said
    for one in played:
        one.bad += [f"its judge: {error}" for error in errors]


def _collect(warned: list[warnings.WarningMessage], history: History, died: bool) -> list[str]:
    """Collect all that is left, and say what was warned of.

    A warning keeps what it is of, and an error the frames that it came through; what a process
    leaves that ``died`` keeps itself for another round, where its coroutines still clean up.
    """
    said: list[str] = []
    if died:
        _forget_dead_scopes()
    while True:
        left = gc.collect() and died
        errors = [call.error for call in history.calls if call.error and call.error.__traceback__]
        if not warned and not errors and not left:
            return said
        said += [f"warned: {one.message}" for one in warned]
        warned.clear()
        for error in errors:
            error.__traceback__ = error.__cause__ = error.__context__ = None


def _forget_dead_scopes() -> None:
    """anyio keeps a task for as long as it stands in a scope, and with it a whole store; of a
    process whose loop is closed none leaves any more."""
    scopes = sys.modules.get("anyio._backends._asyncio")
    kept: Any = getattr(scopes, "_task_states", {})
    for task in list(kept):
        if task.get_loop().is_closed():
            del kept[task]


async def _mend(place: Place, played: Sequence[Played]) -> None:
    """Rescue what is lost, wait for all, and judge it all."""
    telemetry = Telemetry(meter_provider=NoOpMeterProvider())
    lefts = [(one, one.left) for one in played if one.left is not None]
    async with place.make_store(telemetry) as store:
        async with TaskManager(store, **_SETTINGS) as manager:
            for op in (op for _, left in lefts for op in left.ops):
                manager.op(op, retries=2)(_work)
                await store.ops.resume(op)  # who paused it may have been struck before that
            await _rescue(store, [left for _, left in lefts])
            for _, left in lefts:
                for key in left.keys:
                    await manager.submit("keyed", _work, idempotency_key=key)
            with suppress(TimeoutError):  # it is told of each task below
                async with asyncio.timeout(_WAIT):
                    await until(lambda: _all_ended(store), within=10 * _WAIT)
        unended = [await _list(store, status) for status in TaskStatus if not status.terminal]
        audit = await store.maintenance.audit(grace=0)
        everything = History()  # without a ledger: of more than one process there is none
        everything.calls, everything.follows = place.history.calls, place.history.follows
        everything.orders = place.history.orders
        breaches = await check(everything, store)
        for one, left in lefts:
            ids = set(left.part.task_ids)
            one.bad += [f"{id_} never ends" for some in unended for id_ in some if id_ in ids]
            one.bad += [
                f"audit: {violation.rule.value}: {violation.detail}"
                for violation in audit.violations
                if violation.task_id in ids
            ]
            one.bad += [_describe(breach) for breach in breaches if breach.task_id in ids]
            for task_id, outcome in left.answers:
                row = await store.get(task_id)
                if row.status.value != outcome:
                    one.bad.append(f"{task_id} was told as {outcome}, and is {row.status.value}")


async def _rescue(store: RecordedStore, lefts: Sequence[Left]) -> None:
    ops = [op for left in lefts for op in left.ops]
    owners = [_BY_HAND, *(left.owner for left in lefts)]
    while await store.leases.rescue_expired(ops=ops, dead_owners=owners):
        pass


async def _all_ended(store: RecordedStore) -> bool:
    counts = await store.count()
    return not (counts.get(TaskStatus.PENDING) or counts.get(TaskStatus.RUNNING))


async def _list(store: RecordedStore, status: TaskStatus) -> list[str]:
    page = await store.list(status=status, limit=1_000)
    return [task.task_id for task in page.tasks]


def _describe(breach: Breach) -> str:
    return f"{breach.invariant} {breach.task_id}: {breach.detail}"


def _noted(played: Played, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    destroyed = "was destroyed but it is pending" in context["message"]
    if played.died and destroyed:
        return  # as the loop was; asyncio.run ends what it finds, and not what that begins
    if played.act is Act.INTERRUPT and isinstance(error, TapescopeError | KeyboardInterrupt):
        return  # asyncio.run tells of what the tasks it cancelled raised
    played.bad.append(f"the loop was told: {context}")


def play(place: Place, seed: int, step: Step | None = None, act: Act | None = None) -> Played:
    """Play the scenario on a place, and do the act at the step; ``judge`` says what became of it.

    ``seed`` draws its callers and their order, and what of its manager's settings they run under.
    """
    stages: list[_Stage] = []
    conductor = Conductor(step, lambda task: stages[0].strike(task))
    played = Played(conductor, seed, step, act)
    before = set(threading.enumerate())
    with (
        warnings.catch_warnings(record=True) as warned,
        _unraisable(played, postgres=place.kind == "postgresql"),
    ):
        warnings.simplefilter("always")
        _perform(place, played, stages)
        played.left = stages.pop().leave()
        # With what a closed loop leaves go its connections and its threads, as with a process.
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith(_ENDING):
                thread.join()
        calls = len(place.history.calls)
        said = _collect(warned, place.history, played.died)
        over = time.monotonic() + _WAIT
        for thread in set(threading.enumerate()) - before if played.died else ():
            while thread.is_alive() and time.monotonic() < over:
                thread.join(0.01)  # one that was just answered holds its call for a moment
                said += _collect(warned, place.history, played.died)
        del place.history.calls[calls:]  # nobody called: a coroutine was closed
    if not played.died:
        played.bad += said
    return played


@contextmanager
def _unraisable(played: Played, *, postgres: bool) -> Generator[None]:
    """What is raised where nobody can catch it, as in a coroutine that is closed with its loop."""

    def note(what: Any) -> None:
        of_the_loop = played.died and _is_of_the_loop(what.exc_value)
        if not (of_the_loop and (postgres or _asks_the_loop(what.exc_value))):
            frames = traceback.extract_tb(what.exc_traceback)
            at = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
            played.bad.append(f"ignored in {what.object!r}: {what.exc_value!r} at {at}")

    before, sys.unraisablehook = sys.unraisablehook, note
    try:
        yield
    finally:
        sys.unraisablehook = before


def _is_of_the_loop(error: BaseException) -> bool:
    """Whether it was raised because a loop is gone: asyncpg hangs up through it, and fails."""
    gone = isinstance(error, RuntimeError) and str(error) in _GONE
    frames = traceback.extract_tb(error.__traceback__)
    return gone or any("asyncpg" in frame.filename for frame in frames)


def _asks_the_loop(error: BaseException) -> bool:
    """Whether it is of what asks the loop behind its end, too: a scope of anyio, virtual time, and
    a report, where a runner that cleans up is told that its loop is gone."""
    frames = traceback.extract_tb(error.__traceback__)
    words = ("anyio", "virtual_time")
    asks = any(word in frame.filename for frame in frames for word in words)
    return asks or (bool(frames) and frames[-1].name == "_in_loop")


def _perform(place: Place, played: Played, stages: list[_Stage]) -> None:
    conductor, act = played.conductor, played.act
    loop = place.make_loop()
    loop.set_task_factory(conductor.make_task)  # type: ignore[arg-type]  # typeshed's has no context
    loop.set_exception_handler(partial(_noted, played))

    async def perform() -> None:
        stages.append(_Stage(place, played))
        await stages[0].perform()

    if act is Act.LOOP_CLOSED:
        asyncio.set_event_loop(loop)
        work = loop.create_task(perform())
        with suppress(RuntimeError):  # it was stopped before its end
            loop.run_until_complete(work)
        loop.close()
        asyncio.set_event_loop(None)
        return
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(perform())
