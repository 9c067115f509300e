"""``Telemetry`` itself: its providers, and what it costs and does without any."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tapescope_telemetry import Telemetry
from tests.support.captured_telemetry import CapturedTelemetry


def run_python(code: str) -> str:
    """What this code prints in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_no_sdk() -> None:
    """Importing and using the telemetry loads the API only: no SDK, no exporter."""
    loaded = run_python(
        "import sys\n"
        "from tapescope_telemetry import Telemetry\n"
        "t = Telemetry.shared()\n"
        "t.tasks.seen('resize'); t.store('sqlite').ledger.offer()\n"
        "t.start_run_span('resize', 'id', 1, 'me', None).end('failed', error=ValueError('x'))\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry.sdk')\n"
        "       or 'exporter' in m or m.split('.')[0] == 'prometheus_client'])"
    )

    assert loaded == "[]"


def test_import_registers_nothing() -> None:
    """At import no instrument and no meter is made on the global providers."""
    made = run_python(
        "import opentelemetry.metrics, opentelemetry.trace\n"
        "made = []\n"
        "opentelemetry.metrics.get_meter = lambda *a, **k: made.append(a)\n"
        "opentelemetry.trace.get_tracer = lambda *a, **k: made.append(a)\n"
        "import tapescope_telemetry\n"
        "print(made)"
    )

    assert made == "[]"


def test_without_an_sdk_nothing_is_valid_and_nothing_fails() -> None:
    """With no provider a submit has no trace context; a traced caller's is handed on to a child."""
    told = run_python(
        "from tapescope_telemetry import Telemetry\n"
        "t = Telemetry()\n"
        "with t.submit_span('resize', 'id', 'sqlite') as submit: pass\n"
        "run = t.start_run_span('resize', 'id', 1, 'me', submit.trace_context)\n"
        f"passed = t.start_run_span('resize', 'id', 1, 'me', '00-{'a' * 32}-{'b' * 16}-01')\n"
        "print(submit.trace_context, run.trace_id, run.span_id, run.traceparent)\n"
        "print(run.end('failed', error=ValueError('x')), passed.trace_id, passed.traceparent)\n"
        "from tapescope_telemetry.spans import continue_trace\n"
        f"with continue_trace('00-{'c' * 32}-{'d' * 16}-01'):\n"
        "    with t.submit_span('resize', 'id', 'sqlite') as submit: print(submit.trace_context)"
    )

    assert told.splitlines() == [
        "None None None None",
        f"True None 00-{'a' * 32}-{'b' * 16}-01",
        f"00-{'c' * 32}-{'d' * 16}-01",
    ]


def test_provider_that_comes_late_hears_what_is_known() -> None:
    """A provider that is set later is told the tallies and the zeros from before it came, and all
    that happens from then on."""
    told = run_python(
        "from opentelemetry import metrics, trace\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from tapescope_telemetry import Telemetry\n"
        "t = Telemetry.shared()\n"
        "def work():\n"
        "    with t.submit_span('crop', 'id', 'sqlite') as submit: t.tasks.submitted('crop')\n"
        "    run = t.start_run_span('crop', 'id', 1, 'me', None)\n"
        "    t.tasks.queue_wait('crop', 0.1, run.context); t.store('sqlite').operation('a', 0.1)\n"
        "    t.tasks.finished('crop', 'succeeded', None, 0.1, context=run.context)\n"
        "    return submit.trace_context is not None, run.trace_id is not None\n"
        "print(work())\n"
        "assert Telemetry.shared() is t\n"
        "t.tasks.active('resize', 'running', 3)\n"
        "store = t.store('sqlite'); store.ledger.offer(2); store.ledger.store('log', 2)\n"
        "reader = InMemoryMetricReader()\n"
        "metrics.set_meter_provider(MeterProvider([reader]))\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "print(work())\n"
        "for m in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:\n"
        "    points = m.data.data_points\n"
        "    counts = [p.count if hasattr(p, 'count') else p.value for p in points]\n"
        "    print(m.name, len(points), sum(counts))\n"
    )
    lines = set(told.splitlines())

    assert lines >= {"(False, False)", "(True, True)"}
    assert "tapescope.task.active 6 3" in lines
    assert "tapescope.tape.event.offered 1 2" in lines
    assert "tapescope.tape.event.dropped 118 0" in lines
    assert "tapescope.task.submitted 2 1" in lines
    assert "tapescope.task.duration 1 1" in lines
    assert "tapescope.task.queue.wait_time 1 1" in lines
    assert "tapescope.store.operation.duration 1 1" in lines
    assert "tapescope.cancel.requests 4 0" in lines


def test_opted_in_exceptions_become_logs() -> None:
    """With the opt-in ``logs`` an exception is a log record of its run, through the API."""
    told = run_python(
        "import os\n"
        "os.environ['OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN'] = 'logs'\n"
        "from opentelemetry._logs import set_logger_provider\n"
        "from opentelemetry.sdk._logs import LoggerProvider\n"
        "from opentelemetry.sdk._logs.export import (\n"
        "    InMemoryLogRecordExporter, SimpleLogRecordProcessor)\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from tapescope_telemetry import Telemetry\n"
        "logs, exporter = LoggerProvider(), InMemoryLogRecordExporter()\n"
        "logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))\n"
        "set_logger_provider(logs)\n"
        "t = Telemetry(tracer_provider=TracerProvider())\n"
        "run = t.start_run_span('resize', 'id', 1, 'me', None)\n"
        "run.end('failed', error=ValueError('too small'))\n"
        "(log,) = (found.log_record for found in exporter.get_finished_logs())\n"
        "print(f'{log.trace_id:032x}' == run.trace_id, log.severity_text,\n"
        "      log.attributes['exception.type'], log.attributes['exception.message'])"
    )

    assert told == "True ERROR ValueError too small"


def test_two_telemetries_on_one_provider_share_their_metrics(captured: CapturedTelemetry) -> None:
    """A second object on a provider counts into the first one's tallies; none goes unread."""
    other = Telemetry(meter_provider=captured.meter_provider)
    other.store("sqlite").ledger.offer(1)
    other.store("sqlite").ledger.store("log", 1)
    captured.telemetry.tasks.limit(10)
    other.tasks.limit(5)

    assert captured.value("tapescope.tape.event.offered") == 1
    assert captured.value("tapescope.task.limit") == 15


def test_providers_are_apart() -> None:
    """What one provider's telemetry counts is not heard by another provider."""
    first, second = CapturedTelemetry(), CapturedTelemetry()
    first.telemetry.store("sqlite").ledger.offer(1)
    first.telemetry.store("sqlite").ledger.store("log", 1)
    second.telemetry.store("sqlite")
    heard = [r.value("tapescope.tape.event.offered") for r in (first, second)]
    first.close()
    second.close()

    assert heard == [1, 0]


def test_provider_is_not_kept_alive() -> None:
    """A provider that the application lets go of is freed, and its metrics with it."""
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    Telemetry(meter_provider=provider).store("sqlite").flush(1)
    provider.shutdown()
    kept = weakref.ref(provider)
    del provider
    gc.collect()

    assert kept() is None


def test_a_provider_that_becomes_global_keeps_its_metrics() -> None:
    """A telemetry on a provider and one on the globals share their metrics, in either order."""
    told = run_python(
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "from tapescope_telemetry import Telemetry\n"
        "reader = InMemoryMetricReader(); provider = MeterProvider([reader])\n"
        "first = Telemetry(meter_provider=provider)\n"
        "metrics.set_meter_provider(provider)\n"
        "print(Telemetry().tasks is first.tasks)"
    )
    other = run_python(
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from tapescope_telemetry import Telemetry\n"
        "first = Telemetry(); provider = MeterProvider()\n"
        "metrics.set_meter_provider(provider)\n"
        "print(Telemetry(meter_provider=provider).tasks is first.tasks)"
    )

    assert (told, other) == ("True", "True")
