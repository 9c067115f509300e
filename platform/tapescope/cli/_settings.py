"""What the command line reads of its environment, and its exit statuses."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from tapescope.errors import BadSetting

if TYPE_CHECKING:
    from tapescope_telemetry.telemetry import (
        Baggage,
        CancelStatus,
        ExceptionTexts,
        MessagingAttributes,
        TraceMode,
    )

__all__ = [
    "ENGINE_VARIABLE",
    "EXIT_CANNOT_EXECUTE",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_CHECKED",
    "EXIT_NOT_FOUND",
    "EXIT_NOT_WRITTEN",
    "EXIT_NO_STORE",
    "EXIT_OURS",
    "EXIT_OUTPUT_LOST",
    "EXIT_PIPE_CLOSED",
    "EXIT_TIMED_OUT",
    "EXIT_USAGE",
    "EXIT_VIOLATION",
    "PROGRAM",
    "SERVER_VARIABLE",
    "STORE_VARIABLE",
    "LogFormat",
    "LogLevel",
    "choose_log",
    "find_named_engine",
    "find_named_server",
    "find_named_store",
    "name_caller",
    "read_baggage",
    "read_baggage_setting",
    "read_cancel_status",
    "read_exception_texts",
    "read_messaging_attributes",
    "read_trace_headers",
    "read_trace_mode",
]

STORE_VARIABLE: Final = "TAPESCOPE_STORE"
SERVER_VARIABLE: Final = "TAPESCOPE_SERVER"
ENGINE_VARIABLE: Final = "TAPESCOPE_ENGINE"
_TRACE_MODES: Final[Mapping[str, TraceMode]] = {"link": "link", "child": "child"}
_MESSAGING: Final[Mapping[str, MessagingAttributes]] = {"off": "off", "on": "on"}
_BAGGAGE: Final[Mapping[str, Baggage]] = {"off": "off", "on": "on"}
_CANCEL_STATUSES: Final[Mapping[str, CancelStatus]] = {"unset": "unset", "error": "error"}
_EXCEPTION_TEXTS: Final[Mapping[str, ExceptionTexts]] = {"told": "told", "hidden": "hidden"}

PROGRAM: Final = "tapescope"
EXIT_OUTPUT_LOST: Final = 1
"""``run``: the command said 0, and some of its output could not be written; as cat(1)."""
EXIT_VIOLATION: Final = 1
"""``audit``: a tape breaks an invariant."""
EXIT_NOT_CHECKED: Final = 2
"""``audit``: the tapes could not be checked."""
EXIT_USAGE: Final = 2
"""The command line names no command."""
EXIT_NOT_WRITTEN: Final = 74
"""stdout is full or closed: a part of the answer was not written. sysexits.h's ``EX_IOERR``."""
EXIT_NO_STORE: Final = 2
"""There is no store at the URL, or its role may not do what the command is for: the same status as
of a command line that cannot be read."""
EXIT_TIMED_OUT: Final = 124
"""``run``: the command reached its ``--timeout``; as timeout(1)."""
EXIT_OURS: Final = 125
"""``run``: tapescope itself failed, and the command was not run."""
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
    """The lowest level that a command's log has."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def choose_log(
    log_format: LogFormat | None, level: LogLevel | None
) -> tuple[LogFormat | None, LogLevel]:
    """The options, else ``TAPESCOPE_LOG_FORMAT`` and ``TAPESCOPE_LOG_LEVEL``.

    Without a format there is no log.

    Raises ``BadSetting``.
    """
    named_format = log_format or os.environ.get("TAPESCOPE_LOG_FORMAT") or None
    named_level = level or os.environ.get("TAPESCOPE_LOG_LEVEL") or LogLevel.INFO
    if named_format is not None and named_format not in list(LogFormat):
        raise BadSetting("TAPESCOPE_LOG_FORMAT", named_format, "'text' or 'json'")
    if named_level not in list(LogLevel):
        expected = "'debug', 'info', 'warning' or 'error'"
        raise BadSetting("TAPESCOPE_LOG_LEVEL", named_level, expected)
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


def read_exception_texts() -> ExceptionTexts:
    """``TAPESCOPE_EXCEPTION_TEXTS``: whether spans and logs have them. Raises ``BadSetting``."""
    value = os.environ.get("TAPESCOPE_EXCEPTION_TEXTS") or "told"
    if value in _EXCEPTION_TEXTS:
        return _EXCEPTION_TEXTS[value]
    raise BadSetting("TAPESCOPE_EXCEPTION_TEXTS", value, "'told' or 'hidden'")


def read_messaging_attributes() -> MessagingAttributes:
    """``TAPESCOPE_MESSAGING_ATTRIBUTES``: whether spans have them. Raises ``BadSetting``."""
    value = os.environ.get("TAPESCOPE_MESSAGING_ATTRIBUTES") or "off"
    if value in _MESSAGING:
        return _MESSAGING[value]
    raise BadSetting("TAPESCOPE_MESSAGING_ATTRIBUTES", value, "'off' or 'on'")


def read_baggage_setting() -> Baggage:
    """``TAPESCOPE_BAGGAGE``: whether a submit's goes to its runs. Raises ``BadSetting``."""
    value = os.environ.get("TAPESCOPE_BAGGAGE") or "off"
    if value in _BAGGAGE:
        return _BAGGAGE[value]
    raise BadSetting("TAPESCOPE_BAGGAGE", value, "'off' or 'on'")


def find_named_store(option: str | None) -> str | None:
    """The URL of the option, else of ``TAPESCOPE_STORE``; ``None`` where neither names a store."""
    return option or os.environ.get(STORE_VARIABLE) or None


def find_named_engine(option: str | None) -> str | None:
    """The URL of the option, else of ``TAPESCOPE_ENGINE``; ``None`` where neither names one."""
    return option or os.environ.get(ENGINE_VARIABLE) or None


def find_named_server(option: str | None) -> str | None:
    """The URL of the option, else of ``TAPESCOPE_SERVER``; ``None`` where neither names a server.

    A store that ``TAPESCOPE_STORE`` names beside it is not used.
    """
    return option or os.environ.get(SERVER_VARIABLE) or None


def read_trace_headers() -> tuple[str | None, str | None]:
    """What the caller of this process put in its environment: ``traceparent``, ``tracestate``."""
    return os.environ.get("TRACEPARENT") or None, os.environ.get("TRACESTATE") or None


def read_baggage() -> str | None:
    """The ``BAGGAGE`` that the caller of this process put in its environment."""
    return os.environ.get("BAGGAGE") or None


def name_caller() -> str:
    """The user and the host of this process, for cancels and repairs: ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
