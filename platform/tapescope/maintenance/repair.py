"""The repair of a whole store, a task at a time."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from tapescope.maintenance.audit import audit_pages
from tapescope.model.audit import AUDIT_GRACE, AuditRule
from tapescope.model.repairs import RepairReport
from tapescope.store.validation import is_task_id

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = ["repair_store"]


async def repair_store(
    store: TaskStore,
    *,
    by: str,
    dry_run: bool = False,
    grace: float = AUDIT_GRACE,
    rows_per_second: float | None = None,
) -> RepairReport:
    """Audit the whole store, and repair each task that has a violation.

    Each task is repaired in a transaction of its own: the repair may be stopped, and started again,
    at any point. Raises what ``audit_pages`` and ``StoreMaintenance.repair`` raise.
    """
    report = RepairReport(dry_run)
    pages = audit_pages(store, grace=grace, rows_per_second=rows_per_second, thorough=True)
    async with aclosing(pages):
        async for page in pages:
            report.checked += page.checked
            report.violations += page.violations
            if any(one.rule is AuditRule.BACKLOG_MISMATCH for one in page.violations):
                report.repairs += await store.backlog.mend(by=by, dry_run=dry_run)
            # What is of the whole store, or of a row whose id cannot be read, is for a person.
            report.left += [
                one
                for one in page.violations
                if not is_task_id(one.task_id) and one.rule is not AuditRule.BACKLOG_MISMATCH
            ]
            ids = [one.task_id for one in page.violations if is_task_id(one.task_id)]
            for task_id in dict.fromkeys(ids):
                mended = await store.maintenance.repair(
                    task_id, by=by, grace=grace, dry_run=dry_run
                )
                report.repairs += mended.repairs
                report.left += mended.left
    return report
