"""The store of a command: which one it is, and opening it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tapescope.cli._output import say
from tapescope.cli._settings import STORE_VARIABLE, find_named_store
from tapescope.errors import StoreConfigError
from tapescope.store.lookup import find_store
from tapescope.store.opening import OpenMode
from tapescope.store.port import TaskStore

__all__ = ["choose_store", "file_url", "open_store", "prepare_store", "say_store"]

_PATIENCE: Final = 3.0
"""Seconds that a command waits for its store, unless the URL says how long: a person waits, too."""


def choose_store(option: str | None) -> str:
    """The store's URL: the option, else ``TAPESCOPE_STORE``, else a file in the user's data folder.

    Nothing is made.
    """
    return find_named_store(option) or file_url(_default_file())


def prepare_store(url: str) -> OpenMode | None:
    """Make the folder of the default file, for a command that makes a store; gives how to open it.

    The default file is migrated where no other process has it open. ``None``: as the store itself
    has it. Raises ``StoreConfigError`` where the folder cannot be made.
    """
    file = _default_file()
    if url != file_url(file):
        return None
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreConfigError(
            f"The folder {str(file.parent)!r} of the default store cannot be made "
            f"({error.strerror}). Name a store with --store or {STORE_VARIABLE}."
        ) from error
    return OpenMode.MIGRATE_ALONE


def _default_file() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("tapescope", appauthor=False)) / "tasks.db"


def file_url(path: Path) -> str:
    """The URL of a SQLite store in this file."""
    return f"sqlite:///{quote(os.fsencode(path.absolute()))}"


@asynccontextmanager
async def open_store(url: str, mode: OpenMode | None = OpenMode.READ) -> AsyncGenerator[TaskStore]:
    """The store of this URL, open; on a terminal stderr says which one it is.

    Whatever its URL says, it is opened as ``mode`` says; ``None``: as the store itself has it.
    """
    store = find_store(url, patience=_PATIENCE)
    store.open_mode = mode or store.open_mode
    async with store:
        say_store(store)
        yield store


def say_store(store: TaskStore) -> None:
    """Say on a terminal's stderr which store is used: it may not be the one that was meant."""
    if sys.stderr.isatty():
        say(f"store {store.name}")
