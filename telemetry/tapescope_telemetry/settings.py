"""What is to leave this process, and how: the ``OTEL_*`` variables that the SDK leaves to its host.

The SDK itself reads all others: endpoints, headers, timeouts, certificates, the sampler, limits,
queue sizes, intervals, the resource. Nothing of the SDK is imported here, so that asking costs
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, NoReturn
from urllib.parse import urlsplit

from tapescope.errors import TapescopeError
from tapescope_telemetry.errors import BadTelemetrySetting

__all__ = [
    "SIGNALS",
    "OnProblem",
    "OtelSettings",
    "Protocol",
    "Signal",
    "SignalSettings",
    "find_bad_limits",
    "hidden",
    "raise_problem",
    "read_settings",
]

OnProblem = Callable[[TapescopeError], object]
"""Called with what is wrong with one setting; the rest is set up as if it were not there."""

Signal = Literal["traces", "metrics", "logs"]
Exporter = Literal["otlp", "console"]
Protocol = Literal["grpc", "http/protobuf"]

SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
_EXPORTERS: Final[Mapping[str, Exporter]] = {"otlp": "otlp", "console": "console"}
_PROTOCOLS: Final[Mapping[str, Protocol]] = {"grpc": "grpc", "http/protobuf": "http/protobuf"}
_HTTP_PORT: Final = 4318
"""The port of OTLP over HTTP: an endpoint with this port is not a gRPC endpoint."""


@dataclass(frozen=True, slots=True)
class SignalSettings:
    """Where one signal goes."""

    exporters: tuple[Exporter, ...] = ()
    """None: it stays in the process."""
    protocol: Protocol = "grpc"
    """How OTLP is spoken."""


@dataclass(frozen=True, slots=True)
class OtelSettings:
    """What the environment asks for."""

    traces: SignalSettings = SignalSettings()
    metrics: SignalSettings = SignalSettings()
    logs: SignalSettings = SignalSettings()
    disabled: bool = False
    """``OTEL_SDK_DISABLED``: nothing at all, whatever else is asked for."""

    @property
    def wanted(self) -> bool:
        """Whether any signal is to leave the process."""
        return any(signal.exporters for signal in (self.traces, self.metrics, self.logs))


def raise_problem(problem: TapescopeError) -> NoReturn:
    """What is wrong with a setting is an error."""
    raise problem


def read_settings(
    environ: Mapping[str, str] = os.environ, on_problem: OnProblem = raise_problem
) -> OtelSettings:
    """What ``OTEL_SDK_DISABLED``, the exporters' names and the protocols say.

    A signal is on when ``OTEL_{SIGNAL}_EXPORTER`` names an exporter or, where that is not set, when
    an endpoint is: the general one or its own. An empty variable counts as not set, and the case of
    a name does not matter, as the specification has it.

    A value that means nothing is told to ``on_problem``, once. The signals that it is for stay in
    the process, or lose that one exporter; the others are as they are. By default it is raised, as
    ``BadTelemetrySetting``.
    """
    if _get(environ, "OTEL_SDK_DISABLED").lower() == "true":
        return OtelSettings(disabled=True)
    told: set[str] = set()

    def tell(problem: TapescopeError) -> None:
        if str(problem) not in told:  # a general variable is read for each signal
            told.add(str(problem))
            on_problem(problem)

    traces, metrics, logs = (_read_signal(environ, signal, tell) for signal in SIGNALS)
    return OtelSettings(traces, metrics, logs)


def find_bad_limits(on_problem: OnProblem) -> list[str]:
    """The variables ``OTEL_*_LIMIT`` whose value is no limit, each told to ``on_problem``.

    While one of them is set, the SDK cannot even be imported.
    """
    bad: list[str] = []
    for name, value in os.environ.items():
        if name.startswith("OTEL_") and name.endswith("_LIMIT") and not _is_limit(value.strip()):
            bad.append(name)
            on_problem(BadTelemetrySetting(name, value, "a whole number, 0 or more"))
    return bad


def _is_limit(value: str) -> bool:
    try:
        return not value or int(value) >= 0
    except ValueError:
        return False


@contextmanager
def hidden(variables: Iterable[str]) -> Generator[None]:
    """Take these out of the environment, inside.

    They are put back: they are not ours to take from the children of this process.
    """
    before = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _read_signal(
    environ: Mapping[str, str], signal: Signal, on_problem: OnProblem
) -> SignalSettings:
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}"
    endpoint = _get(environ, f"{own}_ENDPOINT") or _get(environ, "OTEL_EXPORTER_OTLP_ENDPOINT")
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    named = [name for part in _get(environ, variable).split(",") if (name := part.strip().lower())]
    if not named:
        named = ["otlp"] if endpoint else []
    exporters: list[Exporter] = []
    for name in named:
        if name in _EXPORTERS:
            exporters.append(_EXPORTERS[name])
        elif name != "none" or len(named) > 1:
            wanted = "'otlp', 'console', both, or 'none'"
            if name == "prometheus":
                wanted += "; a scrape is served by --metrics-port, or by a reader"
            on_problem(BadTelemetrySetting(variable, name, wanted))
    protocol = _read_protocol(environ, own, endpoint, on_problem)
    return SignalSettings() if protocol is None else SignalSettings(_once(exporters), protocol)


def _once(names: list[Exporter]) -> tuple[Exporter, ...]:
    return tuple(dict.fromkeys(names))


def _read_protocol(
    environ: Mapping[str, str], own: str, endpoint: str, on_problem: OnProblem
) -> Protocol | None:
    """``None`` where it cannot be told how, or where to, anything could be sent."""
    try:
        port = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").port
    except ValueError:
        # Its value may hold a password.
        on_problem(BadTelemetrySetting(f"{own}_ENDPOINT", None, "a URL with a valid port"))
        return None
    for variable in (f"{own}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        value = _get(environ, variable)
        if value.lower() in _PROTOCOLS:
            return _PROTOCOLS[value.lower()]
        if value:
            on_problem(BadTelemetrySetting(variable, value, "'grpc' or 'http/protobuf'"))
            return None
    return "http/protobuf" if port == _HTTP_PORT else "grpc"


def _get(environ: Mapping[str, str], variable: str) -> str:
    return environ.get(variable, "").strip()
