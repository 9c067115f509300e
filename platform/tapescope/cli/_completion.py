"""What a shell offers behind TAB: task ids and ops of the store, and the names of the drills.

Nothing is said on stderr and nothing waited for long: whoever types sees his own line meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from tapescope.errors import TapescopeError
from tapescope.program import run_main

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = ["COMPLETE", "complete_drill", "complete_op", "complete_schedule", "complete_task"]

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

    async def read(store: TaskStore) -> list[CompletionItem]:
        now = now_us()
        offered: list[CompletionItem] = []
        for task in (await store.list(limit=_NEWEST, params=False)).tasks:
            short = shorten_id(task.task_id)
            shown = short if short.startswith(incomplete) else task.task_id
            about = f"{task.op} {task.status}, {format_age(task.created_us, now)}"
            if shown.startswith(incomplete):
                offered.append(CompletionItem(shown, help=about))
        return offered

    return _ask(ctx, read) or []


def complete_op(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The ops that workers have registered, and those of the newest tasks."""

    async def read(store: TaskStore) -> list[str]:
        newest = (await store.list(limit=_NEWEST, params=False)).tasks
        ops = {*await store.ops.read(), *(task.op for task in newest)}
        return sorted(op for op in ops if op.startswith(incomplete))

    return _ask(ctx, read) or []


def complete_schedule(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The first schedules whose names begin so."""

    async def read(store: TaskStore) -> list[str]:
        page = await store.schedules.list(limit=1_000)
        return [one.name for one in page.schedules if one.name.startswith(incomplete)]

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


def _ask(ctx: click.Context, read: Callable[[TaskStore], Awaitable[Found]]) -> Found | None:
    """What the store of the command answers; ``None`` where it cannot be asked."""
    from tapescope.cli._store import choose_store, open_store

    async def ask() -> Found:
        named = ctx.params.get("store") or ctx.find_root().params.get("store")
        async with asyncio.timeout(_WITHIN), open_store(choose_store(named)) as store:
            return await read(store)

    try:
        return run_main(ask())
    except (TapescopeError, TimeoutError):
        return None  # a shell's line is not the place for an error
