"""How a SQLite file can be read so that a look leaves nothing behind, neither a file nor a log.

A file in WAL mode has a log beside it, ``-wal``, with an index, ``-shm``, while it is open and
after a crash. SQLite makes both where they are missing, also for who only reads; one that another
user made would lock out the file's owner.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from tapescope.errors import StoreConfigError

__all__ = [
    "FileState",
    "beside",
    "choose_read_access",
    "file_uri",
    "has_room",
    "holds_nothing",
    "log_size",
    "may_write",
]

_INDEX_BYTES = 65_536
"""The smallest index, and the log's header, with room to spare."""
_WAL_MODE = 2
"""The read version in the file's header, byte 19, of a file in WAL mode."""


class FileState(NamedTuple):
    """What changes when another process writes to the file."""

    size: int
    modified: int
    log: int

    @classmethod
    def of(cls, path: str) -> FileState:
        """The state of the file now."""
        try:
            found = os.stat(path)
        except OSError:
            return cls(0, 0, 0)
        return cls(found.st_size, found.st_mtime_ns, log_size(path))


def file_uri(path: str, query: str) -> str:
    """The file as a URI of SQLite's, whose query says how it is opened."""
    return f"{Path(path).absolute().as_uri()}?{query}"


def holds_nothing(path: str) -> bool:
    """Whether there is no file, or an empty one. One that cannot be looked at is not nothing."""
    return _size(path) in (None, 0) and not _size(beside(path, "wal"))


def may_write(path: str) -> bool:
    """Whether this user may write to the file that is there, and beside it."""
    folder = os.path.dirname(os.path.realpath(path))
    return os.access(path, os.W_OK) and os.access(folder, os.W_OK | os.X_OK)


def choose_read_access(path: str) -> tuple[str, FileState | None]:
    """The query of the URI that reads the file and makes nothing that stays.

    A state comes with it where the file is read without SQLite's locks: it holds while the file has
    this state. Raises ``StoreConfigError`` where the log cannot be read.
    """
    log = _size(beside(path, "wal"))
    if may_write(path) and has_room(path):
        # With a log that is whole it stays as it is; without one, what is made goes at the end.
        return ("mode=ro" if log else "mode=rw"), None
    if not _is_in_wal_mode(path):
        return "mode=ro", None
    if not log:
        return "mode=ro&immutable=1", FileState.of(path)
    if _size(beside(path, "shm")) is None:
        raise StoreConfigError(
            f"The SQLite file {path} cannot be read: a part of it is in its log, {path}-wal, and "
            "to read that takes an index in the same folder, where this user may not write, or "
            "whose disk is full. Have a user who may write there run 'tapescope migrate' on the "
            "store, which moves the log into the file; or copy both files to a folder of your own."
        )
    return "mode=ro", None


def has_room(path: str) -> bool:
    """Whether the index of a log would find room on the disk: where it does not, a part stays."""
    try:
        found = os.statvfs(os.path.dirname(os.path.realpath(path)))
    except OSError:
        return True  # the driver says what is wrong
    if not found.f_blocks:
        return True  # a file system that does not tell
    free = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return free * found.f_frsize >= _INDEX_BYTES


def log_size(path: str) -> int:
    """Bytes of the log beside the file; 0 where there is none."""
    return _size(beside(path, "wal")) or 0


def beside(path: str, kind: str) -> str:
    """The file that SQLite keeps beside the file: ``wal`` or ``shm``."""
    return f"{os.path.realpath(path)}-{kind}"


def _size(path: str) -> int | None:
    """The size of a file in bytes; ``None`` where there is none."""
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return 1  # it cannot be looked at: the driver says why


def _is_in_wal_mode(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            header = file.read(20)
    except OSError:
        return False  # as above
    return header[19:] == bytes([_WAL_MODE])
