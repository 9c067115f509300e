"""Closed sets of what a process does beside its tasks, and what errors of it are counted by."""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "BroughtResult",
    "HeldReason",
    "LinkKind",
    "LoopName",
    "ReconcileResult",
    "TelemetrySource",
]


class LinkKind(StrEnum):
    """Where a link of a span leads to."""

    SUBMIT = "submit"
    """The submit that made the task."""
    PREVIOUS_ATTEMPT = "previous_attempt"
    """The run of the attempt before this one, whatever became of it."""
    RESCUED_RUN = "rescued_run"
    """The run that the rescue gives up: its span never ends, for its process is dead or silent."""
    CANCEL = "cancel"
    """The span that the cancel was requested in, which is the canceller's own."""


class TelemetrySource(StrEnum):
    """What raised while the platform told something; the work went on."""

    SPAN = "span"
    """A tracer, a span, a span processor, a propagator or an exporter that works at once."""
    METRIC = "metric"
    """A meter, an instrument, a view or what an exemplar is taken from."""
    LOG = "log"
    """A log filter, handler or formatter, or an OpenTelemetry logger."""
    EXCEPTION = "exception"
    """An exception of a runner that cannot be printed or walked; a text stands in for it."""
    REDACTION = "redaction"
    """A redaction hook that raised, or gave what cannot be told; a text stands in for the value."""


class LoopName(StrEnum):
    """The loops that run in the background of a process with an open manager or store."""

    WORKER = "worker"
    """Claims due tasks."""
    HEARTBEAT = "heartbeat"
    """Rescues the tasks of lost owners, and looks whether the store is there."""
    LEASES = "leases"
    """Extends leases, in a thread."""
    MAINTAINER = "maintainer"
    """Audits and prunes, where its manager is the store's leader."""
    SCHEDULER = "scheduler"
    """Makes the tasks of schedules, where its manager is the one that fires."""
    RECONCILER = "reconciler"
    """Has an engine and the store agree on what is pending."""
    BACKLOG = "backlog"
    """Reads how much waits."""
    WATCH = "watch"
    """Hears of other processes' commits: a listener, or a poll of the file."""
    CHECKPOINT = "checkpoint"
    """Moves a SQLite store's log into its file."""


class BroughtResult(StrEnum):
    """What became of a task that an engine brought to a worker."""

    ENDED = "ended"
    """It has its ``final``, by the run that followed or by what was there before."""
    AGAIN = "again"
    """An attempt was made, and another one is to follow."""
    HELD = "held"
    """No attempt was made: it is to be brought again."""
    UNKNOWN = "unknown"
    """The store has no such task, or this worker does not take its op."""


class HeldReason(StrEnum):
    """Why a task was not begun where an engine has brought it."""

    LEASE = "lease"
    """Another owner has it, whose lease is not over."""
    NO_SLOT = "no_slot"
    PAUSED = "paused"
    DRAINING = "draining"
    STORE = "store"
    """The store could not be asked."""
    NOT_DUE = "not_due"
    DEFECT = "defect"
    """This process could not begin it, and its log says why; a claim that it made is over with its
    lease."""


class ReconcileResult(StrEnum):
    """What a reconciler came to with a task that is pending, or was cancelled in the engine."""

    CONFIRMED = "confirmed"
    """The engine has it, or has taken it now."""
    CANCELLED = "cancelled"
    """It was cancelled in the engine, and is now on the store."""
    LEFT = "left"
    """It could not be settled, and is tried again."""
