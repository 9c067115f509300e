"""Opening the store of a command, and finding the task that it names."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import typer

from tapescope.errors import UnknownTask
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore

__all__ = ["find_task_id", "open_store"]

_TEMPLATE: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_SHORTEST: Final = 4
_PATIENCE: Final = 3.0
"""Seconds that a command which only reads waits for its store: a person waits, too."""


@asynccontextmanager
async def open_store(url: str) -> AsyncGenerator[TaskStore]:
    """The store of this URL, open."""
    store = find_store(url)
    store.patience = min(store.patience, _PATIENCE)
    async with store:
        yield store


async def find_task_id(store: TaskStore, given: str) -> str:
    """The whole id of the task that ``given`` names: an id, or the beginning of only one.

    Raises ``UnknownTask``, and a usage error where several ids begin so.
    """
    text = given.strip().lower()
    if len(text) >= len(_TEMPLATE):
        return text
    if len(text) < _SHORTEST or not re.fullmatch(r"[0-9a-f-]+", text):
        raise UnknownTask(given)
    # Ids are listed downwards: the first ones below the highest that begins so.
    page = await store.list(before=text + _TEMPLATE[len(text) :], limit=2)
    found = [task.task_id for task in page.tasks if task.task_id.startswith(text)]
    if not found:
        raise UnknownTask(given)
    if len(found) > 1:
        raise typer.BadParameter(
            f"{given!r} is the beginning of {found[0]}, {found[1]} and perhaps more",
            param_hint="TASK_ID",
        )
    return found[0]
