"""``tapescope show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click
import orjson

from tapescope.cli._options import json_option, source_options, task_argument
from tapescope.cli._output import make_printable, on_terminal, print_json, print_line
from tapescope.cli._rendering import STATUS_STYLES
from tapescope.cli._source import Place, choose_place
from tapescope.cli._table import make_console
from tapescope.cli._task_ids import find_task_id
from tapescope.cli._wording import now_us, put_sign, waits_for_workers
from tapescope.manager.lost_tasks import LOST
from tapescope.model.json_shapes import pause_shape, task_shape
from tapescope.model.tape import ATTEMPT_FAILED, COMMAND_STARTED, FINAL, Event
from tapescope.model.times import parse_time
from tapescope.model.wording import (
    describe_caller,
    describe_slot,
    describe_stop,
    format_local,
    format_relative,
)
from tapescope.program import run_main
from tapescope.store.event_wording import describe_event, explain_event, tell_of_command

__all__ = ["show"]

_FIRST: Final = 2
"""Events among which a command's start is."""
_TIMES: Final = ("created_at", "run_at", "claimed_at", "finished_at", "lease_expires_at")


@click.command("show")
@task_argument
@json_option
@source_options
def show(*, task_id: str, as_json: bool, store: str | None, server: str | None) -> None:
    """Show one task, how its tape ends, and why it failed."""
    place = choose_place(store, server)
    shape, end, started, name = run_main(_read(place, task_id))
    if as_json:
        print_json(shape | {"store": name})
    else:
        _print_fields(shape, terminal=on_terminal())
        _print_end(end)
        for line in tell_of_command(started, end=end, lost=shape["lost"] is not None):
            print_line(line)


async def _read(place: Place, named: str) -> tuple[dict[str, Any], Event | None, Event | None, str]:
    """The row, the last event of its tape, the start of its command, and where it was read.

    Raises ``UnknownTask``.
    """
    async with place.open() as source:
        task = await source.get(await find_task_id(source, named))
        page = await source.read_tape(task.task_id, limit=_FIRST)
        traced = await source.read_traced(task.task_id)
        waits = waits_for_workers(task)
        pause = (await source.read_pauses()).get(task.op) if waits else None
        end = None
        if page.last_seq:
            last = page.final_seq or page.last_seq
            (end,) = (await source.read_tape(task.task_id, after_seq=last - 1, limit=1)).events
    shape = task_shape(task) | {
        "lost": source.find_lost([task]).get(task.task_id),
        "paused": None if pause is None else pause_shape(pause),
        "last_seq": page.last_seq,
        "final_seq": page.final_seq,
        "dropped": page.dropped,
        "final": end.body if end is not None and end.type == FINAL else None,
        "traces": [
            {"attempt": one.attempt, "trace_id": one.trace_id, "span_id": one.span_id}
            for one in traced
        ],
    }
    started = next((event for event in page.events if event.type == COMMAND_STARTED), None)
    return shape, end, started, source.name


def _print_fields(fields: Mapping[str, Any], *, terminal: bool) -> None:
    """A field a line; those without a value are left out, and the end has lines of its own."""
    width = max(map(len, fields))
    for name, value in fields.items():
        if value is None or name in ("final", "traces"):
            continue
        if name == "parked":
            if value:
                waits = describe_slot(fields["concurrency_key"])
                print_line(f"{'waits'.ljust(width)}  for {waits}, and a worker")
            continue
        line = f"{name.ljust(width)}  {make_printable(_describe(name, value))}"
        if terminal and name == "status":
            status = LOST if fields["lost"] else value
            line = f"{name.ljust(width)}  {put_sign(status)}"
            make_console().print(line, style=STATUS_STYLES[status], soft_wrap=True)
        else:
            print_line(line)
    for one in fields["traces"]:
        name = f"trace of {one['attempt']}"
        print_line(f"{name.ljust(width)}  {one['trace_id']}-{one['span_id']}")
    canceller = fields["cancel"] and fields["cancel"]["traceparent"]
    if canceller:
        ids = "-".join(canceller.split("-")[1:3])
        print_line(f"{'trace of cancel'.ljust(width)}  {make_printable(ids)}")


def _print_end(end: Event | None) -> None:
    """What the ``final`` says, or why the last attempt failed, with its traceback."""
    if end is None or end.type not in (FINAL, ATTEMPT_FAILED):
        return
    print_line("")
    print_line(make_printable(describe_event(end)))
    for line in explain_event(end):
        print_line(f"  {line}")


def _describe(name: str, value: Any) -> str:
    if name in _TIMES:
        at = parse_time(value)
        return f"{format_local(at)} ({format_relative(at, now_us())})"
    if name == "paused":
        since = f"since {format_local(parse_time(value['at']))}"
        ended_by = f" ('tapescope resume {value['op']}' ends that)"
        return since + describe_stop(value["by"], value["reason"]) + ended_by
    if name == "cancel":
        words = [
            f"{value['reason']}, requested at {format_local(parse_time(value['requested_at']))}"
        ]
        caller = describe_caller(value["by"], value["role"])
        words += [caller] if caller else []
        words += [repr(value["message"])] if value["message"] else []
        return ", ".join(words)
    return value if isinstance(value, str) else orjson.dumps(value).decode()
