"""What a manager is asked of any task of its store, wherever that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapescope.maintenance.audit import audit_store
from tapescope.manager.handle import TaskHandle
from tapescope.model.audit import AUDIT_GRACE, AuditReport

if TYPE_CHECKING:
    from tapescope.manager.pool import RunPool
    from tapescope.model.tape import QuarantinePage, TapePage
    from tapescope.store.port import TaskStore

__all__ = ["ManagerReads"]


class ManagerReads:
    """The part of ``TaskManager`` that looks, and changes nothing."""

    store: TaskStore
    _pool: RunPool

    def handle(self, task_id: str) -> TaskHandle:
        """A handle on any task of the store, wherever it runs; whether it exists is seen later."""
        self._check_process()
        return TaskHandle(self._pool, task_id, self._pool.completion_of(task_id))

    async def tape(self, task_id: str, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of a task's tape. Raises ``UnknownTask``."""
        return await self.handle(task_id).tape(after_seq=after_seq, limit=limit)

    async def drops(
        self, task_id: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> QuarantinePage:
        """A page of the late events of one task, or of all."""
        self._check_process()
        return await self.store.read_quarantine(task_id, after=after, limit=limit)

    async def audit(
        self, *, grace: float = AUDIT_GRACE, rows_per_second: float | None = None
    ) -> AuditReport:
        """Check every tape of the store; see ``tapescope.maintenance.audit_store``."""
        self._check_process()
        return await audit_store(self.store, grace=grace, rows_per_second=rows_per_second)

    def _check_process(self) -> None:
        """Raises ``UsedAfterFork``."""
        raise NotImplementedError
