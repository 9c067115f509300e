"""The ``.sql`` files beside an adapter: named queries, numbered migrations, and their functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any

from tapescope.model import TaskFilter

__all__ = ["Queries", "conditions", "find_compatible", "leads", "load", "load_migrations"]

Queries = Mapping[str, str]
"""Query text by name."""

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_FUNCTIONS = re.compile(r"^-- functions: (\w+(?:, \w+)*)\n", re.MULTILINE)
_COMPATIBLE = re.compile(r"^-- compatible from (\d+)$", re.MULTILINE)


def leads(wanted: TaskFilter) -> bool:
    """Whether an index leads to the tasks of a list: by status, or by an idempotency key.

    By a tag or a parent one leads to so many, among which the rest of the conditions is looked for.
    """
    if wanted.tag is not None or wanted.parent_id is not None:
        return False
    by_key = wanted.idempotency_key is not None
    return by_key or replace(wanted, status=None, params=True) == TaskFilter()


def conditions(wanted: TaskFilter) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a list asks for, by column and comparison: of the index that it walks, of the rows."""
    status = {"status =": wanted.status and wanted.status.value}
    parent = {"parent_id =": wanted.parent_id}
    of_index = {"task_id >=": wanted.from_id}
    of_row: dict[str, Any] = {}
    if wanted.tag is not None:
        of_index |= {"tag =": wanted.tag}
        of_row = status | parent
    elif wanted.parent_id is not None:
        of_index |= parent
        of_row = status
    else:
        of_index |= status
    of_row |= {
        "op =": wanted.op,
        "owner =": wanted.owner,
        "queue =": wanted.queue,
        "idempotency_key =": wanted.idempotency_key,
        "created_at >=": wanted.since_us,
        "created_at <": wanted.until_us,
    }
    return _leave_out_none(of_index), _leave_out_none(of_row)


def _leave_out_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {on: value for on, value in given.items() if value is not None}


def find_compatible(number: int, script: str) -> int:
    """The oldest schema version whose code may go on after this migration; its own if it says none.

    Code knows a version when it has its migration.
    """
    found = _COMPATIBLE.search(script)
    return number if found is None else int(found[1])


def load_migrations(folder: Traversable) -> dict[int, str]:
    """The scripts in ``folder/migrations``, by number.

    In place of each line ``-- functions: a, b`` stand the files of these names in
    ``folder/functions``: nothing else applies them (docs/decisions/0004).
    """

    def read(named: re.Match[str]) -> str:
        names = named[1].split(", ")
        return "".join(
            (folder / "functions" / f"{name}.sql").read_text(encoding="utf-8") for name in names
        )

    found: dict[int, str] = {}
    for entry in sorted((folder / "migrations").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            number = int(entry.name[:4])
            assert number not in found, f"two migrations have the number {number}"
            found[number] = _FUNCTIONS.sub(read, entry.read_text(encoding="utf-8"))
    return found


@cache
def load(package: str) -> Queries:
    """Every ``-- name: …`` block of the package's ``sql/*.sql`` files; read once a process."""
    found: dict[str, str] = {}
    for entry in sorted((files(package) / "sql").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            _, *blocks = _NAME.split(entry.read_text(encoding="utf-8"))
            for name, text in zip(blocks[::2], blocks[1::2], strict=True):
                assert name not in found, f"query {name!r} stands twice in {package}"
                found[name] = text.strip().removesuffix(";")
    return MappingProxyType(found)
