"""The drills: what each one does, which alert it must raise, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapescope.drills.breach import break_tape
from tapescope.drills.crashes import crash_again
from tapescope.drills.endings import cancel_many, cancel_slowly, fail_many, stick
from tapescope.drills.engines import cut_off
from tapescope.drills.errors import UnknownDrill
from tapescope.drills.outage import lose_store
from tapescope.drills.scene import OP_PREFIX, Fault
from tapescope.drills.waiting import leave_alone, pile_up
from tapescope.drills.writes import end_twice, report_late, write_as_zombie

__all__ = ["DRILLS", "Drill", "find_drill"]

_ROUND: Final = 60.0
"""Seconds that two scrapes and two evaluations of the shipped rules take."""


@dataclass(frozen=True, slots=True)
class Drill:
    """One fault, and what it must make visible."""

    name: str
    does: str
    fault: Fault
    alerts: tuple[str, ...]
    """Those that must fire; each has a runbook of its name."""
    wait: float
    """Seconds: the ``for:`` of the shipped alerts."""
    look: str
    """The ``tapescope`` command that shows it, without its store."""
    scratch: bool = False
    """It ruins its store, so it runs on a scratch store only."""

    @property
    def op(self) -> str:
        """The op of its tasks."""
        return f"{OP_PREFIX}{self.name}"

    @property
    def hold(self) -> float:
        """Seconds to go on after the fault, so that the shipped alerts fire."""
        return self.wait + _ROUND


DRILLS: Final = (
    Drill(
        "late-event",
        "runners ignore their cancel and report after their final",
        report_late,
        ("TapescopeDroppedEventsBudgetBurn",),
        120,
        "drops",
    ),
    Drill(
        "zombie-worker",
        "an owner is silent past its lease, and writes on after its task was taken over",
        write_as_zombie,
        ("TapescopeStaleAttemptWrites",),
        0,
        "drops",
    ),
    Drill(
        "duplicate-final",
        "tasks that succeeded are ended once more, as failed",
        end_twice,
        ("TapescopeDuplicateFinal",),
        0,
        "drops",
    ),
    Drill(
        "cancel-storm",
        "many tasks are cancelled at once",
        cancel_many,
        ("TapescopeCancellationSpike",),
        300,
        "list --status cancelled",
    ),
    Drill(
        "slow-cancel",
        "runners ignore their cancel, and go on after their grace of 12 s",
        cancel_slowly,
        ("TapescopeCancelSlow", "TapescopeRunnersOverrun"),
        300,
        "list --status cancelled",
    ),
    Drill(
        "failure-burst",
        "many tasks fail at once",
        fail_many,
        ("TapescopeOpFailureBudgetBurn", "TapescopeTaskFailureBudgetBurn"),
        120,
        "list --status failed",
    ),
    Drill(
        "stuck-task",
        "a task that was due three hours ago does not end",
        stick,
        ("TapescopeTaskStuck",),
        300,
        "list --status running",
    ),
    Drill(
        "no-worker",
        "tasks are due, and no worker has registered their op",
        leave_alone,
        ("TapescopeNoWorkerForOp",),
        120,
        "stats",
    ),
    Drill(
        "undispatched",
        "tasks are pending for an engine that is away",
        cut_off,
        ("TapescopeUndispatched",),
        120,
        "list --status pending",
    ),
    Drill(
        "backlog",
        "tasks that were due three hours ago wait for the only slot",
        pile_up,
        ("TapescopeOldestWaitingHigh",),
        300,
        "stats",
    ),
    Drill(
        "crash-loop",
        "a process that is scraped is killed and started anew, four times",
        crash_again,
        ("TapescopeCrashLoop",),
        0,
        "stats",
    ),
    Drill(
        "store-outage",
        "the store goes away under running tasks, and comes back",
        lose_store,
        ("TapescopeStoreErrors",),
        120,
        "list --limit 1",
    ),
    Drill(
        "integrity-violation",
        "an event is taken off a tape past the guards, and an audit finds the hole",
        break_tape,
        ("TapescopeTapeIntegrityViolation",),
        0,
        "audit",
        scratch=True,
    ),
)


def find_drill(name: str | None) -> Drill:
    """The drill of this name. Raises ``UnknownDrill``."""
    for drill in DRILLS:
        if drill.name == name:
            return drill
    raise UnknownDrill(name, [drill.name for drill in DRILLS])
