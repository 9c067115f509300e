"""What a collector was sent: an OTLP receiver over HTTP that keeps every message, decoded."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Received", "running_sink"]

_MESSAGES: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}
_KINDS = {
    1: "INTERNAL",
    2: "SERVER",
    3: "CLIENT",
    4: "PRODUCER",
    5: "CONSUMER",
}


class Received:
    """Everything that came, with plain dictionaries for attributes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._pending: list[tuple[str, Any]] = []

    def add(self, path: str, body: bytes) -> None:
        """Keep one request."""
        message = _MESSAGES[path]()
        message.ParseFromString(body)
        with self._lock:
            self._pending.append((path, message))

    def spans(self, service: str) -> list[dict[str, Any]]:
        """The spans of the processes of this service name, in the order they came."""
        return [
            {
                "name": span.name,
                "kind": _KINDS[span.kind],
                "trace_id": span.trace_id.hex(),
                "span_id": span.span_id.hex(),
                "parent": span.parent_span_id.hex(),
                "links": [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                "status": {0: "UNSET", 1: "OK", 2: "ERROR"}[span.status.code],
                "message": span.status.message,
                "events": [event.name for event in span.events],
                "attributes": _plain(span.attributes),
                "scope": (group.scope.name, group.scope.version, group.schema_url),
                "resource": resource,
            }
            for resource, part in self._parts("/v1/traces", "resource_spans", service)
            for group in part.scope_spans
            for span in group.spans
        ]

    def metrics(self, service: str, scope: str = "tapescope") -> list[dict[str, Any]]:
        """The points of every metric of one scope, one dictionary a point."""
        return [
            {
                "name": metric.name,
                "unit": metric.unit,
                "kind": _kind(metric),
                "temporality": _temporality(metric),
                "value": _value(metric, point),
                "attributes": _plain(point.attributes),
                "exemplars": [e.trace_id.hex() for e in point.exemplars],
                "scope": (group.scope.name, group.scope.version, group.schema_url),
                "resource": resource,
            }
            for resource, part in self._parts("/v1/metrics", "resource_metrics", service)
            for group in part.scope_metrics
            if group.scope.name == scope
            for metric in group.metrics
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        ]

    def logs(self, service: str) -> list[dict[str, Any]]:
        """The log records."""
        return [
            {
                "body": record.body.string_value,
                "severity": record.severity_text,
                "number": record.severity_number,
                "trace_id": record.trace_id.hex(),
                "span_id": record.span_id.hex(),
                "attributes": _plain(record.attributes),
                "scope": group.scope.name,
            }
            for _, part in self._parts("/v1/logs", "resource_logs", service)
            for group in part.scope_logs
            for record in group.log_records
        ]

    def _parts(self, path: str, field: str, service: str) -> Generator[tuple[dict[str, Any], Any]]:
        with self._lock:
            requests = list(self._pending)
        for at, message in requests:
            if at == path:
                for part in getattr(message, field):
                    resource = _plain(part.resource.attributes)
                    if resource.get("service.name") == service:
                        yield resource, part


def _plain(attributes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = value if kind != "array_value" else MessageToDict(value)
    return found


def _kind(metric: Any) -> str:
    data = metric.WhichOneof("data")
    if data == "sum":
        return "counter" if metric.sum.is_monotonic else "updowncounter"
    return str(data)


def _temporality(metric: Any) -> str:
    """``delta`` or ``cumulative``; empty for a gauge, which has neither."""
    data = getattr(metric, metric.WhichOneof("data"))
    return {1: "delta", 2: "cumulative"}.get(getattr(data, "aggregation_temporality", 0), "")


def _value(metric: Any, point: Any) -> float:
    if metric.WhichOneof("data") == "histogram":
        return float(point.count)
    return float(getattr(point, point.WhichOneof("value")))


@contextmanager
def running_sink() -> Generator[Received]:
    """A receiver on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.add(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass  # the tests' output is not its place

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received = Received(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, name="otlp-sink", daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
