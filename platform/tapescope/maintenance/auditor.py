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
"""Tasks of one page: short enough that nobody waits behind it."""
_REMEMBERED: Final = 10_000
"""Open tasks that are remembered from look to look; the others are left to the next whole audit."""
_NEAR: Final = 50
"""Keys that lie no further apart are audited as one range."""


class Auditor:
    """Audits a store in small pages, for as long as it is this process's turn.

    ``pace`` is awaited after each page with the rows that it took: it waits, and raises when the
    leadership is lost. Raises what ``StoreMaintenance.audit`` raises; the next call goes on from
    there.
    """

    def __init__(
        self, store: TaskStore, every: float, pace: Callable[[int], Awaitable[None]]
    ) -> None:
        self._store = store
        self._every = every
        self._pace = pace
        self.forget()

    def forget(self) -> None:
        """Somebody else has had the turn meanwhile: begin anew."""
        self._seen: int | None = None
        self._open: frozenset[int] = frozenset()
        self._at: int | None = None

    async def look(self) -> None:
        """Audit what was closed, and what is new, since the last look; the first only remembers.

        What is open is looked at again once it has ended.
        """
        top, still_open = await self._store.maintenance.find_open(
            after=self._seen or 0, among=self._open, limit=_REMEMBERED
        )
        if self._seen is not None:
            for first, last in _ranges(self._open - still_open):
                await self._check(first - 1, last)
            await self._check(self._seen, top)
        self._seen = top
        self._open = frozenset(sorted(still_open)[-_REMEMBERED:])

    async def go_on(self, turn: LeaderTerm, owner: str, seconds: float) -> None:
        """Go on with the audit of the whole store, or begin it when it is due, for so long."""
        store = self._store
        if self._at is None:
            if not turn.is_due("audited", self._every):
                return
            self._at = 0
        until = store.clock.monotonic() + seconds
        while True:
            page = await self._read_page(self._at, _PAGE)
            if page.next is None:
                break
            self._at = page.next
            if store.clock.monotonic() >= until:
                return
        self._at = None
        await store.leadership.record_job(owner, "audited")
        store.meter.audit_succeeded(store.clock.now() / 1e6)

    async def _check(self, after: int, upto: int) -> None:
        """Audit the tasks of a range of keys, and perhaps a few behind it."""
        at: int | None = after
        while at is not None and at < upto:
            at = (await self._read_page(at, min(_PAGE, upto - at))).next

    async def _read_page(self, after: int, limit: int) -> AuditPage:
        page = await self._store.maintenance.audit(after=after, limit=limit)
        await self._pace(page.rows)
        return page


def _ranges(keys: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of runs of keys that are near each other."""
    first = last = None
    for key in sorted(keys):
        if first is None or last is None or key - last > _NEAR:
            if first is not None and last is not None:
                yield first, last
            first = key
        last = key
    if first is not None and last is not None:
        yield first, last
