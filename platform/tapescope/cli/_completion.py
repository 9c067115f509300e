"""What a shell offers behind TAB: task ids and ops of the store, and the names of the drills.

Nothing is said on stderr and nothing waited for long: whoever types sees his own line meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from tapescope.errors import TapescopeError
from tapescope.program import run_main

if TYPE_CHECKING:
    from tapescope.cli._source import Source

__all__ = [
    "COMPLETE",
    "complete_drill",
    "complete_op",
    "complete_paused",
    "complete_schedule",
    "complete_task",
    "complete_worker",
]

COMPLETE: Final = "_TAPESCOPE_COMPLETE"
"""The variable in which a shell says that it asks, and how."""
_NEWEST: Final = 100
"""Tasks whose ids and ops are offered."""
_WITHIN: Final = 1.5
"""Seconds for the store to answer."""

Found = TypeVar("Found")


def complete_task(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The newest tasks whose ids begin so: in the short form, or whole once that says more."""
    from tapescope.cli._wording import now_us
    from tapescope.model.wording import format_age, shorten_id

    async def read(source: Source) -> list[CompletionItem]:
        now = now_us()
        offered: list[CompletionItem] = []
        for task in (await source.list(limit=_NEWEST, params=False)).tasks:
            short = shorten_id(task.task_id)
            shown = short if short.startswith(incomplete) else task.task_id
            about = f"{task.op} {task.status}, {format_age(task.created_us, now)}"
            if shown.startswith(incomplete):
                offered.append(CompletionItem(shown, help=about))
        return offered

    return _ask(ctx, read) or []


def complete_op(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The ops that workers have registered, and those of the newest tasks."""

    async def read(source: Source) -> list[str]:
        newest = (await source.list(limit=_NEWEST, params=False)).tasks
        ops = {*await source.read_ops(), *(task.op for task in newest)}
        return sorted(op for op in ops if op.startswith(incomplete))

    return _ask(ctx, read) or []


def complete_schedule(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The first schedules whose names begin so."""

    async def read(source: Source) -> list[str]:
        page = await source.list_schedules(after=None, limit=1_000)
        return [one.name for one in page.schedules if one.name.startswith(incomplete)]

    return _ask(ctx, read) or []


def complete_paused(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The first paused ops whose names begin so."""

    async def read(source: Source) -> list[str]:
        page = await source.list_paused(limit=1_000)
        return [one.op for one in page.pauses if one.op.startswith(incomplete)]

    return _ask(ctx, read) or []


def complete_worker(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The first workers whose owners begin so."""

    async def read(source: Source) -> list[str]:
        page = await source.list_workers(limit=1_000)
        owners = (one.owner for one in page.workers if one.is_worker)
        return [owner for owner in owners if owner.startswith(incomplete)]

    return _ask(ctx, read) or []


def complete_drill(
    _ctx: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The drills, each with what it does."""
    from tapescope.drills import DRILLS

    return [
        CompletionItem(drill.name, help=drill.does)
        for drill in DRILLS
        if drill.name.startswith(incomplete)
    ]


def _ask(ctx: click.Context, read: Callable[[Source], Awaitable[Found]]) -> Found | None:
    """What the store or server of the command answers; ``None`` where it cannot be asked."""
    from tapescope.cli._source import choose_place

    async def ask() -> Found:
        place = choose_place(_find_option(ctx, "store"), _find_option(ctx, "server"))
        async with place.open() as source:
            return await read(source)

    return _wait_for(ask)


def _find_option(ctx: click.Context, name: str) -> str | None:
    return ctx.params.get(name) or ctx.find_root().params.get(name)


def _wait_for(ask: Callable[[], Coroutine[Any, Any, Found]]) -> Found | None:
    async def in_time() -> Found:
        async with asyncio.timeout(_WITHIN):
            return await ask()

    try:
        return run_main(in_time())
    except (TapescopeError, TimeoutError, click.UsageError):
        return None  # a shell's line is not the place for an error
