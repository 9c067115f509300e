"""The backlog on the port: what waits and runs, for how long, and whether a worker can run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tapescope.model.audit import NO_TASK, AuditRule, Violation
from tapescope.model.backlog import Backlog, BacklogCount
from tapescope.model.repairs import Repair
from tapescope.store.core import StoreCore
from tapescope.store.validation import check_seconds
from tapescope_telemetry.logger import Logger

__all__ = ["StoreBacklog"]

_log = Logger("tapescope")

_FRESH: Final = 7.5
"""Seconds: numbers of this age are as good as new ones, so that one process reads for all."""
_TOLD: Final = 5
"""Numbers of one audit that are told; the first ones say enough."""


class StoreBacklog:
    """What waits and what runs, in numbers that the database keeps (docs/decisions/0052).

    They are the same from every process, also from one that only submits, and cost the same however
    much waits.
    """

    def __init__(self, core: StoreCore) -> None:
        self._core = core

    async def read(self, *, max_age: float = _FRESH) -> Backlog:
        """The numbers, read at most ``max_age`` seconds ago by this process or another one.

        Raises ``BadSetting``.
        """
        max_age = check_seconds("max_age", max_age)
        core = self._core
        return await core.read(
            "read_backlog", lambda: core.backend.read_backlog(round(max_age * 1e6))
        )

    async def recount(self) -> Sequence[BacklogCount]:
        """Each number beside a count of the tasks themselves. It reads every task of the store."""
        core = self._core
        return await core.read("recount_backlog", core.backend.recount_backlog)

    async def audit(self) -> Sequence[Violation]:
        """The numbers that a count of the tasks does not agree with; each is counted and logged."""
        wrong = sorted(
            (one for one in await self.recount() if one.differs),
            key=lambda one: (one.op, one.state),
        )
        more = [""] * len(wrong[:_TOLD])
        if len(wrong) > _TOLD:
            more[-1] = f"; and {len(wrong) - _TOLD:,} more"
        violations = [
            Violation.found(
                AuditRule.BACKLOG_MISMATCH, NO_TASK, one.op, one.kept, one.state, one.found, tail
            )
            for one, tail in zip(wrong, more, strict=False)
        ]
        if violations:
            self._core.meter.audited(0, {AuditRule.BACKLOG_MISMATCH.value: len(violations)})
        for violation in violations:
            _log.error("Audit: %s: %s", violation.rule.value, violation.detail)
        return violations

    async def mend(self, *, by: str, dry_run: bool = False) -> Sequence[Repair]:
        """Set the numbers to what a count of the tasks gives; empty where they are so.

        No task is written meanwhile. The repair is in the repair log; with ``dry_run`` it is taken
        back. Raises ``StoreRefused`` where the role may not do it.
        """
        core = self._core
        repairs = await core.change(
            "mend_backlog", lambda: core.backend.mend_backlog(by, dry_run=dry_run)
        )
        if not dry_run:
            for one in repairs:
                _log.warning("Repaired: %s: %s", one.rule.value, one.text)
        return repairs
