"""How a failure shows on a span: the one place that sets a status or records an exception."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.trace import Status, StatusCode, set_span_in_context

from tapescope.errors import EventFateUnknown, StoreBusy, StoreFull, StoreUnavailable
from tapescope_telemetry._version import __version__
from tapescope_telemetry.chosen import or_silent
from tapescope_telemetry.guard import EXCEPTIONS, LOGS, SPANS_OF_OTHERS, name_class
from tapescope_telemetry.names import OTHER, SCHEMA_URL, SCOPE_NAME, Attribute

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.trace import Span

__all__ = [
    "STORE_FAILURES",
    "FailureMarker",
    "Redacted",
    "Unprintable",
    "error_type_of",
    "find_cause",
    "hide_texts",
    "is_a",
    "is_raised_here",
    "list_parts",
    "printable",
    "text_of",
    "trace_of",
]

SIGNAL_OPT_IN: Final = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
"""Semantic conventions 1.44: ``logs`` moves exceptions to logs, ``logs/dup`` tells them on both."""


def _name_kept(error: BaseException) -> dict[str, str] | None:
    """The attributes by which a stand-in goes by its exception's type on a span."""
    if type(error) is Redacted:
        stack = {"exception.stacktrace": error.trace}
        return {"exception.type": error_type_of(error)} | stack
    return {"exception.type": error_type_of(error)} if type(error) is Unprintable else None


_PARTS: Final[Any] = BaseExceptionGroup.__dict__["exceptions"]
_TRACEBACK: Final[Any] = BaseException.__dict__["__traceback__"]
_CAUSE: Final[Any] = BaseException.__dict__["__cause__"]
_CONTEXT: Final[Any] = BaseException.__dict__["__context__"]
_HIDES_CONTEXT: Final[Any] = BaseException.__dict__["__suppress_context__"]
"""The descriptors, which no class of an exception can overrule."""
_OURS: Final = frozenset({"subprocess", "tapescope", "tapescope_adapters", "tapescope_telemetry"})
"""Our packages, and the module that starts commands for us."""


def is_a(error: object, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """``isinstance``, without asking the object: its ``__class__`` may be anybody's code."""
    return issubclass(_kind(error), kinds)


def list_parts(group: BaseException) -> tuple[BaseException, ...]:
    """The exceptions of a group, whatever a class of its own makes of ``exceptions``."""
    parts: tuple[BaseException, ...] = _PARTS.__get__(group)
    return parts


def find_cause(error: BaseException) -> BaseException:
    """The exception to report: the one inside, for a group of one (however deep)."""
    while is_a(error, BaseExceptionGroup) and not issubclass(type(error), Unprintable):
        parts = list_parts(error)
        if len(parts) != 1:
            break
        error = parts[0]
    return error


def error_type_of(error: BaseException) -> str:
    """The ``error.type`` of an exception, which is also its code on the tape.

    ``ValueError`` for a built-in, ``package.module.Name`` otherwise; a group of one goes by what is
    inside it.
    """
    return _name_kind(_kind(find_cause(error)))


def text_of(error: BaseException) -> str:
    """``str(error)``, or what can be said of an exception whose ``__str__`` raises.

    UTF-8 can carry it: lone surrogates are escaped.
    """
    return _read(error)[0]


def trace_of(error: BaseException) -> str:
    """The traceback as text, or why it cannot be had."""
    return _format(error)[0]


def is_raised_here(error: BaseException) -> bool:
    """Whether no frame of its traceback is anybody's but ours, and nothing is behind it.

    Such a traceback says where this library noticed something, as that a command is not found.
    """
    frames = traceback.walk_tb(_TRACEBACK.__get__(error))
    rooms = {str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in frames}
    hidden = _HIDES_CONTEXT.__get__(error)
    behind = _CAUSE.__get__(error) if hidden else _CONTEXT.__get__(error)
    return bool(rooms) and rooms <= _OURS and behind is None


def printable(error: BaseException) -> BaseException:
    """The exception itself, or, where it cannot be printed or walked, one that stands in for it.

    For all that print: the SDK's ``record_exception``, and the formatters of log handlers. What
    UTF-8 cannot carry costs an exporter the attribute, and a handler the line.
    """
    text, readable = _read(error)
    _, formattable = _format(error)
    return error if readable and formattable else Unprintable(error, text)


class Unprintable(Exception):  # it is told instead of an error, and never raised
    """Stands in for an exception that cannot be printed: its text, its traceback, its kind."""

    def __init__(self, error: BaseException, text: str) -> None:
        self.text: Final = text
        self.kind: Final = _kind(error)
        super().__init__(text)
        self.__traceback__ = _TRACEBACK.__get__(error)


class Redacted(Unprintable):
    """Stands in for an exception whose texts are not told as they are: with these instead.

    What is behind it, its cause or its context, is not with it.
    """

    def __init__(self, error: BaseException, text: str, trace: str | None) -> None:
        super().__init__(error, text)
        self.__traceback__ = None
        self.trace: Final = trace or ""
        if trace:
            self.add_note(trace)  # a formatter of logs shows it below the text


def hide_texts(error: BaseException) -> BaseException:
    """The exception by its type and its frames, without what it and those behind it say."""
    frames = traceback.format_tb(_TRACEBACK.__get__(error))
    return Redacted(error, "", "".join(frames))


def _kind(error: object) -> type[BaseException]:
    """The class of an exception; of one that something stands in for, the real one's."""
    kind: Any = type(error)
    return cast("Unprintable", error).kind if issubclass(kind, Unprintable) else kind


def _read(error: BaseException) -> tuple[str, bool]:
    try:
        return _escape("".join((str(error), "")))  # a copy: a subclass of str is anybody's code
    except BaseException as defect:  # noqa: BLE001  # as EXCEPTIONS says: also an exit is kept
        EXCEPTIONS.note(type(defect))
        kind, raised = name_class(type(error)), name_class(type(defect))
        return f"({kind} whose text raised {raised})", False


def _escape(text: str) -> tuple[str, bool]:
    """Text that UTF-8 can carry, and whether it is the text that was given."""
    carried = text.encode("utf-8", "backslashreplace").decode()
    return carried, carried == text


def _format(error: BaseException) -> tuple[str, bool]:
    try:
        return _escape("".join(traceback.format_exception(error)))
    except BaseException as defect:  # noqa: BLE001  # as EXCEPTIONS says: also an exit is kept
        EXCEPTIONS.note(type(defect))
        return f"(the traceback could not be formatted: {name_class(type(defect))})", False


def _name_kind(kind: type[BaseException]) -> str:
    try:
        module, name = "".join((kind.__module__, "")), "".join((kind.__qualname__, ""))
    except BaseException as defect:  # noqa: BLE001  # as EXCEPTIONS says: a metaclass may raise
        EXCEPTIONS.note(type(defect))
        return name_class(kind)
    return name if module == "builtins" else f"{module}.{name}"


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
        told: BaseException | None = None
        if error is not None:
            error = find_cause(error)
            error_type = error_type or error_type_of(error)
            message = message or text_of(error)
            told = printable(error)
        with SPANS_OF_OTHERS:
            span.set_attribute(Attribute.ERROR_TYPE, error_type or OTHER)
            span.set_status(Status(StatusCode.ERROR, message or None))
        if told is not None and self._on_spans:
            with SPANS_OF_OTHERS:
                span.record_exception(told, _name_kept(told))
        if told is not None and self._on_logs:
            with LOGS:
                self._log(span, told)

    def mark_cancelled(self, span: Span, reason: str) -> None:
        """Leave the status UNSET, or set ERROR where the application has chosen that."""
        if self._cancel_is_error:
            with SPANS_OF_OTHERS:
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
