"""Holding a store, so that who writes to it waits."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager

__all__ = ["held"]


@contextmanager
def held(url: str) -> Generator[None]:
    """Have nobody write to a SQLite store inside: it waits as long as it has patience."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")
