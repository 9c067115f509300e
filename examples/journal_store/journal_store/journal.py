"""The journal: an append-only file whose every line is one committed transaction."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tapescope.store import OpenMode, StoreAway, StoreOutOfRoom, decode, encode

__all__ = ["Journal"]


class Journal:
    """One process's hold of the file. Every method raises ``StoreAway`` when the file cannot be
    used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._place = 0
        """Behind the last line that was read or written here."""

    def open(self, mode: OpenMode) -> None:
        """Open the file, and make it only where ``mode`` allows; ``read`` begins at its start."""
        self.close()
        access = os.O_RDWR | os.O_APPEND if mode.may_write else os.O_RDONLY
        with _as_store_errors():
            self._file = os.open(self.path, access | (os.O_CREAT if mode.may_create else 0), 0o600)
        self._place = 0

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextmanager
    def lock(self) -> Generator[None]:
        """Keep every other process from writing. A writer reads what is new before it writes."""
        file = self._need()
        with _as_store_errors():
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def read(self) -> list[Any]:
        """The lines that are new since the last call, decoded.

        A line without its end is of a writer that is at work, or was killed: it is not there yet.
        """
        file = self._need()
        with _as_store_errors():
            text = bytearray()
            while part := os.pread(file, 1 << 20, self._place + len(text)):
                text += part
        whole = text[: text.rfind(b"\n") + 1]
        self._place += len(whole)
        return [decode(line) for line in whole.splitlines()]

    def write(self, line: Any) -> None:
        """Add a line, and have it on the disk; for who has the lock and has read what is new."""
        file = self._need()
        text = encode(line, "a journal's line").encode() + b"\n"
        with _as_store_errors():
            try:
                os.ftruncate(file, self._place)  # what a killed writer left without an end
                left = memoryview(text)
                while left:
                    left = left[os.write(file, left) :]
                os.fsync(file)
            except OSError:
                os.ftruncate(file, self._place)  # a line that is not on the disk was not written
                raise
        self._place += len(text)

    def _need(self) -> int:
        if self._file is None:
            raise StoreAway(f"the journal {self.path} is not open")
        return self._file


@contextmanager
def _as_store_errors() -> Generator[None]:
    """The system's errors, in the port's words."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (StoreOutOfRoom if full else StoreAway)(str(error)) from error
