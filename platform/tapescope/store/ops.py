"""Registered ops on the port: what the workers of a store can run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from tapescope.model.ops import KnownOp
from tapescope.model.tasks import is_op
from tapescope.store.core import StoreCore
from tapescope.store.damage import has_sound_numbers
from tapescope.store.validation import check_seconds

__all__ = ["StoreOps"]

_REMEMBERED: Final = 7 * 24 * 3_600 * 1_000_000
"""Microseconds that an op is known after its last registration. A running worker registers its ops
again every hour: a week is longer than any outage, and forgets an op that no code has any more."""


class StoreOps:
    """What can be run by name (docs/decisions/0009)."""

    def __init__(self, core: StoreCore) -> None:
        self._core = core

    async def register(self, ops: Collection[KnownOp]) -> None:
        """Tell every process on the store that a worker can run these ops; the last call counts.

        From now on a lost run of such an op is made again while a retry is left, whichever process
        rescues it, and a submit takes on the op's timeout and retries.
        """
        core = self._core
        in_order = sorted(ops, key=lambda known: known.op)  # as every worker locks them
        if in_order:
            await core.change("register_ops", lambda: core.backend.register_ops(in_order))

    async def tell(self, owner: str, ops: Collection[str], lease: float) -> None:
        """Tell every process on the store that this worker lives, for ``lease`` seconds from now,
        and what it can run. Raises ``BadSetting``."""
        length = round(check_seconds("lease", lease, over_zero=True) * 1e6)
        core = self._core
        await core.change(
            "tell_worker", lambda: core.backend.tell_worker(owner, sorted(ops), length)
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


def _can_be_read(known: KnownOp) -> bool:
    """Whether the row is not one that was written past tapescope."""
    return is_op(known.op) and has_sound_numbers(0, known.retries, 0, known.timeout)
