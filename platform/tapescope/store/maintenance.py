"""Maintenance on the port: a store's audit, repairs, retention, and the version of its schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

from tapescope.errors import BadOp, BadSetting, StoreConfigError, UnknownTask
from tapescope.model.audit import AUDIT_GRACE, NO_TASK, AuditPage, AuditRule, Violation
from tapescope.model.repairs import Mended, Repair
from tapescope.model.tape import Outcome
from tapescope.model.tasks import is_op
from tapescope.store.core import StoreCore
from tapescope.store.leases import StoreLeases
from tapescope.store.notifications import RESYNC
from tapescope.store.ops import StoreOps
from tapescope.store.orders import SchemaVersions
from tapescope.store.roles import DatabaseRole
from tapescope.store.validation import (
    check_page_size,
    check_place,
    check_seconds,
    check_text,
    is_task_id,
)
from tapescope_telemetry.logger import Logger

__all__ = ["StoreMaintenance"]

T = TypeVar("T")

_log = Logger("tapescope")


_EVENTS: Final = 5_000
"""Events that one transaction of a prune deletes, unless a single tape is longer."""


_REMEMBERED: Final = 10_000
"""Violations that are remembered, so that an audit which finds them again does not log them."""

_TOLD: Final = 5
"""Faults of a file that are told; the first one is enough to restore a backup."""

_RESCUED: Final = 100
"""Tasks that one transaction of a rescue takes."""


class StoreMaintenance:
    """Looks after what is stored. Every verb is for one page or one task: see ``maintenance``."""

    def __init__(self, core: StoreCore, leases: StoreLeases, ops: StoreOps) -> None:
        self._core, self._leases, self._ops = core, leases, ops
        self._logged: set[tuple[AuditRule, str]] = set()

    async def audit(
        self, *, after: int = 0, limit: int = 1_000, grace: float = AUDIT_GRACE
    ) -> AuditPage:
        """Check up to ``limit`` tasks and their tapes against the audit's rules, as of one moment.

        ``after`` is the page before's ``next``. A page of long tapes holds fewer tasks. A task is
        stuck when it runs ``grace`` seconds after its lease ended. Violations are counted, and
        logged as errors, each the first time it is found. Changes nothing. Raises ``BadSetting``.
        """
        limit, after = check_page_size(limit), check_place("after", after)
        grace = check_seconds("grace", grace)
        core = self._core
        page = await core.read(
            "audit", lambda: core.backend.audit(after, limit, round(grace * 1e6))
        )
        core.meter.audited(page.checked, Counter(one.rule.value for one in page.violations))
        for violation in page.violations:
            self._log_once(violation)
        return page

    async def check_file(self) -> Sequence[Violation]:
        """Check that the database's own file is sound; on SQLite, all of it is read.

        What is found is one violation, counted and logged as by ``audit``. Empty where all is well,
        and on a database that looks after its files itself.
        """
        core = self._core
        faults = await core.read("check_file", core.backend.find_damage)
        if not faults:
            return ()
        more = f"; and {len(faults) - _TOLD:,} more" if len(faults) > _TOLD else ""
        text = "; ".join(faults[:_TOLD]) + more
        violation = Violation.found(AuditRule.FILE_DAMAGED, NO_TASK, text)
        core.meter.audited(0, {violation.rule.value: 1})
        self._log_once(violation)
        return (violation,)

    def _log_once(self, violation: Violation) -> None:
        """Log a violation as an error, once for each store that is open: every audit finds it.

        So many and no more: a store whose every row is broken must not fill the log's disk.
        """
        name = violation.rule, violation.task_id
        if name in self._logged or len(self._logged) >= _REMEMBERED:
            return
        self._logged.add(name)
        _log.error(
            "Audit: %s, task %s: %s",
            *(violation.rule.value, violation.task_id, violation.detail),
            extra={"task_id": violation.task_id, "rule": violation.rule.value},
        )
        if len(self._logged) == _REMEMBERED:
            _log.error("Audit: %d violations were logged; of more, only the count.", _REMEMBERED)

    async def repair(
        self,
        task_id: str,
        *,
        by: str,
        grace: float = AUDIT_GRACE,
        dry_run: bool = False,
    ) -> Mended:
        """Mend what the audit finds on one task, in one transaction with its log entry.

        The one way past the guards of I1 to I5. Nothing is discarded: what is taken off a tape goes
        to the quarantine and is counted there; what a row said is in the repair log. A task
        on which all is well is left alone. One that is stuck is handed to ``rescue_expired``, as by
        any manager. ``by`` says who asked for it. With ``dry_run`` it is all done and taken back:
        the answer says what would have been done. No counter of events moves, for each of them was
        counted when it was written. Raises ``UnknownTask``, ``BadSetting``, and ``StoreRefused``
        where the role may not do it.
        """
        grace = check_seconds("grace", grace)
        by = check_text("by", by)
        if not by.strip():
            raise BadSetting("by", by, "who asks for the repair")
        core, limit = self._core, round(grace * 1e6)
        mended = None
        if is_task_id(task_id):
            mended = await core.change(
                "repair", lambda: core.backend.repair(task_id, limit, by, dry_run)
            )
        if mended is None:
            raise UnknownTask(task_id)
        if dry_run or not mended.repairs:
            return mended
        for one in mended.repairs:
            text, ids = "Repaired: %s, task %s: %s", {"task_id": task_id, "rule": one.rule.value}
            _log.warning(text, one.rule.value, task_id, one.text, extra=ids)
        core.changes.publish(RESYNC)
        if any(one.rule is AuditRule.STUCK_RUNNING for one in mended.repairs):
            ops = await self._ops.read()  # of every process: a worker will run them again
            while len(await self._leases.rescue_expired(_RESCUED, ops=ops)) == _RESCUED:
                pass
        return mended

    async def read_repairs(self, *, after: int = 0, limit: int = 1_000) -> Sequence[Repair]:
        """The repair log, oldest first; ``after`` is the last one's ``number``."""
        limit = check_page_size(limit)
        return await self._core.read(
            "read_repairs", lambda: self._core.backend.read_repairs(after, limit)
        )

    async def prune(
        self,
        *,
        older_than: float,
        outcomes: Collection[Outcome] | None = None,
        op: str | None = None,
        limit: int = 1_000,
        dry_run: bool = False,
    ) -> int:
        """Delete tasks that ended more than ``older_than`` seconds ago, each with its whole tape
        and its counts of drops (invariant I4); says how many.

        Only those of ``outcomes`` and ``op``, where given. What lives is never touched. Each
        transaction is short: at most ``limit`` tasks and 5,000 events, or one longer tape. A task
        that another session holds at that moment is left for the next prune. With ``dry_run``
        nothing is deleted, only counted. An event that comes later still is dropped as
        ``unknown_task``. When the store goes away in mid-commit, the number may be too low.
        Raises ``BadSetting``, ``BadOp``.
        """
        pages = self.prune_pages(
            older_than=older_than, outcomes=outcomes, op=op, limit=limit, dry_run=dry_run
        )
        async with aclosing(pages):
            return sum([pruned async for pruned in pages])

    async def prune_pages(
        self,
        *,
        older_than: float,
        outcomes: Collection[Outcome] | None = None,
        op: str | None = None,
        limit: int = 1_000,
        dry_run: bool = False,
    ) -> AsyncGenerator[int, None]:
        """``prune`` a transaction at a time: how many tasks each of them deleted."""
        limit = check_page_size(limit)
        older_than = check_seconds("older_than", older_than)
        if op is not None and not is_op(op):
            raise BadOp(op)
        cutoff = self._core.clock.now() - round(older_than * 1e6)
        wanted = sorted({Outcome(outcome).value for outcome in outcomes or Outcome})
        after = 0
        while True:
            seen = await self._look(self._core.backend.due_tasks, cutoff, wanted, op, after, limit)
            if not seen:
                return
            keys: list[int] = []
            events = 0
            for task in seen:
                if task.events is not None:
                    if keys and events + task.events > _EVENTS:
                        break
                    keys.append(task.key)
                    events += task.events
                after = task.key
            if keys:
                yield (
                    len(keys)
                    if dry_run
                    else await self._delete(self._core.backend.delete_tasks, keys, events)
                )
            if after == seen[-1].key and (len(seen) < limit or seen[-1].young):
                return

    async def prune_quarantine(
        self, *, older_than: float, limit: int = 1_000, dry_run: bool = False
    ) -> int:
        """Delete late events that are older than ``older_than`` seconds; says how many.

        Oldest first, at most ``limit`` in a transaction. Their counts stay, as long as their task
        does; the counts of a task that the store does not know go with its last late event. With
        ``dry_run`` nothing is deleted, only counted. Raises ``BadSetting``.
        """
        pages = self.prune_quarantine_pages(older_than=older_than, limit=limit, dry_run=dry_run)
        async with aclosing(pages):
            return sum([pruned async for pruned in pages])

    async def prune_quarantine_pages(
        self, *, older_than: float, limit: int = 1_000, dry_run: bool = False
    ) -> AsyncGenerator[int, None]:
        """``prune_quarantine`` a transaction at a time: how many events each of them deleted."""
        limit = check_page_size(limit)
        older_than = check_seconds("older_than", older_than)
        cutoff = self._core.clock.now() - round(older_than * 1e6)
        after = 0
        while True:
            seen = await self._look(self._core.backend.due_drops, cutoff, after, limit)
            keys = [drop.key for drop in seen if drop.due]
            if not keys:
                return
            after = seen[-1].key
            yield (
                len(keys) if dry_run else await self._delete(self._core.backend.delete_drops, keys)
            )

    async def find_open(
        self, *, after: int = 0, among: Collection[int] = (), limit: int = 10_000
    ) -> tuple[int, frozenset[int]]:
        """The highest key of any task, and the keys of those that have not ended.

        Of the latter those ``among`` the ones given, and at most ``limit`` of those beyond
        ``after``, from the oldest on.
        """
        core = self._core
        top, keys = await core.read(
            "find_open", lambda: core.backend.find_open(after, sorted(among), limit)
        )
        return top, frozenset(keys)

    async def schema_versions(self) -> SchemaVersions:
        """Ask the database for its schema's version; the store need not be open, and is not opened.

        Changes nothing. Raises what ``open`` raises when the database cannot be reached.
        """
        return await self._core.retrying(self._core.backend.schema_versions)

    def describe_grants(self, role: DatabaseRole, grantee: str | None = None) -> str:
        """SQL that gives a role of the database what it needs to be of this kind, and no more.

        ``grantee`` is the role's name, by default ``tapescope_`` and the kind. The store need not
        be open. Raises ``StoreConfigError`` where the database has no roles.
        """
        backend = self._core.backend
        text = backend.describe_grants(role, grantee or f"tapescope_{role}")
        if text is None:
            raise StoreConfigError(
                f"The store {backend.name} is in a database without roles: there is nothing to "
                "grant. A file is as private as its mode."
            )
        return text

    async def _look(self, primitive: Callable[..., Awaitable[T]], *arguments: object) -> T:
        return await self._core.read("prune", lambda: primitive(*arguments))

    async def _delete(self, primitive: Callable[..., Awaitable[int]], *arguments: object) -> int:
        return await self._core.change("prune", lambda: primitive(*arguments))
