"""The verbs of registered ops on the port: what the workers of a store can run."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeVar

from tapescope.model.ops import KnownOp
from tapescope.store.backend import StorePrimitives

__all__ = ["OpVerbs"]

T = TypeVar("T")

_REMEMBERED: Final = 7 * 24 * 3_600 * 1_000_000
"""Microseconds that an op is known after a worker told of it last; a worker that runs says so every
hour. Longer than any outage, and an end to what no code has any more."""


class OpVerbs(StorePrimitives):
    """The part of ``TaskStore`` that knows what can be run by name (docs/decisions/0009)."""

    @abc.abstractmethod
    async def _read(self, name: str, primitive: Callable[[], Awaitable[T]]) -> T: ...

    async def register_ops(self, ops: Collection[KnownOp]) -> None:
        """Tell every process on the store that a worker can run these ops; the newest word stays.

        From now on a lost run of such an op is made again while a retry is left, whoever rescues
        it, and a submit takes on the op's timeout and retries.
        """
        in_order = sorted(ops, key=lambda known: known.op)  # as every worker locks them
        if in_order:
            await self._read("register_ops", lambda: self._register_ops(in_order))

    async def read_ops(self) -> Mapping[str, KnownOp]:
        """By name, the ops that a worker of this store has registered within the last week."""
        known = await self._read("read_ops", lambda: self._read_ops(_REMEMBERED))
        return {one.op: one for one in known}
