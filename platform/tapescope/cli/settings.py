"""What the command line is told: its settings and its exit statuses. Nothing else reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tapescope.errors import StoreConfigError

__all__ = [
    "EXIT_CANNOT_EXECUTE",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_CHECKED",
    "EXIT_NOT_FOUND",
    "EXIT_OURS",
    "EXIT_PIPE_CLOSED",
    "EXIT_TIMED_OUT",
    "EXIT_VIOLATION",
    "STORE_VARIABLE",
    "choose_store",
    "file_url",
    "read_traceparent",
]

STORE_VARIABLE: Final = "TAPESCOPE_STORE"

EXIT_VIOLATION: Final = 1
"""``audit``: something is wrong with a tape."""
EXIT_NOT_CHECKED: Final = 2
"""``audit``: it could not be told."""
EXIT_TIMED_OUT: Final = 124
"""``run``: the command had no time left; as timeout(1)."""
EXIT_OURS: Final = 125
"""``run``: we failed, and the command was not run."""
EXIT_CANNOT_EXECUTE: Final = 126
EXIT_NOT_FOUND: Final = 127
EXIT_INTERRUPTED: Final = 130
"""Ctrl-C: 128 + SIGINT."""
EXIT_PIPE_CLOSED: Final = 141
"""128 + SIGPIPE, as a program that the signal ends."""


def choose_store(given: str | None) -> str:
    """The store's URL: the option, else ``TAPESCOPE_STORE``, else a file in the user's data folder.

    That folder is made. Raises ``StoreConfigError`` where it cannot be.
    """
    url = given or os.environ.get(STORE_VARIABLE)
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


def read_traceparent() -> str | None:
    """The W3C trace context that the caller of this process put in its environment."""
    return os.environ.get("TRACEPARENT") or None
