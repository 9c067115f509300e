"""The ops that a manager has registered, and those that other managers have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tapescope.errors import OpTaken
from tapescope.model.ops import KnownOp
from tapescope.run import Runner

if TYPE_CHECKING:
    from tapescope.manager.submission import Submission
    from tapescope.store.port import TaskStore

__all__ = ["KnownOps", "RegisteredOp", "Registry"]

_FRESH: Final = 10.0
"""Seconds for which the store's list of registered ops is used before it is read again."""


@dataclass(frozen=True, slots=True)
class RegisteredOp:
    """An op with its runner in this process."""

    known: KnownOp
    runner: Runner
    max_running: int | None
    """How many tasks of the op this manager runs at once; ``None`` for the manager's own limit."""


class Registry:
    """The ops of this manager by name; a registered op stays."""

    def __init__(self) -> None:
        self._ops: dict[str, RegisteredOp] = {}

    def __bool__(self) -> bool:
        return bool(self._ops)

    def add(self, op: RegisteredOp) -> None:
        """Register an op. Raises ``OpTaken`` for a name that is registered."""
        name = op.known.op
        if (taken := self._ops.get(name)) is not None:
            raise OpTaken(name, taken.runner.call, op.runner.call)
        self._ops[name] = op

    def get(self, name: str) -> RegisteredOp | None:
        """The op of this name, if it is registered here."""
        return self._ops.get(name)

    def all(self) -> Mapping[str, RegisteredOp]:
        """Every op by name."""
        return self._ops


class KnownOps:
    """The ops as registered here, or else on the store by a worker.

    The store's list is read every few seconds at most.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = asyncio.Lock()
        self._ops: Mapping[str, KnownOp] = {}
        self._read_at: float | None = None

    async def find(self, store: TaskStore, name: str) -> KnownOp | None:
        """The op of this name, if one is registered. Raises what ``read_ops`` raises."""
        if (registered := self._registry.get(name)) is not None:
            return registered.known
        async with self._lock:  # many submits at once ask once
            now = store.clock.monotonic()
            if self._read_at is None or now - self._read_at > _FRESH:
                self._ops, self._read_at = await store.ops.read(), now
            return self._ops.get(name)

    async def fill_in(self, store: TaskStore, submission: Submission) -> tuple[float | None, int]:
        """The timeout and the retries of a task: those of its submit, else those of its op."""
        timeout, retries = submission.timeout, submission.retries
        if timeout is None or retries is None:
            known = await self.find(store, submission.op) or KnownOp(submission.op)
            timeout = known.timeout if timeout is None else timeout
            retries = known.retries if retries is None else retries
        return timeout, retries
