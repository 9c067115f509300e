"""What a run needs of the manager's pool, and where it stands."""

from __future__ import annotations

from collections.abc import Coroutine
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tapescope.model.tasks import Task
    from tapescope.run.run import Run
    from tapescope.store.port import TaskStore
    from tapescope_telemetry import Telemetry

__all__ = ["Phase", "RunHost"]


class RunHost(Protocol):
    """What a run needs of who keeps it. Times are in seconds."""

    store: TaskStore
    telemetry: Telemetry
    owner: str
    lease: float
    cancel_grace: float
    coalesce_progress: float
    retry_delay: float

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this in a task of its own, with an empty context, and wait for it when closing."""

    def fence(self, run: Run) -> None:
        """The runner goes on without its task: its slot is free, it is a zombie from now on."""

    def zombie_ended(self, run: Run) -> None:
        """A zombie has ended."""

    def end(self, run: Run) -> None:
        """The run is over, its ``final`` is written or lost."""

    def retry(self, run: Run, task: Task) -> None:
        """The run is over, and its task is pending again: to be run when it is due."""


class Phase(Enum):
    """Where a run stands."""

    WAITING = auto()
    """For a slot; it holds no asyncio task."""
    CLAIMING = auto()
    RUNNING = auto()
    """The runner is awaited: the only phase in which the run is cancelled."""
    SETTLING = auto()
    ENDED = auto()
