"""Statuses and tapes for people: in colours on a terminal, plain lines elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from tapescope.cli._output import make_printable, print_line
from tapescope.cli._table import Cell, make_console, measure_terminal
from tapescope.cli._wording import format_local, put_sign
from tapescope.manager.lost_tasks import LOST
from tapescope.model.error_codes import WORKER_LOST
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    ATTEMPT_RELEASED,
    COMMAND_STARTED,
    FINAL,
    LOG,
    PROGRESS,
    TASK_STARTED,
)
from tapescope.model.tasks import TaskStatus
from tapescope.model.times import moment, parse_time
from tapescope.model.wording import describe_caller, format_duration, name_error

if TYPE_CHECKING:
    from tapescope.model.tape import Event

__all__ = [
    "STATUS_STYLES",
    "TapeLines",
    "describe_event",
    "explain_event",
    "show_status",
    "tell_of_command",
]

STATUS_STYLES: Final[Mapping[str, str]] = {
    TaskStatus.SUCCEEDED: "green",
    TaskStatus.FAILED: "red",
    TaskStatus.CANCELLED: "yellow",
    TaskStatus.RUNNING: "cyan",
    TaskStatus.PENDING: "dim",
    LOST: "magenta",
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


def describe_event(event: Event) -> str:
    """What an event says, in one line; JSON where it is a user's own."""
    if event.damage:
        return f"damaged: {make_printable(event.damage)}"
    body = event.body
    if isinstance(body, dict):
        try:
            return _describe_body(event, cast("dict[str, Any]", body))
        except (KeyError, TypeError, ValueError):
            pass  # a body of a user's own under a name of the platform: shown as it is
    return "" if body is None else orjson.dumps(body).decode()


def explain_event(event: Event) -> list[str]:
    """The rest of a failure's message and its traceback, a printable line each."""
    error: Any = _read_field(event.body, "error")
    if event.type not in (ATTEMPT_FAILED, FINAL) or not isinstance(error, dict):
        return []
    parts = cast("dict[str, Any]", error)
    _, _, more = str(parts.get("message", "")).strip().partition("\n")
    trace = str(parts.get("traceback") or "")
    text = trace if more in trace else f"{textwrap.dedent(more)}\n{trace}"
    return [make_printable(line) for line in text.splitlines() if line.strip()]


def tell_of_command(started: Event | None, *, end: Event | None, lost: bool = False) -> list[str]:
    """That a command may have outlived its task, whose wrapper was killed; else nothing.

    ``started`` is the event that has its process id, and ``end`` is what may be the task's end.
    """
    if end is not None and end.type == FINAL:
        error: Any = _read_field(end.body, "error")
        lost = _read_field(error, "code") == WORKER_LOST
    if started is None or not lost:
        return []
    return [f"its command, process {_read_field(started.body, 'pid')}, may still run"]


def _read_field(body: Any, name: str) -> Any:
    """``None`` where a body of somebody's own has no such field."""
    return cast("dict[str, Any]", body).get(name) if isinstance(body, dict) else None


def _describe_body(event: Event, body: Mapping[str, Any]) -> str:
    if event.type == TASK_STARTED:
        return f"attempt {body['attempt']} by {body['owner']}"
    if event.type == LOG and "line" in body:
        return f"{body['stream']}: {body['line']}" + (" …" if body.get("continued") else "")
    if event.type == LOG:
        return f"{body['level']}: {body['message']}"
    if event.type == PROGRESS:
        total = "" if body["total"] is None else f"/{body['total']:g}"
        return f"{body['phase']} {body['current']:g}{total}"
    if event.type == ATTEMPT_RELEASED:
        return str(body["message"])
    if event.type == ATTEMPT_FAILED:
        return _describe_failed_attempt(event, body)
    if event.type == FINAL:
        return _describe_final(body)
    raise KeyError(event.type)


def _describe_failed_attempt(event: Event, body: Mapping[str, Any]) -> str:
    """Which attempt failed, with what, and when the next one is due."""
    told = f"attempt {event.attempt} failed: {_describe_error(body['error'])}"
    if "run_at" not in body:  # the run was lost: another may begin at once
        return f"{told}. The task is due again"
    due = parse_time(body["run_at"])
    wait = format_duration(max(0, due - event.ts_us) / 1e6)
    why = f" ({body['why']})" if body.get("why") else ""
    return f"{told}. Next try in {wait}, at {format_local(due)[11:]}{why}"


def _describe_final(body: Mapping[str, Any]) -> str:
    words = [str(body["outcome"])]
    if (cancel := body.get("cancel")) is not None:
        caller = describe_caller(cancel["by"], cancel.get("role"))
        why = [part for part in (str(cancel["reason"]), caller, str(cancel["message"])) if part]
        words.append(f"({', '.join(why)})")
    if (error := body.get("error")) is not None:
        words[-1] += ":"
        words.append(_describe_error(error))
        if (why := _read_field(error.get("details"), "not_retried")) is not None:
            words.append(f"(not retried: {why})")
    if body.get("result") is not None:
        words.append(orjson.dumps(body["result"]).decode())
    return " ".join(words)


def _describe_error(error: Mapping[str, Any]) -> str:
    first, _, _ = str(error["message"]).strip().partition("\n")
    return f"{name_error(error['code'])}: {first}".rstrip(": ")
