"""The Prometheus reader, on instruments alone."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import format_trace_id
from prometheus_client import generate_latest

from tapescope_telemetry import METRICS, SCOPE_NAME, __version__
from tapescope_telemetry.guard import read_errors
from tapescope_telemetry.prometheus import PrometheusReader
from tapescope_telemetry.scrape_names import name_label
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.scrapes import OPENMETRICS, SCRAPE_NAMES, Scraped
from tests.support.services import require
from tests.telemetry.test_names import tell_everything


@pytest.fixture
def reader() -> PrometheusReader:
    """A reader that no provider has yet."""
    return PrometheusReader()


@pytest.fixture
def captured(reader: PrometheusReader) -> Iterator[CapturedTelemetry]:
    """A telemetry that is scraped through the reader."""
    captured = CapturedTelemetry(reader)
    yield captured
    captured.close()


def _start(*_: object) -> Callable[[bytes], object]:
    """A WSGI server's part, for an answer whose headers are not read."""
    return bytes


def collect(reader: PrometheusReader) -> Scraped:
    """A scrape, as its application answers it."""
    environ: dict[str, Any] = {"HTTP_ACCEPT": OPENMETRICS}
    setup_testing_defaults(environ)
    return Scraped(b"".join(reader(environ, _start)).decode())


def test_every_metric_has_its_scrape_name_and_type(
    reader: PrometheusReader, captured: CapturedTelemetry
) -> None:
    """What is told appears under the contract's scrape names with their types, and no more."""
    tell_everything(captured.telemetry)
    scraped = collect(reader)

    assert scraped.ours == {name: kind for kind, name in SCRAPE_NAMES.values()}


def test_labels_are_the_contracts(reader: PrometheusReader, captured: CapturedTelemetry) -> None:
    """Each series has the contract's attributes as labels, and neither scope nor anything else."""
    tell_everything(captured.telemetry)
    scraped = collect(reader)

    for row in METRICS:
        family = scraped.families[SCRAPE_NAMES[row.name][1].removesuffix("_total")]
        required = {name_label(key) for key in row.attributes}
        optional = {name_label(key) for key in row.optional}
        for sample in family.samples:
            labels = sample.labels.keys() - {"le"}
            assert required <= labels <= required | optional, sample
        assert family.documentation == row.description
        assert family.unit == {"s": "seconds", "By": "bytes"}.get(row.unit, "")


def test_values_are_those_of_the_sdk(reader: PrometheusReader, captured: CapturedTelemetry) -> None:
    """Buckets are cumulative over the advised boundaries; counters and gauges have their values."""
    tell_everything(captured.telemetry)
    scraped = collect(reader)
    name = "tapescope_task_duration_seconds"
    buckets = {
        sample.labels["le"]: sample.value
        for sample in scraped.families[name].samples
        if sample.name == f"{name}_bucket"
        and sample.labels["tapescope_task_outcome"] == "cancelled"
    }
    (duration,) = [row for row in METRICS if row.name == "tapescope.task.duration"]

    assert list(buckets) == [*map(str, duration.boundaries), "+Inf"]
    assert [*buckets.values()] == [float(bound >= 2.0) for bound in duration.boundaries] + [1.0]
    assert scraped.value(f"{name}_sum", task_outcome="cancelled") == 2.0
    assert scraped.value(f"{name}_count", task_outcome="cancelled") == 1.0
    assert scraped.value("tapescope_task_limit") == 100
    assert scraped.value("tapescope_task_submitted_total", task_op="resize") == 1


NOT_AT_ZERO = {
    "tapescope_telemetry_errors_total",  # other tests have made some
    "tapescope_message_count_total",  # an op without messages has none
    "tapescope_schedule_firings_total",  # an op without schedules has none
    "tapescope_engine_task_brought_total",  # a worker without an engine has none
    "tapescope_engine_task_reconciled_total",
}


def test_known_counters_are_zero_before_anything_happens(
    reader: PrometheusReader, captured: CapturedTelemetry
) -> None:
    """The first scrape has each counter whose labels are known, at zero and without an exemplar."""
    captured.telemetry.store("sqlite")
    captured.telemetry.tasks.seen("resize")
    scraped = collect(reader)
    counters = {
        name: {sample.value for sample in family.samples}
        for name, family in scraped.families.items()
        if family.type == "counter" and name.startswith("tapescope_")
    }

    of_this_process = set(map(float, read_errors().values()))  # other tests have made some
    assert counters.pop("tapescope_telemetry_errors") == of_this_process
    assert counters == {
        scraped_name.removesuffix("_total"): {0.0}
        for kind, scraped_name in SCRAPE_NAMES.values()
        if kind == "counter" and scraped_name not in NOT_AT_ZERO
    }
    assert scraped.exemplars == {}


def test_series_at_zero_are_bounded(reader: PrometheusReader, captured: CapturedTelemetry) -> None:
    """48 of an op, 17 from the 33rd on, none past the cap: a scrape costs by the series."""
    captured.telemetry.store("sqlite")
    counted: list[int] = []
    for ops in (0, 1, 32, 33, 200, 250):
        for number in range(ops):
            captured.telemetry.tasks.seen(f"op{number}")
        families = collect(reader).families
        counted.append(
            sum(len(one.samples) for name, one in families.items() if name.startswith("tapescope_"))
        )
    of_none, *_ = counted

    assert of_none <= 140
    assert [n - of_none for n in counted[1:]] == [48, 1_536, 1_553, 4_392, 4_409]


def test_ten_scrapes_lose_no_exemplar(
    reader: PrometheusReader, captured: CapturedTelemetry
) -> None:
    """The SDK forgets its exemplars at each collection; every later scrape shows them all again."""
    trace_id = tell_everything(captured.telemetry)
    first = collect(reader).exemplars
    later = [collect(reader).exemplars for _ in range(10)]

    assert len(first) >= 6
    assert trace_id in first.values()
    assert later == [first] * 10


def test_a_newer_exemplar_takes_the_place_of_its_bucket_alone(
    reader: PrometheusReader, captured: CapturedTelemetry
) -> None:
    """A bucket shows its last exemplar, with value and time; the other buckets keep theirs."""
    tracer = captured.tracer_provider.get_tracer("test")
    traces: list[str] = []
    for seconds in (0.2, 40.0, 0.21):
        with tracer.start_as_current_span("run") as span:
            captured.telemetry.tasks.queue_wait("resize", seconds)
        traces.append(format_trace_id(span.get_span_context().trace_id))
        scraped = collect(reader)
    samples = [s for s in scraped.samples if s.exemplar is not None]
    shown = {s.labels["le"]: s.exemplar for s in samples if s.exemplar is not None}

    assert {le: e.labels["trace_id"] for le, e in shown.items()} == {
        "0.25": traces[2],
        "60.0": traces[1],
    }
    assert [e.value for e in shown.values()] == [0.21, 40.0]
    assert all(float(e.timestamp or 0) > 1.7e9 for e in shown.values())


def test_text_has_no_exemplars_and_passes_promtool(
    reader: PrometheusReader, captured: CapturedTelemetry
) -> None:
    """The text format has no exemplars, and Prometheus's own linter has no complaint."""
    promtool = require("promtool")
    tell_everything(captured.telemetry)
    text = generate_latest(reader.registry)
    linted = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )

    assert b"tapescope_task_submitted_total" in text
    assert b"trace_id" not in text
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")


def test_process_build_and_resource_are_told(reader: PrometheusReader) -> None:
    """The process, its Python and GC, the build, and the resource as ``target_info``."""
    resource = Resource({"service.name": "shop", "service.instance.id": "a", "shards": [1, 2]})
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    provider.get_meter("m").create_counter("c").add(1)
    scraped = collect(reader)
    infos = {s.name: s.labels for s in scraped.samples if s.name.endswith("_info")}

    assert infos["target_info"] == {
        "service_name": "shop",
        "service_instance_id": "a",
        "shards": "[1, 2]",
    }
    assert infos["tapescope_build_info"] == {"version": __version__}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= set(
        scraped.families
    )
    assert {"python_info", "python_gc_collections"} <= set(scraped.families)


def test_other_scopes_are_told_apart(reader: PrometheusReader, captured: CapturedTelemetry) -> None:
    """Two libraries' metrics of one name are one family, their series apart by their scope."""
    for scope, version in (("one", "1.0"), ("two", None)):
        meter = captured.meter_provider.get_meter(scope, version)
        meter.create_counter("jobs", "{job}", "Jobs.").add(3, {"a.b": "x", "a_b": True})
    scraped = collect(reader)

    assert [s.labels for s in scraped.families["jobs"].samples] == [
        {"a_b": "x;true", "otel_scope_name": "one", "otel_scope_version": "1.0"},
        {"a_b": "x;true", "otel_scope_name": "two"},
    ]


def test_what_cannot_be_told_is_said_once(
    reader: PrometheusReader, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that is taken, and an exponential histogram, are left out with one warning each."""
    exponential = View(
        instrument_name="spread", aggregation=ExponentialBucketHistogramAggregation()
    )
    provider = MeterProvider([reader], views=[exponential], shutdown_on_exit=False)
    meter = provider.get_meter("other")
    meter.create_counter("jobs.done").add(1)
    meter.create_up_down_counter("jobs_done.total").add(5)
    meter.create_counter("jobs_done").add(7)
    meter.create_histogram("spread").record(1.0)
    with caplog.at_level(logging.WARNING, "tapescope"):
        first, second = collect(reader), collect(reader)
    warned = [record.getMessage() for record in caplog.records if record.name == "tapescope"]

    assert first.value("jobs_done_total", otel_scope_name="other") == 1
    assert second.value("jobs_done_total", otel_scope_name="other") == 1
    assert warned == [
        "The metric jobs_done.total is not on the scrape: another metric is jobs_done there.",
        "The metric jobs_done is not on the scrape: another metric is jobs_done there.",
        "The metric spread is not on the scrape: its kind cannot be told on a scrape.",
    ]


def test_scrapes_from_many_threads_are_whole(reader: PrometheusReader) -> None:
    """However many scrape at the same moment, each one has the counter, its value and exemplar."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("run"):
        provider.get_meter(SCOPE_NAME).create_counter("jobs").add(3)
    start = threading.Barrier(8)
    found: list[list[tuple[float, bool]]] = []

    def scrape_some() -> None:
        start.wait()
        for _ in range(300):
            families = {family.name: family for family in reader.make_families()}
            samples = families["jobs"].samples if "jobs" in families else []
            found.append([(sample.value, sample.exemplar is not None) for sample in samples])

    threads = [threading.Thread(target=scrape_some) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads change places within a collection
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert found == [[(3, True)]] * 2_400


def test_a_failing_callback_stops_no_scrape(
    reader: PrometheusReader, captured: CapturedTelemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """An instrument of the application's that raises is logged, and the others are told."""

    def fail(_: object) -> list[Observation]:
        raise RuntimeError("the sensor is gone")

    captured.meter_provider.get_meter("app").create_observable_gauge("heat", [fail])
    tell_everything(captured.telemetry)
    scraped = collect(reader)

    assert len(scraped.ours) == len(SCRAPE_NAMES)
    assert "heat" in caplog.text


def test_after_a_shutdown_the_process_is_still_told(
    reader: PrometheusReader, captured: CapturedTelemetry
) -> None:
    """The last scrapes of a program that is closing down are not errors."""
    captured.meter_provider.shutdown()
    scraped = collect(reader)

    assert scraped.ours == {}
    assert "process_cpu_seconds" in scraped.families


def test_runs_without_a_trace_have_no_exemplar(reader: PrometheusReader) -> None:
    """A span that is not sampled leads nowhere, so that it is never an exemplar."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    counter = provider.get_meter(SCOPE_NAME).create_counter("jobs")
    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("run"):
        counter.add(1)
    scraped = collect(reader)

    assert scraped.value("jobs_total") == 1
    assert scraped.exemplars == {}


def test_what_a_client_refuses_is_not_sent(reader: PrometheusReader) -> None:
    """A quality of 0 is a refusal (RFC 9110, 12.4.2); a HEAD has the headers of a GET alone."""
    accepted = {"HTTP_ACCEPT": f"{OPENMETRICS}; Q=0.000, text/plain;q=0.5", "PATH_INFO": "/metrics"}
    refused: dict[str, Any] = accepted | {"HTTP_ACCEPT_ENCODING": "gzip;q=0, identity"}
    wanted: dict[str, Any] = {"HTTP_ACCEPT": f"{OPENMETRICS};q=0.9", "HTTP_ACCEPT_ENCODING": "gzip"}
    told: list[tuple[str, dict[str, str]]] = []

    def answer(environ: dict[str, Any]) -> bytes:
        setup_testing_defaults(environ)
        told.clear()

        def start(
            status: str, headers: list[tuple[str, str]], *_: object
        ) -> Callable[[bytes], object]:
            told.append((status, dict(headers)))
            return bytes

        return b"".join(reader(environ, start))

    plain = answer(refused)
    ((_, plainly),) = told
    packed = answer(wanted)
    ((_, densely),) = told
    nothing = answer(refused | {"REQUEST_METHOD": "HEAD"})
    ((status, head),) = told

    assert plainly["Content-Type"].startswith("text/plain")
    assert "Content-Encoding" not in plainly
    assert plain.startswith(b"# HELP")
    assert densely["Content-Type"].startswith("application/openmetrics-text")
    assert densely["Content-Encoding"] == "gzip"
    assert packed.startswith(b"\x1f\x8b")
    assert (status, nothing) == ("200 OK", b"")
    assert int(head.pop("Content-Length")) > 0
    assert head == plainly


@pytest.mark.parametrize("package", ["prometheus_client", "opentelemetry.sdk"])
def test_a_missing_extra_is_answered_with_the_line_that_installs_it(package: str) -> None:
    """Without the packages the import says which extra to install."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "try:\n    import tapescope_telemetry.prometheus\n"
        "except ImportError as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == (
        "MissingTelemetryExtra The Prometheus scrape needs more packages: "
        "pip install 'tapescope[prometheus]'\n"
    )
