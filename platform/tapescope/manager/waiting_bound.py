"""The bound on what waits of an op, as the submits of one manager keep to it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from tapescope.errors import OpFull
from tapescope.shielded import SharedCall

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = ["WaitingBound"]

_FRESH: Final = 0.5
"""Seconds for which a reading admits: it was made by whichever process, so long ago at the most."""
_TO_REFUSE: Final = 0.05
"""The same of a reading that refuses: many refusals in a row read the numbers so often, no more."""
_READING: Final = "tapescope-read-waiting"


class WaitingBound:
    """Refuses the submits of an op of which as many tasks wait as may (docs/decisions/0100).

    It goes by the numbers that the store keeps, and by what this manager has submitted since they
    were read. Nothing is refused by numbers that are older than a moment, nor by a guess of what
    workers have left since: where the reading itself has room, another one decides. What other
    processes have submitted meanwhile comes on top: at most that much more than the bound may wait.
    """

    def __init__(self) -> None:
        self._read_at: float | None = None
        """When the newest reading was asked for, in monotonic seconds."""
        self._waiting: Mapping[str, int] = {}
        self._begun: Counter[str] = Counter()
        """By op the submits that have begun, but for those that made no task."""
        self._under_way: Counter[str] = Counter()
        self._left: deque[tuple[float, str]] = deque()
        """When the submits of the last moment ended: numbers that are told again lack them."""
        self._before: Counter[str] = Counter()
        """By op those of the submits that had ended when the newest reading was made: it has their
        tasks, as far as they wait yet."""
        self._reading, self._reading_now = SharedCall(_READING), SharedCall(_READING)

    async def enter(
        self, store: TaskStore, op: str, most: int, idempotency_key: str | None
    ) -> None:
        """Begin a submit of an op of which ``most`` may wait; ``leave`` when it has ended.

        A submit whose key is a task's already is not refused: it makes none. Raises ``OpFull``, and
        what the store raises.
        """
        if not self._is_known(store, _FRESH):
            await self._read(store, _TO_REFUSE)
        if self._is_unsure(store, op, most) and not self._is_known(store, _TO_REFUSE):
            await self._read(store, _TO_REFUSE)
        if self._is_unsure(store, op, most):
            await self._read(store, 0.0)
        waiting = self._count(op)
        if waiting >= most and not await _is_there(store, op, idempotency_key):
            store.telemetry.tasks.refused(op)
            raise OpFull(op, waiting, most)
        self._begun[op] += 1
        self._under_way[op] += 1

    def leave(self, store: TaskStore, op: str, *, made: bool) -> None:
        """The submit has ended, whichever way; ``made``: there may be a task of it."""
        self._under_way[op] -= 1
        if not made:
            self._begun[op] -= 1
            return
        now = store.clock.monotonic()
        self._left.append((now, op))
        while self._left[0][0] < now - 2 * _TO_REFUSE:
            self._left.popleft()

    def _count(self, op: str) -> int:
        return self._waiting.get(op, 0) + self._begun[op] - self._before[op]

    def _is_known(self, store: TaskStore, age: float) -> bool:
        return self._read_at is not None and store.clock.monotonic() - self._read_at < age

    def _is_unsure(self, store: TaskStore, op: str, most: int) -> bool:
        """Whether it looks full, and may not be so: workers may have claimed what ended here since
        the reading, or the reading is old."""
        if self._count(op) < most:
            return False
        sure = self._waiting.get(op, 0) + self._under_way[op] >= most
        return not (sure and self._is_known(store, _TO_REFUSE))

    async def _read(self, store: TaskStore, max_age: float) -> None:
        """Read numbers of at most this age; many submits at once ask once."""
        call = self._reading_now if max_age == 0 else self._reading
        await call.join(partial(self._read_now, store, max_age))

    async def _read_now(self, store: TaskStore, max_age: float) -> None:
        asked_at = store.clock.monotonic()
        before = self._begun - self._under_way  # those are counted here as long as they last
        backlog = await store.backlog.read(max_age=max_age)
        if self._read_at is not None and asked_at < self._read_at:
            return  # another one has come since
        made_at = asked_at - backlog.age
        missed = Counter(op for at, op in self._left if made_at <= at < asked_at)
        self._waiting = {one.op: one.waiting for one in backlog.ops}
        self._before = before - missed
        self._read_at = asked_at


async def _is_there(store: TaskStore, op: str, idempotency_key: str | None) -> bool:
    """Whether there is a task of this key, which a submit would find."""
    if idempotency_key is None:
        return False
    page = await store.list(op=op, idempotency_key=idempotency_key, limit=1)
    return bool(page.tasks)
