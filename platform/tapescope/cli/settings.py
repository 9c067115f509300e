"""What the command line is told: its settings and its exit statuses. Nothing else reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from tapescope.errors import BadSetting, StoreConfigError

if TYPE_CHECKING:
    from tapescope_telemetry.telemetry import CancelStatus, TraceMode

__all__ = [
    "EXIT_CANNOT_EXECUTE",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_CHECKED",
    "EXIT_NOT_FOUND",
    "EXIT_OURS",
    "EXIT_PIPE_CLOSED",
    "EXIT_TIMED_OUT",
    "EXIT_VIOLATION",
    "STORE_VARIABLE",
    "LogFormat",
    "LogLevel",
    "choose_log",
    "choose_store",
    "file_url",
    "find_named_store",
    "read_cancel_status",
    "read_trace_mode",
    "read_traceparent",
]

STORE_VARIABLE: Final = "TAPESCOPE_STORE"
_TRACE_MODES: Final[Mapping[str, TraceMode]] = {"link": "link", "child": "child"}
_CANCEL_STATUSES: Final[Mapping[str, CancelStatus]] = {"unset": "unset", "error": "error"}

EXIT_VIOLATION: Final = 1
"""``audit``: something is wrong with a tape."""
EXIT_NOT_CHECKED: Final = 2
"""``audit``: it could not be told."""
EXIT_TIMED_OUT: Final = 124
"""``run``: the command had no time left; as timeout(1)."""
EXIT_OURS: Final = 125
"""``run``: we failed, and the command was not run."""
EXIT_CANNOT_EXECUTE: Final = 126
EXIT_NOT_FOUND: Final = 127
EXIT_INTERRUPTED: Final = 130
"""Ctrl-C: 128 + SIGINT."""
EXIT_PIPE_CLOSED: Final = 141
"""128 + SIGPIPE, as a program that the signal ends."""


class LogFormat(StrEnum):
    """How a command's log is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """From which level on a command's log is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def choose_log(
    log_format: LogFormat | None, level: LogLevel | None
) -> tuple[LogFormat | None, LogLevel]:
    """The options, else ``TAPESCOPE_LOG_FORMAT`` and ``TAPESCOPE_LOG_LEVEL``; no format: no log.

    Raises ``BadSetting``.
    """
    named_format = log_format or os.environ.get("TAPESCOPE_LOG_FORMAT") or None
    named_level = level or os.environ.get("TAPESCOPE_LOG_LEVEL") or LogLevel.INFO
    if named_format is not None and named_format not in list(LogFormat):
        raise BadSetting("TAPESCOPE_LOG_FORMAT", named_format, "'text' or 'json'")
    if named_level not in list(LogLevel):
        raise BadSetting("TAPESCOPE_LOG_LEVEL", named_level, " or ".join(map(repr, LogLevel)))
    shown = None if named_format is None else LogFormat(named_format)
    return shown, LogLevel(named_level)


def read_trace_mode() -> TraceMode:
    """``TAPESCOPE_TRACE_MODE``. Raises ``BadSetting``."""
    value = os.environ.get("TAPESCOPE_TRACE_MODE") or "link"
    if value in _TRACE_MODES:
        return _TRACE_MODES[value]
    raise BadSetting("TAPESCOPE_TRACE_MODE", value, "'link' or 'child'")


def read_cancel_status() -> CancelStatus:
    """``TAPESCOPE_CANCEL_STATUS``: the status of a cancelled run's span. Raises ``BadSetting``."""
    value = os.environ.get("TAPESCOPE_CANCEL_STATUS") or "unset"
    if value in _CANCEL_STATUSES:
        return _CANCEL_STATUSES[value]
    raise BadSetting("TAPESCOPE_CANCEL_STATUS", value, "'unset' or 'error'")


def find_named_store(given: str | None) -> str | None:
    """The URL of the option, else of ``TAPESCOPE_STORE``; ``None`` where neither names a store."""
    return given or os.environ.get(STORE_VARIABLE) or None


def choose_store(given: str | None) -> str:
    """The store's URL: the option, else ``TAPESCOPE_STORE``, else a file in the user's data folder.

    That folder is made. Raises ``StoreConfigError`` where it cannot be.
    """
    url = find_named_store(given)
    if url:
        return url
    import platformdirs

    folder = Path(platformdirs.user_data_dir("tapescope", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreConfigError(
            f"The folder {str(folder)!r} of the default store cannot be made ({error.strerror}). "
            f"Name a store with --store or {STORE_VARIABLE}."
        ) from error
    return file_url(folder / "tasks.db")


def file_url(path: Path) -> str:
    """The URL of a SQLite store in this file."""
    return f"sqlite:///{quote(str(path.absolute()))}"


def read_traceparent() -> str | None:
    """The W3C trace context that the caller of this process put in its environment."""
    return os.environ.get("TRACEPARENT") or None
