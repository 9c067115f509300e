"""The boards as they are drawn under load: what a reader can see, and what is wrong with it.

``make test-observability`` runs it; it needs Chromium, and npm for Grafana's own components.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboards.drawing import Browser, RendererUnbuilt, Source, build_renderer
from tests.dashboards.drawn import Board, find_faults
from tests.dashboards.observed import Live, running_stack, wait_for
from tests.dashboards.pack import BOARDS, read_board
from tests.support.services import Collector, require

pytestmark = [pytest.mark.observability, pytest.mark.timeout(900)]

CHOSEN = {"op": {"op": "import|legacy"}}
"""The board of an op repeats for each: two that fail, are made again, and are late."""
WITHIN = 330
"""Seconds for a board to be without a fault: what is left of a budget is told each five minutes."""
SCALE = 6
"""Waits are divided by this: drawing does not hold up a scrape each 2.5 seconds, beside it."""
EMPTY = {
    "fleet": {
        "Tasks that engines brought, by result": "the load has no engine",
        "Tasks that engines were asked about, by result": "as above",
        "Tasks that have not reached their engine": "as above",
    },
    "store": {
        "Errors by type": "no call ends in an error",
        "Connections": "a SQLite store shares none",
    },
    "process": {
        "Spans lost by error": "the collector takes all",
        "Clock of the store": "a SQLite store goes by the process's clock",
    },
}
"""Panels that the load gives nothing to, and why."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Live]:
    """The program under load, watched for so long that its failures have raised an alert."""
    fires = 'ALERTS{alertname="TapescopeTaskFailureBudgetBurn", alertstate="firing"}'
    with running_stack(tmp_path_factory.mktemp("drawn"), collector, 0, scale=SCALE) as live:
        wait_for(lambda: live.ask("query", query=fires)["result"], 300)
        yield live


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium with the page; without it, or without npm, a skip at home and a failure in CI."""
    chromium = require("chromium")
    try:
        build_renderer()
    except RendererUnbuilt as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error}, and CI must have it")
        pytest.skip(str(error))
    with Browser.running(chromium) as browser:
        yield browser


def see(live: Live) -> Source:
    """The minutes up to the last scrape that was answered: the next may have been missed."""
    now = time.time()
    asked = {"query": 'up{job="tapescope"} == 1', "start": str(now - 300), "end": str(now)}
    (series,) = live.ask("query_range", **asked, step="1")["result"]
    return Source(live.prometheus, series["values"][-1][0], span=300, step=2, interval="12s")


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_drawn_without_a_fault(name: str, browser: Browser, live: Live) -> None:
    """Data or a reason, legends that are whole, colours by meaning, units, and no overlap."""
    board = read_board(name)

    def find() -> list[str]:
        drawn = browser.draw(board, see(live), chosen=CHOSEN.get(name), picture=False)
        return list(find_faults(board, drawn, EMPTY.get(name, ())))

    faults = find()
    deadline = time.monotonic() + WITHIN
    while faults and time.monotonic() < deadline:  # what the load makes may be yet to come
        faults = find()

    assert not faults, "\n".join(faults)


def spoil_query(panel: Board) -> None:
    for target in panel["targets"]:
        target["expr"] = "sum(tapescope_task_sumbitted_total)"
    panel["fieldConfig"]["defaults"].pop("noValue", None)


def spoil_reason(panel: Board) -> None:
    panel["targets"][0]["expr"] = "sum(tapescope_task_sumbitted_total)"
    panel["fieldConfig"]["defaults"]["noValue"] = "Nothing happened."


def spoil_expression(panel: Board) -> None:
    panel["targets"][0]["expr"] = "sum(("


def spoil_height(panel: Board) -> None:
    panel["gridPos"]["h"] = 3


def spoil_room(panel: Board) -> None:
    panel["gridPos"]["h"] = 2


def spoil_colours(panel: Board) -> None:
    panel["fieldConfig"]["overrides"] = []


def spoil_unit(panel: Board) -> None:
    panel["fieldConfig"]["defaults"]["unit"] = "ops"


def spoil_name(panel: Board) -> None:
    for target in panel["targets"]:
        target["expr"] = f"sum({target['expr']})"


def spoil_place(panel: Board) -> None:
    panel["gridPos"] |= {"x": 0, "w": 24}


SPOILT: dict[str, tuple[Callable[[Board], None], str]] = {
    "Submitted against finished": (spoil_query, "does not say why"),
    "Failures by error type": (spoil_reason, "has no data: Nothing happened."),
    "Retries by error": (spoil_expression, "failed: Error: "),
    "Task duration by op, p95": (spoil_height, "clipped in its legend"),
    "Active by state, against the limit": (spoil_colours, "cancelling in rgb"),
    "Finished by outcome": (spoil_unit, "in another unit"),
    "Oldest run by op": (spoil_place, "overlap"),
    "Oldest active task by op": (spoil_name, "has a series without a name"),
    "Firing alerts": (spoil_room, "does not fit"),
}
"""A panel of the overview each, how it is spoilt, and what is then said."""


@pytest.fixture(scope="module")
def spoilt(browser: Browser, live: Live) -> list[str]:
    """What the lint says of a board whose panels are each spoilt in another way."""
    board = copy.deepcopy(read_board("overview"))
    board["panels"] = [panel for panel in board["panels"] if panel["title"] in SPOILT]
    for number, panel in enumerate(board["panels"]):
        panel["gridPos"] |= {"x": 12 * (number % 2), "y": 10 * (number // 2), "w": 12}
        SPOILT[panel["title"]][0](panel)
    drawn = browser.draw(board, see(live), picture=False)
    whole = read_board("overview")
    kept = [panel for panel in whole["panels"] if panel["title"] in SPOILT]
    return list(find_faults({**whole, "panels": kept}, drawn))


@pytest.mark.parametrize("title", SPOILT)
def test_the_lint_sees_what_is_wrong_with_the_page(spoilt: list[str], title: str) -> None:
    """Each fault that the lint is for is told of the panel that has it."""
    said = SPOILT[title][1]

    assert any(title in fault and said in fault for fault in spoilt), spoilt


def test_a_picture_is_a_png_of_moderate_size(browser: Browser, live: Live, tmp_path: Path) -> None:
    """What is committed to the docs can be read, and is no burden to a clone."""
    drawn = browser.draw(read_board("fleet"), see(live), "light")
    (tmp_path / "fleet.png").write_bytes(drawn.picture)

    assert drawn.picture.startswith(b"\x89PNG")
    assert len(drawn.picture) < 150 * 1024
