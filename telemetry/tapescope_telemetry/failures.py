"""How a failure shows on a span: the one place that sets a status or records an exception."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, cast

from opentelemetry.trace import Status, StatusCode, set_span_in_context

from tapescope.errors import EventFateUnknown, StoreBusy, StoreFull, StoreUnavailable
from tapescope_telemetry._version import __version__
from tapescope_telemetry.chosen import or_silent
from tapescope_telemetry.names import OTHER, SCHEMA_URL, SCOPE_NAME, Attribute

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.trace import Span

__all__ = ["STORE_FAILURES", "FailureMarker", "error_type_of", "find_cause"]

SIGNAL_OPT_IN: Final = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
"""Semantic conventions 1.44: ``logs`` moves exceptions to logs, ``logs/dup`` tells them on both."""


def find_cause(error: BaseException) -> BaseException:
    """The exception to report: the one inside, for a group of one (however deep)."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    return find_cause(group.exceptions[0]) if len(group.exceptions) == 1 else group


def error_type_of(error: BaseException) -> str:
    """The ``error.type`` of an exception, which is also its code on the tape.

    ``ValueError`` for a built-in, ``package.module.Name`` otherwise; a group of one goes by what is
    inside it.
    """
    return _name_kind(type(find_cause(error)))


def _name_kind(kind: type[BaseException]) -> str:
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


STORE_FAILURES: Final = tuple(
    _name_kind(kind) for kind in (EventFateUnknown, StoreBusy, StoreFull, StoreUnavailable)
)
"""Why a well-formed event can fail; counted from zero, so that an alert can see the first."""


class FailureMarker:
    """Marks spans as failed, and records the exception where the application wants exceptions.

    The environment's opt-in is read when this is made, with its ``Telemetry``, not at import.
    """

    __slots__ = ("_cancel_is_error", "_logger_provider", "_on_logs", "_on_spans")

    def __init__(
        self, logger_provider: LoggerProvider | None = None, *, cancel_is_error: bool = False
    ) -> None:
        self._logger_provider = logger_provider
        self._cancel_is_error = cancel_is_error
        chosen = {part.strip() for part in os.environ.get(SIGNAL_OPT_IN, "").split(",")}
        self._on_logs = not chosen.isdisjoint({"logs", "logs/dup"})
        self._on_spans = "logs" not in chosen or "logs/dup" in chosen

    def mark(
        self, span: Span, error: BaseException | None, error_type: str | None, message: str
    ) -> None:
        """Set ERROR and ``error.type`` on the span, and record the exception if there is one.

        ``error_type`` and ``message`` overrule what the exception says of itself.
        """
        if error is not None:
            error = find_cause(error)
            error_type = error_type or error_type_of(error)
            message = message or str(error)
        span.set_attribute(Attribute.ERROR_TYPE, error_type or OTHER)
        span.set_status(Status(StatusCode.ERROR, message or None))
        if error is not None and self._on_spans:
            span.record_exception(error)
        if error is not None and self._on_logs:
            self._log(span, error)

    def mark_cancelled(self, span: Span, reason: str) -> None:
        """Leave the status UNSET, or set ERROR where the application has chosen that."""
        if self._cancel_is_error:
            span.set_status(Status(StatusCode.ERROR, f"cancelled: {reason}"))

    def _log(self, span: Span, error: BaseException) -> None:
        # The API calls its log signal _logs while it is in beta; imported only after an opt-in.
        from opentelemetry._logs import NoOpLogger, SeverityNumber, get_logger

        logger = or_silent(
            lambda: get_logger(
                SCOPE_NAME,
                __version__,
                logger_provider=self._logger_provider,
                schema_url=SCHEMA_URL,
            ),
            lambda: NoOpLogger(SCOPE_NAME),
        )
        logger.emit(
            context=set_span_in_context(span),
            severity_number=SeverityNumber.ERROR,
            severity_text="ERROR",
            exception=error,
        )
