"""Statuses and tapes for people: in colours on a terminal, plain lines elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tapescope.cli._output import make_printable, print_line
from tapescope.cli._table import Cell, make_console, measure_terminal
from tapescope.cli._wording import put_sign
from tapescope.manager.lost_tasks import LOST
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    COMMAND_STARTED,
    FINAL,
    LOG,
    TASK_STARTED,
)
from tapescope.model.tasks import TaskStatus
from tapescope.model.times import moment
from tapescope.model.wording import format_local
from tapescope.store.event_wording import describe_event, explain_event, tell_of_command

if TYPE_CHECKING:
    from tapescope.model.tape import Event

__all__ = [
    "STATUS_STYLES",
    "TapeLines",
    "show_status",
]

STATUS_STYLES: Final[Mapping[str, str]] = {
    TaskStatus.SUCCEEDED: "green",
    TaskStatus.FAILED: "red",
    TaskStatus.CANCELLED: "yellow",
    TaskStatus.RUNNING: "cyan",
    TaskStatus.PENDING: "dim",
    LOST: "magenta",
    "parked": "dim",
}
_TYPE_STYLES: Final = {TASK_STARTED: "cyan", FINAL: "bold", ATTEMPT_FAILED: "red", LOG: "dim"}
_INDENT: Final = "        "


def show_status(status: str) -> Cell:
    """A status with its sign and colour, for a table on a terminal."""
    return Cell(put_sign(status), STATUS_STYLES[status])


class TapeLines:
    """Prints events, a line each: seq, time, seconds since the one before, type, what it says.

    Times are local. On a terminal the day stands over the first event of it; elsewhere each line
    has its whole time. The traceback of a failure follows its line, indented.
    """

    def __init__(self, *, terminal: bool) -> None:
        self._console = make_console() if terminal else None
        self._before: int | None = None
        self._command: Event | None = None
        self._day = ""

    def print_event(self, event: Event) -> None:
        """One event."""
        since = 0.0 if self._before is None else (event.ts_us - self._before) / 1e6
        self._before = event.ts_us
        told = make_printable(describe_event(event))
        if event.type == COMMAND_STARTED:
            self._command = event
        more = [*explain_event(event), *tell_of_command(self._command, end=event)]
        trace = [_INDENT + line for line in more]
        if self._console is None:
            head = f"{event.seq:>5}  {format_local(event.ts_us)}  {since:>+10.3f}"
            for line in (f"{head}  {event.type:<16}  {told}".rstrip(), *trace):
                print_line(line)
            return
        self._print_day(event.ts_us)
        time = format_local(event.ts_us)[11:23]
        line = f"{event.seq:>4}  {time}  {since:>+8.3f}  {event.type:<8}  {told}".rstrip()
        style = _TYPE_STYLES.get(event.type, "")
        if event.type == FINAL:
            style = f"bold {STATUS_STYLES.get(event.body['outcome'], '')}"
        for part in [line] if event.type == LOG else _wrap(line):
            self._console.print(part, style=style, soft_wrap=True)
        for line in trace:
            self._console.print(line, style="dim", soft_wrap=True)

    def print_note(self, text: str) -> None:
        """A closing remark; only for a person, since a program counts lines."""
        if self._console is not None:
            self._console.print(text, style="dim", soft_wrap=True)

    def _print_day(self, ts_us: int) -> None:
        local = moment(ts_us).astimezone()
        day = f"{local:%Y-%m-%d}, times at UTC{local.isoformat()[-6:]}"
        if day != self._day:
            self._day = day
            self.print_note(day)


def _wrap(line: str) -> list[str]:
    """The line of an event, broken between words and indented from its second line on."""
    return textwrap.wrap(
        line,
        measure_terminal(),
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
