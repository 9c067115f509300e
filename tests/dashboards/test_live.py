"""The live run: the real program under load, watched by a real Prometheus and Alertmanager.

``make test-observability`` runs it; ``make test`` does not, for it takes some minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dashboards import settings
from tapescope.drills.catalogue import find_drill
from tapescope_adapters.sqlite import SqliteStore
from tests.dashboards.observed import SCALE, SERVICE, Live, running_stack, wait_for
from tests.dashboards.pack import Question, fill_in, list_questions, list_rules, read_board
from tests.support.services import Collector

pytestmark = [pytest.mark.observability, pytest.mark.timeout(600)]

INTERVAL = "5s"
"""What Grafana would put for its rate interval: some scrapes."""

ZERO_IN_HEALTH = {
    ("tape-integrity", "Unaccounted events"): "0 is the invariant (I7)",
    ("tape-integrity", "Lag of the slowest follower"): "a follower in the loop itself keeps up",
    ("overview", "Waiting by state"): "there are slots for all of the load",
    ("overview", "Oldest waiting by op"): "nothing waits, as above",
    ("overview", "Workers by op"): "the load has callables, which no worker registers",
    ("store", "Waiting for a flush"): "a flush takes less than a scrape sees",
    ("store", "File of a SQLite store"): "no page of a file is free before something is deleted",
    ("op", "Waiting by state"): "there are slots for all of the load",
    ("op", "Oldest waiting, oldest run"): "nothing waits, as above",
    ("op", "Workers"): "the load has callables, which no worker registers",
    ("fleet", "Due and not claimed"): "there are slots for all of the load",
    ("op", "Paused"): "nobody has paused an op",
    ("fleet", "Paused by op"): "as above",
    ("fleet", "Workers by op"): "the load has callables, which no worker registers",
    ("fleet", "Restarts"): "nothing begins anew",
    ("fleet", "Restarts by process"): "nothing begins anew",
    ("process", "Span queue"): "empty most of the time",
    ("process", "Foreign notifications"): "nobody else notifies",
    ("process", "Telemetry that raised"): "what others chose raises nothing here",
    ("process", "Loops that met a defect"): "no loop meets one",
    ("process", "Requests that failed"): "what the load asks is answered",
}
"""Panels that answer, with nothing but zeros, and why."""
ABSENT_IN_HEALTH = {
    ("overview", "timeout of {{tapescope_task_op}}"): "no op is registered, as above",
    ("op", "timeout"): "no op is registered, as above",
    ("process", "lost {{error_type}}"): "no span is lost: a series is born with the first",
    ("process", "not delivered {{error_type}}"): "the collector takes all",
    (
        "store",
        "{{tapescope_connection_state}} {{instance}}",
    ): "a SQLite store shares no connections",
    ("store", "waiting {{instance}} {{tapescope_store_adapter}}"): "as above",
    ("process", "ahead {{instance}}"): "a SQLite store goes by the process's clock",
    ("fleet", "{{tapescope_engine_result}}"): "the load has no engine",
}
"""Queries that answer nothing, by board and legend, and why."""

LACKING = set(settings.AGGREGATION_LABELS) - {"job"}
"""Labels that a Prometheus may lack, as this one does: their variables have nothing to offer."""

WATCHED = (
    "integrity-violation",
    "late-event",
    "zombie-worker",
    "store-outage",
    "duplicate-final",
    "crash-loop",
    "undispatched",
)
"""The drills that are made here; the others need minutes, whatever the time scale."""
SLACK = 10.0
"""Seconds for a machine with two cores that does much else: a scrape that is missed is two."""


@dataclass(frozen=True)
class Firing:
    """How the alert of a drill came to the webhook; times on the monotonic clock."""

    alert: str
    since: float
    took: float
    annotations: dict[str, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the live run keeps everything."""
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def live(folder: Path, collector: Collector) -> Iterator[Live]:
    """The stack, with the load under way."""
    with running_stack(folder, collector, len(WATCHED)) as live:
        yield live


def list_lost() -> set[str]:
    """The expressions that answer nothing in health."""
    return {
        target["expr"]
        for board, legend in ABSENT_IN_HEALTH
        for panel in read_board(board)["panels"]
        for target in panel.get("targets", ())
        if target.get("legendFormat") == legend
    }


@pytest.fixture(scope="module")
def firings(live: Live) -> dict[str, Firing]:
    """Every drill made once, to the moment that the webhook was told of its alert."""
    firings: dict[str, Firing] = {}
    for name in WATCHED:
        (alert,) = find_drill(name).alerts
        with live.drill(name) as (_, since):
            told = wait_for(lambda: live.webhook.find(alert, "firing", since), 60)  # noqa: B023  # called before the next round
            firings[name] = Firing(alert, since, time.monotonic() - since, told["annotations"])
    return firings


@pytest.mark.parametrize("name", WATCHED)
def test_a_drill_raises_its_alert_in_time(firings: dict[str, Firing], name: str) -> None:
    """The alert reaches the webhook within its wait, two scrapes and two evaluations."""
    firing = firings[name]
    allowed = (find_drill(name).wait + 2 * (settings.SCRAPE + settings.EVALUATION)) / SCALE

    assert firing.took <= allowed + SLACK
    assert "error expanding" not in str(firing.annotations)
    assert firing.annotations["runbook_url"].endswith(f"/{firing.alert}.md")
    print(
        f"{name}: {firing.alert} after {firing.took:.1f} s "
        f"(its wait and two intervals: {allowed:.1f} s)"
    )


@pytest.mark.usefixtures("firings")
def test_every_query_answers(live: Live) -> None:
    """Every panel, variable and annotation answers, with more than 0 where the load makes it so."""
    questions = list(list_questions())
    lost = list_lost()

    def answers(question: Question) -> bool:
        expr = fill_in(question.expr, interval=INTERVAL, span="2m").replace("24h", "2m")
        if question.label is not None:
            found = live.ask(f"label/{question.label}/values", **{"match[]": expr})
            return bool(found) or question.label in LACKING
        values = live.measure(expr, 5 if question.instant else 0.5)  # over minutes, and dear
        if (question.board, question.where) in ZERO_IN_HEALTH:
            return bool(values)
        return any(value > 0 for value in values)

    def find_silent() -> list[str]:
        return [str(q) for q in questions if q.expr not in lost and not answers(q)]

    silent = find_silent()
    deadline = time.monotonic() + 60
    while silent and time.monotonic() < deadline:
        silent = find_silent()

    assert not silent, "\n".join(silent)
    print(f"{len(questions)} queries answered, {len(lost)} of them with nothing, as they must")


def test_the_exceptions_are_panels(live: Live) -> None:
    """Each exception is a panel that exists, and is what it is said to be."""
    panels = {(q.board, q.where) for q in list_questions()}

    assert set(ZERO_IN_HEALTH) <= panels
    assert len(list_lost()) == len(ABSENT_IN_HEALTH)
    for expr in list_lost():
        assert live.measure(fill_in(expr, interval=INTERVAL)) == []
    unaccounted = live.measure("tapescope_tape_event_unaccounted")
    assert unaccounted
    assert set(unaccounted) == {0.0}


def test_every_starred_panel_has_exemplars(live: Live) -> None:
    """Each query that asks for exemplars has some, and their traces reached the collector."""
    asked = [q for q in list_questions() if q.exemplar and q.expr not in list_lost()]
    assert asked

    for question in asked:
        expr = fill_in(question.expr, interval=INTERVAL)
        found = wait_for(lambda expr=expr: live.list_traces(expr), 60)
        assert all(len(trace) == 32 for trace in found), question


def test_an_exemplar_leads_to_a_span_and_to_a_task(
    live: Live, collector: Collector, folder: Path
) -> None:
    """A drop's exemplar names a run span of the collector, whose task is in the store."""
    expr = 'tapescope_tape_event_dropped_total{tapescope_task_op="legacy"}'
    traces = wait_for(lambda: live.list_traces(expr), 60)

    def find_span() -> dict[str, str] | None:
        for span in collector.received.spans(SERVICE):
            if span["trace_id"] in traces and span["name"] == "run legacy":
                attributes: dict[str, str] = span["attributes"]
                return attributes
        return None

    attributes = wait_for(find_span, 60)

    async def read() -> tuple[str, set[str | None]]:
        store = SqliteStore(f"sqlite:///{folder / 'tasks.db'}")
        await store.open()
        try:
            task = await store.get(attributes["tapescope.task.id"])
            page = await store.read_quarantine(task.task_id)
            return task.op, {drop.trace_id for drop in page.drops}
        finally:
            await store.aclose()

    op, drops = asyncio.run(read())

    assert op == "legacy"
    assert drops & traces


def test_the_rules_evaluate_without_a_fault(live: Live) -> None:
    """Prometheus ran every rule of the pack, and none of them failed."""
    groups = live.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert len(rules) == len(list(list_rules()))
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.parametrize("name", sorted(WATCHED, key="integrity-violation".__eq__))
def test_an_alert_resolves(live: Live, firings: dict[str, Firing], name: str) -> None:
    """When its window has passed the webhook is told that the alert is over.

    The two hours of a violation are the longest window: that one comes last.
    """
    firing = firings[name]
    within = settings.VIOLATION_WINDOW / SCALE + 60

    assert wait_for(lambda: live.webhook.find(firing.alert, "resolved", firing.since), within)
    print(f"{name}: {firing.alert} is over {time.monotonic() - firing.since:.1f} s after the fault")
