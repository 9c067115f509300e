"""Children that are to end with their parents: a look at so many, and requests of their cancels.

A look begins where the one before it ended and goes round, so what one looks at is bounded, and no
child is in another one's way (docs/decisions/0096).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from tapescope.errors import BadSetting, StoreBusy, StoreRefused, UnknownTask
from tapescope.store.core import StoreCore
from tapescope.store.orders import FIRST_FOLLOWER, Follower, FollowersOrder
from tapescope_telemetry.logger import Logger

__all__ = ["Followers"]

_log = Logger("tapescope")

_WAIT: Final = 1.0
"""Seconds that a look waits for its requests: a row that a session holds locked has the next one.

A heartbeat asks, and it has other things to do.
"""


class Followers:
    """Where the looks have come to, and which children could not be cancelled, of one store."""

    def __init__(
        self,
        core: StoreCore,
        request_cancel: Callable[[Follower], Coroutine[Any, Any, object]],
    ) -> None:
        self._core = core
        self._request_cancel = request_cancel
        self._after = FIRST_FOLLOWER
        self._stuck: set[str] = set()
        """Children that could not be cancelled since the looks began at the first parent."""
        self._told: set[str] = set()
        """Those of the round before: they have been warned of."""

    async def cancel(self, limit: int) -> int:
        """One look: request the cancels of at most ``limit``; says of how many it was recorded."""
        order = FollowersOrder(limit, self._after)
        backend = self._core.backend
        page = await self._core.read("find_followers", lambda: backend.find_followers(order))
        # Before the requests: whatever they raise, the next look is at the next ones.
        self._after = page.after or FIRST_FOLLOWER
        try:
            return await self._cancel_all(page.found)
        finally:
            if page.after is None:
                self._told, self._stuck = self._stuck, set()

    async def _cancel_all(self, found: Sequence[Follower]) -> int:
        if not found:
            return 0
        # Tasks of their own: all are in one flush, and one that is locked holds up no other.
        requests = {asyncio.ensure_future(self._request_cancel(one)): one for one in found}
        try:
            await asyncio.wait(requests, timeout=_WAIT)
        finally:
            for request in requests:
                request.cancel()  # one that is not answered is withdrawn
            answers = await asyncio.gather(*requests, return_exceptions=True)
        failed: list[tuple[Follower, str]] = []
        away: BaseException | None = None
        for one, answer in zip(found, answers, strict=True):
            if isinstance(answer, asyncio.CancelledError):
                failed.append((one, f"it took longer than {_WAIT:g} s; is its row locked?"))
            elif isinstance(answer, StoreBusy | StoreRefused | BadSetting):
                failed.append((one, str(answer)))
            elif isinstance(answer, BaseException) and not isinstance(answer, UnknownTask):
                away = away or answer  # no child's own
        self._warn(failed)
        if away is not None:
            raise away
        return sum(not isinstance(answer, BaseException) for answer in answers)

    def _warn(self, failed: Sequence[tuple[Follower, str]]) -> None:
        """Warn of those that were not warned of before, together."""
        new = [
            (one, why)
            for one, why in failed
            if one.task_id not in self._told and one.task_id not in self._stuck
        ]
        self._stuck.update(one.task_id for one, _ in failed)
        if new:
            (first, why), *_ = new
            _log.warning(
                "%d tasks could not be cancelled with their parents (%s, …): %s It is tried again "
                "with later heartbeats.",
                len(new),
                first.task_id,
                why,
            )
