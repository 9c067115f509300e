"""The run that code belongs to, by its context: for what a runner logs, and what it waits for."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tapescope.model.tape import LOG, NewEvent
from tapescope.model.tasks import Attempt

if TYPE_CHECKING:
    from tapescope.model.answers import Appended
    from tapescope.run.attempt import RunRecord
    from tapescope.store.port import TaskStore

__all__ = ["CurrentRun", "find_current", "find_parent"]

_LATE_LIMIT: Final = 1_000
"""Late lines of an attempt that may be on their way at once."""

_current: contextvars.ContextVar[CurrentRun] = contextvars.ContextVar("tapescope_run")


class CurrentRun:
    """A run, as the context of its runner has it.

    It keeps neither the run nor the store: a timer that was cancelled, or a task that a runner left
    behind, keeps its context for a while.
    """

    __slots__ = (
        *("__weakref__", "_keeper", "_late", "_loop", "_name", "_run", "_store", "_store_name"),
        "_tape",
        "before_end",
    )

    def __init__(self, run: object, record: RunRecord, store: TaskStore) -> None:
        """Made in the run's loop, when its attempt begins."""
        attempt = record.attempt
        self._name = attempt.task_id, attempt.number, attempt.owner
        self._keeper = record.keeper
        self._run, self._store = weakref.ref(run), weakref.ref(store)
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._store_name = store.name
        self._late = 0
        self._tape = weakref.ref(record.tape)
        self.before_end: list[Callable[[CurrentRun], None]] = []
        """Called in the loop, once, when the runner has ended and its tape is still open."""

    @property
    def run(self) -> object | None:
        """The run; ``None`` once it is over, and nothing else keeps it."""
        return self._run()

    @property
    def task_id(self) -> str:
        """The task that is run."""
        return self._name[0]

    def is_in(self, store: TaskStore) -> bool:
        """Whether its task is one of this store, opened by this object or by another."""
        if self._store() is store:
            return True
        return store.backend.outlives_process and store.name == self._store_name

    def attach(self) -> None:
        """Make it that of the context, for good: the context is the run's alone."""
        _current.set(self)

    def offer_log(
        self, level: str, message: str, logger: str, *, at_any_rate: bool = False
    ) -> bool:
        """Put a line of a logger on the tape of the attempt; from any thread.

        Gives whether it was taken on its way. What becomes of it there the store counts, and the
        runner is not told: a line that comes after the end is a late event as any. There is a bound
        to how many are on their way, but for one that must be there ``at_any_rate``.
        """
        body = {"level": level, "message": message, "logger": logger}
        if (tape := self._tape()) is not None:
            kept = self._keeper.keep_our_event(LOG, body)
            return tape.append_unheard(LOG, kept, at_any_rate=at_any_rate)
        store, loop = self._store(), self._loop()
        if store is None or loop is None or self._late >= _LATE_LIMIT:
            return False
        kept = self._keeper.keep_our_event(LOG, body)
        try:
            loop.call_soon_threadsafe(self._send_late, store, kept)
        except RuntimeError:  # the loop is closed, and nobody will ask
            return False
        self._late += 1
        return True

    def _send_late(self, store: TaskStore, body: Any) -> None:
        try:
            future = store.append_nowait(Attempt(*self._name), (NewEvent(LOG, body),))
        except Exception:  # noqa: BLE001  # the ledger has counted it, and it is nobody's to raise
            self._late -= 1
        else:
            future.add_done_callback(self._note_late)

    def _note_late(self, future: asyncio.Future[Appended]) -> None:
        self._late -= 1
        if not future.cancelled():
            future.exception()  # it is nobody's to raise


def find_current() -> CurrentRun | None:
    """The run whose runner this is called in, or in a task or thread that the runner has begun."""
    return _current.get(None)


def find_parent(store: TaskStore) -> str | None:
    """The task whose runner this is called in, as ``find_current`` has it, where it is one of this
    store."""
    run = find_current()
    return run.task_id if run is not None and run.is_in(store) else None
