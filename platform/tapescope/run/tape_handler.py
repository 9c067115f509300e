"""A logging handler that puts what a runner logs on the tape of its task."""

from __future__ import annotations

import logging
from typing import Final
from weakref import WeakKeyDictionary

from tapescope.run.outcome import clean_text
from tapescope.run.run import Run, find_current_run
from tapescope.store.validation import check_count

__all__ = ["TapeHandler"]

_NEVER: Final = frozenset(
    {"tapescope", "tapescope_adapters", "tapescope_telemetry", "aiosqlite", "asyncpg"}
)
"""Loggers of what keeps the tape: their lines would bring about others."""
_LONGEST: Final = 8_192
"""Characters of a line on the tape; its middle goes first."""
_WARNING: Final = "warning"


class TapeHandler(logging.Handler):
    """Puts the records that are logged in a runner on its tape, as ``log`` events.

    ``logging.getLogger().addHandler(TapeHandler())`` is all there is to do, once. What is logged
    where no runner runs is passed over, and so are the loggers of the platform and its drivers. A
    thread that a runner starts is known by the context that it was given, as by
    ``asyncio.to_thread``.

    A line waits for nothing and changes nothing for its runner, whatever becomes of it; the store
    counts it as any event. ``most`` lines of an attempt are put on the tape, and a last one that
    says so. Where more come at once than the store takes, the next line is one that has their
    number. Every record goes to all other handlers as before.
    """

    def __init__(self, level: int | str = logging.INFO, *, most: int = 1_000) -> None:
        """Raises ``BadSetting`` for ``most``, and what ``logging.Handler`` raises for ``level``."""
        super().__init__(level)
        self._most = check_count("most", most)
        self._put = WeakKeyDictionary[Run, int]()
        self._missed = WeakKeyDictionary[Run, int]()
        self._busy = False

    def emit(self, record: logging.LogRecord) -> None:
        """Called by ``logging``, which holds the handler's lock meanwhile."""
        if self._busy or record.name.partition(".")[0] in _NEVER:
            return  # a redaction hook that logs, or our own
        run = find_current_run()
        if run is None:
            return
        self._busy = True
        try:
            self._tell(run, record)
        except Exception:  # noqa: BLE001  # as every handler does: logging decides what is shown of it
            self.handleError(record)
        finally:
            self._busy = False

    def _tell(self, run: Run, record: logging.LogRecord) -> None:
        put = self._put.get(run, 0)
        if put > self._most:
            return
        if put == self._most:
            text = f"No more log records of this attempt go on the tape: {self._most:,} are there."
            self._put[run] = put + run.offer_log(_WARNING, text, record.name)
            return
        if missed := self._missed.get(run, 0):
            text = f"{missed:,} log records are not on the tape: too many came at once."
            if not run.offer_log(_WARNING, text, record.name):
                self._missed[run] = missed + 1
                return
            del self._missed[run]
        text = clean_text(self.format(record), _LONGEST)
        if run.offer_log(record.levelname.lower(), text, record.name):
            self._put[run] = put + 1
        else:
            self._missed[run] = self._missed.get(run, 0) + 1
