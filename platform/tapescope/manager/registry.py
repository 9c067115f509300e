"""The ops that a manager has registered, and what it knows of those that others have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Final as Constant

from tapescope.errors import OpTaken
from tapescope.model.ops import KnownOp
from tapescope.run.runner import Runner

if TYPE_CHECKING:
    from tapescope.manager.submission import Submission
    from tapescope.store.port import TaskStore

__all__ = ["KnownOps", "RegisteredOp", "Registry"]

_FRESH: Constant = 10.0
"""Seconds that what the store said of others' ops is good for."""


@dataclass(frozen=True, slots=True)
class RegisteredOp:
    """An op with the runner that does it here."""

    known: KnownOp
    runner: Runner
    max_running: int | None
    """Of this op at once in this manager; ``None``: as many as the manager's own."""


class Registry:
    """Ops by name; what is registered stays."""

    def __init__(self) -> None:
        self._ops: dict[str, RegisteredOp] = {}

    def __bool__(self) -> bool:
        return bool(self._ops)

    def add(self, op: RegisteredOp) -> None:
        """Raises ``OpTaken`` for a name that is registered."""
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
    """What a task by name takes on: as registered here, else as a worker has told the store.

    The store is asked every few seconds at most.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = asyncio.Lock()
        self._ops: Mapping[str, KnownOp] = {}
        self._read_at: float | None = None

    async def find(self, store: TaskStore, name: str) -> KnownOp | None:
        """What was said of an op; ``None``: nobody has registered it. Raises what a store does."""
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
