"""Configuration of what runs beside the programs: Prometheus, Alertmanager, Tempo, Grafana.

Every function gives the content of one file. The files for a bare machine and those for
``compose.yaml`` differ in addresses only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dashboards import settings
from dashboards.promql import Durations

__all__ = [
    "Addresses",
    "describe_alertmanager",
    "describe_boards_provider",
    "describe_collector",
    "describe_compose",
    "describe_datasources",
    "describe_prometheus",
    "describe_tempo",
]

Content = dict[str, Any]

METRICS_PORT: Final = 9464
_OTLP: Final = 4317


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where each program listens, as ``host:port``. The defaults are a bare machine's."""

    targets: tuple[str, ...] = (f"127.0.0.1:{METRICS_PORT}",)
    alertmanager: str = "127.0.0.1:9093"
    prometheus: str = "127.0.0.1:9090"
    drills: tuple[str, ...] = ()
    """Where drills are scraped; none in what is committed."""


IN_COMPOSE: Final = Addresses(
    targets=(f"tapescope:{METRICS_PORT}",),
    alertmanager="alertmanager:9093",
    prometheus="prometheus:9090",
)


def describe_prometheus(addresses: Addresses, durations: Durations) -> Content:
    """What is scraped and how often, and where rules and alerts are."""
    drills = {
        "job_name": settings.DRILL_JOB,
        "static_configs": [{"targets": list(addresses.drills)}],
    }
    return {
        "global": {
            "scrape_interval": durations(settings.SCRAPE),
            "scrape_timeout": durations(settings.SCRAPE * 2 / 3),
            "evaluation_interval": durations(settings.EVALUATION),
        },
        "storage": {"exemplars": {"max_exemplars": 100_000}},
        "rule_files": ["rules/recording.yml", "rules/alerts.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [addresses.alertmanager]}]}]
        },
        "scrape_configs": [
            {
                "job_name": settings.JOB,
                "static_configs": [{"targets": list(addresses.targets)}],
            },
            {
                "job_name": "prometheus",
                "static_configs": [{"targets": [addresses.prometheus]}],
            },
            *([drills] if addresses.drills else []),
        ],
    }


def describe_alertmanager(durations: Durations, webhook: str | None) -> Content:
    """Who is notified: ``critical`` goes to ``page``, the rest to ``ticket``.

    Without ``webhook`` the receivers only show what they would send; fill in yours.
    """
    receivers: list[Content] = [{"name": "page"}, {"name": "ticket"}]
    if webhook is not None:
        for receiver in receivers:
            receiver["webhook_configs"] = [{"url": webhook, "send_resolved": True}]
    return {
        "route": {
            "receiver": "ticket",
            "group_by": ["alertname", *settings.AGGREGATION_LABELS],
            "group_wait": durations(15),
            "group_interval": durations(5 * settings.MINUTE),
            "repeat_interval": durations(4 * settings.HOUR),
            "routes": [{"matchers": ['severity="critical"'], "receiver": "page"}],
        },
        "inhibit_rules": [
            {
                # The slow windows of a budget that a page is out for already.
                "source_matchers": ['severity="critical"'],
                "target_matchers": ['severity="warning"'],
                "equal": ["alertname", *settings.AGGREGATION_LABELS],
            },
            {
                # The cause is told; the share that it makes of all events says no more.
                "source_matchers": [
                    'alertname=~"TapescopeStaleAttemptWrites|TapescopeDuplicateFinal"'
                ],
                "target_matchers": ['alertname="TapescopeDroppedEventsBudgetBurn"'],
                "equal": list(settings.AGGREGATION_LABELS),
            },
            {
                # The op is told: that it makes its job's share says no more.
                "source_matchers": ['alertname="TapescopeOpFailureBudgetBurn"'],
                "target_matchers": ['alertname="TapescopeTaskFailureBudgetBurn"'],
                "equal": list(settings.AGGREGATION_LABELS),
            },
            {
                # A store that is away answers no heartbeat, and its server no request.
                "source_matchers": ['alertname="TapescopeStoreErrors"'],
                "target_matchers": ['alertname=~"TapescopeHeartbeatLate|TapescopeServerErrors"'],
                "equal": list(settings.AGGREGATION_LABELS),
            },
            {
                # A process that is down, or a whole job, which has no instance, as most alerts.
                "source_matchers": ['alertname="TapescopeTargetDown"'],
                "target_matchers": ['severity="warning"'],
                "equal": list(settings.INSTANCE_LABELS),
            },
        ],
        "receivers": receivers,
    }


def describe_datasources() -> Content:
    """Grafana's data sources; an exemplar leads to its trace in Tempo and to its task's page."""
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "type": "prometheus",
                "uid": "prometheus",
                "access": "proxy",
                "url": f"http://{IN_COMPOSE.prometheus}",
                "isDefault": True,
                "editable": False,
                "jsonData": {
                    "httpMethod": "POST",
                    "timeInterval": f"{settings.SCRAPE}s",
                    "exemplarTraceIdDestinations": [
                        {
                            "name": "trace_id",
                            "datasourceUid": "tempo",
                            "urlDisplayLabel": "Trace in Tempo",
                        },
                        {
                            "name": "trace_id",
                            # The second dollar sign keeps Grafana from looking for a variable of
                            # its environment.
                            "url": settings.TASK_PAGES_URL + "/trace/$${__value.raw}",
                            "urlDisplayLabel": "Task",
                        },
                    ],
                },
            },
            {
                "name": "Tempo",
                "type": "tempo",
                "uid": "tempo",
                "access": "proxy",
                "url": "http://tempo:3200",
                "editable": False,
                "jsonData": {"nodeGraph": {"enabled": True}},
            },
            {
                "name": "Alertmanager",
                "type": "alertmanager",
                "uid": "alertmanager",
                "access": "proxy",
                "url": f"http://{IN_COMPOSE.alertmanager}",
                "editable": False,
                "jsonData": {"implementation": "prometheus"},
            },
        ],
    }


def describe_boards_provider() -> Content:
    """Where Grafana finds the dashboards."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "tapescope",
                "folder": "tapescope",
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "options": {"path": "/var/lib/grafana/dashboards"},
            }
        ],
    }


def describe_collector() -> Content:
    """The OpenTelemetry collector: traces go to Tempo. Metrics are scraped, so none come here."""
    return {
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"0.0.0.0:{_OTLP}"},
                    "http": {"endpoint": f"0.0.0.0:{_OTLP + 1}"},
                }
            }
        },
        "processors": {
            "memory_limiter": {
                "check_interval": "1s",
                "limit_mib": 256,
                "spike_limit_mib": 64,
            },
            "batch": {"timeout": "1s"},
        },
        "exporters": {
            "otlp/tempo": {"endpoint": f"tempo:{_OTLP}", "tls": {"insecure": True}},
            "debug": {},
        },
        "service": {
            "pipelines": {
                "traces": {
                    "receivers": ["otlp"],
                    "processors": ["memory_limiter", "batch"],
                    "exporters": ["otlp/tempo"],
                },
                "logs": {
                    "receivers": ["otlp"],
                    "processors": ["memory_limiter", "batch"],
                    "exporters": ["debug"],
                },
            }
        },
    }


def describe_tempo() -> Content:
    """Tempo in one process, on the container's own disk, traces kept for a day."""
    return {
        "server": {"http_listen_port": 3200},
        "distributor": {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"0.0.0.0:{_OTLP}"}}}}
        },
        "compactor": {"compaction": {"block_retention": "24h"}},
        "storage": {
            "trace": {
                "backend": "local",
                "wal": {"path": "/var/tempo/wal"},
                "local": {"path": "/var/tempo/blocks"},
            }
        },
        "usage_report": {"reporting_enabled": False},
    }


def describe_compose() -> Content:
    """The whole stack on one machine, its pages on the loopback address only."""
    images = settings.IMAGES

    def publish(port: int) -> list[str]:
        return [f"127.0.0.1:{port}:{port}"]

    return {
        "name": "tapescope",
        "services": {
            "tapescope": {
                "build": {"context": "..", "dockerfile_inline": _DOCKERFILE},
                "command": [
                    *("python", "-m", "dashboards.load"),
                    *("--host", "0.0.0.0", "--port", str(METRICS_PORT)),
                ],
                "environment": {
                    "OTEL_SERVICE_NAME": settings.JOB,
                    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://collector:{_OTLP}",
                    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                    "OTEL_METRICS_EXPORTER": "none",
                },
                "ports": publish(METRICS_PORT),
                "depends_on": ["collector"],
            },
            "collector": {
                "image": images["collector"],
                "command": ["--config=/etc/collector/collector.yml"],
                "volumes": ["./collector:/etc/collector:ro"],
                "depends_on": ["tempo"],
            },
            "tempo": {
                "image": images["tempo"],
                "command": ["-config.file=/etc/tempo/tempo.yml"],
                "volumes": ["./tempo:/etc/tempo:ro"],
                "tmpfs": ["/var/tempo:mode=1777"],
                "ports": publish(3200),
            },
            "alertmanager": {
                "image": images["alertmanager"],
                "command": ["--config.file=/etc/alertmanager/alertmanager.yml"],
                "volumes": ["./alertmanager:/etc/alertmanager:ro"],
                "ports": publish(9093),
            },
            "prometheus": {
                "image": images["prometheus"],
                "command": [
                    "--config.file=/etc/prometheus/prometheus.compose.yml",
                    "--storage.tsdb.path=/prometheus",
                    "--enable-feature=exemplar-storage",
                ],
                "volumes": ["./prometheus:/etc/prometheus:ro", "prometheus:/prometheus"],
                "ports": publish(9090),
                "depends_on": ["tapescope", "alertmanager"],
            },
            "grafana": {
                "image": images["grafana"],
                "environment": {
                    "GF_AUTH_ANONYMOUS_ENABLED": "true",
                    "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
                    "GF_AUTH_DISABLE_LOGIN_FORM": "true",
                    "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",  # no default password
                    "GF_ANALYTICS_REPORTING_ENABLED": "false",
                },
                "volumes": [
                    "./grafana/provisioning:/etc/grafana/provisioning:ro",
                    "./grafana:/var/lib/grafana/dashboards:ro",
                ],
                "ports": publish(3000),
                "depends_on": ["prometheus", "tempo"],
            },
        },
        "volumes": {"prometheus": {}},
    }


_DOCKERFILE: Final = f"""\
FROM {settings.IMAGES["python"]}
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY platform platform
COPY adapters adapters
COPY telemetry telemetry
COPY dashboards/*.py dashboards/
RUN pip install --no-cache-dir '.[client,otlp,prometheus,server]' && useradd --create-home tapescope
USER tapescope
"""
