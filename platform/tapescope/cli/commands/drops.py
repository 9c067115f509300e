"""``tapescope drops``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import click
import orjson

from tapescope.cli._completion import complete_task
from tapescope.cli._filters import since_option, until_option
from tapescope.cli._options import json_option, source_options, wide_option
from tapescope.cli._output import on_terminal, print_line, write_json
from tapescope.cli._source import Place, Source, choose_place
from tapescope.cli._table import Column, print_table
from tapescope.cli._task_ids import find_task_id
from tapescope.cli._times import parse_time
from tapescope.cli._types import WHOLE_NUMBER
from tapescope.cli._wording import now_us
from tapescope.errors import BadSetting
from tapescope.model.json_shapes import drop_shape
from tapescope.model.tape import DroppedEvent, QuarantinePage
from tapescope.model.wording import format_age, format_duration, shorten_id
from tapescope.program import run_main

__all__ = ["drops"]

_PAGE: Final = 1_000
_COLUMNS: Final = (
    Column("task"),
    Column("event", shrinks_to=8),
    Column("reason"),
    Column("age"),
    Column("late"),
    Column("body", shrinks_to=8),
)
_WIDE: Final = tuple(map(Column, ("task_id", "attempt", "type", "reason", "ts", "late_s", "body")))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The late events that are asked for: those that meet every condition that is given."""

    since: datetime | None
    until: datetime | None
    after: int
    limit: int | None

    async def read_pages(
        self, source: Source, task_id: str | None
    ) -> AsyncGenerator[QuarantinePage, None]:
        """As many pages of the store as it takes; the first one has the counts."""
        after, left = self.after, self.limit
        while True:
            page = await source.read_quarantine(
                task_id,
                since=self.since,
                until=self.until,
                after=after,
                limit=_PAGE if left is None else min(left, _PAGE),
                counted=after == self.after,
            )
            yield page
            if left is not None:
                left -= len(page.drops)
            if page.next is None or left == 0:
                return
            after = page.next


@click.command("drops")
@click.argument(
    "task_id",
    required=False,
    shell_complete=complete_task,
    help="Only the late events of this task.",
)
@since_option
@until_option
@click.option(
    "--limit", type=WHOLE_NUMBER, metavar="N", help="The most events to list. Default: all."
)
@click.option(
    "--after",
    type=WHOLE_NUMBER,
    default=0,
    metavar="N",
    help="Only events after this one, which a list with --limit names: the next page.",
)
@wide_option
@json_option
@source_options
def drops(
    *,
    task_id: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    after: int,
    wide: bool,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> None:
    """List the events that came too late, each with its reason.

    The oldest come first.
    """
    if limit is not None and limit < 1:
        raise BadSetting("--limit", limit, "a number of events, 1 or more")
    wanted = _Wanted(
        None if since is None else parse_time(since, "--since"),
        None if until is None else parse_time(until, "--until"),
        after,
        limit,
    )
    run_main(_list(choose_place(store, server), task_id, wanted, wide=wide, as_json=as_json))


async def _list(
    place: Place, named: str | None, wanted: _Wanted, *, wide: bool, as_json: bool
) -> None:
    """Print dropped events: one task's, or the store's. Raises ``UnknownTask``."""
    async with place.open() as source:
        task_id = None if named is None else await find_task_id(source, named)
        if task_id is not None:
            first = await source.read_quarantine(task_id, limit=1)
            if not first.drops and not first.overflow:
                await source.get(task_id)  # raises where there is no such task
        pages = wanted.read_pages(source, task_id)
        async with aclosing(pages):
            await (_print_json(pages, source.name) if as_json else _print_table(pages, wide=wide))


async def _print_json(pages: AsyncGenerator[QuarantinePage, None], store: str) -> None:
    """The shape of the drops, written while they are read."""
    separator, overflow, next_ = b"", 0, None
    write_json(b'{"drops":[')
    async for page in pages:
        for drop in page.drops:
            write_json(separator + orjson.dumps(drop_shape(drop)))
            separator = b","
        overflow, next_ = overflow + page.overflow, page.next
    rest = {"overflow": overflow, "next": next_, "store": store}
    write_json(b"]," + orjson.dumps(rest)[1:] + b"\n")


async def _print_table(pages: AsyncGenerator[QuarantinePage, None], *, wide: bool) -> None:
    terminal = on_terminal()
    wide = wide or not terminal
    rows: list[tuple[str, ...]] = []
    overflow, next_, now = 0, None, now_us()
    async for page in pages:
        rows += [_wide_row(drop) if wide else _row(drop, now) for drop in page.drops]
        overflow, next_ = overflow + page.overflow, page.next
    if not rows and terminal:
        print_line("No dropped events.")
    else:
        print_table(_WIDE if wide else _COLUMNS, rows, terminal=terminal, wide=wide)
    if overflow:
        print_line(f"and {overflow:,} more that were counted but not kept")
    if next_ is not None and terminal:
        print_line(f"More: --after {next_}")


def _row(drop: DroppedEvent, now: int) -> tuple[str, ...]:
    return (
        shorten_id(drop.task_id),
        drop.type,
        drop.reason.value,
        format_age(drop.ts_us, now),
        "-" if drop.late_s is None else format_duration(drop.late_s),
        orjson.dumps(drop.body).decode(),
    )


def _wide_row(drop: DroppedEvent) -> tuple[str, ...]:
    shape = drop_shape(drop)
    return (
        shape["task_id"],
        str(shape["attempt"]),
        shape["type"],
        shape["reason"],
        shape["ts"],
        "-" if shape["late_s"] is None else f"{shape['late_s']:.3f}",
        orjson.dumps(shape["body"]).decode(),
    )
