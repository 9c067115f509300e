"""The file that a store has open: whether it is still the one that its path names.

A file that is deleted, moved or replaced while it is open goes on taking writes, which no other
process sees and which are gone at the end. SQLite itself does not look.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from tapescope.errors import EventFateUnknown, StoreConfigError
from tapescope.store import StoreAway, StoreOutOfRoom
from tapescope_adapters.sqlite._read_access import beside, has_room

__all__ = ["OpenedFile"]

_GONE: Final = (
    "its file {path} was deleted, moved or replaced while it was open; what is written there now "
    "would be lost. Stop this process, and start it again on the file that is to be used"
)

_Place = tuple[int, int] | None
"""Device and inode of a file; ``None`` where there is none."""


class OpenedFile:
    """A file and its log as they were opened, to be looked at from any thread."""

    def __init__(self, path: str, conn: sqlite3.Connection) -> None:
        """``conn`` is one that has read from the file, so that its log is there."""
        self._path = path
        self._paths = (path, beside(path, "wal"))
        self._opened = tuple(map(_find, self._paths))
        self._objects = _list_objects(conn)

    def require_before(self) -> None:
        """Raises ``StoreAway`` where the path names another file by now: nothing was written."""
        if not self._stands():
            raise StoreAway(_GONE.format(path=self._path))

    def require_after(self) -> None:
        """Raises ``EventFateUnknown``: what was just written may be where nobody finds it.

        Not ``FateUnknown``: the write was made once, and is not to be sent again.
        """
        if not self._stands():
            raise EventFateUnknown(0.0)

    def probe(self, conn: sqlite3.Connection) -> None:
        """Whether a write would be carried out, as far as can be seen without one.

        Takes the write lock for a moment. Raises ``StoreConfigError``, ``StoreOutOfRoom``, and what
        the driver raises.
        """
        if not self._stands():
            raise StoreConfigError(f"The store cannot be used: {_GONE.format(path=self._path)}.")
        if os.statvfs(self._path).f_flag & os.ST_RDONLY:
            raise StoreConfigError(
                f"The file system of the SQLite file {self._path} is read-only. Make it writable."
            )
        if not has_room(self._path):
            raise StoreOutOfRoom("its disk is full")
        conn.execute("BEGIN IMMEDIATE")
        try:
            missing = sorted(self._objects - _list_objects(conn))
        finally:
            conn.execute("ROLLBACK")
        if missing:
            raise StoreConfigError(
                f"Parts of the schema of the SQLite file {self._path} are gone since it was "
                f"opened: {', '.join(missing[:5])}. Restore a backup of the file."
            )

    def _stands(self) -> bool:
        return all(
            before is None or before == _find(path)
            for before, path in zip(self._opened, self._paths, strict=True)
        )


def _find(path: str) -> _Place:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _list_objects(conn: sqlite3.Connection) -> frozenset[str]:
    """The names of tables, indexes and triggers."""
    return frozenset(name for (name,) in conn.execute("SELECT name FROM sqlite_schema"))
