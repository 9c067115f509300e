"""Pausing another process, as a debugger or a machine that is moved does."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing

from tapescope.testing import until

__all__ = ["pause_process"]


async def pause_process(send: Callable[[int], None], url: str) -> None:
    """SIGSTOP a process that uses the store of ``url``; ``send`` sends it a signal.

    One that holds the write lock of a SQLite file is let go on and stopped again: while it sleeps
    no other process could write there, which is the file's way and not what is looked at.
    """

    async def is_stopped() -> bool:
        send(signal.SIGSTOP)
        if not url.startswith("sqlite") or await asyncio.to_thread(_is_free, url):
            return True
        send(signal.SIGCONT)
        return False

    await until(is_stopped, within=30)


def _is_free(url: str) -> bool:
    path = url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as file:
        try:
            file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        file.execute("ROLLBACK")
        return True
