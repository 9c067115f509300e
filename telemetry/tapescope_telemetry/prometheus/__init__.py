"""The scrape: what OpenTelemetry holds, as Prometheus reads it. Needs the ``prometheus`` extra.

Importing it without that raises ``MissingTelemetryExtra``, with the line that installs it. It is
the one room where ``prometheus_client`` is known: instruments are OpenTelemetry's alone, so that no
fact is counted twice.
"""

from __future__ import annotations

from tapescope_telemetry.errors import MissingTelemetryExtra

try:
    from tapescope_telemetry.prometheus.reader import PrometheusReader
except ModuleNotFoundError as error:
    if not str(error.name).startswith(("opentelemetry.sdk", "prometheus_client")):
        raise
    raise MissingTelemetryExtra("The Prometheus scrape", "prometheus") from error

__all__ = ["PrometheusReader"]
