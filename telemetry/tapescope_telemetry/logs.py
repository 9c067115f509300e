"""Log records that know their span: a filter, a JSON formatter, and the way to OTLP.

Nothing here is installed by being imported, and nothing of it needs an SDK.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

import orjson
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

__all__ = ["JsonFormatter", "OtelHandler", "TraceFilter"]

_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; anything else was given as ``extra``."""
_TRACE: Final = ("trace_id", "span_id")


class TraceFilter(logging.Filter):
    """Puts ``trace_id`` and ``span_id`` on each record, for a formatter to show; drops none.

    They are those that the record was logged with (a late event is logged with its run's, which has
    ended), else those of the current span; empty where there is none. Offered, never installed:
    ``handler.addFilter(TraceFilter())``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true."""
        trace_id, span_id = _find_span(record)
        record.trace_id = trace_id or ""
        record.span_id = span_id or ""
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the span, and what else was given.

    ``ts`` is RFC 3339, UTC, with microseconds; ``trace_id`` and ``span_id`` are there when there is
    a span; an exception is its traceback's text. Extra fields keep their names.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "ts": f"{at:%Y-%m-%dT%H:%M:%S.%f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: value for name, value in zip(_TRACE, _find_span(record), strict=True) if value
        }
        line |= _find_extras(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        try:
            return _dump(line)
        except TypeError:  # a field that JSON cannot carry is told as text, and costs no other
            return _dump({_sayable(name): _or_text(value) for name, value in line.items()})


class OtelHandler(logging.Handler):
    """Hands records to OpenTelemetry, each with its own span.

    The SDK's own handler is deprecated, and both it and its successor know only the current span:
    the log of a late event would be lost to its run.
    """

    def __init__(self, logger_provider: LoggerProvider, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._provider = logger_provider

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record over."""
        try:
            attributes: dict[str, Any] = {
                _sayable(name): value if _is_number(value) else _sayable(value)
                for name, value in _find_extras(record).items()
            }
            attributes["code.file.path"] = record.pathname
            attributes["code.function.name"] = record.funcName
            attributes["code.line.number"] = record.lineno
            self._provider.get_logger(record.name).emit(
                timestamp=int(record.created * 1e9),
                observed_timestamp=time_ns(),
                context=_make_context(*_find_span(record)),
                severity_number=_grade(record.levelno),
                severity_text=record.levelname,
                body=_sayable(record.getMessage()),
                attributes=attributes,
                exception=record.exc_info[1] if record.exc_info else None,
            )
        except Exception:  # noqa: BLE001  # logging's own way: a log never fails its caller
            self.handleError(record)


def _dump(line: Any) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _or_text(value: Any) -> Any:
    try:
        _dump(value)
    except TypeError:
        return _sayable(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**63)


def _sayable(value: Any) -> str:
    """A value as text that UTF-8 can carry: one that cannot be sent costs what is sent with it."""
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001  # anybody's code, which costs itself alone
        text = f"({type(value).__name__} whose text raised {type(error).__name__})"
    return text.encode("utf-8", "backslashreplace").decode()


def _find_span(record: logging.LogRecord) -> tuple[str | None, str | None]:
    trace_id, span_id = (getattr(record, name, None) for name in _TRACE)
    if trace_id and span_id:
        return str(trace_id), str(span_id)
    current = get_current_span().get_span_context()
    if not current.is_valid:
        return None, None
    return format_trace_id(current.trace_id), format_span_id(current.span_id)


def _find_extras(record: logging.LogRecord) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(record).items()
        if name not in _PLAIN and name not in _TRACE and value is not None
    }


def _make_context(trace_id: str | None, span_id: str | None) -> Context:
    if trace_id is None or span_id is None:
        return Context()
    try:
        named = SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
    except ValueError:  # another library's extra of that name, not a span id of ours
        return Context()
    return set_span_in_context(NonRecordingSpan(named), Context())


def _grade(level: int) -> SeverityNumber:
    for least, severity in (
        (logging.CRITICAL, SeverityNumber.FATAL),
        (logging.ERROR, SeverityNumber.ERROR),
        (logging.WARNING, SeverityNumber.WARN),
        (logging.INFO, SeverityNumber.INFO),
        (logging.DEBUG, SeverityNumber.DEBUG),
    ):
        if level >= least:
            return severity
    return SeverityNumber.TRACE
