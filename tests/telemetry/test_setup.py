"""``setup``: what it makes, what it leaves alone, and its end wherever the collector is."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tapescope.errors import TapescopeError
from tapescope.testing import until
from tapescope_telemetry import Telemetry, TelemetrySetup, Undelivered, setup
from tapescope_telemetry.prometheus import PrometheusReader
from tests.support.bad_collectors import BAD_COLLECTORS, bad_collector
from tests.support.services import Collector

PROTOCOLS = ("grpc", "http/protobuf")
SPANS = 25
"""More than two batches of ten."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@contextmanager
def made(**settings: Any) -> Generator[TelemetrySetup]:
    """A setup that is shut down, though not waited for."""
    one = setup(**settings)
    try:
        yield one
    finally:
        one.shutdown(0.1)


def tell_spans(telemetry: Telemetry, number: int = SPANS) -> None:
    """End so many spans."""
    for _ in range(number):
        with telemetry.submit_span("work", "0198c0de-0000-7000-8000-00000000cafe", "sqlite"):
            pass


def read(reader: InMemoryMetricReader, name: str) -> dict[str | None, float]:
    """The values of one metric, by ``error.type``."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        (point.attributes or {}).get("error.type"): point.value  # type: ignore[union-attr, misc]  # a sum
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


def test_nothing_is_made_where_nothing_is_asked_for() -> None:
    """Without ``OTEL_*`` variables and readers there are no providers, and no SDK is loaded."""
    script = (
        "import sys, tapescope_telemetry as t; made = t.setup(); made.telemetry;"
        "print(made.active, any(n.startswith('opentelemetry.sdk') for n in sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert printed.stdout.split() == ["False", "False"]


def test_nothing_global_is_touched() -> None:
    """A setup leaves the global providers, the environment and other loggers as they were."""
    before = (trace.get_tracer_provider(), metrics.get_meter_provider(), dict(os.environ))
    with made(metric_readers=[InMemoryMetricReader()]) as one:
        after = (trace.get_tracer_provider(), metrics.get_meter_provider(), dict(os.environ))

        assert after == before
        assert Telemetry.shared() is not one.telemetry
        assert logging.getLogger().handlers == logging.getLogger("tapescope").root.handlers


def test_a_reader_alone_reads_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrape or push: with a reader and no endpoint the metrics are there and nothing is sent."""
    reader = InMemoryMetricReader()
    with made(metric_readers=[reader]) as one:
        one.telemetry.tasks.submitted("work")

        assert one.logger_provider is None
        assert read(reader, "tapescope.task.submitted") == {None: 1}
        assert not one.shutdown()


def test_what_a_reader_reads_has_exemplars(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a reader and no endpoint there are spans all the same, for its exemplars to point to."""
    reader = PrometheusReader()
    with made(metric_readers=[reader]) as one:
        with one.telemetry.submit_span("work", "0198c0de-0000-7000-8000-00000000cafe", "sqlite"):
            one.telemetry.tasks.submitted("work")
        samples = [sample for family in reader.make_families() for sample in family.samples]

    assert [s.name for s in samples if s.exemplar is not None] == ["tapescope_task_submitted_total"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_is_told_arrives(
    collector: Collector, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans, metrics and logs arrive, with who sent them; the SDK's own metrics are among them."""
    service = f"setup-{protocol}"
    for name, value in collector.variables(protocol, service).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=elsewhere,team=blue")
    with made(resource={"team": "red", "zone": "a"}) as one:
        tell_spans(one.telemetry, 2)
        logging.getLogger("tapescope").warning("told")
        lost = one.shutdown()
        received = collector.received
        await until(lambda: received.metrics(service) and received.logs(service))
    (resource, *_) = [span["resource"] for span in received.spans(service)]
    (log,) = received.logs(service)
    own = {metric["name"] for metric in received.metrics(service, "opentelemetry-sdk")}

    assert not lost
    assert len(received.spans(service)) == 2
    assert (log["body"], log["severity"]) == ("told", "WARNING")
    assert (resource["host.name"], resource["team"], resource["zone"]) == ("elsewhere", "blue", "a")
    assert resource["process.pid"] == os.getpid()
    assert resource.keys() >= {"service.version", "service.instance.id", "host.arch"}
    assert own >= {
        "otel.sdk.span.started",
        "otel.sdk.processor.span.processed",
        "otel.sdk.processor.span.queue.size",
        "otel.sdk.exporter.span.exported",
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", BAD_COLLECTORS)
def test_a_bad_collector_costs_no_time_and_every_loss_counts(
    kind: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end waits no longer than it may, and the SDK's own metrics count each span as lost."""
    reader = InMemoryMetricReader()
    with bad_collector(kind, protocol) as endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
        one = setup(metric_readers=[reader])
        began = time.monotonic()
        tell_spans(one.telemetry)
        told = time.monotonic() - began
        lost = one.shutdown(1.0)
        took = time.monotonic() - began - told
        exported = read(reader, "otel.sdk.exporter.span.exported")

    assert told < 1.0
    assert took < 3.0
    assert lost.spans == SPANS
    assert lost.metric_points > 0
    assert None not in exported
    assert sum(exported.values()) == SPANS
    assert sum(read(reader, "otel.sdk.exporter.span.inflight").values()) == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_queue_is_counted(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no queue has room for is lost at once, not waited for, and counted."""
    reader = InMemoryMetricReader()
    with bad_collector("silent", protocol) as endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
        one = setup(metric_readers=[reader])
        tell_spans(one.telemetry, 100)
        lost = one.shutdown(1.0)
        processed = read(reader, "otel.sdk.processor.span.processed")

    assert processed["queue_full"] >= 60
    # The SDK looks at the queue's length first: it may count a loss where there was room just then.
    assert processed["queue_full"] + lost.spans >= 100


def test_flush_does_not_say_yes_to_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """``flush`` is true only when what was waiting arrived."""
    with bad_collector("refusing", "http/protobuf") as endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{endpoint}/v1/traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        with made() as one:
            nothing = one.flush()
            tell_spans(one.telemetry, 1)
            something = one.flush()

    assert nothing is True
    assert something is False
    assert one.undelivered == Undelivered(spans=1)


def test_a_second_shutdown_does_nothing() -> None:
    """``shutdown`` may be called twice, and is not called again by the interpreter's end."""
    one = setup(metric_readers=[InMemoryMetricReader()])

    assert one.shutdown() == one.shutdown() == Undelivered()


async def test_shutdown_may_be_awaited() -> None:
    """``aclose`` does it off the event loop."""
    async with setup(metric_readers=[InMemoryMetricReader()]) as one:
        pass

    assert await one.aclose() == Undelivered()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_forked_child_makes_its_own(collector: Collector, protocol: str) -> None:
    """In a child the old setup raises a clear error, its end is harmless, and a new one works."""
    script = Path(__file__).with_name("forking.py")
    service = f"fork-{protocol}"
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | collector.variables(protocol, service),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.split() == [
        "TelemetryUsedAfterFork",
        "child",
        "nothing",
        "parent",
        "nothing",
    ]
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "sometimes"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
    ],
)
def test_a_setting_that_the_sdk_refuses_is_one_error(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the SDK raises for its variables is an error of ours, and nothing is left open."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv(name, value)

    with pytest.raises(TapescopeError, match="OTEL_"):
        setup()
    assert not caplog.messages, "the error says it all"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon", {"metrics", "logs"}),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", {"traces", "logs"}),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "sometimes", {"traces", "metrics", "logs"}),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "-1", {"traces", "metrics"}),
        ("OTEL_TRACES_EXPORTER", "zipkin", {"metrics", "logs"}),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "x", {"traces", "metrics", "logs"}),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "-1", {"traces", "metrics", "logs"}),
    ],
)
def test_a_setting_of_one_signal_leaves_the_others_alone(
    name: str, value: str, kept: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong is told, the other signals are sent, and a reader reads what it did."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    told: list[TapescopeError] = []
    with made(on_problem=told.append) as one:
        providers = {
            "traces": one.tracer_provider,
            "metrics": one.meter_provider,
            "logs": one.logger_provider,
        }
    reader = InMemoryMetricReader()
    with made(metric_readers=[reader], on_problem=id) as one:
        one.telemetry.tasks.submitted("work")
        seen = read(reader, "tapescope.task.submitted")

    assert len(told) == 1
    assert {signal for signal, provider in providers.items() if provider is not None} == kept
    assert seen == {None: 1}


@pytest.mark.parametrize("signal", ["TRACER", "METER", "LOGGER"])
@pytest.mark.parametrize("name", ["nonsense", "sdk", "default"])
def test_a_provider_that_the_environment_chooses(signal: str, name: str) -> None:
    """One that is installed is used, the SDK's is made here, and an unknown one is told.

    With no setup at all an unknown one is silent. In a process of its own: providers are global.
    """
    value = name if name == "nonsense" else f"{name}_{signal.lower()}_provider"
    script = (
        "from tapescope_telemetry import Telemetry, setup\n"
        "early = Telemetry(); early.tasks.submitted('work')\n"
        "told = []\n"
        "made = setup(as_global=True, on_problem=told.append)\n"
        "print(len(told), [made.tracer_provider, made.meter_provider, made.logger_provider]"
        ".count(None))\n"
        "made.shutdown(0.1)\n"
    )
    if name == "default":  # the API has no entry point for a logger provider of its own
        expected = "0 1" if signal != "LOGGER" else "1 0"
    else:
        expected = "0 0" if name == "sdk" else "1 0"
    early = "early = Telemetry(); early.tasks.submitted('work')\n"
    done = subprocess.run(
        # what the SDK made for an early use is global then, and stays
        [sys.executable, "-c", script.replace(early, "") if name == "sdk" else script],
        env=os.environ
        | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
            f"OTEL_PYTHON_{signal}_PROVIDER": value,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


@pytest.mark.parametrize("package", ["opentelemetry.sdk", "opentelemetry.exporter"])
def test_a_missing_extra_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages the error is the line that installs them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    for name in [
        name for name in sys.modules if name.startswith((package, "tapescope_telemetry.exporters"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(TapescopeError, match=r"pip install 'tapescope\[otlp\]'"):
        setup()


def test_undelivered_reads_as_a_sentence() -> None:
    """What is lost is told in words."""
    assert str(Undelivered()) == "nothing"
    assert str(Undelivered(spans=1)) == "1 span"
    assert str(Undelivered(2, 1_000, 1)) == "2 spans, 1,000 metric points and 1 log record"


def test_global_providers_are_set_when_asked_for() -> None:
    """``as_global`` sets the process's providers and the shared telemetry; a second try is refused.

    In a process of its own: they cannot be taken back.
    """
    script = (
        "from opentelemetry import trace, metrics, _logs\n"
        "from tapescope_telemetry import ProvidersTaken, Telemetry, setup\n"
        "early = Telemetry(); early.tasks.active('work', 'running', 1)\n"
        "made = setup(as_global=True)\n"
        "print(trace.get_tracer_provider() is made.tracer_provider)\n"
        "print(metrics.get_meter_provider() is made.meter_provider)\n"
        "print(_logs.get_logger_provider() is made.logger_provider)\n"
        "print(Telemetry.shared() is made.telemetry, made.telemetry.tasks is early.tasks)\n"
        "try: setup(as_global=True)\n"
        "except ProvidersTaken as error: print('refused')\n"
    )
    with bad_collector("refusing", "http/protobuf") as endpoint:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ
            | {
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    assert done.stdout.split() == ["True"] * 5 + ["refused"]
