"""The committed pack as tests read it: every query that a user will run, and where it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from promql_parser import (
    AggModifier,
    AggregateExpr,
    BinaryExpr,
    Expr,
    MatrixSelector,
    VectorSelector,
    parse,
    walk,
)

__all__ = [
    "BOARDS",
    "CASES",
    "FOLDER",
    "Question",
    "Used",
    "fill_in",
    "list_questions",
    "list_rules",
    "read_board",
    "read_use",
    "read_yaml",
]

FOLDER: Final = Path(__file__).parents[2] / "dashboards"
BOARDS: Final = ("overview", "op", "fleet", "tape-integrity", "store", "process")
CASES: Final = sorted(file.name for file in (FOLDER / "prometheus" / "tests").glob("*.yml"))

_LABEL_VALUES: Final = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


@dataclass(frozen=True)
class Question:
    """One query of a board, of a panel, a variable or an annotation."""

    board: str
    where: str
    expr: str
    exemplar: bool = False
    instant: bool = False
    label: str | None = None
    """For a variable: the label whose values it offers."""

    def __str__(self) -> str:
        return f"{self.board}: {self.where}: {self.expr}"


@dataclass
class Used:
    """The names that a query uses."""

    metrics: set[str]
    labels: dict[str, set[str]]
    """Labels in matchers, by metric; those of an aggregation or a match under ``""``."""


def read_board(name: str) -> dict[str, Any]:
    """A committed dashboard."""
    content: dict[str, Any] = json.loads((FOLDER / "grafana" / f"{name}.json").read_text())
    return content


def read_yaml(path: str) -> Any:
    """A committed YAML file, by its path under ``dashboards/``."""
    return yaml.safe_load((FOLDER / path).read_text(encoding="utf-8"))


def list_rules() -> Iterator[dict[str, Any]]:
    """Every recording and alert rule."""
    for name in ("recording", "alerts"):
        for group in read_yaml(f"prometheus/rules/{name}.yml")["groups"]:
            yield from group["rules"]


def list_questions() -> Iterator[Question]:
    """Every query of every board."""
    for board in BOARDS:
        content = read_board(board)
        for panel in content["panels"]:
            for target in panel.get("targets", ()):
                yield Question(
                    board,
                    panel["title"],
                    target["expr"],
                    exemplar=target["exemplar"],
                    instant=bool(target.get("instant")),
                )
        for variable in content["templating"]["list"]:
            if variable["type"] == "query":
                asked = _LABEL_VALUES.fullmatch(variable["query"]["query"])
                assert asked is not None, variable["query"]
                where = f"variable {variable['name']}"
                yield Question(board, where, asked["series"], label=asked["label"])
        for annotation in content["annotations"]["list"]:
            yield Question(board, f"annotation {annotation['name']}", annotation["expr"])


def fill_in(expr: str, *, interval: str = "5m", span: str = "1h") -> str:
    """The query as Grafana sends it: "All" for every variable, these lengths of time."""
    filled = expr.replace("$__rate_interval_ms", str(_measure(interval) * 1_000))
    filled = filled.replace("$__rate_interval", interval)
    filled = filled.replace("$__range_s", str(_measure(span))).replace("$__range", span)
    filled = filled.replace("$__interval", interval)
    return re.sub(r'=~"\$\w+"', '=~".*"', filled)


def _measure(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def read_use(expr: str) -> Used:
    """The metrics and labels of a query; raises ``ValueError`` when it is no PromQL."""
    used = Used(set(), {"": set()})

    def look(node: Expr) -> bool:
        if isinstance(node, MatrixSelector):
            node = node.vector_selector
        if isinstance(node, VectorSelector):
            name = node.name
            names = {m.name: m.value for m in node.matchers.matchers}
            name = name or names.pop("__name__")
            used.metrics.add(name)
            used.labels.setdefault(name, set()).update(names)
        elif isinstance(node, AggregateExpr) and isinstance(node.modifier, AggModifier):
            used.labels[""].update(node.modifier.labels)
        elif isinstance(node, BinaryExpr) and node.modifier and node.modifier.matching:
            used.labels[""].update(node.modifier.matching.labels)
        return True

    walk(parse(expr), look)
    return used
