"""``tapescope show``."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import click
import orjson

from tapescope.cli._filters import Wanted
from tapescope.cli._options import json_option, source_options, task_argument
from tapescope.cli._output import make_printable, on_terminal, print_json, print_line
from tapescope.cli._rendering import STATUS_STYLES
from tapescope.cli._source import Place, Source, choose_place
from tapescope.cli._table import make_console
from tapescope.cli._task_ids import find_task_id
from tapescope.cli._wording import now_us, put_sign, waits_for_workers
from tapescope.manager.lost_tasks import LOST, status_of
from tapescope.model.json_shapes import pause_shape, task_shape
from tapescope.model.tape import ATTEMPT_FAILED, COMMAND_STARTED, FINAL, Event
from tapescope.model.tasks import Task, TaskStatus
from tapescope.model.times import LAST_TIME, parse_time
from tapescope.model.wording import (
    describe_caller,
    describe_slot,
    describe_stop,
    format_local,
    format_relative,
    shorten_id,
)
from tapescope.program import run_main
from tapescope.store.event_wording import describe_event, explain_event, tell_of_command

__all__ = ["show"]

_MOST: Final = 200
"""Tasks of a tree that are shown."""
_FOLLOWS: Final = "cancel_with_parent"
_FIRST: Final = 2
"""Events among which a command's start is."""
_TIMES: Final = ("created_at", "run_at", "claimed_at", "finished_at", "lease_expires_at")


@click.command("show")
@task_argument
@click.option(
    "--tree",
    is_flag=True,
    help=f"Show the tasks that its runner submitted, too, and theirs: {_MOST} at most.",
)
@json_option
@source_options
def show(*, task_id: str, tree: bool, as_json: bool, store: str | None, server: str | None) -> None:
    """Show one task, how its tape ends, and why it failed."""
    place = choose_place(store, server)
    shape, end, started, name = run_main(_read(place, task_id, tree=tree))
    if as_json:
        print_json(shape | {"store": name})
    else:
        _print_fields(shape, terminal=on_terminal())
        _print_end(end)
        for line in tell_of_command(started, end=end, lost=shape["lost"] is not None):
            print_line(line)
        if tree:
            _print_tree(shape)


async def _read(
    place: Place, named: str, *, tree: bool
) -> tuple[dict[str, Any], Event | None, Event | None, str]:
    """The row, the last event of its tape, the start of its command, and where it was read.

    With ``tree`` the row has its children. Raises ``UnknownTask``.
    """
    async with place.open() as source:
        task = await source.get(await find_task_id(source, named))
        family = await _read_children(source, task) if tree else {}
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
    shape |= family
    return shape, end, started, source.name


async def _read_children(source: Source, task: Task) -> dict[str, Any]:
    """The tasks below it, each with those below it, the oldest first, generation by generation up
    to so many; and whether there are more."""
    found: list[tuple[Task, list[dict[str, Any]]]] = []
    waiting: deque[tuple[str, list[dict[str, Any]]]] = deque()
    children: list[dict[str, Any]] = []
    waiting.append((task.task_id, children))
    seen, more = {task.task_id}, False
    while waiting and not more:
        parent_id, below = waiting.popleft()
        left = _MOST - len(found)
        page = await Wanted(parent=parent_id).read_page(source, left + 1, None)
        more = len(page.tasks) > left
        for one in page.tasks[:left][::-1]:
            if one.task_id in seen:  # written so past tapescope
                continue
            seen.add(one.task_id)
            theirs: list[dict[str, Any]] = []
            found.append((one, theirs))
            waiting.append((one.task_id, theirs))
            below.append({"task_id": one.task_id, "op": one.op, "children": theirs})
    lost = source.find_lost([one for one, _ in found])
    status = {one.task_id: status_of(one, lost) for one, _ in found}
    stack = [*children]
    while stack:
        shape = stack.pop()
        shape["status"] = status[shape["task_id"]]
        stack += shape["children"]
    return {"children": children, "more_children": more}


def _print_tree(shape: Mapping[str, Any]) -> None:
    """A task a line, below the one whose runner submitted it."""
    print_line("")
    print_line("children" if shape["children"] else "no children")
    stack = [(1, one) for one in shape["children"][::-1]]
    while stack:
        depth, one = stack.pop()
        words = shorten_id(one["task_id"]), put_sign(one["status"]), make_printable(one["op"])
        print_line("  " * depth + "  ".join(words))
        stack += [(depth + 1, below) for below in one["children"][::-1]]
    if shape["more_children"]:
        print_line("More: 'tapescope list --parent TASK' lists the children of one.")


def _print_fields(fields: Mapping[str, Any], *, terminal: bool) -> None:
    """A field a line; those without a value are left out, and the end has lines of its own."""
    fields = {name: value for name, value in fields.items() if name != _FOLLOWS or value}
    width = max(map(len, fields))
    for name, value in fields.items():
        if value in (None, []) or name in ("final", "traces", "children", "more_children"):
            continue
        if name == "parked":
            if value:
                waits = describe_slot(fields["concurrency_key"])
                print_line(f"{'waits'.ljust(width)}  for {waits}, and a worker")
            continue
        if name == "expires_in":
            print_line(f"{name.ljust(width)}  {_describe_expiry(fields)}")
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


def _describe_expiry(fields: Mapping[str, Any]) -> str:
    """How long the task has until an attempt begins, and till when, while none has."""
    span = f"{fields['expires_in']:g} s after it is due"
    if fields["status"] != TaskStatus.PENDING or fields["attempt"]:
        return span
    at = parse_time(fields["run_at"]) + round(fields["expires_in"] * 1_000_000)
    return f"{span}: {format_local(min(at, LAST_TIME))} ({format_relative(at, now_us())})"


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
    if name == "tags":
        return ", ".join(value)
    return value if isinstance(value, str) else orjson.dumps(value).decode()
