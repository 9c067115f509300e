"""The contract over the wire: a real program, real OTLP, a real collector, name by name.

``make test-observability`` runs it; ``make test`` does not, for it takes about a minute.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tapescope.testing import until
from tapescope_telemetry import SCHEMA_URL, SPANS, __version__
from tapescope_telemetry.names import CANCEL, RESCUE, RUN, SUBMIT, SpanRow
from tests.support.services import Collector, Postgres
from tests.telemetry.test_names import CONTRACT

pytestmark = pytest.mark.observability

DRIVER = Path(__file__).with_name("cancel_rows.py")
SCOPE = ("tapescope", __version__, SCHEMA_URL)

Told = tuple[str, str, str | None, str | None]
"""A run span's status, outcome, ``error.type`` and cancel reason."""

# The cancel table of the design, by the op of the row's task. No span but the submit's: ().
CANCEL_TABLE: Mapping[str, tuple[Told, ...]] = {
    "returns": (("UNSET", "succeeded", None, None),),
    "raises": (("ERROR", "failed", "ValueError", None),),
    "retries": (
        ("ERROR", "retried", "ValueError", None),
        ("ERROR", "failed", "ValueError", None),
    ),
    "exits": (("ERROR", "failed", "SystemExit", None),),
    "before": (),
    "between": (("ERROR", "retried", "ValueError", None),),
    "cancelled": (("UNSET", "cancelled", None, "user"),),
    "cleanup_raises": (("UNSET", "cancelled", None, "user"),),
    "returns_late": (("UNSET", "succeeded", None, "user"),),
    "swallows": (("UNSET", "cancelled", None, "user"),),
    "thread_goes_on": (("UNSET", "cancelled", None, "user"),),
    "unrequested": (("ERROR", "failed", "unrequested_cancel", None),),
    "times_out": (("ERROR", "failed", "timeout", None),),
    "scheduled": (("UNSET", "succeeded", None, None),),
    "parent": (("UNSET", "succeeded", None, None),),
    "child": (("UNSET", "succeeded", None, None),),
    "lease_lost": (("ERROR", "lost", "lease_lost", "superseded"),),
    "shutdown": (("UNSET", "cancelled", None, "shutdown"),),
    "brought": (("UNSET", "succeeded", None, None),),
    "store_gone": (("ERROR", "lost", "tapescope.errors.StoreUnavailable", None),),
}


@pytest.fixture(scope="module", params=["grpc", "http/protobuf"])
def told(
    request: pytest.FixtureRequest,
    collector: Collector,
    postgres_server: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The spans and the metric points of the driver, as the collector handed them on."""
    service = f"contract-{request.param}"
    store = tmp_path_factory.mktemp("contract") / "tasks.db"
    done = subprocess.run(
        [sys.executable, str(DRIVER), f"sqlite:///{store}", postgres_server.url()],
        env=os.environ | collector.variables(request.param, service),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "nothing"), done.stderr
    asyncio.run(until(lambda: collector.received.metrics(service)))
    return collector.received.spans(service), collector.received.metrics(service)


def test_every_row_of_the_cancel_table_has_its_span(
    told: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """Each way a task can end shows on its run span with the table's status, outcome, reason."""
    spans, _ = told
    runs: dict[str, list[Told]] = {op: [] for op in CANCEL_TABLE}
    for span in spans:
        if span["name"].startswith("run "):
            attributes = span["attributes"]
            runs[attributes["tapescope.task.op"]].append(
                (
                    span["status"],
                    attributes["tapescope.task.outcome"],
                    attributes.get("error.type"),
                    attributes.get("tapescope.cancel.reason"),
                )
            )

    assert {op: tuple(ends) for op, ends in runs.items()} == CANCEL_TABLE


def test_a_cancel_is_neither_an_error_nor_a_success(
    told: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """A cancelled run has no exception and no ``error.type``, and always a reason and the mark."""
    cancelled = [s for s in told[0] if s["attributes"].get("tapescope.task.outcome") == "cancelled"]
    names = [span["name"] for span in cancelled]

    assert sum(name.startswith("run ") for name in names) == 5
    assert [name for name in names if name[:4] != "run "] == ["cancel before", "cancel between"]
    for span in cancelled:
        assert (span["status"], span["message"], span["events"]) == ("UNSET", "", [])
        assert span["attributes"]["tapescope.cancel.requested"] is True
        assert "error.type" not in span["attributes"]


def test_spans_are_the_contracts(
    told: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """Names, kinds, parents, links and attributes are the table's: nothing missing, none extra."""
    spans, _ = told
    submits = {(span["trace_id"], span["span_id"]) for span in spans if span["name"][:3] == "sub"}
    runs = {(span["trace_id"], span["span_id"]) for span in spans if span["name"][:3] == "run"}
    seen: dict[str, set[str]] = {row.name: set() for row in SPANS}
    for span in spans:
        attributes, op = span["attributes"], span["attributes"]["tapescope.task.op"]
        (row,) = [row for row in SPANS if row.of(op) == span["name"]]
        seen[row.name] |= set(attributes)
        assert span["kind"] == row.kind
        assert (span["parent"] != "") == (row is SUBMIT and op == "child")  # in a run
        assert span["scope"] == SCOPE
        assert set(row.attributes) <= set(attributes) <= {*row.attributes, *row.optional}
        if row is RUN:
            submit, *before = span["links"]  # a retry is linked to the run before, too
            assert submit in submits
            assert set(before) <= runs
            assert len(before) == (attributes["tapescope.task.attempt"] > 1)
        assert (span["status"] == "ERROR") == ("error.type" in attributes)

    def without(row: SpanRow, *rare: str) -> set[str]:
        return {*row.attributes, *row.optional} - set(rare)

    # No submit and no cancel fails here, and no task is rescued that was to be cancelled.
    assert seen[RUN.name] == without(RUN)
    assert seen[SUBMIT.name] == without(SUBMIT, "error.type")
    assert seen[CANCEL.name] == without(CANCEL, "error.type")
    assert seen[RESCUE.name] == without(
        RESCUE, "tapescope.cancel.reason", "tapescope.cancel.requested"
    )


def test_a_rescue_points_to_the_task_it_ends(
    told: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """The rescuer's span is an ERROR of ``worker_lost``, for a process that said nothing itself."""
    (rescue,) = [s for s in told[0] if s["name"] == "rescue worker_lost"]

    assert rescue["status"] == "ERROR"
    assert rescue["attributes"]["error.type"] == "worker_lost"
    assert rescue["attributes"]["tapescope.task.outcome"] == "failed"


def test_metrics_are_the_contracts(
    told: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """Names, kinds, units and attributes are the table's: nothing missing, nothing extra."""
    _, points = told
    shapes: dict[str, tuple[str, str]] = {}
    labels: dict[str, set[str]] = {}
    for point in points:
        name, keys = point["name"], set(point["attributes"])
        kind, unit, required, optional = CONTRACT[name]
        assert (point["kind"], point["unit"]) == (kind, unit), name
        assert point["scope"] == SCOPE
        assert required <= keys <= required | optional, name
        shapes[name] = (point["kind"], point["unit"])
        labels[name] = labels.get(name, set()) | keys

    assert shapes.keys() == CONTRACT.keys()
    for name, (_, _, required, optional) in CONTRACT.items():
        assert labels[name] == required | optional, name


def test_the_numbers_are_the_tables(
    told: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """What ended is counted by outcome as the spans say, and no event is unaccounted for."""
    _, told_points = told
    # The driver sends its metrics a few times, each a sum from the start: the last one counts.
    last = {(p["name"], tuple(sorted(p["attributes"].items()))): p for p in told_points}
    points = last.values()
    ended: dict[str, float] = {}
    for point in points:
        if point["name"] == "tapescope.task.duration":
            outcome = point["attributes"]["tapescope.task.outcome"]
            ended[outcome] = ended.get(outcome, 0) + point["value"]
    unaccounted = {p["value"] for p in points if p["name"].endswith("unaccounted")}
    dropped = sum(p["value"] for p in points if p["name"] == "tapescope.tape.event.dropped")

    assert ended["cancelled"] == 7
    assert ended["succeeded"] == 6
    assert unaccounted == {0}
    assert dropped >= 2


def test_exemplars_point_to_spans_that_arrived(
    told: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """Every exemplar's trace is among the collector's spans, and durations have some."""
    spans, points = told
    traces = {span["trace_id"] for span in spans}
    exemplars = {trace for point in points for trace in point["exemplars"]}
    durations = [p for p in points if p["name"] == "tapescope.task.duration"]

    assert exemplars <= traces
    assert any(point["exemplars"] for point in durations)
