"""The verbs of audit, retention and schema version on the port."""

from __future__ import annotations

import abc
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from tapescope.errors import BadOp
from tapescope.model.audit import AUDIT_GRACE, AuditPage, AuditRule, Violation
from tapescope.model.tape import Outcome
from tapescope.model.tasks import is_op
from tapescope.store.backend import StorePrimitives
from tapescope.store.validation import check_age, check_page_size

if TYPE_CHECKING:
    from tapescope.clock import Clock
    from tapescope_telemetry import StoreMeter
from tapescope.store.orders import DueDrop, DueTask, SchemaVersions

__all__ = ["StoreUpkeep"]

T = TypeVar("T")


_log = logging.getLogger("tapescope")


_EVENTS: Final = 5_000
"""Events that one transaction of a prune deletes, unless a single tape is longer."""


_TOLD: Final = 10_000
"""Violations that are remembered, so that an audit which finds them again does not log them."""


class StoreUpkeep(StorePrimitives):
    """The part of ``TaskStore`` that looks after what is stored."""

    clock: Clock
    meter: StoreMeter
    _told: set[tuple[AuditRule, str]]

    async def audit(
        self, *, after: int = 0, limit: int = 1_000, grace: float = AUDIT_GRACE
    ) -> AuditPage:
        """Check up to ``limit`` tasks and their tapes against the audit's rules, as of one moment.

        ``after`` is the page before's ``next``. A page of long tapes holds fewer tasks. A task is
        stuck when it runs ``grace`` seconds after its lease ended. Violations are counted, and
        logged as errors, each the first time it is found. Changes nothing. Raises ``BadSetting``.
        """
        check_page_size(limit)
        check_age("grace", grace)
        page = await self._read("audit", lambda: self._audit(after, limit, round(grace * 1e6)))
        self.meter.audited(page.checked, Counter(found.rule.value for found in page.violations))
        for found in page.violations:
            self._tell(found)
        return page

    def _tell(self, found: Violation) -> None:
        """Log a violation as an error, once for each store that is open: every audit finds it."""
        name = found.rule, found.task_id
        if name not in self._told:
            if len(self._told) < _TOLD:
                self._told.add(name)
            _log.error("Audit: %s, task %s: %s", found.rule.value, found.task_id, found.detail)

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
        that somebody holds at that moment is left for the next time. With ``dry_run`` nothing is
        deleted, only counted. An event that comes later still is dropped as ``unknown_task``. When
        the store goes away in mid-commit, the number may be too low.
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
        check_page_size(limit)
        check_age("older_than", older_than)
        if op is not None and not is_op(op):
            raise BadOp(op)
        cutoff = self.clock.now() - round(older_than * 1e6)
        wanted = sorted({Outcome(outcome).value for outcome in outcomes or Outcome})
        after = 0
        while True:
            seen = await self._look(self._due_tasks, cutoff, wanted, op, after, limit)
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
                yield len(keys) if dry_run else await self._look(self._delete_tasks, keys, events)
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
        check_page_size(limit)
        check_age("older_than", older_than)
        cutoff = self.clock.now() - round(older_than * 1e6)
        after = 0
        while True:
            seen = await self._look(self._due_drops, cutoff, after, limit)
            keys = [drop.key for drop in seen if drop.due]
            if not keys:
                return
            after = seen[-1].key
            yield len(keys) if dry_run else await self._look(self._delete_drops, keys)

    async def schema_versions(self) -> SchemaVersions:
        """Ask the database for its schema's version; the store need not be open, and is not opened.

        Changes nothing. Raises what ``open`` raises when the database cannot be reached.
        """
        return await self._retrying(self._schema_versions)

    async def _look(self, primitive: Callable[..., Awaitable[T]], *arguments: object) -> T:
        return await self._read("prune", lambda: primitive(*arguments))

    # --- what the port lends ----------------------------------------------------------------------

    @abc.abstractmethod
    async def _read(self, name: str, primitive: Callable[[], Awaitable[T]]) -> T:
        """Call a primitive of an open store, timed under ``name``, with the store's patience."""

    @abc.abstractmethod
    async def _retrying(
        self, primitive: Callable[[], Awaitable[T]], since: float | None = None
    ) -> T:
        """Call a primitive with the store's patience."""

    # --- what an adapter gives --------------------------------------------------------------------

    @abc.abstractmethod
    async def _audit(self, after: int, limit: int, grace: int) -> AuditPage:
        """A page of the audit; ``grace`` is in microseconds."""

    @abc.abstractmethod
    async def _due_tasks(
        self, cutoff: int, outcomes: Sequence[str], op: str | None, after: int, limit: int
    ) -> Sequence[DueTask]:
        """The ``limit`` tasks after ``after``, whether due or not: flat, however many there are."""

    @abc.abstractmethod
    async def _delete_tasks(self, keys: Sequence[int], events: int) -> int:
        """Delete these of the tasks that have ended, in one transaction; how many there were."""

    @abc.abstractmethod
    async def _due_drops(self, cutoff: int, after: int, limit: int) -> Sequence[DueDrop]:
        """The ``limit`` kept late events after ``after``, whether due or not."""

    @abc.abstractmethod
    async def _delete_drops(self, keys: Sequence[int]) -> int:
        """Delete these late events, in one transaction; how many there were."""

    @abc.abstractmethod
    async def _schema_versions(self) -> SchemaVersions:
        """On a connection of its own, which is closed again."""
