"""A SQLite file with a store in it that is made, and its copies, each a store of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from tapescope.store.port import TaskStore
from tapescope_adapters.sqlite import SqliteStore

__all__ = ["MadeFile", "make_store"]


class MadeFile:
    """What the migrations make, made once: a copy takes a tenth of their time."""

    def __init__(self, path: Path) -> None:
        """Make the store; ``path`` is a file that is not there."""
        make_store(SqliteStore(f"sqlite:///{path}"))
        with closing(sqlite3.connect(path)) as conn:
            (store_id,) = conn.execute("SELECT store_id FROM maintenance").fetchone()
        self._mode = path.stat().st_mode
        self._before, self._after = path.read_bytes().split(store_id.encode())  # it is there once

    def copy(self, path: Path) -> None:
        """A store that nobody has used, with an id of its own as each store has."""
        path.touch(self._mode)
        path.write_bytes(self._before + uuid4().hex[:16].encode() + self._after)


def make_store(store: TaskStore) -> None:
    """Have a store make its tables; in a thread, for a loop may run where it is asked."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _open(store)).result()


async def _open(store: TaskStore) -> None:
    async with store:
        pass
