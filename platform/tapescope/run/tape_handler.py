"""A logging handler that puts what a runner logs on the tape of its task."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Final
from weakref import WeakKeyDictionary

from tapescope.run.current import CurrentRun, find_current
from tapescope.run.outcome import clean_text
from tapescope.store.validation import check_count
from tapescope_telemetry.logger import Logger

__all__ = ["TapeHandler"]

_log = Logger("tapescope")

_NEVER: Final = frozenset(
    {"tapescope", "tapescope_adapters", "tapescope_telemetry", "aiosqlite", "asyncpg"}
)
"""Loggers of what keeps the tape: their lines would bring about others."""
_LONGEST: Final = 8_192
"""Characters of a line on the tape; its middle goes first."""
_WARNING: Final = "warning"
_OURS: Final = "tapescope"
"""The logger of lines about lines: they may be of several."""


class TapeHandler(logging.Handler):
    """Puts the records that are logged in a runner on its tape, as ``log`` events.

    ``logging.getLogger().addHandler(TapeHandler())`` is all there is to do, once. What is logged
    where no runner runs is passed over, and so are the loggers of the platform and its drivers. A
    thread that a runner starts is known by the context that it was given, as by
    ``asyncio.to_thread``.

    A line waits for nothing and changes nothing for its runner, whatever becomes of it; the store
    counts it as any event. One that is logged when the task has ended, by a thread that goes on or
    a task that the runner left behind, is a late event. ``most`` lines of an attempt are put on the
    tape, of at most 8,192 characters. How many more there were, and how many came faster than the
    store takes them, the tape says at the end of the attempt at the latest. Every record goes to
    all other handlers as before.
    """

    def __init__(self, level: int | str = logging.INFO, *, most: int = 1_000) -> None:
        """Raises ``BadSetting`` for ``most``, and what ``logging.Handler`` raises for ``level``."""
        super().__init__(level)
        self._most = check_count("most", most)
        self._put = WeakKeyDictionary[CurrentRun, int]()
        self._over = WeakKeyDictionary[CurrentRun, int]()
        """Records that were one too many for an attempt."""
        self._missed = WeakKeyDictionary[CurrentRun, int]()
        """Those that came too fast, and that the tape does not say yet."""
        self._busy = False

    def emit(self, record: logging.LogRecord) -> None:
        """Called by ``logging``, which holds the handler's lock meanwhile."""
        if self._busy or record.name.partition(".")[0] in _NEVER:
            return  # a redaction hook that logs, or our own
        run = find_current()
        if run is None:
            return
        self._busy = True
        try:
            self._tell(run, record)
        except Exception:  # noqa: BLE001  # as every handler does: logging decides what is shown of it
            self.handleError(record)
        finally:
            self._busy = False

    def _tell(self, run: CurrentRun, record: logging.LogRecord) -> None:
        put = self._put.get(run)
        if put is None:
            put = 0
            run.before_end.append(self._conclude)
        if put > self._most:
            self._over[run] = self._over.get(run, 0) + 1
            return
        if put == self._most:
            self._over[run] = self._over.get(run, 0) + 1
            text = f"No more log records of this attempt go on the tape: {self._most:,} are there."
            self._put[run] = put + run.offer_log(_WARNING, text, _OURS)
            return
        self._put[run] = put
        if (missed := self._missed.get(run, 0)) and not self._say_missed(run):
            self._missed[run] = missed + 1
            return
        text = clean_text(self.format(record), _LONGEST)
        if run.offer_log(record.levelname.lower(), text, record.name):
            self._put[run] = put + 1
        else:
            self._missed[run] = self._missed.get(run, 0) + 1

    def _say_missed(self, run: CurrentRun, *, at_any_rate: bool = False) -> bool:
        missed = self._missed.get(run, 0)
        text = f"{missed:,} log records are not on the tape: too many came at once."
        said = run.offer_log(_WARNING, text, _OURS, at_any_rate=at_any_rate)
        if said:
            del self._missed[run]
        return said

    def _conclude(self, run: CurrentRun) -> None:
        """The attempt ends: say what the tape has not, and does not say yet."""
        with self.lock or nullcontext():
            self._busy = True
            try:
                if self._missed.get(run, 0):
                    self._say_missed(run, at_any_rate=True)
                if over := self._over.get(run, 0):
                    text = (
                        f"{over:,} log records are not on the tape: it has {self._most:,} of them."
                    )
                    run.offer_log(_WARNING, text, _OURS, at_any_rate=True)
            except Exception:  # noqa: BLE001  # a redaction hook may raise: the attempt ends all the same
                text = "A tape does not say how many log records it has not."
                _log.exception(text)
            finally:
                self._busy = False
