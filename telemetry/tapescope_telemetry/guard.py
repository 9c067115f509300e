"""Telemetry never decides: the one place that keeps what others raise from the platform's work.

Spans, meters, propagators, log handlers and filters are chosen by the application, and the SDK lets
out what its processors raise. Every call into them is made under a guard: what it raises is
counted (``tapescope.telemetry.errors``), logged once, and the work goes on.

The counts are this process's, not a provider's: a log handler has none, and a meter that fails
could not count itself.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Final

from tapescope.model import TelemetrySource
from tapescope_telemetry.names import SCOPE_NAME

__all__ = [
    "EXCEPTIONS",
    "LOGS",
    "METRICS_OF_OTHERS",
    "REDACTIONS",
    "SPANS_OF_OTHERS",
    "Guard",
    "name_class",
    "read_errors",
]

_TOLD_LIMIT: Final = 100
"""Kinds of errors that get a line each; the others are counted alone."""


class Guard:
    """Keeps an ``Exception`` from leaving its ``with`` block; any thread, nested as wanted.

    A ``KeyboardInterrupt`` or a ``SystemExit`` passes: it comes from a signal, and ends a process.
    With ``everything`` it is kept, too. That is for the texts of exceptions, whose ``__str__`` is
    anybody's code and takes no time in which a signal might come.
    """

    __slots__ = ("_everything", "_source")

    def __init__(self, source: TelemetrySource, *, everything: bool = False) -> None:
        self._source: Final = source
        self._everything: Final = everything

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if kind is None or not (self._everything or issubclass(kind, Exception)):
            return False
        self.note(kind)
        return True

    def note(self, kind: type[BaseException]) -> None:
        """Count an error of this kind that was kept from the work, and log the first of its kind.

        The error itself is not looked at: its text may be what raised.
        """
        _record.note(self._source, name_class(kind))


def read_errors() -> dict[TelemetrySource, int]:
    """How many errors of each source this process has kept from its work."""
    return _record.read()


class _Record:
    """What all guards of this process have kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(TelemetrySource, 0)
        self._told: set[tuple[TelemetrySource, str]] = set()

    def note(self, source: TelemetrySource, name: str) -> None:
        with self._lock:
            self._counts[source] += 1
            first = (source, name) not in self._told and len(self._told) < _TOLD_LIMIT
            if first:
                self._told.add((source, name))
        if first:
            try:
                logging.getLogger(SCOPE_NAME).warning(
                    "%s raised %s, and the work goes on without it. This line comes once; "
                    "tapescope.telemetry.errors counts them all.",
                    _name_source(source),
                    name,
                )
            except Exception:  # noqa: BLE001  # the log is what fails; the count has it
                with self._lock:
                    self._counts[TelemetrySource.LOG] += 1

    def read(self) -> dict[TelemetrySource, int]:
        with self._lock:
            return dict(self._counts)


def _name_source(source: TelemetrySource) -> str:
    if source is TelemetrySource.REDACTION:
        return "The redaction hook"
    return f"Telemetry ({source.value})"


def name_class(kind: type) -> str:
    """The name that a class was made with, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return name


_record: Final = _Record()

SPANS_OF_OTHERS: Final = Guard(TelemetrySource.SPAN)
METRICS_OF_OTHERS: Final = Guard(TelemetrySource.METRIC)
LOGS: Final = Guard(TelemetrySource.LOG)
EXCEPTIONS: Final = Guard(TelemetrySource.EXCEPTION, everything=True)
REDACTIONS: Final = Guard(TelemetrySource.REDACTION)
