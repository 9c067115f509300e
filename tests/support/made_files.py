"""A SQLite file with a store in it that is made, and its copies, each a store of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from tapescope_adapters.sqlite import SqliteStore

__all__ = ["MadeFile"]


class MadeFile:
    """What the migrations make, made once: a copy takes a tenth of their time."""

    def __init__(self, path: Path) -> None:
        """Make the store; ``path`` is a file that is not there."""
        with ThreadPoolExecutor(
            1
        ) as thread:  # it has no loop, whatever runs where one is asked for
            thread.submit(asyncio.run, _open_once(path)).result()
        with closing(sqlite3.connect(path)) as conn:
            (store_id,) = conn.execute("SELECT store_id FROM maintenance").fetchone()
        self._mode = path.stat().st_mode
        self._before, self._after = path.read_bytes().split(store_id.encode())  # it is there once

    def copy(self, path: Path) -> None:
        """A store that nobody has used, with an id of its own as each store has."""
        path.touch(self._mode)
        path.write_bytes(self._before + uuid4().hex[:16].encode() + self._after)


async def _open_once(path: Path) -> None:
    async with SqliteStore(f"sqlite:///{path}"):
        pass
