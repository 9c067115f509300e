"""Our own lint of the dashboards: what Grafana's schema allows and an SRE would trip over."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from dashboards import settings
from dashboards.colours import MEANINGS, WORDS, paint
from tests.dashboards.pack import BOARDS, fill_in, read_board, read_use

COLUMNS = 24
UNITS = {
    *("short", "percentunit", "s", "none", "bytes"),
    *(f"suffix:{what}/s" for what in ("tasks", "events", "tapes", "calls", "requests")),
}
SIGNED = {"Clock of the store"}
"""Lengths of time that may be below 0, which no logarithm has a place for."""
WINDOWS = {"$__rate_interval", "$__range", "24h"}
STARRED = {
    *("Task duration", "Task duration by op, p95", "Cancel latency by reason, p95", "Duration"),
    "Duration by route",
    *("Drops by reason", "Drops by the tape's outcome"),
    *("Append latency", "Append latency by adapter, p99"),
}
"""The panels that the contract marks for exemplars."""

Board = dict[str, Any]


def find_faults(board: Board) -> Iterator[str]:
    """Everything that is wrong with a dashboard, one sentence each."""
    panels = board["panels"]
    ids = Counter(panel.get("id") for panel in panels)
    yield from (f"id {number} is there {n} times" for number, n in ids.items() if n > 1)
    if None in ids or 0 in ids:
        yield "a panel has no id"
    for panel in panels:
        place = panel["gridPos"]
        if (
            place["x"] + place["w"] > COLUMNS
            or min(place.values()) < 0
            or 0
            in (
                place["w"],
                place["h"],
            )
        ):
            yield f"{panel['title']} is not within the columns"
    for one, other in combinations(panels, 2):
        if overlap(one["gridPos"], other["gridPos"]):
            yield f"{one['title']} and {other['title']} overlap"
    drawn = [panel for panel in panels if panel["type"] != "row"]
    titles = Counter(panel["title"] for panel in drawn)
    yield from (f"two panels are called {title}" for title, n in titles.items() if n > 1)
    for panel in drawn:
        yield from find_panel_faults(panel)
    yield from find_source_faults(board)
    names = [variable["name"] for variable in board["templating"]["list"]]
    for variable in board["templating"]["list"]:
        if variable["name"] in {"job", "instance"} and "allValue" in variable:
            yield f'"All" of {variable["name"]} is every target of the Prometheus'
    if names != ["datasource", *settings.INSTANCE_LABELS, "op", "store"]:
        yield f"the variables are {names}"


def find_panel_faults(panel: Board) -> Iterator[str]:
    """What is wrong with one panel and its queries."""
    title, defaults = panel["title"], panel["fieldConfig"]["defaults"]
    if not panel.get("description", "").endswith("."):
        yield f"{title} has no description"
    if defaults.get("unit") not in UNITS:
        yield f"{title} has no unit that we know"
    refs = Counter(target["refId"] for target in panel["targets"])
    if not refs or max(refs.values()) > 1:
        yield f"{title} has no query, or two of one name"
    for target in panel["targets"]:
        expr = target["expr"]
        if "vector(" in expr:
            yield f"{title} hides an absent series behind vector()"
        if set(re.findall(r"(?<=\[)[^\]]+(?=\](?! offset))", expr)) - WINDOWS:
            yield f"{title} has a window of its own"
        if re.search(r"\brate\([^[]*\[(?!\$__rate_interval\])", expr):
            yield f"{title} has a rate over another time than $__rate_interval"
        if "histogram_quantile" in expr and "_bucket" not in expr:
            yield f"{title} has a quantile of no buckets"
        if target["exemplar"] and title not in STARRED:
            yield f"{title} asks for exemplars that no metric has"
        try:
            read_use(fill_in(expr))
        except ValueError as error:
            yield f"{title} is no PromQL: {error}"
    yield from find_drawing_faults(panel)
    if title in STARRED and not any(target["exemplar"] for target in panel["targets"]):
        yield f"{title} does not ask for exemplars"


def find_drawing_faults(panel: Board) -> Iterator[str]:
    """What is wrong with how a panel of lines is drawn: its axis, its limits, its links."""
    if panel["type"] != "timeseries":
        return
    title, defaults = panel["title"], panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    if (
        defaults["unit"] == "s"
        and title not in SIGNED
        and custom.get("scaleDistribution", {}).get("type") not in {"log", "symlog"}
    ):
        yield f"{title} has lengths of time on a linear axis"
    drawn = custom.get("thresholdsStyle", {}).get("mode") == "dashed"
    if drawn != (len(defaults["thresholds"]["steps"]) > 1):
        yield f"{title} does not draw its limits"
    fixed = {
        each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]
    }
    for target in panel["targets"]:
        legend = target.get("legendFormat", "")
        for name, colour in paint(legend):
            if {"mode": "fixed", "fixedColor": colour} not in [
                each["value"] for each in fixed.get(name, ())
            ]:
                yield f"{title} has {name} in a colour of no meaning"
        links = str(defaults.get("links"))
        if "{{tapescope_task_op}}" in legend and "var-op=${__field.labels." not in links:
            yield f"{title} does not lead to its op"
        if links != "None" and "${job:queryparam}" not in links:
            yield f"{title} has a link that forgets what was chosen"


def find_source_faults(board: Board) -> Iterator[str]:
    """Every panel, query, variable and annotation must ask the source that the reader chooses."""
    asked = [panel for panel in board["panels"] if panel["type"] != "row"]
    asked += [target for panel in asked for target in panel["targets"]]
    asked += [v for v in board["templating"]["list"] if v["type"] == "query"]
    asked += board["annotations"]["list"]
    for one in asked:
        if one.get("datasource", {}).get("uid") != "${datasource}":
            yield f"{one.get('title') or one.get('name') or one.get('expr')} has a fixed source"


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    """Whether two places share a cell."""
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_has_no_fault(name: str) -> None:
    """Columns, overlap, ids, units, descriptions, windows, sources: nothing to say."""
    assert list(find_faults(read_board(name))) == []


def spoil_width(board: Board) -> None:
    board["panels"][1]["gridPos"]["w"] = 25


def spoil_place(board: Board) -> None:
    board["panels"][2]["gridPos"] = dict(board["panels"][1]["gridPos"])


def spoil_id(board: Board) -> None:
    board["panels"][2]["id"] = board["panels"][1]["id"]


def spoil_no_id(board: Board) -> None:
    board["panels"][2]["id"] = None


def spoil_unit(board: Board) -> None:
    del board["panels"][1]["fieldConfig"]["defaults"]["unit"]


def spoil_description(board: Board) -> None:
    board["panels"][1]["description"] = ""


def spoil_source(board: Board) -> None:
    board["panels"][1]["targets"][0]["datasource"]["uid"] = "prometheus"


def spoil_vector(board: Board) -> None:
    board["panels"][1]["targets"][0]["expr"] += " or vector(0)"


def spoil_window(board: Board) -> None:
    board["panels"][1]["targets"][0]["expr"] = "rate(tapescope_task_submitted_total[5m])"


def spoil_quantile(board: Board) -> None:
    board["panels"][1]["targets"][0]["expr"] = "histogram_quantile(0.9, tapescope_tape_length)"


def spoil_query(board: Board) -> None:
    board["panels"][1]["targets"][0]["expr"] = "sum(("


def spoil_exemplar(board: Board) -> None:
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            target["exemplar"] = False


def find_panel(board: Board, title: str) -> Board:
    found: Board = next(panel for panel in board["panels"] if panel["title"] == title)
    return found


def spoil_axis(board: Board) -> None:
    custom = find_panel(board, "Queue wait by op, p95")["fieldConfig"]["defaults"]["custom"]
    custom["scaleDistribution"] = {"type": "linear"}


def spoil_limits(board: Board) -> None:
    custom = find_panel(board, "Queue wait by op, p95")["fieldConfig"]["defaults"]["custom"]
    custom["thresholdsStyle"] = {"mode": "off"}


def spoil_colour(board: Board) -> None:
    find_panel(board, "Finished by outcome")["fieldConfig"]["overrides"].pop()


def spoil_link(board: Board) -> None:
    find_panel(board, "Workers by op")["fieldConfig"]["defaults"]["links"] = []


def spoil_variable(board: Board) -> None:
    board["templating"]["list"].pop()


def spoil_all(board: Board) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    variables["job"]["allValue"] = ".*"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_width, "within the columns"),
        (spoil_place, "overlap"),
        (spoil_id, "2 times"),
        (spoil_no_id, "no id"),
        (spoil_unit, "no unit"),
        (spoil_description, "no description"),
        (spoil_source, "fixed source"),
        (spoil_vector, "vector()"),
        (spoil_window, "another time"),
        (spoil_quantile, "no buckets"),
        (spoil_query, "no PromQL"),
        (spoil_exemplar, "does not ask for exemplars"),
        (spoil_axis, "linear axis"),
        (spoil_limits, "does not draw its limits"),
        (spoil_colour, "colour of no meaning"),
        (spoil_link, "does not lead to its op"),
        (spoil_variable, "the variables are"),
        (spoil_all, "every target"),
    ],
)
def test_the_lint_sees_each_fault(spoil: Callable[[Board], None], said: str) -> None:
    """A dashboard that is spoilt on purpose is told what is wrong with it."""
    board = copy.deepcopy(read_board("overview"))
    spoil(board)

    assert any(said in fault for fault in find_faults(board))


def test_the_boards_link_to_each_other_to_tasks_and_to_traces() -> None:
    """Each board leads to the others, to the task pages, and to the traces of what went wrong."""
    for name in BOARDS:
        links = read_board(name)["links"]

        assert links[0]["type"] == "dashboards"
        assert links[0]["includeVars"]
        assert links[1]["url"] == settings.TASK_PAGES_URL
        to_traces: str = links[2]["url"]
        (panes,) = parse_qs(urlsplit(to_traces).query)["panes"]
        (query,) = json.loads(panes)["a"]["queries"]
        assert (
            query["query"] == '{ name =~ "run .*" && span.tapescope.task.outcome != "succeeded" }'
        )


def test_the_boards_have_uids_of_their_own() -> None:
    """An alert's link to its board leads to one board."""
    uids = [read_board(name)["uid"] for name in BOARDS]

    assert len(set(uids)) == len(BOARDS)


def test_every_word_of_a_closed_set_has_a_colour() -> None:
    """An outcome, a state, a reason: a new word is given its meaning before a board shows it."""
    missing = {word for words in WORDS.values() for word in words} - MEANINGS.keys()

    assert not missing
    assert next(paint("rescue {{tapescope_rescue_result}}")) == ("rescue retried", "orange")
    assert [*paint("{{instance}} {{tapescope_task_state}}")] == []
