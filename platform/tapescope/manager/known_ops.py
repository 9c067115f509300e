"""The ops as a submit knows them: registered here, or on the store by another process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from tapescope.model.ops import KnownOp
from tapescope.shielded import SharedCall

if TYPE_CHECKING:
    from tapescope.manager.ops import Ops
    from tapescope.manager.submission import Submission
    from tapescope.store.port import TaskStore

__all__ = ["KnownOps"]

_FRESH: Final = 10.0
"""Seconds for which the store's list of registered ops is used before it is read again."""


class KnownOps:
    """The ops as registered here, or else on the store by a worker.

    The store's list is read every few seconds at most.
    """

    def __init__(self, ops: Ops) -> None:
        self._registry = ops
        self._reading = SharedCall("tapescope-read-ops")
        self._ops: Mapping[str, KnownOp] = {}
        self._read_at: float | None = None

    async def find(self, store: TaskStore, name: str) -> KnownOp | None:
        """The op of this name, if one is registered. Raises what ``read_ops`` raises."""
        if (registered := self._registry.get(name)) is not None:
            return registered.known
        if self._read_at is None or store.clock.monotonic() - self._read_at > _FRESH:
            await self._reading.join(partial(self._read, store))  # many submits at once ask once
        return self._ops.get(name)

    async def _read(self, store: TaskStore) -> None:
        now = store.clock.monotonic()
        self._ops, self._read_at = await store.ops.read(), now

    async def fill_in(self, store: TaskStore, submission: Submission) -> KnownOp:
        """The timeout, the retries, the priority, the queue and the expiry of a task: those of its
        submit, else those of its op. How many of the op run at once, begin in a while, and may
        wait, is the op's."""
        known = await self.find(store, submission.op) or KnownOp(submission.op)
        timeout, retries = submission.timeout, submission.retries
        priority, queue = submission.priority, submission.queue
        expires_in = submission.expires_in
        return KnownOp(
            submission.op,
            known.timeout if timeout is None else timeout,
            known.retries if retries is None else retries,
            known.priority if priority is None else priority,
            known.max_concurrent,
            known.queue if queue is None else queue,
            known.max_waiting,
            known.expires_in if expires_in is None else expires_in,
            known.rate_times,
            known.rate_per_us,
        )
