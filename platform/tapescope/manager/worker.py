"""The worker of one manager: takes due tasks of its registered ops, as slots get free."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from typing import Final as Constant

from tapescope.clock import Backoff
from tapescope.errors import TapescopeError

if TYPE_CHECKING:
    from tapescope.manager.pool import RunPool
    from tapescope.manager.registry import Registry
    from tapescope.store.notifications import Subscription

__all__ = ["Worker"]

_log = logging.getLogger("tapescope")

_TELL_AGAIN: Constant = 3_600.0
"""Seconds after which the store is told again what this worker can run."""
_LEAST_REST: Constant = 0.005
"""Seconds between two looks when the first found nothing, however many notifications come: not all
that is new on a store is for this worker, and others may have been faster."""
_CLAIMED_WITHIN: Constant = 1.0
"""Seconds that a stop waits for the answer to a claim under way."""
_LEAST_WAIT: Constant = 0.02
"""Seconds to wait for a task that is due and could not be had: somebody holds its row just now."""


class Worker:
    """Looks for due tasks from ``start`` to ``stop``; what it claims, it starts.

    It looks when tasks have come to wait for a claim, when a slot is free again, when the next task
    falls due, and every ``poll`` seconds, for a notification may be lost.
    """

    def __init__(self, pool: RunPool, registry: Registry, poll: float) -> None:
        self._pool = pool
        self._registry = registry
        self._poll = poll
        self._working: asyncio.Task[None] | None = None
        self._stir = asyncio.Event()
        self._claiming = False
        self._stopping = False
        self._short = True
        """Whether the last look left an op out because it had no slot."""
        self._told: tuple[int, float] | None = None
        """How many ops the store was told of last, and when, in monotonic seconds."""

    def start(self) -> None:
        """Begin, if anything is registered; a second call has it look at what was added."""
        if self._working is None and self._registry:
            self._pool.on_room = self._hear_of_room
            self._working = asyncio.get_running_loop().create_task(
                self._work(), name="tapescope-worker", context=contextvars.Context()
            )
        self._stir.set()

    async def stop(self) -> None:
        """Claim nothing more. What a claim under way still brings is released, with its spans."""
        working, self._working = self._working, None
        if working is None:
            return
        self._stopping = True
        self._stir.set()
        if self._claiming:
            await asyncio.wait([working], timeout=_CLAIMED_WITHIN)
        working.cancel()  # the store is away: should it have claimed all the same, it gives back
        with suppress(asyncio.CancelledError):  # ours
            await working

    async def _work(self) -> None:
        try:
            arrivals = self._pool.store.arrivals()
        except TapescopeError as error:
            _log.error("The worker %s finds no work: %s", self._pool.owner, error)
            return  # its store was handed in and is not open, as every submit here will say
        with arrivals:
            listening = asyncio.get_running_loop().create_task(
                self._hear(arrivals), name="tapescope-worker-ear"
            )
            try:
                await self._go_on()
            finally:
                listening.cancel()

    async def _hear(self, arrivals: Subscription) -> None:
        async for _ in arrivals:
            self._stir.set()

    def _hear_of_room(self) -> None:
        if self._short:
            self._stir.set()

    async def _go_on(self) -> None:
        backoff: Backoff | None = None
        while not self._stopping:
            self._stir.clear()
            try:
                await self._tell_ops()
                rest, wait = await self._look()
            except TapescopeError as error:
                if backoff is None:
                    backoff = Backoff()
                    _log.warning("The worker %s finds no work now: %s", self._pool.owner, error)
                await backoff.wait(self._poll)
                continue
            if backoff is not None:
                backoff = None
                _log.info("The worker %s can look for work again.", self._pool.owner)
            await asyncio.sleep(rest)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stir.wait()

    async def _tell_ops(self) -> None:
        """Say on the store what can be run here: at first, after an addition, and now and then."""
        store, ops = self._pool.store, self._registry.all()
        now = store.clock.monotonic()
        if self._told is None or self._told[0] < len(ops) or now - self._told[1] > _TELL_AGAIN:
            count = len(ops)
            await store.ops.register([op.known for op in ops.values()])
            self._told = (count, now)

    async def _look(self) -> tuple[float, float]:
        """Claim what is due and start it.

        Gives the seconds to rest now, whatever happens, and those to wait then for something new.
        """
        pool, ops = self._pool, self._registry.all()
        start = pool.store.clock.monotonic()
        asked: list[str] = []
        found, more = 0, False
        plan = list(self._plan())
        self._short = sum(len(names) for names, _ in plan) < len(ops)
        for names, limit in plan:
            room = pool.reserve(limit)
            if not room:
                self._short = True  # those that were asked for before have taken it
                break
            taken = 0
            self._claiming = True
            try:
                claims = await pool.store.claim_due(pool.owner, names, room, pool.lease)
                for claim in claims:
                    pool.adopt(claim, ops[claim.task.op].runner)
                taken = len(claims)
            finally:
                self._claiming = False
                pool.give_back(room - taken)
            if self._stopping:
                break
            asked += names
            found += taken
            more = more or taken == room
        if more:
            self._stir.set()  # there may be more of them
        if more or not asked:
            return 0.0, self._poll  # a slot that gets free tells
        due = await pool.store.next_due(asked)
        wait = self._poll if due is None else (due - pool.store.clock.now()) / 1e6
        took = pool.store.clock.monotonic() - start
        rest = 0.0 if found else max(_LEAST_REST, took)
        return rest, max(_LEAST_WAIT, min(wait, self._poll))

    def _plan(self) -> Iterator[tuple[Sequence[str], int]]:
        """What to ask for: ops and how many tasks of them, one question for all that have room.

        An op whose own limit is nearer than the manager's is asked for by itself, so that no more
        is claimed than can be started. In step with the others it stands where one slot is free,
        as it is under load: then the longest due goes first, whichever op it is of.
        """
        free = self._pool.free
        together: list[str] = []
        alone: list[tuple[list[str], int]] = []
        for name, op in self._registry.all().items():
            room = free
            if op.max_running is not None:
                room = min(free, op.max_running - self._pool.running_of(name))
            if room >= free > 0:
                together.append(name)
            elif room > 0:
                alone.append(([name], room))
        if together:
            yield together, free
        yield from alone
