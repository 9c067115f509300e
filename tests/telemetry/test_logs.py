"""Log records with their span: the filter, the JSON lines, and the way to OpenTelemetry."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.trace import format_span_id, format_trace_id

from tapescope_telemetry import JsonFormatter, OtelHandler, TraceFilter
from tapescope_telemetry.logger import Logger
from tests.support.captured_telemetry import CapturedTelemetry

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def make_record(message: str = "told", level: int = logging.WARNING, **extra: Any) -> Any:
    """A record as ``logging`` makes it."""
    record = logging.LogRecord("tapescope", level, __file__, 7, message, None, None)
    vars(record).update(extra)
    return record


def test_the_filter_adds_the_current_span(captured: CapturedTelemetry) -> None:
    """Each record gets the ids of the span that is current, and none is held back."""
    record = make_record()
    with captured.tracer_provider.get_tracer("test").start_as_current_span("here") as span:
        passed = TraceFilter().filter(record)
    own = span.get_span_context()

    assert passed is True
    assert record.trace_id == format_trace_id(own.trace_id)
    assert record.span_id == format_span_id(own.span_id)


def test_a_records_own_span_goes_first(captured: CapturedTelemetry) -> None:
    """The ids that a record was logged with are kept: a late event's run has ended."""
    record = make_record(trace_id=TRACE, span_id=SPAN)
    with captured.tracer_provider.get_tracer("test").start_as_current_span("elsewhere"):
        TraceFilter().filter(record)

    assert (record.trace_id, record.span_id) == (TRACE, SPAN)


def test_without_a_span_the_ids_are_empty() -> None:
    """A format with the two fields works without a tracer."""
    record = make_record(trace_id=None, span_id=None)
    TraceFilter().filter(record)

    assert logging.Formatter("%(message)s [%(trace_id)s]").format(record) == "told []"


def test_a_line_is_one_json_object() -> None:
    """Time, level, logger, message, span and extras are fields; a newline ends no line."""
    record = make_record("one\ntwo", trace_id=TRACE, span_id=SPAN, task_id="t", dropped=3)
    record.created = 1_800_000_000.25
    text = JsonFormatter().format(record)

    assert "\n" not in text
    assert json.loads(text) == {
        "ts": "2027-01-15T08:00:00.250000Z",
        "level": "warning",
        "logger": "tapescope",
        "message": "one\ntwo",
        "trace_id": TRACE,
        "span_id": SPAN,
        "task_id": "t",
        "dropped": 3,
    }


def test_a_line_takes_any_extra_and_a_traceback() -> None:
    """What JSON does not know is shown as text, and an exception is its traceback."""
    record = make_record(what=object(), keys={1: {2}})
    try:
        raise ValueError("no")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = json.loads(JsonFormatter().format(record))

    assert line["what"].startswith("<object object")
    assert line["keys"] == {"1": "{2}"}
    assert "ValueError: no" in line["exception"]
    assert "trace_id" not in line


class NoText:
    """Its text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


ODD: Final[dict[str, object]] = {
    "a lone surrogate": "a\ud800b",
    "one deep inside": {"x": ["a\ud800b"]},
    "a key": {"a\ud800b": 1},
    "a number over 64 bits": 2**70,
    "no text": NoText(),
    "no text deep inside": [NoText()],
}


@pytest.mark.parametrize("odd", ODD)
def test_what_json_cannot_carry_costs_no_line(odd: str) -> None:
    """As an extra, in the message or in an exception: it is told in another way, the rest as is."""
    value = ODD[odd]
    record = make_record("told: a\ud800b", what=value, task_id="t")
    try:
        raise ValueError(value)
    except ValueError:
        record.exc_info = sys.exc_info()
    line = json.loads(JsonFormatter().format(record))

    assert line["message"] == "told: a\\ud800b"
    assert line["task_id"] == "t"
    assert "what" in line
    assert "ValueError" in line["exception"]
    assert json.dumps(line, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        (logging.DEBUG, "DEBUG"),
        (logging.INFO, "INFO"),
        (logging.WARNING, "WARN"),
        (logging.ERROR, "ERROR"),
        (logging.CRITICAL, "FATAL"),
    ],
)
def test_the_handler_hands_a_record_on(level: int, severity: str) -> None:
    """OpenTelemetry gets body, severity, attributes and the record's own span."""
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's is untyped
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    handler = OtelHandler(provider)
    handler.handle(make_record("told", level, trace_id=TRACE, span_id=SPAN, task_id="t"))
    (sent,) = exporter.get_finished_logs()
    told = sent.log_record
    provider.shutdown()

    assert told.body == "told"
    assert told.severity_number is not None
    assert told.severity_number.name == severity
    assert told.trace_id == int(TRACE, 16)
    assert told.span_id == int(SPAN, 16)
    assert dict(told.attributes or {})["task_id"] == "t"


@pytest.mark.parametrize("behind", [False, True], ids=["its text", "its cause's"])
def test_what_utf_8_cannot_carry_is_escaped_in_an_exception(
    behind: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that writes UTF-8 would lose the line, and an exporter the exception."""
    error = ValueError("told" if behind else "a\ud800b")
    error.__cause__ = ValueError("a\ud800b") if behind else None
    Logger("tapescope").error("It failed: %s", error, error=error)
    (record,) = caplog.records

    assert caplog.text.encode()
    assert record.exc_info is not None
    assert ("told" if behind else "a\\ud800b") in str(record.exc_info[1])


@pytest.mark.parametrize("odd", ODD)
def test_what_is_handed_on_can_be_sent(odd: str) -> None:
    """A body that could not be sent would cost all records that are sent with it."""
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's is untyped
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    OtelHandler(provider).handle(
        make_record("told: a\ud800b", what=ODD[odd], task_id="t", dropped=3)
    )
    (sent,) = exporter.get_finished_logs()
    provider.shutdown()
    attributes = dict(sent.log_record.attributes or {})

    assert attributes["dropped"] == 3
    assert sent.log_record.body == "told: a\\ud800b"
    assert attributes["task_id"] == "t"
    assert str(attributes["what"]).encode()


def test_the_handler_never_fails_its_caller(capsys: pytest.CaptureFixture[str]) -> None:
    """A record that cannot be formatted is logging's own affair, as with any handler."""
    provider = LoggerProvider(shutdown_on_exit=False)
    record = make_record("%d")
    record.args = ("x",)
    OtelHandler(provider).handle(record)
    provider.shutdown()

    assert "Logging error" in capsys.readouterr().err
