"""Tasks that expired before an attempt began: looks at so many, and requests that end them.

A look begins where the one before it ended and goes round. A claim that meets such a task begins
none of it, and has it ended at once (docs/decisions/0104).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence

from tapescope.store._cancel_looks import CancelLooks
from tapescope.store.core import StoreCore
from tapescope.store.flush import CancelAnswer, CancelState
from tapescope.store.orders import FIRST_EXPIRED, Expired, ExpiredOrder

__all__ = ["Expiries"]


class Expiries:
    """Where the looks have come to, and which tasks could not be ended, of one store."""

    def __init__(
        self,
        core: StoreCore,
        request_cancel: Callable[[Expired], Coroutine[None, None, CancelAnswer]],
    ) -> None:
        self._core = core
        self._looks = CancelLooks(request_cancel, "ended, though they have expired")
        self._after = FIRST_EXPIRED

    async def look(self, limit: int) -> int:
        """One look: end at most ``limit``; says how many have ended by it."""
        order = ExpiredOrder(limit, self._after)
        backend = self._core.backend
        found = await self._core.read("find_expired", lambda: backend.find_expired(order))
        full = len(found) == limit
        # Before the requests: whatever they raise, the next look is at the next ones.
        self._after = (found[-1].at, found[-1].key) if full else FIRST_EXPIRED
        try:
            return await self.end(found)
        finally:
            if not full:
                self._looks.end_round()

    async def end(self, found: Sequence[Expired]) -> int:
        """End these, but for those that have begun or ended by now; says how many it has ended."""
        answers = await self._looks.cancel_all(found)
        return sum(answer.state is CancelState.CANCELLED for answer in answers)
