"""What counts growth, put through everything that happens to a scrape: a generated matrix.

Each cell's fleet is a job of its own in one run of ``promtool``. Every counter that a rule or a
board of the pack reads is in it, found in their expressions, and all go through the same. A minute
is one scrape and one evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, Literal

import pytest
import yaml
from promql_parser import Expr, Matcher, MatchOp, MatrixSelector, VectorSelector, parse, walk

from dashboards import settings
from dashboards.build import render_files
from dashboards.promql import (
    ADAPTER,
    ERROR,
    EVENT_TYPE,
    OP,
    OUTCOME,
    START,
    name_label,
    name_metric,
)
from tapescope_telemetry import METRICS, names
from tests.dashboards.pack import Question, fill_in, list_questions, list_rules

__all__ = [
    "FLEETS",
    "FOR_LACK",
    "Cell",
    "Check",
    "Fleet",
    "Grown",
    "counts",
    "describe_matrix",
    "list_cells",
    "list_grown",
    "list_selectors",
    "render_rules",
]

GAP: Final = 30
"""Hours are made minutes for this: the gap that is bridged, and the window of a violation. The
shipped ones have cases of their own."""
PAST: Final = GAP + 20
"""How long a fleet was watched before anything happens: longer than any gap that is bridged."""
END: Final = PAST + GAP + 20
STEP: Final = 120
"""By how much each counter grows at once: more than the minimum of any alert."""
OLD: Final = 5_000
LONG_AGO: Final = -100_000

FOR_LACK: Final = ("TapescopeThroughputCollapsed",)
"""Alerts that fire for growth that is not there: cases of their own show them."""

Growth = Literal["none", "after", "before"]
Birth = Literal["old", "zero", "born", "same"]
"""Counters that are high already, at 0, or not there until they grow; ``same``: that a new process
has brought to the value of the old one when it is scraped first."""


@dataclass(frozen=True)
class Process:
    """One process, in minutes: it began at ``since``, is scraped from ``seen`` on to ``until``."""

    instance: str
    since: int
    seen: int
    until: int = END


@dataclass(frozen=True)
class Fleet:
    """What happens to a job: its processes, and the scrapes that are missed."""

    name: str
    processes: tuple[Process, ...]
    over: int = PAST
    """When it has happened: what grows right after it is in the scrape after this one."""
    failed: frozenset[int] = frozenset()
    """Scrapes that fail: what there was is marked as stale, and ``up`` is 0."""
    silent: frozenset[int] = frozenset()
    """Minutes in which nobody scrapes: no sample, no mark."""
    pushed: bool = False
    """Neither ``up`` nor when a process began is told."""


_OLD: Final = Process("a", LONG_AGO, 0)


def _minutes(first: int, count: int) -> frozenset[int]:
    return frozenset(range(first, first + count))


_DEPLOY: Final = (Process("a", LONG_AGO, 0, PAST), Process("b", PAST - 1, PAST))
FLEETS: Final = (
    Fleet("steady", (_OLD,)),
    Fleet("failed_scrape", (_OLD,), PAST + 1, failed=_minutes(PAST, 1)),
    Fleet("seven_failed_scrapes", (_OLD,), PAST + 7, failed=_minutes(PAST, 7)),
    Fleet("gap", (_OLD,), PAST + 7, silent=_minutes(PAST, 7)),
    Fleet("restart", (Process("a", LONG_AGO, 0, PAST), Process("a", PAST, PAST))),
    Fleet(
        "restart_in_gap",
        (Process("a", LONG_AGO, 0, PAST), Process("a", PAST + 5, PAST + 7)),
        PAST + 7,
        silent=_minutes(PAST, 7),
    ),
    Fleet(
        "two_restarts",
        (
            Process("a", LONG_AGO, 0, PAST),
            Process("a", PAST, PAST, PAST + 3),
            Process("a", PAST + 3, PAST + 4),
        ),
        PAST + 4,
        failed=_minutes(PAST + 3, 1),
    ),
    Fleet("deploy", _DEPLOY),
    Fleet("new_process", (Process("a", PAST - 1, PAST),)),
    Fleet("new_prometheus", (Process("a", LONG_AGO, PAST),)),
    Fleet("prometheus_back", (_OLD,), silent=_minutes(2, PAST - 2)),
    Fleet(
        "new_prometheus_restart",
        (Process("a", LONG_AGO, PAST, PAST + 3), Process("a", PAST + 3, PAST + 3)),
        PAST + 3,
    ),
    Fleet("pushed", (_OLD,), pushed=True),
    Fleet("pushed_gap", (_OLD,), PAST + 7, silent=_minutes(PAST, 7), pushed=True),
    Fleet("pushed_deploy", _DEPLOY, pushed=True),
)


@dataclass(frozen=True)
class Cell:
    """A fleet, what its counters were, and whether and when they grow."""

    fleet: Fleet
    birth: Birth
    growth: Growth

    @property
    def job(self) -> str:
        """The name of its job."""
        return f"{self.fleet.name}-{self.birth}-{self.growth}"

    @property
    def moment(self) -> int:
        """The scrape that has what grew; past the end when nothing does."""
        if self.growth == "none":
            return END + 1
        if self.growth == "before":
            return PAST - 4
        return self.fleet.over if self.birth == "same" else self.fleet.over + 1


def list_cells() -> Iterator[Cell]:
    """Every fleet, quiet and with growth right after; where it can be, with growth before."""
    for fleet in FLEETS:
        yield Cell(fleet, "old", "none")
        yield Cell(fleet, "old", "after")
        yield Cell(fleet, "born", "after")
        if fleet.processes[0].seen == 0 and fleet.name != "prometheus_back":
            yield Cell(fleet, "zero", "before")
            yield Cell(fleet, "born", "before")
        if fleet.name.startswith("restart"):
            yield Cell(fleet, "same", "after")


def _list_samples(
    cell: Cell, instance: str, gauge: str | None, *, flat: bool = False, always: bool = False
) -> str:
    """One series of an instance as promtool reads it, a sample a minute.

    ``gauge`` is ``up``, ``start`` or a value that stays; without it the series is a counter.
    """
    fleet, told = cell.fleet, list[str]()
    last = False
    for minute in range(END):
        process = next(
            (p for p in fleet.processes if p.instance == instance and p.seen <= minute < p.until),
            None,
        )
        value: float | None = None
        missed = minute in fleet.failed
        if minute in fleet.silent:
            told.append("_")
            continue
        if process is not None and not missed:
            if gauge is None:
                value = _count(cell, process, minute, flat=flat, always=always)
            else:
                value = {"up": 1, "start": process.since * 60}.get(gauge) or float(gauge)
        elif gauge == "up" and missed and any(p.instance == instance for p in fleet.processes):
            value = 0
        if value is None:
            told.append("stale" if last else "_")
        else:
            told.append(f"{value:g}")
        last = value is not None
    return _shorten(told)


def _count(cell: Cell, process: Process, minute: int, *, flat: bool, always: bool) -> float | None:
    """What a process has counted, or ``None`` where it does not tell the series at all."""
    if cell.birth == "same":
        return 0 if flat else STEP
    begun = OLD if cell.birth == "old" and process.since == LONG_AGO else 0
    grown = process.seen <= cell.moment < process.until and minute >= cell.moment
    if flat:
        return 0
    if cell.birth == "born" and not grown and not always:
        return None
    return begun + (STEP if grown else 0)


def _shorten(samples: list[str]) -> str:
    told: list[str] = []
    index = 0
    while index < len(samples):
        end = index
        while end < len(samples) and samples[end] == samples[index]:
            end += 1
        count = end - index
        token = samples[index]
        if token == "stale":
            told += ["stale"] + ([f"_x{count - 1}"] if count > 1 else [])
        elif token == "_":
            told.append(f"_x{count}")
        else:
            told.append(f"{token}x{count - 1}" if count > 1 else token)
        index = end
    return " ".join(told)


# What is read ------------------------------------------------------------------------------------

_ROWS: Final = {name_metric(row): row for row in (*METRICS, *names.SERVER_METRICS)}
_PART: Final = re.compile("(_bucket|_count|_sum)$")
_COMMON: Final = {
    OP: "resize",
    ADAPTER: "sqlite",
    OUTCOME: "succeeded",
    EVENT_TYPE: "progress",
    ERROR: "E",
}
"""The values of labels that a selector leaves open."""


def counts(name: str) -> bool:
    """Whether a series of this name is a counter."""
    row = _ROWS.get(_PART.sub("", name))
    if row is not None:
        return row.kind in {"counter", "histogram"}
    return name.endswith("_total")


@cache
def list_selectors(expr: str) -> tuple[VectorSelector, ...]:
    """Every selector of an expression."""
    found: list[VectorSelector] = []

    def look(node: Expr) -> bool:
        if isinstance(node, MatrixSelector):
            node = node.vector_selector
        if isinstance(node, VectorSelector):
            found.append(node)
        return True

    walk(parse(expr), look)
    return tuple(found)


def make_labels(selector: VectorSelector) -> dict[str, str]:
    """Labels that the selector chooses, with all that a series of that metric has."""
    row = _ROWS.get(_PART.sub("", selector.name or ""))
    labels = {name_label(key): "" for key in row.attributes} if row is not None else {}
    labels = {label: _COMMON.get(label, "x") for label in labels}
    for matcher in selector.matchers.matchers:
        label, value = matcher.name, matcher.value
        if label in {*settings.INSTANCE_LABELS, "__name__"}:
            continue
        if matcher.op == MatchOp.Equal:
            labels[label] = value
        elif matcher.op == MatchOp.Re and value != ".*":
            labels[label] = value.split("|")[0]
        elif matcher.op in (MatchOp.NotEqual, MatchOp.NotRe) and label not in labels:
            labels[label] = _COMMON.get(label, "x")
    return {label: value for label, value in labels.items() if value}


@cache
def list_series() -> dict[tuple[str, tuple[tuple[str, str], ...]], bool]:
    """Every counter of the pack by name and labels; whether it is a bucket that stays empty."""
    series: dict[tuple[str, tuple[tuple[str, str], ...]], bool] = {}
    expressions = [rule["expr"] for rule in list_rules()]
    expressions += [fill(q) for q in list_questions()]
    for expr in expressions:
        for selector in list_selectors(expr):
            if selector.name and counts(selector.name):
                labels = tuple(sorted(make_labels(selector).items()))
                if selector.name.endswith("_bucket"):
                    for bound, flat in (("1.0", True), ("10000.0", False), ("+Inf", False)):
                        series[selector.name, (*labels, ("le", bound))] = flat
                else:
                    series[selector.name, labels] = False
    return series


_NOT_PANELS: Final = ("variable", "annotation")


def fill(question: Question) -> str:
    """A board's query with five minutes for each window that Grafana chooses."""
    filled = fill_in(question.expr, interval="5m", span="20m")
    return filled.replace("[24h]", "[20m]").replace("24h", "20m").replace("86400", "1200")


@dataclass(frozen=True)
class Grown:
    """An alert, or a query of a panel, that counts growth."""

    key: str
    expr: str
    alert: bool
    wait: int = 0
    ratio: bool = False


def list_grown(rules: list[dict[str, Any]]) -> list[Grown]:
    """All that counts growth, by the helper or by what was recorded with it."""
    recorded: dict[str, str] = {r["record"]: r["expr"] for r in rules if "record" in r}

    def grows(expr: str) -> bool:
        used = {s.name for s in list_selectors(expr)}
        return "resets(" in expr or any(grows(recorded[n]) for n in used if n in recorded)

    grown: list[Grown] = []
    for rule in rules:
        if "alert" in rule and grows(rule["expr"]):
            window = rule["labels"].get("window", "")
            found = re.fullmatch(r"(\d+)([smhd])", rule["for"])
            assert found is not None
            wait = int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
            matchers = [f'alertname="{rule["alert"]}"', *([f'window="{window}"'] if window else [])]
            grown.append(Grown(", ".join(matchers), rule["expr"], True, wait))
    for question in list_questions():
        if question.where.startswith(_NOT_PANELS):
            continue
        expr = fill(question)
        if "resets(" in expr:
            grown.append(Grown(str(question.where), expr, False, ratio=") / (" in expr))
    return grown


# The run -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One question of a run: what it shows of which part of the pack, and the jobs to answer."""

    what: str
    key: str
    expr: str
    minute: int
    jobs: frozenset[str]


def render_rules() -> dict[str, str]:
    """The rule files of the pack, with the hours made minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "BRIDGED_GAP", GAP * settings.MINUTE)
        patch.setattr(settings, "VIOLATION_WINDOW", GAP * settings.MINUTE)
        # What grew at once must be in the window until the wait is over.
        for wait in ("QUEUE_WAIT", "SERVER_ERROR_WAIT", "STORE_SLOW_WAIT"):
            patch.setattr(settings, wait, 2 * settings.MINUTE)
        # An op has more counters of what ended than of retries, and all grow alike.
        patch.setattr(settings, "RETRY_SHARE", 0.01)
        pairs = tuple(replace(p, wait=min(p.wait, 15 * 60)) for p in settings.BURN_RATES)
        patch.setattr(settings, "BURN_RATES", pairs)
        files = render_files()
    return {name: files[f"prometheus/rules/{name}"] for name in ("recording.yml", "alerts.yml")}


def describe_matrix(files: dict[str, str]) -> tuple[dict[str, Any], list[Check]]:
    """The file for promtool, and its questions in the order in which they stand in it."""
    groups = [group for text in files.values() for group in yaml.safe_load(text)["groups"]]
    checks = list(list_checks(list_grown([rule for group in groups for rule in group["rules"]])))
    case = {
        "name": "growth",
        "interval": "1m",
        "input_series": list(list_inputs()),
        "promql_expr_test": [
            {
                "expr": check.expr,
                "eval_time": f"{check.minute}m",
                "exp_samples": [
                    {"labels": f'{{job="{job}"}}', "value": 1} for job in sorted(check.jobs)
                ],
            }
            for check in checks
        ],
    }
    return {
        "rule_files": list(files),
        "evaluation_interval": "1m",
        "group_eval_order": [group["name"] for group in groups],
        "tests": [case],
    }, checks


ALWAYS: Final = tuple(name_metric(row) for row in (names.EVENT_OFFERED, names.SUBMITTED))
"""What is there at 0 as soon as its process, or that process's op, is."""


def list_inputs() -> Iterator[dict[str, str]]:
    """Every series of every cell's fleet."""
    series = list_series()
    for cell in list_cells():
        for instance in sorted({p.instance for p in cell.fleet.processes}):
            whose = {"job": cell.job, "instance": instance}
            if not cell.fleet.pushed:
                yield _write("up", whose, _list_samples(cell, instance, "up"))
                yield _write(START, whose, _list_samples(cell, instance, "start"))
            yield _write(name_metric(names.LIMIT), whose, _list_samples(cell, instance, "100"))
            for (name, labels), flat in series.items():
                always = name in ALWAYS
                samples = _list_samples(cell, instance, None, flat=flat, always=always)
                yield _write(name, {**whose, **dict(labels)}, samples)


def _write(name: str, labels: dict[str, str], samples: str) -> dict[str, str]:
    inside = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{inside}}}", "values": samples}


def list_checks(all_grown: list[Grown]) -> Iterator[Check]:
    """What must be so: nothing false, nothing missed, and each thing told once."""
    cells = list(list_cells())
    quiet = {c.job for c in cells if c.growth == "none"}
    after = {c.job for c in cells if c.growth == "after"}
    before = {c.job for c in cells if c.growth == "before"}
    for grown in all_grown:
        if grown.alert:
            yield from _check_alert(grown, quiet, after, before)
        else:
            yield from _check_panel(grown, quiet, after)


def _check_alert(
    grown: Grown, quiet: set[str], after: set[str], before: set[str]
) -> Iterator[Check]:
    # Of what is pushed nobody can tell how old it is when Prometheus is new.
    watched = END - GAP - 5
    known = f"ALERTS{{{grown.key}"
    yield Check(
        "false",
        grown.key,
        f'group by (job) (count_over_time({known}, job=~".+-none"}}[{watched}m]))',
        END - 1,
        frozenset(),
    )
    if any(f'"{name}"' in grown.key for name in FOR_LACK):
        return
    firing = f'{known}, alertstate="firing", job=~".+-%s"}}'
    told = PAST + 12 + grown.wait // 60
    yield Check(
        "missed",
        grown.key,
        f"group by (job) (count_over_time({firing % 'after'}[{told}m]))",
        told,
        frozenset(after),
    )
    if grown.wait:
        return
    found = re.search(r"resets\([^[]*\[(\w+)\]", grown.expr)
    assert found is not None
    window = int(found[1].removesuffix("m"))
    total = f"count_over_time({firing % '(after|before)'}[{watched}m])"
    for what, outside in (("lasts", f"> {window + 1}"), ("gone", f"< {window - 3}")):
        yield Check(what, grown.key, f"group by (job) ({total} {outside})", END - 1, frozenset())
    yield Check(
        "stays",
        grown.key,
        f"group by (job) (count_over_time({firing % 'before'}[12m]) >= 12)",
        PAST + 8,
        frozenset(before),
    )


def _check_panel(grown: Grown, quiet: set[str], after: set[str]) -> Iterator[Check]:
    expr = re.sub(r"\bsum by \(", "sum by (job, ", grown.expr)
    expr = re.sub(r"\bsum \(", "sum by (job) (", expr)
    expr = expr.replace("topk(10, ", "topk by (job) (10, ").replace('job=~".*"', 'job=~"%s"')
    whole = (1 if grown.ratio else STEP) * _count_largest(grown.expr)
    drawn = f"max by (job) (max_over_time(({expr})[25m:1m]))"

    def ask(jobs: str) -> str:
        return drawn.replace("%s", jobs)

    minute = PAST + 22
    yield Check(
        "false", grown.key, f"group by (job) ({ask('.+-none')} > 0.001)", minute, frozenset()
    )
    least, most = (0.001, whole) if grown.ratio else (0.99 * whole, 2.2 * whole)
    for births in ("old", "born|same"):  # in two parts: promtool reads so many samples at a time
        jobs = f".+-({births})-after"
        yield Check(
            "missed",
            grown.key,
            f"group by (job) ({ask(jobs)} > {least:g} <= {most:g})",
            minute,
            frozenset(job for job in after if re.fullmatch(jobs, job)),
        )


def _count_largest(expr: str) -> int:
    """How many series the largest group of a panel's sum has."""
    found = re.search(r"sum by \(([^)]*)\)", expr)
    by = [label.strip() for label in found[1].split(",")] if found else []
    selector = next(s for s in list_selectors(expr) if s.name and counts(s.name))
    groups: dict[tuple[str, ...], int] = {}
    for name, labels in list_series():
        values = dict(labels)
        if name == selector.name and all(
            _agrees(values.get(m.name, ""), m) for m in selector.matchers.matchers
        ):
            key = tuple(values.get(label, "") for label in by)
            groups[key] = groups.get(key, 0) + 1
    return max(groups.values())


def _agrees(value: str, matcher: Matcher) -> bool:
    if matcher.op == MatchOp.Equal:
        return bool(value == matcher.value)
    if matcher.op == MatchOp.NotEqual:
        return bool(value != matcher.value)
    matched = re.fullmatch(matcher.value, value) is not None
    return matched is bool(matcher.op == MatchOp.Re)
