"""The online audit: closed tapes soon after they close, and the whole store on a schedule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tapescope.model.audit import AuditPage
    from tapescope.model.leadership import LeaderTerm
    from tapescope.store.port import TaskStore

__all__ = ["Auditor"]

_PAGE: Final = 200
"""Tasks of one page: short enough that no write waits behind it for long."""
_REMEMBERED: Final = 10_000
"""Open tasks remembered from round to round; the others are left to the next whole audit."""
_NEAR: Final = 50
"""Keys that lie no further apart are audited as one range."""


class Auditor:
    """Audits a store in small pages, for as long as this process is the leader.

    ``pace`` is awaited after each page with the rows that the page took: it waits, and raises when
    the leadership is lost. Raises what ``StoreMaintenance.audit`` raises; the next round goes on
    from there.
    """

    def __init__(
        self, store: TaskStore, every: float, pace: Callable[[int], Awaitable[None]]
    ) -> None:
        self._store = store
        self._every = every
        self._pace = pace
        self.forget()

    def forget(self) -> None:
        """Begin anew: another process has been the leader meanwhile."""
        self._audited_up_to: int | None = None
        self._open: frozenset[int] = frozenset()
        self._next_key: int | None = None

    async def audit_closed(self) -> None:
        """Audit the tapes that are new, or were closed, since the last round.

        The first round only remembers where it stands. A tape that is still open is audited again
        once it is closed.
        """
        top, still_open = await self._store.maintenance.find_open(
            after=self._audited_up_to or 0, among=self._open, limit=_REMEMBERED
        )
        if self._audited_up_to is not None:
            for first, last in _ranges(self._open - still_open):
                await self._audit_range(first - 1, last)
            await self._audit_range(self._audited_up_to, top)
        self._audited_up_to = top
        self._open = frozenset(sorted(still_open)[-_REMEMBERED:])

    async def audit_whole(self, term: LeaderTerm, owner: str, seconds: float) -> None:
        """Go on with the audit of the whole store, or begin it when it is due, for ``seconds``."""
        store = self._store
        if self._next_key is None:
            if not term.is_due("audited", self._every):
                return
            self._next_key = 0
        until = store.clock.monotonic() + seconds
        while True:
            page = await self._read_page(self._next_key, _PAGE)
            if page.next is None:
                break
            self._next_key = page.next
            if store.clock.monotonic() >= until:
                return
        self._next_key = None
        await store.leadership.record_job(owner, "audited")
        store.meter.audit_succeeded(store.clock.now() / 1e6)

    async def _audit_range(self, after: int, upto: int) -> None:
        """Audit the tasks with keys over ``after`` up to ``upto``, and perhaps a few more."""
        at: int | None = after
        while at is not None and at < upto:
            at = (await self._read_page(at, min(_PAGE, upto - at))).next

    async def _read_page(self, after: int, limit: int) -> AuditPage:
        page = await self._store.maintenance.audit(after=after, limit=limit)
        await self._pace(page.rows)
        return page


def _ranges(keys: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each group of keys that are near each other."""
    first = last = None
    for key in sorted(keys):
        if first is None or last is None or key - last > _NEAR:
            if first is not None and last is not None:
                yield first, last
            first = key
        last = key
    if first is not None and last is not None:
        yield first, last
