"""The contract: what is emitted, compared with the published table."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum

from tapescope.model import Backlog, ManagerSigns, OpBacklog, StoreLoad, StoreSize
from tapescope_telemetry import METRICS, SCHEMA_URL, SCOPE_NAME, Telemetry, __version__
from tests.support.captured_telemetry import CapturedTelemetry

COUNTER, UPDOWN, HISTOGRAM, GAUGE = "counter", "updowncounter", "histogram", "gauge"
OP = "tapescope.task.op"
STORE = "tapescope.store.adapter"
REASON = "tapescope.cancel.reason"
ERROR = "error.type"

# Copied by hand from the published contract: name → kind, unit, attributes, optional attributes.
CONTRACT: dict[str, tuple[str, str, set[str], set[str]]] = {
    "tapescope.task.submitted": (COUNTER, "{task}", {OP}, set()),
    "tapescope.task.duration": (
        HISTOGRAM,
        "s",
        {OP, "tapescope.task.outcome"},
        {ERROR, REASON},
    ),
    "tapescope.task.active": (UPDOWN, "{task}", {OP, "tapescope.task.state"}, set()),
    "tapescope.task.limit": (UPDOWN, "{task}", set(), set()),
    "tapescope.task.queue.wait_time": (HISTOGRAM, "s", {OP}, set()),
    "tapescope.task.oldest_active.age": (GAUGE, "s", {OP}, set()),
    "tapescope.task.backlog": (GAUGE, "{task}", {OP, "tapescope.task.state"}, set()),
    "tapescope.task.oldest_due.age": (GAUGE, "s", {OP}, set()),
    "tapescope.op.workers": (GAUGE, "{worker}", {OP}, set()),
    "tapescope.task.running.age": (GAUGE, "s", {OP}, set()),
    "tapescope.op.paused": (GAUGE, "{op}", {OP}, set()),
    "tapescope.op.timeout": (GAUGE, "s", {OP}, set()),
    "tapescope.task.refused": (COUNTER, "{task}", {OP}, set()),
    "tapescope.task.retries": (COUNTER, "{attempt}", {OP, ERROR}, set()),
    "tapescope.task.rescued": (COUNTER, "{task}", {OP, "tapescope.rescue.result"}, set()),
    "tapescope.message.count": (
        COUNTER,
        "{message}",
        {OP, "tapescope.message.result"},
        set(),
    ),
    "tapescope.schedule.firings": (
        COUNTER,
        "{firing}",
        {OP, "tapescope.schedule.outcome"},
        set(),
    ),
    "tapescope.schedule.lateness": (HISTOGRAM, "s", {OP}, set()),
    "tapescope.engine.task.brought": (
        COUNTER,
        "{task}",
        {"tapescope.engine.name", OP, "tapescope.engine.result"},
        {"tapescope.engine.held.reason"},
    ),
    "tapescope.engine.task.reconciled": (
        COUNTER,
        "{task}",
        {"tapescope.engine.name", "tapescope.engine.reconcile.result"},
        set(),
    ),
    "tapescope.engine.task.overdue": (GAUGE, "{task}", {"tapescope.engine.name"}, set()),
    "tapescope.task.zombies": (UPDOWN, "{task}", {OP}, set()),
    "tapescope.cancel.requests": (COUNTER, "{request}", {REASON}, set()),
    "tapescope.cancel.duration": (HISTOGRAM, "s", {REASON}, set()),
    "tapescope.cancel.overrun": (HISTOGRAM, "s", {OP}, set()),
    "tapescope.tape.event.offered": (COUNTER, "{event}", {STORE}, set()),
    "tapescope.tape.event.appended": (
        COUNTER,
        "{event}",
        {"tapescope.event.type", STORE},
        set(),
    ),
    "tapescope.tape.event.dropped": (
        COUNTER,
        "{event}",
        {"tapescope.drop.reason", "tapescope.event.type", OP, STORE, "tapescope.tape.outcome"},
        set(),
    ),
    "tapescope.tape.event.failed": (COUNTER, "{event}", {"tapescope.event.type", ERROR}, set()),
    "tapescope.tape.event.unaccounted": (GAUGE, "{event}", {STORE}, set()),
    "tapescope.tape.length": (HISTOGRAM, "{event}", {STORE}, set()),
    "tapescope.tape.audit.checked": (COUNTER, "{tape}", {STORE}, set()),
    "tapescope.tape.audit.violations": (
        COUNTER,
        "{violation}",
        {"tapescope.audit.rule", STORE},
        set(),
    ),
    "tapescope.tape.audit.last_success.timestamp": (GAUGE, "s", set(), set()),
    "tapescope.store.operation.duration": (
        HISTOGRAM,
        "s",
        {"tapescope.store.operation", STORE},
        {ERROR},
    ),
    "tapescope.store.flush.size": (HISTOGRAM, "{event}", {STORE}, set()),
    "tapescope.subscriber.active": (
        UPDOWN,
        "{subscriber}",
        {"tapescope.subscriber.kind"},
        set(),
    ),
    "tapescope.subscriber.lag": (GAUGE, "{event}", {"tapescope.subscriber.kind"}, set()),
    "tapescope.store.clock.skew": (GAUGE, "s", {STORE}, set()),
    "tapescope.store.notifications.foreign": (COUNTER, "{notification}", {STORE}, set()),
    "tapescope.store.log.size": (GAUGE, "By", {STORE}, set()),
    "tapescope.store.flush.wait_time": (HISTOGRAM, "s", {STORE}, set()),
    "tapescope.store.queue.depth": (GAUGE, "{call}", {STORE}, set()),
    "tapescope.store.connections": (
        GAUGE,
        "{connection}",
        {"tapescope.connection.state", STORE},
        set(),
    ),
    "tapescope.store.connections.waiting": (GAUGE, "{call}", {STORE}, set()),
    "tapescope.store.file.size": (GAUGE, "By", {STORE}, set()),
    "tapescope.store.file.free": (GAUGE, "By", {STORE}, set()),
    "tapescope.store.disk.free": (GAUGE, "By", {STORE}, set()),
    "tapescope.store.disk.size": (GAUGE, "By", {STORE}, set()),
    "tapescope.store.quarantine.size": (GAUGE, "{event}", {STORE}, set()),
    "tapescope.loop.lag": (GAUGE, "s", set(), set()),
    "tapescope.heartbeat.age": (GAUGE, "s", set(), set()),
    "tapescope.lease.duration": (GAUGE, "s", set(), set()),
    "tapescope.lease.margin": (GAUGE, "s", set(), set()),
    "tapescope.loop.errors": (COUNTER, "{error}", {"tapescope.loop.name"}, set()),
    "tapescope.telemetry.errors": (COUNTER, "{error}", {"tapescope.telemetry.source"}, set()),
}

TASK_ID = "0198c0de-0000-7000-8000-00000000cafe"
OWNER = "host-4711-owner"


class Busy:
    """A manager and its store, as a collection asks them."""

    def read_load(self) -> StoreLoad:
        """One call is under way, and one waits."""
        return StoreLoad(1, used=1, idle=0, waiting=1)

    def read_signs(self) -> ManagerSigns:
        """It beat two seconds ago."""
        return ManagerSigns(0.01, 2.0, 30.0, 28.0)


BUSY = Busy()


def tell_everything(telemetry: Telemetry) -> str | None:
    """Call each method of the telemetry once, as the life of a few tasks would; the trace id."""
    tasks, store = telemetry.tasks, telemetry.store("sqlite")
    with telemetry.submit_span("resize", TASK_ID, "sqlite") as submit:
        tasks.submitted("resize")
        store.ledger.offer(4)
        store.ledger.store("task_started")
    run = telemetry.start_run_span(
        *("resize", TASK_ID, 1, OWNER, submit.trace_context),
        queue_wait=0.25,
        timeout=60.0,
        retries_left=2,
        function="shop.resize",
        engine="temporal",
    )
    tasks.limit(100)
    tasks.active("resize", "running", 1)
    tasks.queue_wait("resize", 0.25, run.context)
    tasks.retried("resize", "timeout", run.context)
    tasks.cancel_requested("user")
    tasks.cancel_finished("user", 0.5, run.context)
    tasks.overrun("resize", 1.5, run.context)
    tasks.zombie("resize", 1)
    tasks.finished("resize", "failed", "ValueError", 2.0, context=run.context)
    tasks.finished("resize", "cancelled", None, 2.0, cancel_reason="user")
    store.ledger.fail("log", "tapescope.errors.StoreUnavailable")
    store.ledger.replay()
    store.dropped("after_terminal", "log", "resize", "failed", context=run.context)
    store.operation("append", 0.001)
    store.operation("append", 0.001, "TimeoutError")
    store.flush(3)
    store.tape_closed(7)
    with store.following("live", lambda: 3):
        pass
    store.audited(2, {"sequence_gap": 1})
    store.audit_succeeded(1.8e9)
    store.skewed(-0.5)
    store.sized("sqlite:///t.db", StoreSize(4096, 8192, 0, 1 << 30, 1 << 40, 1, 1))
    store.waited(0.002)
    store.watch_load(BUSY.read_load)
    telemetry.managers.watch(BUSY.read_signs)
    telemetry.messages.count("resize", "sent")
    telemetry.engines.brought("temporal", "resize", "held", "no_slot")
    telemetry.engines.brought("temporal", "resize", "ended")
    telemetry.engines.reconciled("temporal", "confirmed", 2)
    telemetry.engines.overdue_read("sqlite:///t.db", "temporal", 3)
    telemetry.schedules.fired("resize", "fired", 0.1)
    telemetry.schedules.skipped("resize", "missed", 2)
    store.backlog_read("sqlite:///t.db", Backlog(0, 0.0, (OpBacklog("resize", 1, timeout=60.0),)))
    run.end("failed", error=ValueError("no"), tape_length=7, tape_dropped=1)
    return run.trace_id


def describe_kind(data: Any) -> str:
    """The contract's word for what the SDK received."""
    if isinstance(data, Sum):
        return COUNTER if data.is_monotonic else UPDOWN
    return {Histogram: HISTOGRAM, Gauge: GAUGE}[type(data)]


def test_metrics_match_the_contract(captured: CapturedTelemetry) -> None:
    """What the SDK receives has the contract's names, kinds, units and attributes, and no more."""
    tell_everything(captured.telemetry)
    emitted = captured.metrics()

    assert emitted.keys() == CONTRACT.keys()
    for name, (kind, unit, required, optional) in CONTRACT.items():
        metric = emitted[name]
        assert (describe_kind(metric.data), metric.unit) == (kind, unit), name
        assert metric.description
        seen: set[str] = set()
        for point in metric.data.data_points:
            labels = set(point.attributes or {})
            seen |= labels
            assert required <= labels <= required | optional, name
        assert seen == required | optional, name


def test_table_matches_the_contract() -> None:
    """The table that the reference page is made from says the same, and has only float buckets."""
    table = {
        row.name: (row.kind, row.unit, set(row.attributes), set(row.optional)) for row in METRICS
    }

    assert table == CONTRACT
    for row in METRICS:
        assert (row.kind == HISTOGRAM) == bool(row.boundaries), row.name
        assert all(type(boundary) is float for boundary in row.boundaries), row.name
        assert list(row.boundaries) == sorted(set(row.boundaries)), row.name


def test_histograms_use_the_advised_boundaries(captured: CapturedTelemetry) -> None:
    """Each histogram's buckets are the table's."""
    tell_everything(captured.telemetry)
    emitted = captured.metrics()

    for row in METRICS:
        if row.kind == HISTOGRAM:
            point: Any = emitted[row.name].data.data_points[0]
            assert tuple(point.explicit_bounds) == row.boundaries, row.name


def test_scope_has_name_version_and_schema(captured: CapturedTelemetry) -> None:
    """Spans and metrics carry the scope ``tapescope``, its version and the schema URL."""
    tell_everything(captured.telemetry)
    data = captured.reader.get_metrics_data()
    assert data is not None
    scopes = [
        *(s.scope for r in data.resource_metrics for s in r.scope_metrics),
        *(span.instrumentation_scope for span in captured.spans()),
    ]

    told = {(s.name, s.version, s.schema_url) for s in scopes if s is not None}
    assert len(scopes) == 3
    assert told == {(SCOPE_NAME, __version__, SCHEMA_URL)}
    assert (SCOPE_NAME, SCHEMA_URL) == ("tapescope", "https://opentelemetry.io/schemas/1.44.0")


def test_no_metric_carries_an_id(captured: CapturedTelemetry) -> None:
    """No label of any metric is, or contains, a task's, an owner's or a trace's id."""
    trace_id = tell_everything(captured.telemetry)
    labels = [
        (key, value)
        for metric in captured.metrics().values()
        for point in metric.data.data_points
        for key, value in (point.attributes or {}).items()
    ]

    assert trace_id is not None
    assert not [key for key, _ in labels if key.endswith((".id", ".owner", ".attempt"))]
    for key, value in labels:
        assert not any(part in str(value) for part in (TASK_ID, OWNER, trace_id)), key


def test_every_attribute_has_the_prefix(captured: CapturedTelemetry) -> None:
    """But for two that are borrowed every attribute begins with ``tapescope.``."""
    tell_everything(captured.telemetry)
    keys = {key for span in captured.spans() for key in (span.attributes or {})}
    keys |= {key for row in METRICS for key in (*row.attributes, *row.optional)}

    borrowed = {key for key in keys if not key.startswith("tapescope.")}
    assert borrowed == {"error.type", "code.function.name"}
