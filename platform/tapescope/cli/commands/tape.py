"""``tapescope tape``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

import click
import orjson

from tapescope.cli._options import json_option, source_options, task_argument
from tapescope.cli._output import on_terminal, print_json, say, write_json
from tapescope.cli._rendering import TapeLines
from tapescope.cli._source import Place, Source, choose_place
from tapescope.cli._task_ids import find_task_id
from tapescope.errors import TapescopeError
from tapescope.model.json_shapes import event_shape
from tapescope.model.tape import TapePage
from tapescope.program import run_main

__all__ = ["tape"]

_PAGE: Final = 1_000
_LOOK_EVERY: Final = 2.0
"""Seconds between two looks at the owner of a task that is followed."""


@click.command("tape")
@task_argument
@click.option("--follow", "-f", is_flag=True, help="Print each event as it comes, until the final.")
@json_option
@source_options
def tape(
    *, task_id: str, follow: bool, as_json: bool, store: str | None, server: str | None
) -> None:
    """Print the tape of a task.

    With --follow and --json each event is one line of JSON.
    """
    place = choose_place(store, server)
    run_main((_follow if follow else _print)(place, task_id, as_json=as_json))


async def _print(place: Place, named: str, *, as_json: bool) -> None:
    """Print the whole tape as it stands, a page at a time. Raises ``UnknownTask``."""
    async with place.open() as source:
        pages = _read_pages(source, await find_task_id(source, named))
        async with aclosing(pages):
            await (_print_json(pages, source.name) if as_json else _print_lines(pages))


async def _follow(place: Place, named: str, *, as_json: bool) -> None:
    """Print events as they are committed, to the ``final``. Raises ``UnknownTask``."""
    lines = TapeLines(terminal=on_terminal())
    async with place.open() as source:
        task_id = await find_task_id(source, named)
        events = source.follow(task_id)
        async with aclosing(events), _watch_owner(source, task_id):
            async for event in events:
                if as_json:
                    print_json(event_shape(event))
                else:
                    lines.print_event(event)


@asynccontextmanager
async def _watch_owner(source: Source, task_id: str) -> AsyncGenerator[None]:
    """Say once on stderr when the task turns out to be lost: its tape may grow no more."""

    async def watch() -> None:
        while True:
            with suppress(TapescopeError):  # the follower meets it, too, and tells it
                task = await source.get(task_id)
                if (lost := source.find_lost([task]).get(task_id)) is not None:
                    say(f"the task is lost: {lost}. 'tapescope cancel {task_id}' ends it.")
                    return
            await asyncio.sleep(_LOOK_EVERY)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


async def _read_pages(source: Source, task_id: str) -> AsyncGenerator[TapePage, None]:
    """The tape as it stands at the first page: what is appended from then on is for --follow."""
    first = page = await source.read_tape(task_id, limit=_PAGE)
    while True:
        yield replace(first, events=tuple(e for e in page.events if e.seq <= first.last_seq))
        if not page.events or page.events[-1].seq >= first.last_seq:
            return
        page = await source.read_tape(task_id, after_seq=page.events[-1].seq, limit=_PAGE)


async def _print_json(pages: AsyncGenerator[TapePage, None], store: str) -> None:
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
    end = {
        "last_seq": page.last_seq,
        "final_seq": page.final_seq,
        "dropped": page.dropped,
        "store": store,
    }
    write_json(b"]," + orjson.dumps(end)[1:] + b"\n")


async def _print_lines(pages: AsyncGenerator[TapePage, None]) -> None:
    lines = TapeLines(terminal=on_terminal())
    page = None
    async for page in pages:
        for event in page.events:
            lines.print_event(event)
    assert page is not None, "there is a first page, or UnknownTask"
    state = "open" if page.final_seq is None else f"closed by event {page.final_seq}"
    dropped = f"; {page.dropped:,} dropped: tapescope drops {page.task_id}" if page.dropped else ""
    lines.print_note(f"{state}{dropped}")
