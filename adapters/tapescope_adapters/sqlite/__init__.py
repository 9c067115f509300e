"""The SQLite store, on aiosqlite."""

from __future__ import annotations

from tapescope_adapters.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
