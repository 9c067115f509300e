"""The reconciler: has an engine and the store agree on what is pending.

Each worker of an engine reconciles. Two that look at the same tasks ask the engine the same, which
takes a task once; what one has confirmed the other does not find (docs/decisions/0094).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tapescope.errors import StoreUnavailable, TapescopeError, UnknownTask
from tapescope.model.tasks import CancelReason
from tapescope.model.telemetry import LoopName, ReconcileResult
from tapescope.service import LoopService, Vitals
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.engine.port import Engine
    from tapescope.store.port import TaskStore

__all__ = ["LATE", "Reconciled", "Reconciler", "reconcile"]

_log = Logger("tapescope")

LATE: Final = 60.0
"""Seconds after which a pending task is overdue of which the engine should have been asked."""
_EVERY: Final = 10.0
"""Seconds between two turns, less up to a half by chance: workers do not come all at once."""
_AGAIN_IN: Final = 60.0
"""Seconds after which an engine is asked again about a task that is pending still."""
_PAGE: Final = 100
"""Tasks that the engine is asked about at once."""
_PAGES: Final = 50
"""Pages of one turn: the rest is for the next one, or for another worker."""
_LEFT: Final = 1_000
"""Cancels in the engine that are not settled, before it is asked for more of them."""
_SLACK: Final = 120.0
"""Seconds more that a turn may take before the loop is said to be stuck."""


@dataclass(slots=True)
class Reconciled:
    """What one turn did, in tasks."""

    confirmed: int = 0
    """That the engine has, or has taken now."""
    cancelled: int = 0
    """That were cancelled in the engine, and are now in the store."""
    failed: str = ""
    """Of the first task that was not settled, why; empty where all were."""


async def reconcile(
    store: TaskStore,
    engine: Engine,
    *,
    beat: Callable[[], object] = bool,
    left: dict[str, str] | None = None,
) -> Reconciled:
    """One turn. Raises what the store raises.

    ``beat`` is called between its steps. ``left`` is what a turn before was told of and could not
    settle, by id the message; this one leaves there what it cannot, for an engine tells of a cancel
    once.
    """
    done = Reconciled()
    meter = store.telemetry.engines
    left = {} if left is None else left
    if len(left) < _LEFT:
        left |= {one.task_id: one.message for one in await engine.find_forgotten()}
    for task_id, message in tuple(left.items()):
        beat()
        if await _cancel(store, engine, done, task_id, message):
            del left[task_id]
        else:
            meter.reconciled(engine.name, ReconcileResult.LEFT.value, 1)
    for _ in range(_PAGES):
        beat()
        tasks = await store.engines.find_unconfirmed(engine.name, limit=_PAGE)
        if not tasks:
            break
        told = await engine.confirm(tasks)
        await store.engines.note_confirmed(told.has, again_in=_AGAIN_IN)
        done.confirmed += len(told.has)
        settled = len(told.has)
        for task_id, message in told.cancelled.items():
            settled += await _cancel(store, engine, done, task_id, message)
        meter.reconciled(engine.name, ReconcileResult.CONFIRMED.value, len(told.has))
        meter.reconciled(engine.name, ReconcileResult.LEFT.value, len(tasks) - settled)
        done.failed = done.failed or told.failed
        if not settled or len(tasks) < _PAGE:
            break  # where none was settled, the next page is the same one
    return done


async def _cancel(
    store: TaskStore, engine: Engine, done: Reconciled, task_id: str, message: str
) -> bool:
    """What the engine was asked holds for the task, unless it has ended; says whether that is
    settled. One task that cannot be cancelled keeps none of the others.

    A listing of the engine's may be late: the row is looked at again. Raises ``StoreUnavailable``.
    """
    try:
        task = await store.get(task_id)
        if task.engine == engine.name and not task.status.terminal and task.cancel is None:
            # One that runs, too: its worker may be dead, or brought it by another execution.
            await store.request_cancel(task_id, CancelReason.USER, message, engine.name)
            done.cancelled += 1
            store.telemetry.engines.reconciled(engine.name, ReconcileResult.CANCELLED.value, 1)
    except StoreUnavailable:
        raise  # as the next one would, each after the patience of the store
    except UnknownTask:
        pass  # it has ended, and was deleted
    except Exception as error:  # noqa: BLE001  # whatever it is: the turn tells of it, and goes on
        done.failed = done.failed or f"task {task_id} cannot be cancelled: {error}"
        return False
    return True


class Reconciler(LoopService):
    """Takes a turn every ten seconds, and at once when ``wake`` is called."""

    def __init__(self, store: TaskStore, engine: Engine, *, late: float = LATE) -> None:
        """``late`` is after how many seconds a task is told of as overdue."""
        vitals = Vitals(
            LoopName.RECONCILER, store.telemetry.loop_failed, _EVERY + store.patience + _SLACK
        )
        super().__init__("tapescope-reconciler", vitals)
        self._store, self._engine, self._late = store, engine, late
        self._woken = asyncio.Event()
        self._told = ""
        self._left: dict[str, str] = {}
        """What the engine has told of, and is not settled."""

    def wake(self) -> None:
        """Take the next turn now."""
        self._woken.set()

    async def run_once(self) -> None:
        """Take a turn, and tell how much is overdue; a failure is logged, once."""
        self.vitals.beat()
        try:
            done = await reconcile(
                self._store, self._engine, beat=self.vitals.beat, left=self._left
            )
            failed = done.failed
            await self._count_overdue()
        except TapescopeError as error:
            failed = str(error)
        if failed and failed != self._told:
            _log.warning("The tasks of %s cannot be reconciled: %s", self._engine.name, failed)
        elif self._told and not failed:
            _log.info("The tasks of %s are reconciled again.", self._engine.name)
        self._told = failed

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            await self.run_once()
            try:
                async with asyncio.timeout(_EVERY * random.uniform(0.5, 1.0)):
                    await self._woken.wait()
            except TimeoutError:
                pass  # nobody woke it: the next turn is due

    async def _count_overdue(self) -> None:
        store, engine = self._store, self._engine.name
        overdue = await store.engines.count_overdue(engine, late=self._late)
        store.telemetry.engines.overdue_read(store.name, engine, overdue.tasks)

    async def _end(self) -> None:
        await super()._end()
        self._store.telemetry.engines.overdue_left(self._store.name, self._engine.name)
