"""The pack against the telemetry contract: no name that is not there, no metric that is nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from dashboards import settings
from dashboards.promql import FOREIGN, name_label, name_metric
from tapescope.testing import plugin
from tapescope_telemetry import METRICS
from tapescope_telemetry.names import EXPORTER_METRICS, SERVER_METRICS
from tests.dashboards.pack import FOLDER, fill_in, list_questions, list_rules, read_use

EVERYWHERE = set(settings.INSTANCE_LABELS)
PARTS = ("_bucket", "_count", "_sum")
PROMQL = re.compile(r"```promql\n(.*?)```", re.DOTALL)
NAMED = re.compile(r"(?<![:\w])(?:tapescope|otel)_[a-z0-9_]+(?![\w:])")
PACKAGES = {"tapescope_telemetry", "tapescope_adapters"}
DOCS = ("docs/howto", "docs/explanation")


def list_series() -> dict[str, set[str]]:
    """Every series name that a scrape or a rule can give, with its labels."""
    series: dict[str, set[str]] = {name: set(labels) for name, labels in FOREIGN.items()}
    for row in (*METRICS, *SERVER_METRICS):
        labels = {name_label(key) for key in (*row.attributes, *row.optional)}
        name = name_metric(row)
        if row.kind == "histogram":
            series |= {f"{name}{part}": labels | {"le"} for part in PARTS}
        else:
            series[name] = labels
    for rule in list_rules():
        if "record" in rule:
            used = read_use(rule["expr"])
            series[rule["record"]] = used.labels[""] - {"le"}
    return series


def list_expressions() -> Iterator[tuple[str, str]]:
    """Every query of the pack, with where it stands."""
    for question in list_questions():
        yield str(question), fill_in(question.expr)
    for rule in list_rules():
        yield rule.get("record") or rule["alert"], rule["expr"]
    for file in sorted((FOLDER / "runbooks").glob("*.md")):
        for expr in PROMQL.findall(file.read_text()):
            yield file.name, expr


def test_every_name_in_a_query_is_in_the_contract() -> None:
    """Each metric and each label of a board, a rule or a runbook exists."""
    series = list_series()
    known = set[str]().union(*series.values(), EVERYWHERE, {"__name__"})

    for where, expr in list_expressions():
        used = read_use(expr)
        for metric in used.metrics:
            if metric == "tapescope_.+":  # a matcher of names
                continue
            assert metric in series, f"{metric} in {where}"
            strange = used.labels[metric] - series[metric] - EVERYWHERE
            assert not strange, f"{strange} of {metric} in {where}"
        assert used.labels[""] <= known, f"{used.labels[''] - known} in {where}"


def test_every_metric_of_the_contract_is_on_a_board() -> None:
    """What is measured can be seen without writing a query."""
    shown: set[str] = set()
    for question in list_questions():
        if question.label is None and not question.where.startswith("annotation"):
            shown |= {re.sub("(_bucket|_count|_sum)$", "", m) for m in metrics_of(question.expr)}
    recorded = {rule["record"]: rule["expr"] for rule in list_rules() if "record" in rule}
    missing = {name_metric(row) for row in (*METRICS, *SERVER_METRICS)} - shown

    assert not missing, missing
    assert not [name for name in shown if ":" in name and name not in recorded]


def metrics_of(expr: str) -> set[str]:
    """The metrics that a board's query names."""
    return read_use(fill_in(expr)).metrics


def test_every_name_in_prose_is_in_the_contract() -> None:
    """Runbooks, how-tos and explanations name no metric and no label that does not exist."""
    series = list_series()
    known = set(series) | set[str]().union(*series.values()) | PACKAGES
    known |= {*plugin.__all__, "tapescope_postgres_url", "tapescope_test"}  # of its pytest plugin
    known |= {name_metric(row) for row in (*METRICS, *EXPORTER_METRICS)} | {
        "tapescope_build_info",
        "otel_metric_overflow",
    }
    files = [*sorted((FOLDER / "runbooks").glob("*.md")), FOLDER / "README.md"]
    for folder in DOCS:
        files += sorted((FOLDER.parent / folder).glob("*.md"))

    for file in files:
        for name in NAMED.findall(file.read_text(encoding="utf-8")):
            assert name in known, f"{name} in {file.name}"


@pytest.mark.parametrize(
    "expr",
    [
        "sum(rate(tapescope_task_sumbitted_total[5m]))",
        'tapescope_task_active{tapescope_drop_reason="stale_attempt"}',
        "sum by (tapescope_operation) (tapescope_task_active)",
    ],
)
def test_a_name_that_is_not_there_is_found(expr: str) -> None:
    """A metric that is misspelt, a label of another metric, a label of none."""
    series = list_series()
    known = set[str]().union(*series.values(), EVERYWHERE)
    used = read_use(expr)
    strange = [m for m in used.metrics if m not in series]
    strange += [k for m in used.metrics for k in used.labels[m] - series.get(m, set())]
    strange += used.labels[""] - known

    assert strange
