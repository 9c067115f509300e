"""Reads how much waits on a store, for the metrics and the health of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tapescope.errors import TapescopeError
from tapescope.model.backlog import Backlog, OpBacklog
from tapescope.model.telemetry import LoopName
from tapescope.service import LoopService, Vitals

if TYPE_CHECKING:
    from tapescope.manager.size_reader import SizeReader
    from tapescope.store.port import TaskStore

__all__ = ["BacklogReader", "describe_backlog"]

_FIRST: Final = 1.0
"""Seconds until the first reading: a process that lives for less needs none."""
_EVERY: Final = 5.0
"""Seconds between two readings. With the age that a reading of another process may have, what is
told is 12.5 seconds old at the most."""
_NAMED: Final = 3
"""Ops without a worker, and paused ones, that are named in a line."""
_SLACK: Final = 30.0
"""Seconds more that a reading may take before the loop is said to be stuck."""


class BacklogReader(LoopService):
    """Reads the numbers every five seconds; what asks for them waits for no store.

    Of all the processes of a store one reads the tables, and the others what it has read.
    """

    def __init__(self, store: TaskStore, sizes: SizeReader | None = None) -> None:
        """``sizes`` has the loop measure the store as well: where no heartbeat does."""
        vitals = Vitals(
            LoopName.BACKLOG, store.telemetry.loop_failed, _EVERY + store.patience + _SLACK
        )
        super().__init__("tapescope-backlog", vitals)
        self._store = store
        self._sizes = sizes
        self.last: Backlog | None = None
        """The last reading; any thread may look at it."""

    async def run_once(self) -> None:
        """Read the numbers once. Raises what the store raises."""
        self.last = await self._store.backlog.read()
        self._store.meter.backlog_read(self._store.name, self.last)

    async def _run(self) -> None:
        await asyncio.sleep(_FIRST)
        while True:
            self.vitals.beat()
            try:
                await self.run_once()
            except TapescopeError:
                self.last = None  # the heartbeat warns of it; the metrics end after a minute
            if self._sizes is not None:
                self.vitals.beat()
                await self._sizes.read_if_due()
            await asyncio.sleep(_EVERY)

    async def _end(self) -> None:
        await super()._end()
        self._store.meter.backlog_left(self._store.name)
        if self._sizes is not None:
            self._sizes.leave()


def describe_backlog(backlog: Backlog | None) -> str:
    """What waits, in one line for a person."""
    if backlog is None:
        return "not read yet"
    waiting = sum(one.waiting for one in backlog.ops)
    due = sum(one.due for one in backlog.ops)
    text = f"{waiting:,} wait, {due:,} of them due"
    if alone := [_name_alone(one) for one in backlog.ops if one.unattended]:
        text += f"; no worker for {_name_first(alone)}"
    if paused := [one.op for one in backlog.ops if one.paused is not None]:
        text += f"; paused: {_name_first(paused)}"
    return text


def _name_alone(one: OpBacklog) -> str:
    if not one.unserved:
        return one.op
    queue = "queue" if len(one.unserved) == 1 else "queues"
    return f"{one.op} ({queue} {', '.join(one.unserved)})"


def _name_first(ops: Sequence[str]) -> str:
    more = f" and {len(ops) - _NAMED:,} more" if len(ops) > _NAMED else ""
    return f"{', '.join(ops[:_NAMED])}{more}"
