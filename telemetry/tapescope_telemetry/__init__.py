"""The telemetry of tapescope: spans and metrics, through the OpenTelemetry API alone.

Nothing is configured, read or registered at import. Everything hangs from one ``Telemetry`` object,
made with the providers that the application chose; without an SDK it costs next to nothing.
``setup`` makes such providers, and is loaded when it is first asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tapescope_telemetry._version import __version__
from tapescope_telemetry.errors import (
    BadTelemetrySetting,
    MissingTelemetryExtra,
    ProvidersTaken,
    SdkRefused,
    TelemetryUsedAfterFork,
)
from tapescope_telemetry.failures import error_type_of
from tapescope_telemetry.ledger import EventLedger, LedgerReading
from tapescope_telemetry.names import (
    METRICS,
    OTHER,
    SCHEMA_URL,
    SCOPE_NAME,
    SPANS,
    MetricRow,
    SpanRow,
)
from tapescope_telemetry.spans import RunSpan, SubmitSpan
from tapescope_telemetry.stores import StoreMeter
from tapescope_telemetry.tasks import TaskMeter
from tapescope_telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from tapescope_telemetry.lifetime import TelemetrySetup, Undelivered
    from tapescope_telemetry.logs import JsonFormatter, OtelHandler, TraceFilter
    from tapescope_telemetry.providers import setup
    from tapescope_telemetry.sampling import LinkSampler
    from tapescope_telemetry.settings import OtelSettings, read_settings

__all__ = [
    "METRICS",
    "OTHER",
    "SCHEMA_URL",
    "SCOPE_NAME",
    "SPANS",
    "BadTelemetrySetting",
    "EventLedger",
    "JsonFormatter",
    "LedgerReading",
    "LinkSampler",
    "MetricRow",
    "MissingTelemetryExtra",
    "OtelHandler",
    "OtelSettings",
    "ProvidersTaken",
    "RunSpan",
    "SdkRefused",
    "SpanRow",
    "StoreMeter",
    "SubmitSpan",
    "TaskMeter",
    "Telemetry",
    "TelemetrySetup",
    "TelemetryUsedAfterFork",
    "TraceFilter",
    "Undelivered",
    "__version__",
    "error_type_of",
    "read_settings",
    "setup",
]

_LATER: Final = {
    "JsonFormatter": "logs",
    "LinkSampler": "sampling",
    "OtelHandler": "logs",
    "OtelSettings": "settings",
    "TelemetrySetup": "lifetime",
    "TraceFilter": "logs",
    "Undelivered": "lifetime",
    "read_settings": "settings",
    "setup": "providers",
}
"""Name → module. Loaded when first asked for: a program that embeds the library needs few."""

if not TYPE_CHECKING:  # with it in their sight, type checkers would take any name for a good one

    def __getattr__(name: str) -> Any:
        if name in _LATER:
            return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__]
        )
