"""Which signals the environment turns on, and how what it cannot mean is refused."""

from __future__ import annotations

import pytest

from tapescope.errors import TapescopeError
from tapescope_telemetry import OtelSettings, read_settings
from tapescope_telemetry.settings import SignalSettings

OTLP = SignalSettings(("otlp",))
OFF = SignalSettings()


def test_nothing_is_on_by_itself() -> None:
    """Without a variable, or with empty ones, no signal leaves the process."""
    assert not read_settings({}).wanted
    assert not read_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": " ", "OTEL_LOGS_EXPORTER": ""}).wanted


def test_an_endpoint_turns_every_signal_on() -> None:
    """The general endpoint is enough for traces, metrics and logs."""
    settings = read_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"})

    assert settings == OtelSettings(OTLP, OTLP, OTLP)


def test_a_signals_own_endpoint_turns_it_on() -> None:
    """An endpoint of one signal leaves the others off."""
    settings = read_settings({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"})

    assert settings == OtelSettings(traces=OTLP)


def test_an_exporter_by_name_overrules() -> None:
    """``none`` turns a signal off, a name turns it on, and two are two."""
    settings = read_settings(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_TRACES_EXPORTER": "otlp, console",
        }
    )

    assert settings == OtelSettings(SignalSettings(("otlp", "console")), OFF, OTLP)


def test_disabled_is_disabled() -> None:
    """``OTEL_SDK_DISABLED`` turns everything off, whatever else is set."""
    settings = read_settings({"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_EXPORTER": "bad"})

    assert settings == OtelSettings(disabled=True)


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
        ("http://collector:4317", "grpc"),
        ("http://collector:4318", "http/protobuf"),
        ("collector:4318", "http/protobuf"),
        ("http://collector", "grpc"),
    ],
)
def test_the_port_of_http_means_http(endpoint: str, protocol: str) -> None:
    """Where no protocol is named it is gRPC, as in the SDK, but on the port that is HTTP's."""
    settings = read_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})

    assert settings.traces.protocol == protocol


def test_a_signals_own_protocol_goes_first() -> None:
    """The protocol of one signal overrules the general one."""
    settings = read_settings(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc",
        }
    )

    assert (settings.traces.protocol, settings.logs.protocol) == ("http/protobuf", "grpc")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "'otlp', 'console', both, or 'none'"),
        ("OTEL_LOGS_EXPORTER", "none,otlp", "'otlp', 'console', both, or 'none'"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "'grpc' or 'http/protobuf'"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "a scrape is served by --metrics-port"),
    ],
)
def test_a_bad_value_is_refused(variable: str, value: str, told: str) -> None:
    """What is not understood raises an error that names the variable and what it may be."""
    with pytest.raises(TapescopeError) as raised:
        read_settings({variable: value})

    assert variable in str(raised.value)
    assert told in str(raised.value)


def test_a_bad_endpoint_keeps_its_password() -> None:
    """An endpoint that is no URL is refused without being shown: it may hold a secret."""
    with pytest.raises(TapescopeError, match="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") as raised:
        read_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://ann:hunter2@collector:port"})

    assert "hunter2" not in str(raised.value)


def test_a_bad_value_is_told_once_and_leaves_the_others_alone() -> None:
    """With ``on_problem`` each signal goes where its own good settings say."""
    told: list[TapescopeError] = []
    settings = read_settings(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://collector:port",
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        },
        told.append,
    )

    assert settings.traces == SignalSettings()
    assert settings.metrics == SignalSettings(("otlp",), "http/protobuf")
    assert settings.logs == SignalSettings()
    assert [str(problem).split()[3].rstrip(":") for problem in told] == [
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_METRICS_EXPORTER",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    ]


@pytest.mark.parametrize("value", ["HTTP/Protobuf", "Http/protobuf ", "http/protobuf"])
def test_the_case_of_a_name_does_not_matter(value: str) -> None:
    """As the specification has it for every name of a closed set."""
    settings = read_settings(
        {"OTEL_TRACES_EXPORTER": "OTLP", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": value}
    )

    assert settings.traces == SignalSettings(("otlp",), "http/protobuf")
