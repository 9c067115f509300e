"""The metric reader that a Prometheus scrape asks, and the registry that it answers through."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.export import MetricReader
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,  # pyright: ignore[reportUnknownVariableType]  # its app has no types
)

from tapescope_telemetry._version import __version__
from tapescope_telemetry.prometheus.families import FamilyMaker, describe_info

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from opentelemetry.sdk.metrics.export import MetricsData
    from prometheus_client import Metric as Family

__all__ = ["PrometheusReader"]

_ACCEPTED: Final = ("HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING")
_REFUSED: Final = re.compile(r"[^,]*;\s*q\s*=\s*0(\.0*)?\s*(,|$)", re.IGNORECASE)
"""What a client names only to refuse it: with a quality of 0 (RFC 9110, 12.4.2)."""


class PrometheusReader(MetricReader):
    """A reader for ``setup``, or a ``MeterProvider`` of yours: it collects when it is scraped.

    It is a WSGI application, which ``tapescope.http.serve_health`` takes as its ``metrics``; the
    format (text, OpenMetrics), compression and ``name[]`` are ``prometheus_client``'s to negotiate.
    Exemplars are on OpenMetrics only, and stay there until the next one of their bucket or counter,
    however often they are scraped.

    ``registry`` is its own, with the process, its memory, its garbage collector and its Python
    beside what OpenTelemetry holds. Any thread may scrape; scrapes wait for each other, and never
    for an event loop or a database.

    Belongs to one process: make it after a fork. ``prometheus_client``'s multiprocess mode has
    neither exemplars nor collectors like this one, so each process has a port of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self._lock = threading.Lock()
        self._families = FamilyMaker()
        self._received: MetricsData | None = None
        self._over = False
        self._app: WSGIApplication = make_wsgi_app(self.registry)
        self.registry.register(_Collector(self))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a scrape, in a form that its client accepts; to a HEAD without the text."""
        asked = environ | {
            name: _REFUSED.sub("", environ[name]) for name in _ACCEPTED if name in environ
        }
        if environ["REQUEST_METHOD"] != "HEAD":
            return self._app(asked, start_response)
        answered: list[tuple[str, list[tuple[str, str]]]] = []

        def start(
            status: str, headers: list[tuple[str, str]], *_: object
        ) -> Callable[[bytes], object]:
            answered.append((status, headers))
            return bytes

        text = b"".join(self._app(asked | {"REQUEST_METHOD": "GET"}, start))
        ((status, headers),) = answered
        start_response(status, [*headers, ("Content-Length", str(len(text)))])
        return ()

    def make_families(self) -> list[Family]:
        """Collect now; nothing of OpenTelemetry's once the provider was shut down."""
        build = describe_info(
            "tapescope_build", "The tapescope that tells this.", {"version": __version__}
        )
        with self._lock:
            if self._over:
                return [build]
            self._received = None
            self.collect()
            data, self._received = self._received, None
            return [build] if data is None else [build, *self._families.make(data)]

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Called by the provider. A later scrape still shows the metrics of the process."""
        self._over = True

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        self._received = metrics_data


class _Collector:
    """What the registry asks: a ``MetricReader`` has a ``collect`` of another meaning."""

    def __init__(self, reader: PrometheusReader) -> None:
        self._reader = reader

    def collect(self) -> Iterable[Family]:
        """The families of one scrape."""
        return self._reader.make_families()
