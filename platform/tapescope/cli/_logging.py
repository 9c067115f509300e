"""The log of a command, on stderr: lines of text or of JSON, each with its span."""

from __future__ import annotations

import logging
import sys
import time

from tapescope.cli._output import make_printable
from tapescope.cli._settings import LogFormat, LogLevel
from tapescope_telemetry import JsonFormatter

__all__ = ["start_logging"]


def start_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Show what the library logs. To be called once in a process, by its command line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format is LogFormat.JSON else _TextFormatter())
    logger = logging.getLogger("tapescope")
    logger.addHandler(handler)
    logger.setLevel(level.value.upper())
    logger.propagate = False  # a root logger that the program configured would show it again


class _TextFormatter(logging.Formatter):
    """A line for a person: time in UTC, level, message. A traceback is a line, too."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """The line, with nothing in it that could steer a terminal."""
        return make_printable(super().format(record))
