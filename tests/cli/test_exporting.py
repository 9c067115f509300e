"""The command line's telemetry: sent where the variables say, and never in the command's way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

import pytest

from tapescope.testing import until
from tests.cli.command import Tapescope
from tests.support.bad_collectors import bad_collector
from tests.support.services import Collector

pytestmark = pytest.mark.observability

PROTOCOLS = ("grpc", "http/protobuf")
RUNS = int(os.environ.get("TAPESCOPE_TEST_RUNS", "2"))
"""Short commands of which each must be seen whole; 100 take some minutes."""


def run_with(
    tapescope: Tapescope, variables: Mapping[str, str], *arguments: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line with these variables."""
    return tapescope(*arguments, env=variables)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_short_command_is_seen_whole(
    tapescope: Tapescope, collector: Collector, protocol: str
) -> None:
    """Both spans and the metrics of ``tapescope run -- true`` arrive, every time."""
    received = collector.received
    for number in range(RUNS):
        service = f"short-{protocol}-{number}"
        done = run_with(tapescope, collector.variables(protocol, service), "run", "--", "true")
        await until(partial(received.metrics, service))
        spans = received.spans(service)
        finished = [
            point["value"]
            for point in received.metrics(service)
            if point["name"] == "tapescope.task.duration"
        ]

        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert [span["name"] for span in spans] == ["submit shell", "run shell"]
        assert spans[1]["links"] == [(spans[0]["trace_id"], spans[0]["span_id"])]
        assert finished == [1]


@pytest.mark.parametrize(
    ("protocol", "number", "reason"),
    [
        ("grpc", signal.SIGINT, "user"),
        ("http/protobuf", signal.SIGTERM, "shutdown"),
    ],
)
async def test_an_interrupted_command_is_seen_whole(
    tapescope: Tapescope,
    collector: Collector,
    protocol: str,
    number: signal.Signals,
    reason: str,
) -> None:
    """After Ctrl-C and SIGTERM the cancelled run's span arrives, and the cancel is counted."""
    service = f"{number.name}-{protocol}"
    tapescope.env |= collector.variables(protocol, service)
    script = "import time; print('here', flush=True); time.sleep(60)"
    with tapescope.started("run", "--", sys.executable, "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(number)
        process.wait()
    await until(lambda: collector.received.metrics(service))
    (run,) = [s for s in collector.received.spans(service) if s["name"] == "run shell"]
    logs = collector.received.logs(service)

    assert process.returncode == -number
    assert run["status"] == "UNSET"
    assert run["attributes"]["tapescope.task.outcome"] == "cancelled"
    assert run["attributes"]["tapescope.cancel.reason"] == reason
    assert [(log["severity"], log["span_id"]) for log in logs] == [("INFO", run["span_id"])]


@pytest.mark.parametrize(
    ("command", "status"), [(("sh", "-c", "exit 3"), 3), (("no-such-program",), 127)]
)
async def test_a_failed_command_is_seen_whole(
    tapescope: Tapescope, collector: Collector, command: tuple[str, ...], status: int
) -> None:
    """A command that fails leaves its spans, one with an error, and its own exit status."""
    service = f"failed-{status}"
    done = run_with(tapescope, collector.variables("grpc", service), "run", "--", *command)
    await until(lambda: collector.received.metrics(service))
    _, run = collector.received.spans(service)

    assert done.returncode == status
    assert run["status"] == "ERROR"
    assert run["events"] == ["exception"]


def test_without_variables_no_sdk_is_loaded(tapescope: Tapescope) -> None:
    """With telemetry off ``tapescope run -- true`` imports nothing of the SDK or an exporter."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tapescope.cli", "run", "--", "true"],
        capture_output=True,
        text=True,
        env=tapescope.env,
        timeout=60,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert "opentelemetry.trace" in loaded
    heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "grpc", "requests", "google.protobuf")
    assert {name for name in loaded if name.startswith(heavy)} == set()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "pigeon", "'grpc' or 'http/protobuf'"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "'soon'"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "OTEL_BSP_MAX_QUEUE_SIZE"),
        ("TAPESCOPE_CANCEL_STATUS", "ok", "'unset' or 'error'"),
        ("TAPESCOPE_MESSAGING_ATTRIBUTES", "yes", "'off' or 'on'"),
        ("TAPESCOPE_BAGGAGE", "yes", "'off' or 'on'"),
        ("TAPESCOPE_TRACE_MODE", "none", "'link' or 'child'"),
        ("OTEL_PYTHON_METER_PROVIDER", "nonsense", "sdk_meter_provider"),
        ("OTEL_PYTHON_CONTEXT", "nonsense", "Failed to load context: nonsense"),
    ],
)
def test_a_bad_setting_is_one_line(
    tapescope: Tapescope, collector: Collector, variable: str, value: str, told: str
) -> None:
    """A setting that means nothing is told in one line, and the command runs as it would."""
    variables = collector.variables("http/protobuf", "bad-setting") | {variable: value}
    done = run_with(tapescope, variables, "run", "--", "sh", "-c", "echo out; exit 4")

    assert (done.returncode, done.stdout) == (4, b"out\n")
    assert done.stderr.decode().count("\n") == 1
    assert told in done.stderr.decode()


def test_a_setting_of_nothing_that_is_sent_is_one_line(tapescope: Tapescope) -> None:
    """With no collector at all, what the environment chooses is told as well."""
    variables = {"OTEL_PYTHON_TRACER_PROVIDER": "nonsense"}
    done = run_with(tapescope, variables, "run", "--", "sh", "-c", "echo out; exit 4")

    assert (done.returncode, done.stdout) == (4, b"out\n")
    assert done.stderr.decode().count("\n") == 1
    assert "'nonsense'" in done.stderr.decode()


async def test_the_sdks_own_provider_is_used(tapescope: Tapescope, collector: Collector) -> None:
    """Chosen by its name in the environment, it sends what it would send without that."""
    service = "chosen"
    variables = collector.variables("grpc", service)
    for kind in ("tracer", "meter", "logger"):
        variables[f"OTEL_PYTHON_{kind.upper()}_PROVIDER"] = f"sdk_{kind}_provider"
    done = run_with(tapescope, variables, "run", "--", "true")
    await until(lambda: collector.received.metrics(service))

    assert (done.returncode, done.stderr) == (0, b"")
    assert [s["name"] for s in collector.received.spans(service)] == ["submit shell", "run shell"]


def test_no_header_is_printed(tapescope: Tapescope, collector: Collector) -> None:
    """A header that is malformed is complained of without its value, which may be a token."""
    variables = collector.variables("grpc", "headers")
    variables["OTEL_EXPORTER_OTLP_HEADERS"] = "x y=hunter2;hunter3"
    done = run_with(tapescope, variables, "run", "--", "true")

    assert done.returncode == 0
    assert b"***" in done.stderr
    assert b"hunter" not in done.stderr


@pytest.mark.parametrize(
    ("kind", "protocol"), [("away", "grpc"), ("silent", "http/protobuf"), ("refusing", "grpc")]
)  # each with both protocols: the tests of setup
def test_a_bad_collector_does_not_hold_a_command_up(
    tapescope: Tapescope, kind: str, protocol: str
) -> None:
    """Wherever the collector is, the status is the command's, and a line says what is lost.

    The exporters may take an hour by the variables; the program ends without waiting for them.
    """
    with bad_collector(kind, protocol) as endpoint:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3600000",
        }
        done = run_with(tapescope, variables, "run", "--", "sh", "-c", "echo out; exit 4")

    assert (done.returncode, done.stdout) == (4, b"out\n")
    assert done.stderr.count(b"\n") == 1, done.stderr
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("tapescope: 2 spans, ")
    assert "did not reach the collector" in line


async def test_a_cancel_can_be_an_error(tapescope: Tapescope, collector: Collector) -> None:
    """``TAPESCOPE_CANCEL_STATUS=error`` gives a cancelled run the status ERROR, and no more."""
    service = "cancel-error"
    tapescope.env |= collector.variables("grpc", service) | {"TAPESCOPE_CANCEL_STATUS": "error"}
    script = "import time; print('here', flush=True); time.sleep(60)"
    with tapescope.started("run", "--", sys.executable, "-c", script) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.wait()
    await until(lambda: collector.received.metrics(service))
    (run,) = [s for s in collector.received.spans(service) if s["name"] == "run shell"]

    assert (run["status"], run["message"], run["events"]) == ("ERROR", "cancelled: user", [])
    assert run["attributes"]["tapescope.task.outcome"] == "cancelled"
    assert "error.type" not in run["attributes"]


async def test_the_log_is_json_with_its_trace(tapescope: Tapescope, collector: Collector) -> None:
    """``--log-format json`` writes JSON lines on stderr, with the trace and span of the run."""
    service = "json-log"
    variables = collector.variables("http/protobuf", service)
    done = run_with(tapescope, variables, "--log-format", "json", "run", "--", "false")
    await until(lambda: collector.received.metrics(service))
    (run,) = [s for s in collector.received.spans(service) if s["name"] == "run shell"]
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]

    assert line["level"] == "warning"
    assert line["task_id"] == tapescope.newest()
    assert (line["trace_id"], line["span_id"]) == (run["trace_id"], run["span_id"])
    assert line["ts"].endswith("Z")


def test_the_log_may_be_text(tapescope: Tapescope) -> None:
    """``TAPESCOPE_LOG_FORMAT=text`` writes lines for a person, from the level on that is named."""
    text = tapescope("run", "--", "false", env={"TAPESCOPE_LOG_FORMAT": "text"})
    quiet = tapescope("--log-level", "error", "--log-format", "text", "run", "--", "false")

    assert b"WARNING Task " in text.stderr
    assert quiet.stderr == b""


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("TAPESCOPE_LOG_FORMAT", "xml", "'text' or 'json'"),
        ("TAPESCOPE_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_bad_log_setting_is_refused(
    tapescope: Tapescope, variable: str, value: str, expected: str
) -> None:
    """A format or level that is not known is one line that says which are."""
    done = tapescope("list", env={variable: value})

    assert done.returncode == 1
    assert done.stderr.decode() == f"tapescope: {variable} is {value!r}; it must be {expected}.\n"
