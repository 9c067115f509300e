"""The queries of one schema: each name in them with its schema, for any search_path."""

from __future__ import annotations

import re

from tapescope_adapters._sql import Queries, load
from tapescope_adapters.postgres._rows import TASK_COLUMNS
from tapescope_adapters.postgres._schema import list_made

__all__ = ["load_queries"]


def load_queries(schema: str) -> Queries:
    """Every query, for the store in this schema.

    The migrations say which tables and functions are the schema's. Settings of a session are not
    relied on, for behind a pooler the next statement may meet another session.
    """
    made = list_made()
    tables = "|".join(name for name, kind in made.items() if kind == "TABLE")
    functions = "|".join(name for name, kind in made.items() if kind == "FUNCTION")
    table = re.compile(rf"\b(FROM|JOIN|INTO|UPDATE)(\s+)({tables})\b")
    function = re.compile(rf"(?<![\w.])({functions})\(")
    return {
        name: function.sub(
            rf'"{schema}".\1(',
            table.sub(rf'\1\2"{schema}".\3', text.replace("/*task*/", TASK_COLUMNS)),
        )
        for name, text in load("tapescope_adapters.postgres").items()
    }
