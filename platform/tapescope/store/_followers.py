"""Children that are to end with their parents: a look at so many, and requests of their cancels.

A look begins where the one before it ended and goes round, so what one looks at is bounded, and no
child is in another one's way (docs/decisions/0096).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from tapescope.store._cancel_looks import CancelLooks
from tapescope.store.core import StoreCore
from tapescope.store.flush import CancelAnswer
from tapescope.store.orders import FIRST_FOLLOWER, Follower, FollowersOrder

__all__ = ["Followers"]


class Followers:
    """Where the looks have come to, and which children could not be cancelled, of one store."""

    def __init__(
        self,
        core: StoreCore,
        request_cancel: Callable[[Follower], Coroutine[None, None, CancelAnswer]],
    ) -> None:
        self._core = core
        self._looks = CancelLooks(request_cancel, "cancelled with their parents")
        self._after = FIRST_FOLLOWER

    async def cancel(self, limit: int) -> int:
        """One look: request the cancels of at most ``limit``; says of how many it was recorded."""
        order = FollowersOrder(limit, self._after)
        backend = self._core.backend
        page = await self._core.read("find_followers", lambda: backend.find_followers(order))
        # Before the requests: whatever they raise, the next look is at the next ones.
        self._after = page.after or FIRST_FOLLOWER
        try:
            return len(await self._looks.cancel_all(page.found))
        finally:
            if page.after is None:
                self._looks.end_round()
