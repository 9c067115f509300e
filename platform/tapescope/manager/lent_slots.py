"""The slots of runners that wait for a task, which other tasks may have meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from tapescope.run import Run

__all__ = ["LentSlots"]


class LentSlots:
    """The lent slots of one pool: none unless ``most``, which bounds them, is over 0.

    A run lends its slot from the first of its waits until none of them goes on; there is more than
    one where its runner gathers several. After that it needs a slot again, and is served before any
    task that has not begun. A run that stops waiting for another reason, such as a cancel, has no
    time to wait for a slot: it goes on at once, over the number of the pool's slots, and the next
    slots that get free are its own.
    """

    def __init__(self, most: int, give: Callable[[], None], take: Callable[[bool], bool]) -> None:
        """``give`` frees a slot; ``take`` takes one, if it is free or must be, and says if so."""
        self._most: Final = most
        self._give = give
        self._take = take
        self._waits: dict[Run, list[str]] = {}
        """The tasks that each run waits for and that are not known to have ended, in the order in
        which the runs began to wait."""
        self._returning: dict[Run, asyncio.Event] = {}
        """The runs that have waited and need a slot again; the event says that they have one."""
        self._lent: set[Run] = set()

    def holds(self, run: Run) -> bool:
        """Whether the slot of this run is lent."""
        return run in self._lent

    @asynccontextmanager
    async def waiting(self, run: Run, task_id: str) -> AsyncGenerator[None]:
        """Lend the slot of a run that waits in here, if fewer than ``most`` are lent."""
        self._waits.setdefault(run, []).append(task_id)
        self._lend()
        try:
            yield
        except BaseException:  # cancelled, most of all: it cleans up, and its slot is counted again
            self._note_end(run, task_id)
            if run not in self._waits:
                self._return(run, at_once=True)
            raise
        self._note_end(run, task_id)
        if run in self._lent and run not in self._waits:
            await self._wait_for_slot(run)

    def note_ended(self, task_id: str) -> None:
        """A task has ended here: who waits for it comes before whoever would have its slot."""
        for run in [run for run, tasks in self._waits.items() if task_id in tasks]:
            while task_id in self._waits.get(run, ()):
                self._note_end(run, task_id)
            if run in self._lent and run not in self._waits:
                self._returning.setdefault(run, asyncio.Event())

    def readmit(self) -> None:
        """Give the slots that are free to the runs that need theirs again, first come first."""
        for run in list(self._returning):
            if run in self._returning and not self._return(run, at_once=False):
                return

    def forget(self, run: Run) -> bool:
        """The run gives its slot up for good; says whether it was lent, and so is free already."""
        self._waits.pop(run, None)
        was_lent = run in self._lent
        self._settle(run)
        return was_lent

    def _lend(self) -> None:
        for run in list(self._waits):
            if len(self._lent) >= self._most:
                return
            if run not in self._lent:
                self._lent.add(run)
                self._give()

    def _note_end(self, run: Run, task_id: str) -> None:
        tasks = self._waits.get(run, [])
        if task_id in tasks:  # else its end is known, or the run has given its slot up meanwhile
            tasks.remove(task_id)
            if not tasks:
                del self._waits[run]

    async def _wait_for_slot(self, run: Run) -> None:
        served = self._returning.setdefault(run, asyncio.Event())
        self.readmit()
        try:
            await served.wait()
        except asyncio.CancelledError:
            self._return(run, at_once=True)
            raise

    def _return(self, run: Run, *, at_once: bool) -> bool:
        """Have the run take a slot, if its own is lent; says whether it has one now."""
        if run in self._lent:
            if not self._take(at_once):
                return False
            self._settle(run)
            self._lend()
        return True

    def _settle(self, run: Run) -> None:
        self._lent.discard(run)
        if (served := self._returning.pop(run, None)) is not None:
            served.set()
