"""``EagerSyncManager``: the eager manager for programs without an event loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Unpack

from tapescope.manager import Ops, TaskManager
from tapescope.sync.manager import ManagerSettings, SyncManager
from tapescope.testing._history import Recording
from tapescope.testing.clock import ManualClock
from tapescope.testing.managers import EagerManager, make_recorded_store

__all__ = ["EagerSyncManager"]


class EagerSyncManager(SyncManager):
    """A ``SyncManager`` whose submits return once the task has ended: see ``EagerManager``.

    Its tasks are in memory, or in ``store``, the URL of one or one that notes its calls. ``close``
    raises ``HistoryBroken`` where an invariant does not hold.
    """

    _manager_class: ClassVar[type[TaskManager]] = EagerManager

    def __init__(
        self,
        store: Recording | str | None = None,
        *,
        ops: Ops | Iterable[Ops] = (),
        block_loop: bool = False,
        **settings: Unpack[ManagerSettings],
    ) -> None:
        """Raises what ``EagerManager`` raises."""
        if not isinstance(store, Recording):
            clock = ManualClock() if store is None else None
            store = make_recorded_store(store, telemetry=settings.get("telemetry"), clock=clock)
        super().__init__(store, work=True, ops=ops, block_loop=block_loop, **settings)
