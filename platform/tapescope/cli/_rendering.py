"""Tables and tapes for people: drawn in colours on a terminal, plain lines elsewhere.

Plain lines have columns of their full width and no colour codes: ids can be cut out of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from tapescope.cli._output import make_printable, print_line
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    ATTEMPT_RELEASED,
    FINAL,
    LOG,
    PROGRESS,
    TASK_STARTED,
)
from tapescope.model.tasks import TaskStatus
from tapescope.model.times import format_time

if TYPE_CHECKING:
    from rich.console import Console

    from tapescope.model.tape import Event

__all__ = [
    "STATUS_STYLES",
    "TapeLines",
    "make_console",
    "print_table",
]

_WRAPPING: Final = "body"
"""The one column whose text may wrap."""
_WRAPPING_WIDTH: Final = 24
_GAP: Final = 3
STATUS_STYLES: Final[Mapping[str, str]] = {
    TaskStatus.SUCCEEDED: "green",
    TaskStatus.FAILED: "red",
    TaskStatus.CANCELLED: "yellow",
    TaskStatus.RUNNING: "cyan",
    TaskStatus.PENDING: "dim",
}
_TYPE_STYLES: Final = {TASK_STARTED: "cyan", FINAL: "bold", ATTEMPT_FAILED: "red", LOG: "dim"}


def make_console() -> Console:
    """The terminal, for what rich draws there."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, terminal: bool, styled: int = -1
) -> None:
    """A table; on a terminal it is drawn, with the statuses in the column ``styled`` coloured."""
    cells = [[make_printable(cell) for cell in row] for row in rows]
    if not terminal:
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for row in (columns, *cells):
            print_line("  ".join(map(str.ljust, row, widths)).rstrip())
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    console = make_console()
    fixed = 0
    for name, *column in zip(columns, *cells, strict=True):
        wraps = name == _WRAPPING
        width = max(len(name), *map(len, column), 0)
        fixed += (min(width, _WRAPPING_WIDTH) if wraps else width) + _GAP
        table.add_column(name, no_wrap=not wraps, overflow="fold")
    # An id that is cut short is of no use: a table that is wider than the terminal is.
    console.width = max(console.width, fixed)
    for row in cells:
        table.add_row(
            *(
                Text(cell, style=STATUS_STYLES.get(cell, "") if place == styled else "")
                for place, cell in enumerate(row)
            )
        )
    console.print(table, crop=False)


class TapeLines:
    """Prints events, a line each: seq, time, seconds since the one before, type, what it says."""

    def __init__(self, *, terminal: bool) -> None:
        self._console = make_console() if terminal else None
        self._before: int | None = None

    def print_event(self, event: Event) -> None:
        """One event."""
        since = 0.0 if self._before is None else (event.ts_us - self._before) / 1e6
        self._before = event.ts_us
        line = (
            f"{event.seq:>5}  {format_time(event.ts_us)}  {since:>+10.3f}  {event.type:<16}  "
            f"{make_printable(_describe_event(event))}"
        ).rstrip()
        if self._console is None:
            print_line(line)
            return
        style = _TYPE_STYLES.get(event.type, "")
        if event.type == FINAL:
            style = f"bold {STATUS_STYLES.get(event.body['outcome'], '')}"
        self._console.print(line, style=style, soft_wrap=True)

    def print_note(self, text: str) -> None:
        """A closing remark; only for a person, since a program counts lines."""
        if self._console is not None:
            self._console.print(text, style="dim", soft_wrap=True)


def _describe_event(event: Event) -> str:
    """What an event says, in one line; JSON where it is a user's own."""
    body = event.body
    if isinstance(body, dict):
        try:
            return _describe_body(event.type, cast("dict[str, Any]", body))
        except (KeyError, TypeError):
            pass  # a body of a user's own under a name of the platform: shown as it is
    return "" if body is None else orjson.dumps(body).decode()


def _describe_body(type: str, body: Mapping[str, Any]) -> str:
    if type == TASK_STARTED:
        return f"attempt {body['attempt']} by {body['owner']}"
    if type == LOG and "line" in body:
        return f"{body['stream']}: {body['line']}" + (" …" if body.get("continued") else "")
    if type == LOG:
        return f"{body['level']}: {body['message']}"
    if type == PROGRESS:
        total = "" if body["total"] is None else f"/{body['total']:g}"
        return f"{body['phase']} {body['current']:g}{total}"
    if type == ATTEMPT_RELEASED:
        return str(body["message"])
    if type == FINAL:
        return _describe_final(body)
    raise KeyError(type)


def _describe_final(body: Mapping[str, Any]) -> str:
    words = [body["outcome"]]
    if (cancel := body.get("cancel")) is not None:
        words.append(f"({cancel['reason']}{', ' if cancel['message'] else ''}{cancel['message']})")
    if (error := body.get("error")) is not None:
        words.append(f"{error['code']}: {error['message']}")
    if body.get("result") is not None:
        words.append(orjson.dumps(body["result"]).decode())
    return " ".join(words)
