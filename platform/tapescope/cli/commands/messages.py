"""``tapescope messages``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import click
import orjson

from tapescope.cli._options import json_option, source_options, task_argument, wide_option
from tapescope.cli._output import on_terminal, print_json, print_line
from tapescope.cli._source import Place, Source, choose_place
from tapescope.cli._table import Column, print_table
from tapescope.cli._task_ids import find_task_id
from tapescope.cli._wording import now_us
from tapescope.model.json_shapes import message_shape
from tapescope.model.messages import Message
from tapescope.model.times import format_time
from tapescope.model.wording import format_age
from tapescope.program import run_main

__all__ = ["messages"]

_PAGE = 1_000
_COLUMNS = (
    Column("message"),
    Column("taken"),
    Column("age"),
    Column("key", shrinks_to=8),
    Column("body", shrinks_to=8),
)


@click.command("messages")
@task_argument
@wide_option
@json_option
@source_options
def messages(
    *, task_id: str, wide: bool, as_json: bool, store: str | None, server: str | None
) -> None:
    """List what was sent to a task, and what its runs have taken.

    A message that was taken is on the tape, as the event that is named. One that its task has left
    when it ended stays here.
    """
    run_main(_list(choose_place(store, server), task_id, wide=wide, as_json=as_json))


async def _list(place: Place, named: str, *, wide: bool, as_json: bool) -> None:
    async with place.open() as source:
        task_id = await find_task_id(source, named)
        async with aclosing(_read(source, task_id)) as found:
            rows = [one async for one in found]
        if as_json:
            shape = {"task_id": task_id, "messages": [message_shape(one) for one in rows]}
            print_json(shape | {"store": source.name})
            return
        terminal, now = on_terminal(), now_us()
        wide = wide or not terminal
        print_table(
            _COLUMNS,
            [
                (
                    str(one.n),
                    "no" if one.taken_seq is None else f"event {one.taken_seq}",
                    format_time(one.sent_us) if wide else format_age(one.sent_us, now),
                    one.key,
                    orjson.dumps(one.body).decode(),
                )
                for one in rows
            ],
            terminal=terminal,
            wide=wide,
        )
        left = sum(one.taken_seq is None for one in rows)
        if left and (await source.get(task_id)).status.terminal:
            print_line(f"{left:,} of them were not taken: the task has ended.")


async def _read(source: Source, task_id: str) -> AsyncGenerator[Message, None]:
    after: int | None = 0
    while after is not None:
        page = await source.read_messages(task_id, after=after, limit=_PAGE)
        for one in page.messages:
            yield one
        after = page.next
