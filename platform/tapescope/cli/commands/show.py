"""``tapescope show``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from tapescope.cli._options import JsonOption, StoreOption, TaskArgument
from tapescope.cli._output import make_printable, on_terminal, print_json, print_line
from tapescope.cli._rendering import STATUS_STYLES, make_console
from tapescope.cli._store import choose_store, find_task_id, open_store
from tapescope.model.json_shapes import task_shape

__all__ = ["show"]


def show(task_id: TaskArgument, as_json: JsonOption = False, store: StoreOption = None) -> None:
    """Show one task: its fields, and how its tape ends."""
    shape, name = asyncio.run(_read(choose_store(store), task_id))
    if as_json:
        print_json(shape | {"store": name})
    else:
        _print_fields(shape, terminal=on_terminal())


async def _read(url: str, named: str) -> tuple[dict[str, Any], str]:
    """The task's row and how its tape ends, and the name of the store. Raises ``UnknownTask``."""
    async with open_store(url) as store:
        task = await store.get(await find_task_id(store, named))
        page = await store.read_tape(task.task_id, limit=1)
        final = None
        if page.final_seq is not None:
            end = await store.read_tape(task.task_id, after_seq=page.final_seq - 1, limit=1)
            final = end.events[0].body
    shape = task_shape(task) | {
        "last_seq": page.last_seq,
        "final_seq": page.final_seq,
        "dropped": page.dropped,
        "final": final,
    }
    return shape, store.name


def _print_fields(fields: Mapping[str, Any], *, terminal: bool) -> None:
    """A field a line; those without a value are left out."""
    width = max(map(len, fields))
    for name, value in fields.items():
        if value is None:
            continue
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        line = f"{name.ljust(width)}  {make_printable(text)}"
        if terminal and name == "status":
            make_console().print(line, style=STATUS_STYLES.get(text, ""), soft_wrap=True)
        else:
            print_line(line)
