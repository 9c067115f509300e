"""The names on the scrape, and the extra that they do not need."""

from __future__ import annotations

import pytest

from tapescope_telemetry import METRICS
from tapescope_telemetry.scrape_names import Kind, name_label, name_metric
from tests.support.scrapes import SCRAPE_NAMES


def test_scrape_names_are_the_contracts() -> None:
    """Each metric of the contract is called on the scrape what the published table says."""
    named = {row.name: name_metric(row.name, row.kind, row.unit).query for row in METRICS}

    assert named == {name: scraped for name, (_, scraped) in SCRAPE_NAMES.items()}


@pytest.mark.parametrize(
    ("name", "kind", "unit", "query"),
    [
        ("http.server.request.duration", "histogram", "s", "http_server_request_duration_seconds"),
        ("otel.sdk.span.live", "updowncounter", "{span}", "otel_sdk_span_live"),
        ("otel.sdk.exporter.span.exported", "counter", "{span}", None),
        ("disk.io", "counter", "By", "disk_io_bytes_total"),
        ("disk.io.bytes", "counter", "By", "disk_io_bytes_total"),
        ("disk.io_total", "counter", "By", "disk_io_bytes_total"),
        ("disk.total", "gauge", "By", "disk_bytes"),
        ("cpu.utilization", "gauge", "1", "cpu_utilization_ratio"),
        ("things", "counter", "1", "things_total"),
        ("fan.speed", "gauge", "{turn}/min", "fan_speed_per_minute"),
        ("net.speed", "gauge", "By/s", "net_speed_bytes_per_second"),
        ("net.speed", "gauge", "furlong/fortnight", "net_speed_furlong_per_fortnight"),
        ("3d.prints", "counter", "", "_3d_prints_total"),
        ("röhre-1", "gauge", "%", "r_hre_1_percent"),
    ],
)
def test_any_name_becomes_a_legal_one(name: str, kind: Kind, unit: str, query: str | None) -> None:
    """Other libraries' metrics follow the specification: units in words, no illegal character."""
    expected = query or f"{name.replace('.', '_')}_total"

    assert name_metric(name, kind, unit).query == expected


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("tapescope.task.op", "tapescope_task_op"),
        ("error.type", "error_type"),
        ("__name__", "_name_"),
        ("1st", "_1st"),
    ],
)
def test_labels_are_legal(key: str, label: str) -> None:
    """Dots become underscores; none begins with the two that Prometheus keeps for itself."""
    assert name_label(key) == label
