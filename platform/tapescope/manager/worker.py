"""The worker of one manager: claims due tasks of its registered ops, as slots get free."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from tapescope.clock import Backoff
from tapescope.errors import StoreRefused, TapescopeError
from tapescope.model.telemetry import LoopName
from tapescope.model.wording import describe_stop
from tapescope.service import LoopService, Vitals, keep_alive
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.manager.ops import Op, Ops
    from tapescope.manager.pool import RunPool
    from tapescope.model.ops import Drain
    from tapescope.store.notifications import Subscription

__all__ = ["Worker"]

_log = Logger("tapescope")

_REGISTER_EVERY: Final = 3_600.0
"""Seconds after which the ops of this worker are registered on the store again."""
_TELL_EVERY: Final = 30.0
"""Seconds after which the worker tells the store again that it lives."""
_TOLD_FOR: Final = 90.0
"""Seconds for which it is believed: a worker that was killed is missed in less than two minutes."""
_SHORTEST_PAUSE: Final = 0.005
"""Seconds between two rounds when the first found no task, however many notifications come: not
every new task on a store is for this worker, and another worker may have claimed it."""
_STOP_WITHIN: Final = 1.0
"""Seconds that a stop waits for the answer to a claim under way."""
_CALLS: Final = 5
"""Calls of the store, one after the other, in a round: each may take as long as its patience."""
_SLACK: Final = 30.0
"""Seconds more that a round may take before the worker is said to be stuck."""
_SHORTEST_WAIT: Final = 0.02
"""Seconds to wait for a task that is due and could not be claimed: its row is locked just now. Each
time in a row that is so, twice as long: its row may be one that no claim will ever take."""


class Worker(LoopService):
    """Claims due tasks and starts their runs.

    A round of claims begins when tasks have come to wait for a claim, when a slot is free again,
    when the next task falls due, and every ``poll`` seconds, for a notification may be lost.
    """

    def __init__(
        self,
        pool: RunPool,
        ops: Ops,
        poll: float,
        work_ops: Collection[str] | None = None,
        queues: Sequence[str] | None = None,
    ) -> None:
        """``work_ops`` and ``queues`` are those that it takes tasks of; ``None``: of all."""
        store = pool.store
        vitals = Vitals(
            LoopName.WORKER, store.telemetry.loop_failed, poll + _CALLS * store.patience + _SLACK
        )
        super().__init__("tapescope-worker", vitals)
        self._pool = pool
        self._registry = ops
        self._work_ops = work_ops
        self.queues = queues
        """The queues that it takes tasks from; ``None``: from all."""
        self._poll = poll
        self._wake = asyncio.Event()
        self._claiming = False
        self._draining = False
        self._short = True
        """Whether the last round left an op out because no slot was free for it."""
        self._in_vain = 0
        """Rounds in a row that found a task due and could claim none."""
        self._last_due: int | None = None
        """When the first one was due that the last round left, of its ops; as the store says it."""
        self._registered: tuple[int, float] | None = None
        """How many ops were registered on the store, and when, in monotonic seconds."""
        self._told: tuple[int, float] | None = None
        """With how many ops the worker told that it lives, and when."""
        self._looked: float | None = None
        """When it last asked whether it is to drain."""
        self.drain: Drain | None = None
        """That it claims no more, for somebody asked for it on the store; any thread may look."""

    def start(self) -> None:
        """Begin, if an op is registered; a second call begins a round with the ops added since."""
        if self.find_ops():
            super().start()
        self._wake.set()

    def find_ops(self) -> Mapping[str, Op]:
        """The registered ops whose tasks it takes, by name."""
        ops = self._registry.all()
        if self._work_ops is None:
            return ops
        return {name: op for name, op in ops.items() if name in self._work_ops}

    def _begin(self) -> None:
        self._pool.on_free_slot = self._note_free_slot
        super()._begin()

    async def _end(self) -> None:
        """Claim no more. The tasks of a claim under way are released, with their spans."""
        self._draining = True
        self._wake.set()
        if self._claiming:
            await asyncio.wait([self._loop_task], timeout=_STOP_WITHIN)
        await super()._end()  # a claim cancelled here gives back the tasks that it still wins
        if self._registered is not None:  # else it has told of nothing
            with suppress(TapescopeError, TimeoutError):  # it is missed when its time is over
                async with asyncio.timeout(_STOP_WITHIN):
                    await self._pool.store.ops.forget(self._pool.owner)

    async def _run(self) -> None:
        try:
            arrivals = self._pool.store.arrivals()
        except TapescopeError as error:
            _log.error("The worker %s cannot claim tasks: %s", self._pool.owner, error)
            return  # the store was handed in and is not open: every submit raises the same
        with arrivals:
            listening = asyncio.get_running_loop().create_task(
                keep_alive(self.vitals, partial(self._listen, arrivals)),
                name="tapescope-worker-arrivals",
            )
            try:
                await self._work()
            finally:
                if not listening.get_loop().is_closed():  # else it ends with its loop
                    listening.cancel()

    async def _listen(self, arrivals: Subscription) -> None:
        async for _ in arrivals:
            self._wake.set()

    def _note_free_slot(self) -> None:
        if self._short:
            self._wake.set()

    async def _work(self) -> None:
        backoff: Backoff | None = None
        while not self._draining:
            self._wake.clear()
            self.vitals.beat()
            try:
                await self._register_ops()
                await self._tell()
                await self._find_drain()
                if self.drain is not None:
                    pause, wait = _SHORTEST_PAUSE, self._poll
                else:
                    pause, wait = await self._claim_due()
            except TapescopeError as error:
                if backoff is None:
                    backoff = Backoff()
                    _log.warning(
                        "The worker %s cannot claim tasks now: %s", self._pool.owner, error
                    )
                await backoff.wait(self._poll)
                continue
            if backoff is not None:
                backoff = None
                _log.info("The worker %s can claim tasks again.", self._pool.owner)
            await asyncio.sleep(pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait, _TELL_EVERY)):
                    await self._wake.wait()

    async def _register_ops(self) -> None:
        """Register the ops on the store: at first, after an addition, and once an hour."""
        store, ops = self._pool.store, self.find_ops()
        now = store.clock.monotonic()
        last = self._registered
        if last is None or last[0] < len(ops) or now - last[1] > _REGISTER_EVERY:
            count = len(ops)
            await store.ops.register([op.known for op in ops.values()])
            self._registered = (count, now)

    async def _tell(self) -> None:
        """Tell the store that a worker lives that can run these ops: now and again."""
        store, ops = self._pool.store, self.find_ops()
        now = store.clock.monotonic()
        last = self._told
        if last is None or last[0] < len(ops) or now - last[1] > _TELL_EVERY:
            count = len(ops)
            try:
                await store.ops.tell(self._pool.owner, list(ops), _TOLD_FOR, queues=self.queues)
            except StoreRefused as error:  # of a role without that right: it works all the same
                if last is None:
                    _log.warning(
                        "The worker %s cannot tell that it lives, and is not counted among the "
                        "workers of its ops. Grant its role anew: see 'tapescope migrate "
                        "--print-grants worker'. (%s)",
                        self._pool.owner,
                        error,
                    )
            self._told = (count, now)

    async def _find_drain(self) -> None:
        """Ask, once in a poll, whether a person has this worker drain (docs/decisions/0082).

        The store gives it no task from then on, asked or not: here it learns why.
        """
        store = self._pool.store
        now = store.clock.monotonic()
        if self._looked is not None and now - self._looked < min(self._poll, _TELL_EVERY):
            return
        self._looked = now
        try:
            drain = await store.ops.find_drain(self._pool.owner)
        except StoreRefused:  # of a role that may not look there: ``_tell`` has warned of it
            return
        if (drain is None) is not (self.drain is None):
            if drain is None:
                _log.warning("The worker %s drains no more.", self._pool.owner)
            else:
                _log.warning(
                    "The worker %s drains: it claims no more tasks, and those that it runs go on%s",
                    self._pool.owner,
                    describe_stop(drain.by, drain.reason),
                )
        self.drain = drain

    async def _claim_due(self) -> tuple[float, float]:
        """Claim the due tasks that there are free slots for, and start them.

        Gives the seconds to pause in any case, and those to wait after that for a wake-up.
        """
        pool, ops = self._pool, self.find_ops()
        start = pool.store.clock.monotonic()
        asked: list[str] = []
        claimed, more = 0, False
        plan = list(self._plan(ops))
        self._short = sum(len(names) for names, _ in plan) < len(ops)
        for names, limit in plan:
            slots = pool.reserve(min(self._find_room(name, limit) for name in names))
            if not slots:  # the ops before this one have taken them, or an engine those of the op
                self._short = True
                continue
            taken = 0
            self._claiming = True
            try:
                with pool.coming(names, slots):
                    claims = await pool.store.claim_due(
                        pool.owner, names, slots, pool.lease, queues=self.queues
                    )
                for claim in claims:
                    try:
                        pool.adopt(claim, ops[claim.task.op].runner)
                    except Exception as error:  # noqa: BLE001  # its lease ends, and it is rescued
                        self.vitals.failed(error)
                    else:
                        taken += 1
            finally:
                self._claiming = False
                pool.give_back(slots - taken)
            if self._draining:
                break
            asked += names
            claimed += taken
            more = more or taken == slots
        if more:
            self._wake.set()  # as many as there were slots: more may be due
        if more or not asked:
            return 0.0, self._poll  # a slot that gets free wakes the worker
        due = await pool.store.next_due(asked, queues=self.queues)
        wait = self._poll if due is None else (due - pool.store.due_clock.now()) / 1e6
        # One that has moved on: the claim looked at keys that were full, and there are more.
        moved, self._last_due = due != self._last_due, due
        self._in_vain = self._in_vain + 1 if wait <= 0 and not claimed and not moved else 0
        shortest = _SHORTEST_WAIT * 2 ** min(max(0, self._in_vain - 1), 10)
        took = pool.store.clock.monotonic() - start
        pause = 0.0 if claimed else max(_SHORTEST_PAUSE, took)
        return pause, min(max(shortest, wait), max(_SHORTEST_WAIT, self._poll))

    def _plan(self, ops: Mapping[str, Op]) -> Iterator[tuple[Sequence[str], int]]:
        """The claims of a round: (ops, how many tasks), one claim for all ops with enough slots.

        An op whose own limit is nearer than the manager's is claimed for by itself, so that no more
        tasks are claimed than can be started. It is claimed together with the others where one slot
        is free, as under load: then the highest priority goes first, whichever op it is of.
        """
        free = self._pool.free
        together: list[str] = []
        alone: list[tuple[list[str], int]] = []
        for name in ops:
            slots = self._find_room(name, free)
            if slots >= free > 0:
                together.append(name)
            elif slots > 0:
                alone.append(([name], slots))
        if together:
            yield together, free
        yield from alone

    def _find_room(self, name: str, most: int) -> int:
        """How many tasks of an op may be claimed now, of so many at most."""
        limit = self._registry.all()[name].max_running
        return most if limit is None else max(0, min(most, limit - self._pool.taken_of(name)))
