"""What of telemetry can fail: the closed set that its errors are counted by."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["TelemetrySource"]


class TelemetrySource(StrEnum):
    """What raised while the platform told something; the work went on."""

    SPAN = "span"
    """A tracer, a span, a span processor, a propagator or an exporter that works at once."""
    METRIC = "metric"
    """A meter, an instrument, a view or what an exemplar is taken from."""
    LOG = "log"
    """A log filter, handler or formatter, or an OpenTelemetry logger."""
    EXCEPTION = "exception"
    """An exception of a runner that cannot be printed or walked; a text stands in for it."""
