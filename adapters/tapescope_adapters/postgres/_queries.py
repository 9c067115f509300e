"""The queries of one schema: each name in them with its schema, for any search_path."""

from __future__ import annotations

from functools import cache
from typing import Final

from tapescope_adapters._sql import Queries, load
from tapescope_adapters.postgres._names import qualify
from tapescope_adapters.postgres._rows import LISTED_COLUMNS, TASK_COLUMNS
from tapescope_adapters.postgres._schema import list_made

__all__ = ["load_queries"]

_ANY_SCHEMA: Final = "\0"
"""Stands for the schema: no name, and no text of a query, has it."""


def load_queries(schema: str) -> Queries:
    """Every query, for the store in this schema.

    The migrations say which tables and functions are the schema's. Settings of a session are not
    relied on, for behind a pooler the next statement may meet another session.
    """
    return {name: text.replace(_ANY_SCHEMA, schema) for name, text in _qualify_all().items()}


@cache
def _qualify_all() -> Queries:
    """Once a process: it is 5 ms of CPU."""
    made = list_made()
    texts = dict(load("tapescope_adapters.postgres"))
    for name in (
        *("list_tasks", "list_of_status"),
        *(f"search_{among}" for among in ("tasks", "tagged", "children", "of_status")),
    ):
        texts[f"{name}_bare"] = texts[name].replace("/*task*/", LISTED_COLUMNS)
    return {
        name: qualify(text.replace("/*task*/", TASK_COLUMNS), _ANY_SCHEMA, made)
        for name, text in texts.items()
    }
