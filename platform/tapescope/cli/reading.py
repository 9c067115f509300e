"""``tapescope list``, ``show``, ``tape`` and ``drops``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import orjson

from tapescope.cli import rendering
from tapescope.cli.output import on_terminal, print_json, print_line, write_json
from tapescope.cli.tasks import find_task_id, open_store
from tapescope.errors import BadOp
from tapescope.model.json_shapes import drop_shape, event_shape, list_shape, task_shape
from tapescope.model.tape import QuarantinePage, TapePage
from tapescope.model.tasks import TaskStatus, is_op
from tapescope.store import follow
from tapescope.store.port import TaskStore

__all__ = ["follow_tape", "list_drops", "list_tasks", "print_tape", "show_task"]

_PAGE: Final = 1_000


def list_tasks(
    url: str,
    status: TaskStatus | None,
    op: str | None,
    limit: int,
    before: str | None,
    *,
    as_json: bool,
) -> None:
    """Print a page of tasks. Raises ``BadOp``, ``BadSetting``."""

    async def read() -> None:
        async with open_store(url) as store:
            older_than = None if before is None else await find_task_id(store, before)
            page = await store.list(status=status, op=op, limit=limit, before=older_than)
        if as_json:
            print_json(list_shape(page))
        else:
            rendering.print_tasks(page, terminal=on_terminal())

    if op is not None and not is_op(op):
        raise BadOp(op)
    asyncio.run(read())


def show_task(url: str, given: str, *, as_json: bool) -> None:
    """Print a task's row and how its tape ends. Raises ``UnknownTask``."""

    async def read() -> None:
        async with open_store(url) as store:
            task = await store.get(await find_task_id(store, given))
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
        if as_json:
            print_json(shape)
        else:
            rendering.print_fields(shape, terminal=on_terminal())

    asyncio.run(read())


def print_tape(url: str, given: str, *, as_json: bool) -> None:
    """Print a whole tape as it stands, a page at a time. Raises ``UnknownTask``."""

    async def read() -> None:
        async with open_store(url) as store:
            pages = _tape_pages(store, await find_task_id(store, given))
            async with aclosing(pages):
                await (_stream_tape(pages) if as_json else _print_pages(pages))

    asyncio.run(read())


def follow_tape(url: str, given: str, *, as_json: bool) -> None:
    """Print a tape's events as they are committed, to the ``final``. Raises ``UnknownTask``."""

    async def read() -> None:
        lines = rendering.TapeLines(terminal=on_terminal())
        async with open_store(url) as store:
            events = follow.follow_tape(store, await find_task_id(store, given))
            async with aclosing(events):
                async for event in events:
                    if as_json:
                        print_json(event_shape(event))
                    else:
                        lines.print_event(event)

    asyncio.run(read())


def list_drops(url: str, given: str | None, *, as_json: bool) -> None:
    """Print dropped events, oldest first: one task's, or the store's. Raises ``UnknownTask``."""

    async def read() -> None:
        async with open_store(url) as store:
            task_id = None if given is None else await find_task_id(store, given)
            first = await store.read_quarantine(task_id, limit=_PAGE)
            if task_id is not None and not first.counts:
                await store.get(task_id)  # no drops of a task, or no task?
            pages = _drop_pages(store, task_id, first)
            async with aclosing(pages):
                await (_stream_drops(pages) if as_json else _print_drops(pages))

    asyncio.run(read())


async def _tape_pages(store: TaskStore, task_id: str) -> AsyncGenerator[TapePage, None]:
    """The tape as it stands at the first page: what is appended from then on is for --follow."""
    first = page = await store.read_tape(task_id, limit=_PAGE)
    while True:
        yield replace(first, events=tuple(e for e in page.events if e.seq <= first.last_seq))
        if not page.events or page.events[-1].seq >= first.last_seq:
            return
        page = await store.read_tape(task_id, after_seq=page.events[-1].seq, limit=_PAGE)


async def _drop_pages(
    store: TaskStore, task_id: str | None, page: QuarantinePage
) -> AsyncGenerator[QuarantinePage, None]:
    while True:
        yield page
        if page.next is None:
            return
        page = await store.read_quarantine(task_id, after=page.next, limit=_PAGE)


async def _stream_tape(pages: AsyncGenerator[TapePage, None]) -> None:
    """The tape's shape, written while it is read: a long tape is never whole in memory."""
    separator = b""
    page = None
    async for page in pages:
        if not separator:
            write_json(b'{"task_id":' + orjson.dumps(page.task_id) + b',"events":[')
        for event in page.events:
            write_json(separator + orjson.dumps(event_shape(event)))
            separator = b","
    assert page is not None, "there is a first page, or UnknownTask"
    end = {"last_seq": page.last_seq, "final_seq": page.final_seq, "dropped": page.dropped}
    write_json(b"]," + orjson.dumps(end)[1:] + b"\n")


async def _stream_drops(pages: AsyncGenerator[QuarantinePage, None]) -> None:
    separator, overflow = b"", 0
    write_json(b'{"drops":[')
    async for page in pages:
        for drop in page.drops:
            write_json(separator + orjson.dumps(drop_shape(drop)))
            separator = b","
        overflow = page.overflow
    write_json(b'],"overflow":' + orjson.dumps(overflow) + b"}\n")


async def _print_pages(pages: AsyncGenerator[TapePage, None]) -> None:
    lines = rendering.TapeLines(terminal=on_terminal())
    page = None
    async for page in pages:
        for event in page.events:
            lines.print_event(event)
    assert page is not None, "there is a first page, or UnknownTask"
    state = "open" if page.final_seq is None else f"closed by event {page.final_seq}"
    dropped = f"; {page.dropped:,} dropped: tapescope drops {page.task_id}" if page.dropped else ""
    lines.print_note(f"{state}{dropped}")


async def _print_drops(pages: AsyncGenerator[QuarantinePage, None]) -> None:
    table: list[dict[str, Any]] = []
    page = None
    async for page in pages:
        table += [drop_shape(drop) for drop in page.drops]
    assert page is not None, "there is a first page"
    rendering.print_drops(table, terminal=on_terminal())
    if page.overflow:
        print_line(f"and {page.overflow:,} more that were counted but not kept")
