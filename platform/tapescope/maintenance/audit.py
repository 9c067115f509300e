"""The audit of a whole store, a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from tapescope.errors import StoreRefused
from tapescope.model.audit import AUDIT_GRACE, AuditPage, AuditReport, Violation
from tapescope.store.validation import check_rate

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = ["audit_pages", "audit_store"]


async def audit_pages(
    store: TaskStore,
    *,
    grace: float = AUDIT_GRACE,
    rows_per_second: float | None = None,
    limit: int = 1_000,
    thorough: bool = False,
) -> AsyncGenerator[AuditPage, None]:
    """Audit the whole store, ``limit`` tasks at a time, from the oldest to the newest.

    ``rows_per_second`` bounds the rows that are read: after each page the audit waits until the
    rows so far keep to it; ``None`` for no bound. Tasks that are created meanwhile are audited,
    too. After the last page the meter notes that an audit succeeded. With ``thorough`` the first
    page says whether the database's own file is sound, for which a SQLite file is read as a whole,
    and whether the store's numbers of what waits are those of its tasks, which are all counted:
    both at full speed. A file that is not may be unreadable in places: the audit then ends there.
    Raises ``BadSetting`` and what ``StoreMaintenance.audit`` raises.
    """
    if rows_per_second is not None:
        rows_per_second = check_rate("rows_per_second", rows_per_second)
    damage = [*await store.maintenance.check_file()] if thorough else []
    wrong = [*await store.backlog.audit()] if thorough and not damage else []
    if damage or wrong:
        yield AuditPage(0, 0, (*damage, *wrong), 0)
    began, rows, after = store.clock.monotonic(), 0, 0
    while True:
        try:
            page = await store.maintenance.audit(after=after, limit=limit, grace=grace)
        except StoreRefused:
            if damage:
                return  # what is broken has been said; there is no more to be read
            raise
        yield page
        if page.next is None:
            break
        rows, after = rows + page.rows, page.next
        if rows_per_second is not None:
            ahead = rows / rows_per_second - (store.clock.monotonic() - began)
            await asyncio.sleep(max(0.0, ahead))
    store.meter.audit_succeeded(store.clock.now() / 1e6)


async def audit_store(
    store: TaskStore,
    *,
    grace: float = AUDIT_GRACE,
    rows_per_second: float | None = None,
    limit: int = 1_000,
    thorough: bool = False,
) -> AuditReport:
    """``audit_pages`` to its end, as one report."""
    checked = 0
    violations: list[Violation] = []
    pages = audit_pages(
        store, grace=grace, rows_per_second=rows_per_second, limit=limit, thorough=thorough
    )
    async with aclosing(pages):
        async for page in pages:
            checked += page.checked
            violations += page.violations
    return AuditReport(checked, tuple(violations))
