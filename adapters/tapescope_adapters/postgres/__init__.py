"""The PostgreSQL store, on asyncpg. Importing it without asyncpg raises ``MissingExtra``."""

from __future__ import annotations

from tapescope.errors import MissingExtra

try:
    from tapescope_adapters.postgres.store import PostgresStore
except ModuleNotFoundError as error:
    if error.name != "asyncpg":
        raise
    raise MissingExtra("The PostgreSQL store", "postgres") from error

__all__ = ["PostgresStore"]
