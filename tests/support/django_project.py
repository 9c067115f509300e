"""Django, set up for a test: it has no types, and settles once a process what it is set up with."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from psycopg.conninfo import conninfo_to_dict

__all__ = ["django", "django_database"]


def django(module: str) -> Any:
    """A module of Django's, of a project without an app."""
    settings: Any = import_module("django.conf").settings
    if not settings.configured:
        settings.configure(USE_TZ=True, LOGGING_CONFIG=None)
        import_module("django").setup()
    return import_module(f"django.{module}")


@contextmanager
def django_database(url: str, alias: str = "default") -> Generator[Any]:
    """Django's connection to the database of a store, under a name of Django's."""
    connections = django("db").connections
    if url.startswith("sqlite"):
        name = unquote(url.removeprefix("sqlite:///"))
        told: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
    else:
        found = conninfo_to_dict(url.partition("&schema=")[0])
        told = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": found["dbname"],
            "USER": found["user"],
            "HOST": found["host"],
        }
    before = connections.settings.get(alias)
    connections.settings[alias] = connections.configure_settings({"default": told})["default"]
    if hasattr(connections._connections, alias):
        del connections[alias]
    try:
        yield connections[alias]
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias]
        if before is not None:
            connections.settings[alias] = before
