"""Live: processes that stand still for three scrapes, and what boards and alerts make of it.

Each failed scrape marks what there was as gone. What is counted over it must be what has grown,
never the whole life of a counter, and what was told long before must not be told again.
``make test-observability`` runs it; ``make test`` does not, for it is a minute of waiting.
"""

from __future__ import annotations

import signal
import subprocess
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import yaml
from promql_parser import AggModifier, AggregateExpr, Expr, MatrixSelector, parse, walk

from dashboards import settings
from tapescope.drills.catalogue import find_drill
from tests.dashboards.growth import list_selectors
from tests.dashboards.observed import SCALE, Live, running_stack, wait_for
from tests.dashboards.pack import fill_in, list_questions
from tests.support.services import Collector

pytestmark = [pytest.mark.observability, pytest.mark.timeout(400)]

FAILED = 3
"""Scrapes that fail."""
INTERVAL = "5s"
"""What Grafana would put for its rate interval."""
STEP = 0.5
ZERO_TOLERANCE: Final = ("zombie-worker", "duplicate-final")
"""Drills whose alert is for a fact that may never be: an old counter must not raise it anew."""
AGAIN = settings.ZERO_TOLERANCE_WINDOW / SCALE
"""When a counter that was taken for a new one would be told, after it came back."""

Labels: TypeAlias = frozenset[tuple[str, str]]
"""Of a series, without its name."""


@dataclass(frozen=True)
class Growth:
    """A use of the helper in the pack: what is counted, over how many seconds."""

    expr: str
    counter: str
    window: float


def list_growths(expressions: Iterator[str]) -> list[Growth]:
    """Every use of the helper, which is known by the label that it leaves out; each once."""
    found: dict[str, Growth] = {}

    def look(node: Expr) -> bool:
        if (
            isinstance(node, AggregateExpr)
            and isinstance(node.modifier, AggModifier)
            and node.modifier.labels == ["grown"]
        ):
            expr = str(node)
            found[expr] = Growth(expr, str(list_selectors(expr)[0]), find_window(node))
        return True

    for expr in expressions:
        walk(parse(expr), look)
    return list(found.values())


def find_window(node: Expr) -> float:
    """The first window of an expression, in seconds."""
    windows: list[float] = []

    def look(part: Expr) -> bool:
        if isinstance(part, MatrixSelector):
            windows.append(part.range.total_seconds())
        return True

    walk(node, look)
    return windows[0]


def list_expressions(folder: Path) -> Iterator[str]:
    """What the boards ask, and what the rules of this run ask."""
    for question in list_questions():
        if question.label is None:
            yield fill_in(question.expr, interval=INTERVAL, span="1m")
    for name in ("recording", "alerts"):
        rules: Any = yaml.safe_load((folder / "prometheus" / "rules" / f"{name}.yml").read_text())
        for group in rules["groups"]:
            yield from (rule["expr"] for rule in group["rules"])


class Counted:
    """What was scraped of a counter, each series by itself."""

    def __init__(self, live: Live, counter: str) -> None:
        self._series: dict[Labels, tuple[list[float], list[float]]] = {}
        for one in live.ask("query", query=f"{counter}[15m]")["result"]:
            times, values = zip(*one["values"], strict=True)
            self._series[read_labels(one)] = [*times], [float(value) for value in values]

    def grown(self, labels: Labels, since: float, until: float) -> float:
        """By how much it grew; what was not there before was 0."""
        times, values = self._series[labels]

        def at(moment: float) -> float:
            place = bisect_right(times, moment)
            return values[place - 1] if place else 0.0

        return at(until) - at(since)


def read_labels(series: dict[str, Any]) -> Labels:
    """Its labels without its name."""
    return frozenset((k, v) for k, v in series["metric"].items() if k != "__name__")


def find_exceeding(live: Live, growth: Growth, expr: str, since: float, until: float) -> list[str]:
    """Where the answer is more than what has grown."""
    counted = Counted(live, growth.counter)
    asked = live.ask("query_range", query=expr, start=str(since), end=str(until), step=str(STEP))
    return [
        f"{growth.counter}: {value} of {true:g} at {moment - since:.1f} s"
        for series in asked["result"]
        for moment, value in series["values"]
        if float(value)
        > (true := counted.grown(read_labels(series), moment - growth.window, moment)) + 1e-6
    ]


def read_up(live: Live, instance: str) -> list[tuple[float, bool]]:
    """Every scrape of an instance: when, and whether it was answered."""
    (series,) = live.ask("query", query=f'up{{instance="{instance}"}}[15m]')["result"]
    return [(float(when), value == "1") for when, value in series["values"]]


def count_scrapes(live: Live, instance: str, since: float, *, answered: bool) -> int:
    """Scrapes since then that were answered, or were not."""
    return sum(when > since and up is answered for when, up in read_up(live, instance))


def list_instances(live: Live) -> list[str]:
    """What is scraped and answers."""
    return [
        one["metric"]["instance"]
        for one in live.ask("query", query="tapescope_build_info")["result"]
    ]


def stand_still(
    live: Live, instances: list[str], processes: list[subprocess.Popen[str]]
) -> tuple[float, float]:
    """All of them stop until three scrapes of each have failed; when, by Prometheus' clock."""
    begun = max(when for one in instances for when, _ in read_up(live, one))
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        wait_for(
            lambda: all(
                count_scrapes(live, one, begun, answered=False) >= FAILED for one in instances
            ),
            60,
        )
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
    return begun, max(when for one in instances for when, _ in read_up(live, one))


def test_what_stands_still_for_three_scrapes_has_not_grown(
    tmp_path: Path, collector: Collector
) -> None:
    """No panel and no rule tells more than what has grown, and no old fact is told again."""
    alerts = [find_drill(name).alerts[0] for name in ZERO_TOLERANCE]
    with ExitStack() as stack:
        live = stack.enter_context(running_stack(tmp_path, collector, len(ZERO_TOLERANCE)))
        drills = [stack.enter_context(live.drill(name)) for name in ZERO_TOLERANCE]
        for alert, drill in zip(alerts, drills, strict=True):
            for status in ("firing", "resolved"):
                wait_for(lambda: live.webhook.find(alert, status, drill.since), 120)  # noqa: B023  # called before the next round
        assert live.program is not None
        processes = [live.program, *(drill.process for drill in drills)]
        instances = list_instances(live)
        assert len(instances) == len(processes)
        stopped, going = stand_still(live, instances, processes)
        first = instances[0]
        wait_for(
            lambda: max(when for when, up in read_up(live, first) if up) > going + AGAIN + 5, 120
        )
        (until, _) = read_up(live, first)[-1]
        growths = list_growths(list_expressions(tmp_path))
        exceeding = [
            one
            for growth in growths
            for one in find_exceeding(live, growth, growth.expr, stopped - 5, until)
        ]
        naive = any(  # what a pack without the helper asks: the check can fail
            find_exceeding(
                live,
                growth,
                f"{growth.counter} unless {growth.counter} offset {INTERVAL}"
                f" or increase({growth.counter}[{INTERVAL}])",
                stopped - 5,
                until,
            )
            for growth in growths
            if growth.window == float(INTERVAL.removesuffix("s"))
        )
        again = {
            one["metric"]["alertname"]
            for one in live.ask(
                "query_range",
                query='ALERTS{alertstate="firing"}',
                start=str(stopped),
                end=str(until),
                step=str(STEP),
            )["result"]
        }

    assert growths
    assert exceeding == []
    assert naive
    assert again.isdisjoint({*alerts, "TapescopeTargetDown"}), again
    print(f"{len(growths)} counts, none above what has grown; firing: {sorted(again)}")
