"""A lint of boards that were drawn: what stands on the page, from its DOM and never from pixels."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from itertools import combinations
from typing import Any, Final

from dashboards.colours import paint
from dashboards.drawing import Drawn

__all__ = ["find_faults"]

Board = dict[str, Any]

_UNNAMED: Final = re.compile(r"(Value( \d+)?)?")
"""How a series is called that has no label, where its legend asks for one."""


def find_faults(board: Board, drawn: Drawn, empty: Collection[str] = ()) -> Iterator[str]:
    """Everything that is wrong with a board as it was drawn, one sentence each.

    ``empty`` are the panels that the load gives nothing to; those must say why.
    """
    asked = {panel["title"]: panel for panel in board["panels"] if panel["type"] != "row"}
    copies: dict[str, list[Board]] = defaultdict(list)
    for panel in drawn.panels:
        copies[panel["title"]].append(panel)
    for title in asked:
        shown = copies[title]
        if not shown:
            yield f"{title} is not drawn"
        elif title not in empty and all(panel["empty"] for panel in shown):
            yield f"{title} has no data: {shown[0]['empty']}"
    for panel in drawn.panels:
        yield from _find_panel_faults(asked[panel["title"]], panel, drawn.colours)
    for one, other in combinations(drawn.panels, 2):
        if _overlap(one["box"], other["box"]):
            yield f"{one['title']} and {other['title']} overlap"


def _find_panel_faults(asked: Board, panel: Board, colours: dict[str, str]) -> Iterator[str]:
    title = panel["title"]
    if panel["error"]:
        yield f"{title} failed: {panel['error']}"
    if panel["empty"] and not panel["reason"]:
        yield f"{title} does not say why it is empty"
    if panel["cut"]:
        yield f"{title} has a table that does not fit"
    wanted = {
        name: colours[colour]
        for target in asked.get("targets", ())
        for name, colour in paint(target.get("legendFormat", ""))
    }
    unit = asked["fieldConfig"]["defaults"]["unit"].partition("suffix:")[2]
    for series in panel["series"]:
        name = series["name"]
        if _UNNAMED.fullmatch(name):
            yield f"{title} has a series without a name"
        if not series["shown"]:
            yield f"{title} has {name} clipped in its legend"
        if name in wanted and not series["dashed"] and series["colour"] != wanted[name]:
            yield f"{title} has {name} in {series['colour']}, not {wanted[name]}"
        if unit and not all(value.endswith(unit) for value in series["values"]):
            yield f"{title} has {name} in another unit than {unit}"


def _overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return (
        one["left"] < other["left"] + other["width"]
        and other["left"] < one["left"] + one["width"]
        and one["top"] < other["top"] + other["height"]
        and other["top"] < one["top"] + one["height"]
    )
