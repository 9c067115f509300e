"""The platform's own loggers: Python's, with a guard around what filters and handlers raise."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import cast

from tapescope.model import make_printable
from tapescope_telemetry.failures import is_a, printable, text_of
from tapescope_telemetry.guard import LOGS

__all__ = ["Logger"]


class Logger:
    """Logs on Python's logger of this name, and raises nothing that is raised there.

    An exception that cannot be printed is logged as what can be said of it.
    """

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def is_enabled_for(self, level: int) -> bool:
        """Whether a line of this level would go anywhere."""
        with LOGS:
            return self._logger.isEnabledFor(level)
        return False

    def debug(self, text: str, *values: object) -> None:
        """Log what only a developer wants to know."""
        self.log(logging.DEBUG, text, *values, stacklevel=2)

    def info(self, text: str, *values: object) -> None:
        """Log what is as it should be."""
        self.log(logging.INFO, text, *values, stacklevel=2)

    def warning(
        self, text: str, *values: object, extra: Mapping[str, object] | None = None
    ) -> None:
        """Log what may need somebody."""
        self.log(logging.WARNING, text, *values, extra=extra, stacklevel=2)

    def error(
        self,
        text: str,
        *values: object,
        extra: Mapping[str, object] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Log what needs somebody, with the traceback of ``error``."""
        self.log(logging.ERROR, text, *values, extra=extra, error=error, stacklevel=2)

    def exception(self, text: str, *values: object) -> None:
        """Log the exception that is being handled, as an error."""
        self.log(logging.ERROR, text, *values, error=sys.exception(), stacklevel=2)

    def log(
        self,
        level: int,
        text: str,
        *values: object,
        extra: Mapping[str, object] | None = None,
        error: BaseException | None = None,
        with_traceback: bool = True,
        stacklevel: int = 1,
    ) -> None:
        """Log ``text % values``, with ``error``; ``stacklevel`` 1 names the caller as its place."""
        if not self.is_enabled_for(level):
            return
        shown = tuple(map(_show, values))
        told = None if error is None else printable(error)
        trace = told.__traceback__ if told is not None and with_traceback else None
        with LOGS:
            self._logger.log(
                level,
                text,
                *shown,
                extra=extra,
                exc_info=None if told is None else (type(told), told, trace),
                stacklevel=stacklevel + 1,
            )


def _show(value: object) -> object:
    """A value for a line: texts of others end no line and steer no terminal."""
    if is_a(value, BaseException):
        return make_printable(text_of(cast("BaseException", value)))
    return make_printable(value) if type(value) is str else value
