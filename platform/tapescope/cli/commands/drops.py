"""``tapescope drops``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

import orjson
import typer

from tapescope.cli._options import JsonOption, StoreOption
from tapescope.cli._output import on_terminal, print_line, write_json
from tapescope.cli._rendering import print_table
from tapescope.cli._store import choose_store, find_task_id, open_store
from tapescope.model.json_shapes import drop_shape
from tapescope.model.tape import DroppedEvent, QuarantinePage
from tapescope.store.port import TaskStore

__all__ = ["drops"]

_PAGE: Final = 1_000


def drops(
    task_id: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK_ID", help="Only the late events of this task.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List the events that came too late, each with its reason."""
    asyncio.run(_list(choose_store(store), task_id, as_json=as_json))


async def _list(url: str, named: str | None, *, as_json: bool) -> None:
    """Print dropped events, oldest first: one task's, or the store's. Raises ``UnknownTask``."""
    async with open_store(url) as store:
        task_id = None if named is None else await find_task_id(store, named)
        first = await store.read_quarantine(task_id, limit=_PAGE)
        if task_id is not None and not first.counts:
            await store.get(task_id)  # raises where the store has no such task
        pages = _read_pages(store, task_id, first)
        async with aclosing(pages):
            await (_print_json(pages, store.name) if as_json else _print_table(pages))


async def _read_pages(
    store: TaskStore, task_id: str | None, page: QuarantinePage
) -> AsyncGenerator[QuarantinePage, None]:
    while True:
        yield page
        if page.next is None:
            return
        page = await store.read_quarantine(task_id, after=page.next, limit=_PAGE)


async def _print_json(pages: AsyncGenerator[QuarantinePage, None], store: str) -> None:
    """The shape of the drops, written while they are read."""
    separator, overflow = b"", 0
    write_json(b'{"drops":[')
    async for page in pages:
        for drop in page.drops:
            write_json(separator + orjson.dumps(drop_shape(drop)))
            separator = b","
        overflow = page.overflow
    write_json(b"]," + orjson.dumps({"overflow": overflow, "store": store})[1:] + b"\n")


async def _print_table(pages: AsyncGenerator[QuarantinePage, None]) -> None:
    rows: list[tuple[str, ...]] = []
    overflow = 0
    async for page in pages:
        rows += map(_drop_row, page.drops)
        overflow = page.overflow
    terminal = on_terminal()
    if not rows and terminal:
        print_line("No dropped events.")
    else:
        print_table(
            ("task_id", "attempt", "type", "reason", "ts", "late_s", "body"),
            rows,
            terminal=terminal,
        )
    if overflow:
        print_line(f"and {overflow:,} more that were counted but not kept")


def _drop_row(drop: DroppedEvent) -> tuple[str, ...]:
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
