"""The log of a command, on stderr: lines of text or of JSON, each with its span."""

from __future__ import annotations

import logging
import sys
import time

from tapescope.cli._output import escape_json, make_printable
from tapescope.cli._settings import LogFormat, LogLevel
from tapescope_telemetry import JsonFormatter

__all__ = ["start_logging"]


def start_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Show what the library logs. To be called once in a process, by its command line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format is LogFormat.JSON else _TextFormatter())
    logger = logging.getLogger("tapescope")
    logger.addHandler(handler)
    logger.setLevel(level.value.upper())
    logger.propagate = False  # a root logger that the program configured would show it again


class _JsonFormatter(JsonFormatter):
    """As the library's; what could steer a terminal is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, which means the same to a program."""
        return escape_json(super().format(record))


class _TextFormatter(logging.Formatter):
    """A line for a person: time in UTC, level, message. A traceback follows, indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """The lines, with nothing in them that could steer a terminal or pass for another line."""
        return f"{make_printable(self._format_line(record))}{self._format_traceback(record)}"

    def _format_line(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        return self.formatMessage(record)

    def _format_traceback(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            return ""
        lines = self.formatException(record.exc_info).splitlines()
        return "".join(f"\n    {make_printable(line)}" for line in lines)
