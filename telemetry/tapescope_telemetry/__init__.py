"""What tapescope tells of itself: spans and metrics, through the OpenTelemetry API alone.

Nothing is configured, read or registered at import. Everything hangs from one ``Telemetry`` object,
made with the providers that the application chose; without an SDK it costs next to nothing.
"""

from __future__ import annotations

from tapescope_telemetry._version import __version__
from tapescope_telemetry.failures import error_type_of
from tapescope_telemetry.ledger import EventLedger, LedgerReading
from tapescope_telemetry.names import (
    METRICS,
    OTHER,
    SCHEMA_URL,
    SCOPE_NAME,
    SPANS,
    TAPE_OPEN,
    TAPE_UNKNOWN,
    MetricRow,
    SpanRow,
)
from tapescope_telemetry.spans import RunSpan, SubmitSpan
from tapescope_telemetry.stores import StoreMeter
from tapescope_telemetry.tasks import TaskMeter
from tapescope_telemetry.telemetry import Telemetry

__all__ = [
    "METRICS",
    "OTHER",
    "SCHEMA_URL",
    "SCOPE_NAME",
    "SPANS",
    "TAPE_OPEN",
    "TAPE_UNKNOWN",
    "EventLedger",
    "LedgerReading",
    "MetricRow",
    "RunSpan",
    "SpanRow",
    "StoreMeter",
    "SubmitSpan",
    "TaskMeter",
    "Telemetry",
    "__version__",
    "error_type_of",
]
