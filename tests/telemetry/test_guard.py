"""Telemetry never decides: what others raise there is kept from the platform's work."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode

from tapescope.model import (
    Backlog,
    ConnectionAbort,
    LoopName,
    ManagerSigns,
    Refusal,
    StoreLoad,
    StoreSize,
    StreamEnd,
    TelemetrySource,
)
from tapescope_telemetry import Telemetry
from tapescope_telemetry import spans as span_functions
from tapescope_telemetry.engines import EngineMeter
from tapescope_telemetry.guard import LOGS, read_errors
from tapescope_telemetry.guarded_tracer import GuardedTracerProvider, can_trace
from tapescope_telemetry.logger import Logger
from tapescope_telemetry.managers import ManagerMeter
from tapescope_telemetry.messages import MessageMeter
from tapescope_telemetry.schedules import ScheduleMeter
from tapescope_telemetry.serving import ServerMeter
from tapescope_telemetry.spans import RunSpan, SubmitSpan
from tapescope_telemetry.stores import StoreMeter
from tapescope_telemetry.tasks import TaskMeter
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.faulty_telemetry import Fault, FaultyTelemetry

TASK_ID = "0198c0de-0000-7000-8000-00000000cafe"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def faulty() -> Iterator[FaultyTelemetry]:
    """A telemetry that raises at each hook, its logger included."""
    faulty = FaultyTelemetry(Fault())
    with faulty.installed():
        yield faulty
    faulty.close()


class Ages:
    """Something whose method gives the ages of tasks."""

    def read(self) -> list[tuple[str, float]]:
        return [("op", 1.0)]


def _start(telemetry: Telemetry) -> RunSpan:
    return telemetry.start_run_span("op", TASK_ID, 1, "owner", PARENT)


def _submit(telemetry: Telemetry, error: Exception | None = None) -> None:
    with telemetry.submit_span("op", TASK_ID, "sqlite") as span:
        assert span.trace_context is None or span.trace_context.startswith("00-")
        if error is not None:
            raise error


def _follow(telemetry: Telemetry) -> None:
    with telemetry.store("sqlite").following("follow", lambda: 1):
        pass


def _continue(_: Telemetry) -> None:
    with span_functions.continue_trace(PARENT, "a=b"):
        pass


def _cancel(telemetry: Telemetry) -> None:
    asked_in = span_functions.read_caller()
    telemetry.start_cancel_span("op", TASK_ID, 0, PARENT, asked_in).end("cancelled")


def _use_guarded_tracer(_: Telemetry) -> None:
    """As the framework of the HTTP API does, with a provider that raises as the process's own."""
    bad = FaultyTelemetry(Fault())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", bad.tracer_provider)
        tracer = GuardedTracerProvider().get_tracer("x", "1")
        with tracer.start_as_current_span("x") as span:
            for use in SPAN_METHODS.values():
                use(span)
        span.end()
    bad.close()


SPAN_METHODS: dict[str, Callable[[Span], object]] = {
    "add_event": lambda span: span.add_event("x"),
    "add_link": lambda span: span.add_link(span.get_span_context()),
    "end": lambda span: None,  # last
    "get_span_context": lambda span: span.get_span_context(),
    "is_recording": lambda span: span.is_recording(),
    "record_exception": lambda span: span.record_exception(ValueError("x")),
    "set_attribute": lambda span: span.set_attribute("x", 1),
    "set_attributes": lambda span: span.set_attributes({"x": 1}),
    "set_status": lambda span: span.set_status(StatusCode.ERROR),
    "update_name": lambda span: span.update_name("y"),
}
"""How each method of a span is called."""


class Busy:
    """A manager and its store, as a collection asks them."""

    def read_load(self) -> StoreLoad:
        return StoreLoad(1)

    def read_signs(self) -> ManagerSigns:
        return ManagerSigns(0.01, 2.0, 30.0, 28.0)


AGES = Ages()
BUSY = Busy()
ENTRIES: dict[str, Callable[[Telemetry], object]] = {
    "Telemetry.shared": lambda t: Telemetry.shared(),
    "Telemetry.share": lambda t: Telemetry.share(Telemetry.share(t)),
    "Telemetry.tasks": lambda t: t.tasks,
    "Telemetry.schedules": lambda t: t.schedules,
    "Telemetry.messages": lambda t: t.messages,
    "Telemetry.engines": lambda t: t.engines,
    "Telemetry.managers": lambda t: t.managers,
    "Telemetry.server": lambda t: t.server,
    "ServerMeter.answered": lambda t: t.server.answered("GET", "/v1/tasks", 200, 0.1),
    "ServerMeter.stream_opened": lambda t: t.server.stream_opened(),
    "ServerMeter.stream_ended": lambda t: t.server.stream_ended(StreamEnd.FINAL),
    "ServerMeter.refused": lambda t: t.server.refused(Refusal.HOST),
    "ServerMeter.aborted": lambda t: t.server.aborted(ConnectionAbort.NO_HEAD),
    "Telemetry.store": lambda t: t.store("sqlite"),
    "Telemetry.makes_spans": lambda t: t.makes_spans,
    "Telemetry.submit_span": _submit,
    "Telemetry.start_run_span": _start,
    "Telemetry.start_rescue_span": lambda t: t.start_rescue_span("op", TASK_ID, 1, "o", PARENT),
    "Telemetry.start_cancel_span": _cancel,
    "RunSpan.ended": lambda t: _start(t).ended,
    "RunSpan.attach": lambda t: copy_context().run(_start(t).attach),  # it is never detached
    "RunSpan.end": lambda t: _start(t).end("failed", error=ValueError("x")),
    "TaskMeter.seen": lambda t: t.tasks.seen("op"),
    "TaskMeter.seen_ops": lambda t: t.tasks.seen_ops(),
    "TaskMeter.repeat_zeros": lambda t: t.tasks.repeat_zeros(),
    "TaskMeter.submitted": lambda t: t.tasks.submitted("op"),
    "TaskMeter.refused": lambda t: t.tasks.refused("op"),
    "TaskMeter.queue_wait": lambda t: t.tasks.queue_wait("op", 1.0),
    "TaskMeter.active": lambda t: t.tasks.active("op", "running", 1),
    "TaskMeter.moved": lambda t: t.tasks.moved("op", "pending", "running"),
    "TaskMeter.watch_ages": lambda t: t.tasks.watch_ages(AGES.read),
    "TaskMeter.unwatch_ages": lambda t: t.tasks.unwatch_ages(AGES.read),
    "TaskMeter.limit": lambda t: t.tasks.limit(1),
    "TaskMeter.finished": lambda t: t.tasks.finished("op", "failed", "ValueError", 1.0),
    "TaskMeter.retried": lambda t: t.tasks.retried("op", "ValueError"),
    "TaskMeter.rescued": lambda t: t.tasks.rescued("op", "requeued"),
    "TaskMeter.cancel_requested": lambda t: t.tasks.cancel_requested("user"),
    "TaskMeter.cancel_finished": lambda t: t.tasks.cancel_finished("user", 1.0),
    "TaskMeter.overrun": lambda t: t.tasks.overrun("op", 1.0),
    "TaskMeter.zombie": lambda t: t.tasks.zombie("op", 1),
    "StoreMeter.expect": lambda t: t.store("sqlite").expect("op"),
    "StoreMeter.repeat_zeros": lambda t: t.store("sqlite").repeat_zeros(),
    "StoreMeter.dropped": lambda t: t.store("sqlite").dropped("stale_attempt", "log", "op", None),
    "StoreMeter.operation": lambda t: t.store("sqlite").operation("append", 1.0),
    "StoreMeter.flush": lambda t: t.store("sqlite").flush(1),
    "StoreMeter.tape_closed": lambda t: t.store("sqlite").tape_closed(1),
    "StoreMeter.following": _follow,
    "StoreMeter.audited": lambda t: t.store("sqlite").audited(1, {}),
    "StoreMeter.skewed": lambda t: t.store("sqlite").skewed(1.0),
    "StoreMeter.foreign_notified": lambda t: t.store("sqlite").foreign_notified(),
    "StoreMeter.sized": lambda t: t.store("sqlite").sized("s", StoreSize(4096)),
    "StoreMeter.size_left": lambda t: t.store("sqlite").size_left("s"),
    "StoreMeter.hears_waits": lambda t: t.store("sqlite").hears_waits(),
    "StoreMeter.waited": lambda t: t.store("sqlite").waited(1.0),
    "StoreMeter.watch_load": lambda t: t.store("sqlite").watch_load(BUSY.read_load),
    "StoreMeter.unwatch_load": lambda t: t.store("sqlite").unwatch_load(BUSY.read_load),
    "MessageMeter.count": lambda t: t.messages.count("op", "sent"),
    "EngineMeter.brought": lambda t: t.engines.brought("temporal", "op", "held", "no_slot"),
    "EngineMeter.reconciled": lambda t: t.engines.reconciled("temporal", "confirmed", 1),
    "EngineMeter.overdue_read": lambda t: t.engines.overdue_read("s", "temporal", 1),
    "EngineMeter.overdue_left": lambda t: t.engines.overdue_left("s", "temporal"),
    "ScheduleMeter.fired": lambda t: t.schedules.fired("op", "fired", 1.0),
    "ScheduleMeter.skipped": lambda t: t.schedules.skipped("op", "missed", 1),
    "ManagerMeter.watch": lambda t: t.managers.watch(BUSY.read_signs),
    "ManagerMeter.unwatch": lambda t: t.managers.unwatch(BUSY.read_signs),
    "StoreMeter.backlog_read": lambda t: t.store("sqlite").backlog_read("s", Backlog(0, 0.0, ())),
    "StoreMeter.tell_totals": lambda t: t.store("sqlite").tell_totals(),
    "StoreMeter.backlog_left": lambda t: t.store("sqlite").backlog_left("s"),
    "Telemetry.loop_failed": lambda t: t.loop_failed(LoopName.WORKER),
    "StoreMeter.audit_succeeded": lambda t: t.store("sqlite").audit_succeeded(1.0),
    "spans.format_trace_context": lambda t: None,  # of a span that a guard has made
    "spans.format_traceparent": lambda t: None,
    "spans.format_tracestate": lambda t: None,
    "spans.parse_trace_context": lambda t: span_functions.parse_trace_context(PARENT),
    "spans.join_trace_context": lambda t: span_functions.join_trace_context(PARENT, "a=b"),
    "spans.read_span_ids": lambda t: span_functions.read_span_ids(_start(t).context),
    "spans.is_traced": lambda t: span_functions.is_traced(),
    "spans.continue_trace": _continue,
    "spans.is_in_span": lambda t: span_functions.is_in_span(),
    "spans.read_caller": lambda t: span_functions.read_caller(),
    "spans.start_run": lambda t: None,  # Telemetry's, which is above
    "spans.start_cancel": lambda t: None,
    "spans.copy_untraced": lambda t: span_functions.copy_untraced(copy_context()),
    "guarded_tracer.can_trace": lambda t: can_trace([(b"traceparent", PARENT.encode())]),
    "GuardedTracerProvider.get_tracer": _use_guarded_tracer,
    "Logger.is_enabled_for": lambda t: Logger("tapescope").is_enabled_for(logging.INFO),
    "Logger.debug": lambda t: Logger("tapescope").debug("%s", 1),
    "Logger.info": lambda t: Logger("tapescope").info("%s", 1),
    "Logger.warning": lambda t: Logger("tapescope").warning("%s", 1, extra={"n": 1}),
    "Logger.error": lambda t: Logger("tapescope").error("%s", 1, error=ValueError("x")),
    "Logger.exception": lambda t: Logger("tapescope").exception("%s", 1),
    "Logger.log": lambda t: Logger("tapescope").log(logging.INFO, "%s", 1),
}
"""How each public entry of telemetry is called; the ledger is plain integers and calls nobody."""


def list_entries() -> list[str]:
    """The public methods and functions that the platform may call."""
    methods = [
        f"{kind.__name__}.{name}"
        for kind in (
            Telemetry,
            SubmitSpan,
            RunSpan,
            TaskMeter,
            ManagerMeter,
            StoreMeter,
            ScheduleMeter,
            MessageMeter,
            EngineMeter,
            ServerMeter,
            GuardedTracerProvider,
            Logger,
        )
        for name, _ in inspect.getmembers(
            kind, lambda member: inspect.isroutine(member) or isinstance(member, property)
        )
        if not name.startswith("_")
    ]
    functions = [
        f"spans.{name}"
        for name in span_functions.__all__
        if inspect.isfunction(getattr(span_functions, name))
    ]
    return [*methods, *functions, "guarded_tracer.can_trace"]


def test_every_entry_is_tried() -> None:
    """A new public method of telemetry has to be called here, with faults."""
    assert sorted(ENTRIES) == sorted(list_entries())


def test_every_method_of_a_span_is_guarded() -> None:
    """A span of the process's own provider may raise in each of them."""
    methods = [
        name for name, _ in inspect.getmembers(Span, inspect.isroutine) if not name.startswith("_")
    ]
    span = GuardedTracerProvider().get_tracer("x").start_span("x")

    assert sorted(SPAN_METHODS) == sorted(methods)
    assert [name for name in methods if name not in vars(type(span))] == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_entry_raises(entry: str, faulty: FaultyTelemetry) -> None:
    """What providers, processors, instruments, handlers and filters raise stays in telemetry."""
    ENTRIES[entry](faulty.telemetry)


def test_a_guard_lets_the_callers_error_pass(faulty: FaultyTelemetry) -> None:
    """What is raised inside a submit span is the caller's, whatever its span does."""
    with pytest.raises(LookupError, match="mine"):
        _submit(faulty.telemetry, LookupError("mine"))


def test_hooks_were_really_reached() -> None:
    """Each hook that can be reached while tasks run raises, sooner or later, and is survived."""
    faulty = FaultyTelemetry(Fault(chance=0.5), made=True)
    with faulty.installed():
        for _ in range(20):
            for call in ENTRIES.values():
                call(faulty.telemetry)
    faulty.close()
    hooks = set(faulty.fault.hooks)
    for seed in range(10):  # instruments are made once, with their provider
        meters = FaultyTelemetry(Fault(chance=0.3, seed=seed))
        meters.close()
        hooks |= set(meters.fault.hooks)

    assert {
        *("processor.on_start", "processor.on_end", "exporter.export"),
        *("meter.create_counter", "meter.create_histogram", "meter.create_observable_gauge"),
        *("counter.add", "histogram.record", "view.aggregation"),
        *("handler.handle", "handler.filter", "handler.emit", "handler.format", "logger.filter"),
    } <= hooks


def test_errors_are_counted_and_logged_once(
    captured: CapturedTelemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is in ``tapescope.telemetry.errors`` by its source; the log has one line a kind."""

    class OnlyHere(Exception):
        pass

    before = captured.value("tapescope.telemetry.errors", telemetry_source="log")
    for _ in range(3):
        with LOGS:
            raise OnlyHere

    assert captured.value("tapescope.telemetry.errors", telemetry_source="log") == before + 3
    assert caplog.text.count("OnlyHere") == 1
    assert {
        point.labels["tapescope.telemetry.source"]
        for point in captured.points("tapescope.telemetry.errors")
    } == set(TelemetrySource)


@pytest.mark.parametrize("exit_of_process", [KeyboardInterrupt, SystemExit])
def test_a_guard_lets_an_exit_pass(exit_of_process: type[BaseException]) -> None:
    """A signal may come while telemetry works, and is not taken for a fault of it."""
    before = read_errors()
    with pytest.raises(exit_of_process), LOGS:
        raise exit_of_process

    assert read_errors() == before


def test_a_line_is_placed_at_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    """The guard is not what a log record names as its place."""
    logger = Logger("tapescope")
    for call in (logger.warning, logger.error):
        call("here")
    logger.log(logging.ERROR, "here")

    assert {record.filename for record in caplog.records} == {Path(__file__).name}


def test_the_platform_calls_opentelemetry_through_the_guard_alone() -> None:
    """No room of the platform and no adapter imports OpenTelemetry, or logs, past telemetry."""
    root = Path(__file__).parents[2]
    past = re.compile(r"^\s*(from|import) opentelemetry|_log = logging\.getLogger", re.MULTILINE)
    found = {
        str(path.relative_to(root))
        for folder in ("platform", "adapters")
        for path in (root / folder).rglob("*.py")
        if past.search(path.read_text(encoding="utf-8"))
    }

    # In tests spans are judged, and providers are silent.
    assert "platform/tapescope/testing/_spans.py" in found
    assert {one for one in found if not one.startswith("platform/tapescope/testing/")} == set()
