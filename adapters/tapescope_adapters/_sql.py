"""Named queries from the ``.sql`` files beside an adapter: a file a table, the names as in both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

__all__ = ["Queries", "find_compatible", "load"]

Queries = Mapping[str, str]
"""Query text by name."""

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


_COMPATIBLE = re.compile(r"^-- compatible from (\d+)$", re.MULTILINE)


def find_compatible(number: int, script: str) -> int:
    """The oldest schema version whose code may go on after this migration; its own if it says none.

    Code knows a version when it has its migration.
    """
    found = _COMPATIBLE.search(script)
    return number if found is None else int(found[1])


def load(package: str) -> Queries:
    """Every ``-- name: …`` block of the package's ``sql/*.sql`` files."""
    found: dict[str, str] = {}
    for entry in sorted((files(package) / "sql").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            _, *blocks = _NAME.split(entry.read_text())
            for name, text in zip(blocks[::2], blocks[1::2], strict=True):
                assert name not in found, f"query {name!r} stands twice in {package}"
                found[name] = text.strip().removesuffix(";")
    return found
