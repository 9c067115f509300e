"""The port's verbs of mending: one task at a time, each with its trace."""

from __future__ import annotations

import abc
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from tapescope.errors import BadSetting, UnknownTask
from tapescope.model.audit import AUDIT_GRACE, AuditRule
from tapescope.model.repairs import Mended, Repair
from tapescope.store.backend import StorePrimitives
from tapescope.store.notifications import RESYNC, Changes
from tapescope.store.validation import check_age, check_page_size, is_task_id

if TYPE_CHECKING:
    from tapescope.model.leases import Rescued
    from tapescope.model.ops import KnownOp

__all__ = ["RepairVerbs"]

T = TypeVar("T")

_log = logging.getLogger("tapescope")

_RESCUED: Final = 100
"""Tasks that one transaction of a rescue takes."""


class RepairVerbs(StorePrimitives):
    """The part of ``TaskStore`` that mends what the audit finds."""

    _changes: Changes

    async def repair(
        self,
        task_id: str,
        *,
        by: str,
        grace: float = AUDIT_GRACE,
        dry_run: bool = False,
    ) -> Mended:
        """Mend what the audit finds on one task, in one transaction with the trace of it.

        The one way past the guards of I1 to I5. Nothing is discarded: what is taken off a tape goes
        to the quarantine and is counted there; what stood in a row before is in the trace. A task
        on which all is well is left alone. One that is stuck is handed to ``rescue_expired``, as by
        any manager. ``by`` says who asked for it. With ``dry_run`` it is all done and taken back:
        the answer says what would have been done. No counter of events moves, for each of them was
        counted when it was written. Raises ``UnknownTask``, ``BadSetting``, and ``StoreRefused``
        where the role may not do it.
        """
        check_age("grace", grace)
        if not by.strip():
            raise BadSetting("by", by, "who asks for the repair")
        limit = round(grace * 1e6)
        mended = None
        if is_task_id(task_id):
            mended = await self._read("repair", lambda: self._repair(task_id, limit, by, dry_run))
        if mended is None:
            raise UnknownTask(task_id)
        if dry_run or not mended.repairs:
            return mended
        for one in mended.repairs:
            _log.warning("Repaired: %s, task %s: %s", one.rule.value, task_id, one.text)
        self._changes.publish(RESYNC)
        if any(one.rule is AuditRule.STUCK_RUNNING for one in mended.repairs):
            ops = await self.read_ops()  # whoever has registered them: a worker will run them again
            while len(await self.rescue_expired(_RESCUED, ops=ops)) == _RESCUED:
                pass
        return mended

    async def read_repairs(self, *, after: int = 0, limit: int = 1_000) -> Sequence[Repair]:
        """The trace of repairs, oldest first; ``after`` is the last one's ``number``."""
        check_page_size(limit)
        return await self._read("read_repairs", lambda: self._read_repairs(after, limit))

    # --- what the port lends ----------------------------------------------------------------------

    @abc.abstractmethod
    async def _read(self, name: str, primitive: Callable[[], Awaitable[T]]) -> T: ...

    @abc.abstractmethod
    async def rescue_expired(
        self, limit: int = 100, *, ops: Collection[str] = (), dead_owners: Collection[str] = ()
    ) -> list[Rescued]: ...

    @abc.abstractmethod
    async def read_ops(self) -> Mapping[str, KnownOp]: ...

    # --- what an adapter gives --------------------------------------------------------------------

    @abc.abstractmethod
    async def _repair(self, task_id: str, grace: int, by: str, dry_run: bool) -> Mended | None:
        """Mend a task, with the guards in the way taken off for this transaction alone.

        ``left`` is what the audit finds afterwards, as of the same transaction, but for a task that
        is handed to the rescue. ``None``: there is no such task.
        """

    @abc.abstractmethod
    async def _read_repairs(self, after: int, limit: int) -> Sequence[Repair]: ...
