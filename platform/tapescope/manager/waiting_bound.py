"""The bound on what waits of an op, as the submits of one manager keep to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tapescope.errors import OpFull

if TYPE_CHECKING:
    from tapescope.model.ops import KnownOp
    from tapescope.store.port import TaskStore

__all__ = ["WaitingBound"]

_FRESH: Final = 0.5
"""Seconds for which a reading admits: it was made by whichever process, so long ago at the most."""
_TO_REFUSE: Final = 0.05
"""The same of a reading that refuses: many refusals in a row read the numbers so often, no more."""


class WaitingBound:
    """Refuses the submits of an op of which as many tasks wait as may (docs/decisions/0100).

    It goes by the numbers that the store keeps, and by what this manager has submitted since they
    were read. Nothing is refused by numbers that are older than a moment. What other processes
    have submitted meanwhile comes on top: at most that much more than the bound may wait.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._read_at: float | None = None
        self._waiting: Mapping[str, int] = {}
        self._since: Counter[str] = Counter()
        """By op the submits since the reading, and those that were under way with it."""
        self._under_way: Counter[str] = Counter()

    async def enter(
        self, store: TaskStore, known: KnownOp, most: int, idempotency_key: str | None
    ) -> None:
        """Begin a submit of an op of which ``most`` may wait; ``leave`` when it has ended.

        A submit whose key is a task's already is not refused: it makes none. Raises ``OpFull``, and
        what the store raises.
        """
        op = known.op
        if not self._is_known(store, _FRESH) or self._count(op) >= most:
            await self._read(store)
            waiting = self._count(op)
            if waiting >= most and not await _is_there(store, op, idempotency_key):
                store.telemetry.tasks.refused(op)
                raise OpFull(op, waiting, most)
        self._since[op] += 1
        self._under_way[op] += 1

    def leave(self, known: KnownOp) -> None:
        """The submit has ended, whichever way."""
        self._under_way[known.op] -= 1

    def _count(self, op: str) -> int:
        return self._waiting.get(op, 0) + self._since[op]

    def _is_known(self, store: TaskStore, age: float) -> bool:
        return self._read_at is not None and store.clock.monotonic() - self._read_at < age

    async def _read(self, store: TaskStore) -> None:
        async with self._lock:  # many submits at once ask once
            if self._is_known(store, _TO_REFUSE):
                return
            before, under_way = self._since.copy(), self._under_way.copy()
            backlog = await store.backlog.read(max_age=_TO_REFUSE)
            self._waiting = {one.op: one.waiting for one in backlog.ops}
            self._since = under_way + (self._since - before)
            self._read_at = store.clock.monotonic()


async def _is_there(store: TaskStore, op: str, idempotency_key: str | None) -> bool:
    """Whether there is a task of this key, which a submit would find."""
    if idempotency_key is None:
        return False
    page = await store.list(op=op, idempotency_key=idempotency_key, limit=1)
    return bool(page.tasks)
