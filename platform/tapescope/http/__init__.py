"""The HTTP listeners of a process: its health and its metrics."""

from __future__ import annotations

from tapescope.http.exporter import StoreExporter
from tapescope.http.health import DEFAULT_HOST, DEFAULT_PORT, Check, HealthListener, serve_health
from tapescope.http.metrics import MetricsListener

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "Check",
    "HealthListener",
    "MetricsListener",
    "StoreExporter",
    "serve_health",
]
