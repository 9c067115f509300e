"""The store of a command: which one it is, and opening it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tapescope.cli._settings import STORE_VARIABLE, find_named_store
from tapescope.errors import StoreConfigError
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore

__all__ = ["choose_store", "file_url", "open_store"]

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
