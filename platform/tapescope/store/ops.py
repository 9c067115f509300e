"""Ops and workers on the port: who can run what by name, and what a person has stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Final

from tapescope.errors import TapescopeError, UnknownWorker
from tapescope.model.ops import Drain, KnownOp, Pause, PausePage, WorkerPage
from tapescope.model.tasks import PRIORITIES, is_op, is_queue
from tapescope.store.core import StoreCore
from tapescope.store.damage import has_sound_numbers
from tapescope.store.validation import (
    check_op,
    check_page_size,
    check_queues,
    check_seconds,
    check_text,
)
from tapescope_telemetry.logger import Logger

__all__ = ["StoreOps"]

_log = Logger("tapescope")

_REMEMBERED: Final = 7 * 24 * 3_600 * 1_000_000
"""Microseconds that an op is known after its last registration. A running worker registers its ops
again every hour: a week is longer than any outage, and forgets an op that no code has any more."""
_PAGE: Final = 100


class StoreOps:
    """What can be run by name, and by whom (docs/decisions/0009); what is paused (0081), and which
    workers drain (0082)."""

    def __init__(self, core: StoreCore, announce: Callable[[], Awaitable[None]]) -> None:
        self._core = core
        self._announce = announce

    async def register(self, ops: Collection[KnownOp]) -> None:
        """Tell every process on the store that a worker can run these ops; the last call counts.

        From now on a lost run of such an op is made again while a retry is left, whichever process
        rescues it, and a submit takes on the op's timeout, retries, priority, queue and expiry,
        and keeps to its bound.
        """
        core = self._core
        in_order = sorted(ops, key=lambda known: known.op)  # as every worker locks them
        if in_order:
            await core.change("register_ops", lambda: core.backend.register_ops(in_order))

    async def tell(
        self,
        owner: str,
        ops: Collection[str],
        lease: float,
        *,
        queues: Collection[str] | None = None,
    ) -> None:
        """Tell every process on the store that this worker lives, for ``lease`` seconds from now,
        and what it can run, of these ``queues`` or of all. Raises ``BadSetting``."""
        length = round(check_seconds("lease", lease, over_zero=True) * 1e6)
        taken = None if queues is None else check_queues(queues)
        core = self._core
        await core.change(
            "tell_worker", lambda: core.backend.tell_worker(owner, sorted(ops), length, taken)
        )

    async def forget(self, owner: str) -> None:
        """The worker lives no more; nothing happens where it was not known."""
        core = self._core
        await core.change("forget_worker", lambda: core.backend.forget_worker(owner))

    async def read(self) -> Mapping[str, KnownOp]:
        """By name, the ops that a worker of this store has registered within the last week."""
        core = self._core
        known = await core.read("read_ops", lambda: core.backend.read_ops(_REMEMBERED))
        return {one.op: one for one in known if _can_be_read(one)}

    # --- pauses -----------------------------------------------------------------------------------

    async def pause(self, op: str, *, reason: str = "", by: str | None = None) -> Pause:
        """Have no worker claim tasks of an op, in whatever process, until ``resume``.

        When this returns, no claim that begins later takes a task of the op: one that is under way
        may still. What runs goes on; what is submitted, retried, rescued or fired by a schedule
        meanwhile waits. A task with a callable of its own, and a ``tapescope run``, is claimed by
        the process that submitted it, and not paused. The op need not be registered.

        Gives the pause that is in force: of an op that is paused already it is the one that stands.
        Raises ``BadOp``; ``BadSetting`` for a ``reason`` or ``by`` that is not text, or is longer
        than 1,024 bytes; ``StoreRefused`` where the role may not do it.
        """
        op, reason = check_op(op), check_text("reason", reason)
        who = None if by is None else check_text("by", by)
        core = self._core
        pause = await core.change("pause_op", lambda: core.backend.pause_op(op, who, reason))
        _log.warning("The op %s is paused: no worker claims its tasks.", op, extra={"op": op})
        return pause

    async def resume(self, op: str) -> Pause | None:
        """Have the workers claim tasks of an op again; gives the pause that ended, if any.

        They take them at once, or with their next poll. Raises ``BadOp``, ``StoreRefused``.
        """
        op = check_op(op)
        core = self._core
        ended = await core.change("resume_op", lambda: core.backend.resume_op(op))
        if ended is not None:
            _log.info("The op %s is resumed.", op)
        await self._wake()
        return ended

    async def list_paused(self, *, after: str | None = None, limit: int = _PAGE) -> PausePage:
        """A page of the ops that are paused, by name. Raises ``BadSetting``."""
        core, start = self._core, "" if after is None else check_text("after", after)
        limit = check_page_size(limit)
        found = await core.read("list_pauses", lambda: core.backend.list_pauses(start, limit + 1))
        page = tuple(found[:limit])
        return PausePage(page, page[-1].op if len(found) > limit else None)

    # --- workers ----------------------------------------------------------------------------------

    async def list_workers(self, *, after: str | None = None, limit: int = _PAGE) -> WorkerPage:
        """A page of who works on the store, by owner: its workers, and other owners of tasks that
        run. Raises ``BadSetting``.
        """
        core, start = self._core, "" if after is None else check_text("after", after)
        limit = check_page_size(limit)
        found = await core.read("list_workers", lambda: core.backend.list_workers(start, limit + 1))
        page = tuple(found[:limit])
        return WorkerPage(page, page[-1].owner if len(found) > limit else None)

    async def drain(self, owner: str, *, reason: str = "", by: str | None = None) -> Drain:
        """Have a worker claim no more tasks by name, until ``undrain`` or its end.

        What it runs goes on, and so does its process. When this returns, no claim of the worker
        that begins later takes a task. Gives the drain that is in force: of a worker that drains
        already it is the one that stands. Raises ``UnknownWorker``, ``BadSetting``,
        ``StoreRefused``.
        """
        owner, reason = check_text("owner", owner), check_text("reason", reason)
        who = None if by is None else check_text("by", by)
        core = self._core
        drain = await core.change(
            "drain_worker", lambda: core.backend.drain_worker(owner, who, reason)
        )
        if drain is None:
            raise UnknownWorker(owner)
        _log.warning("The worker %s drains: it claims no more tasks.", owner)
        return drain

    async def undrain(self, owner: str) -> None:
        """Have a worker claim tasks again. Raises ``UnknownWorker``, ``StoreRefused``."""
        owner = check_text("owner", owner)
        core = self._core
        if not await core.change("undrain_worker", lambda: core.backend.undrain_worker(owner)):
            raise UnknownWorker(owner)
        _log.info("The worker %s drains no more.", owner)
        await self._wake()

    async def find_drain(self, owner: str) -> Drain | None:
        """The drain of a worker; ``None``: it claims, or is not known."""
        core = self._core
        return await core.read("find_drain", lambda: core.backend.find_drain(owner))

    async def _wake(self) -> None:
        with suppress(TapescopeError):  # it is written, and the workers poll
            await self._announce()


def _can_be_read(known: KnownOp) -> bool:
    """Whether the row is not one that was written past tapescope."""
    return (
        is_op(known.op)
        and has_sound_numbers(0, known.retries, 0, known.timeout)
        and has_sound_numbers(0, 0, 0, known.expires_in)
        and known.priority in PRIORITIES
        and (known.max_concurrent is None or known.max_concurrent >= 1)
        and is_queue(known.queue)
        and _is_bound(known.max_waiting)
        and _is_bound(known.rate_times)
        and _is_bound(known.rate_per_us)
        and (known.rate_times is None) == (known.rate_per_us is None)
    )


def _is_bound(most: object) -> bool:
    return most is None or (type(most) is int and most > 0)
