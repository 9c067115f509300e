"""The store of a command: which one it is, opening it, and finding the task that is named."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import typer

from tapescope.cli._settings import STORE_VARIABLE, find_named_store
from tapescope.errors import StoreConfigError, UnknownTask
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore

__all__ = ["choose_store", "file_url", "find_task_id", "open_store"]

_TEMPLATE: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_SHORTEST: Final = 4
_PATIENCE: Final = 3.0
"""Seconds that a command waits for its store, unless the URL says how long: a person waits, too."""


def choose_store(option: str | None) -> str:
    """The store's URL: the option, else ``TAPESCOPE_STORE``, else a file in the user's data folder.

    That folder is made. Raises ``StoreConfigError`` where it cannot be.
    """
    url = find_named_store(option)
    if url:
        return url
    import platformdirs

    folder = Path(platformdirs.user_data_dir("tapescope", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreConfigError(
            f"The folder {str(folder)!r} of the default store cannot be made ({error.strerror}). "
            f"Name a store with --store or {STORE_VARIABLE}."
        ) from error
    return file_url(folder / "tasks.db")


def file_url(path: Path) -> str:
    """The URL of a SQLite store in this file."""
    return f"sqlite:///{quote(str(path.absolute()))}"


@asynccontextmanager
async def open_store(url: str) -> AsyncGenerator[TaskStore]:
    """The store of this URL, open."""
    async with find_store(url, patience=_PATIENCE) as store:
        yield store


async def find_task_id(store: TaskStore, named: str) -> str:
    """The whole id of the task that ``named`` names: an id, or a beginning that no other has.

    Raises ``UnknownTask``, and a usage error where several ids begin like this.
    """
    text = named.strip().lower()
    if len(text) >= len(_TEMPLATE):
        return text
    if len(text) < _SHORTEST or not re.fullmatch(r"[0-9a-f-]+", text):
        raise UnknownTask(named)
    # Ids are listed downwards: the first ones below the highest id with this beginning.
    page = await store.list(before=text + _TEMPLATE[len(text) :], limit=2)
    ids = [task.task_id for task in page.tasks if task.task_id.startswith(text)]
    if not ids:
        raise UnknownTask(named)
    if len(ids) > 1:
        raise typer.BadParameter(
            f"{named!r} is the beginning of {ids[0]}, {ids[1]} and perhaps more",
            param_hint="TASK_ID",
        )
    return ids[0]
