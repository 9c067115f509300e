"""What the journal says, in dictionaries, and transactions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from tapescope.model import (
    Assurance,
    CancelReason,
    CancelRequest,
    DroppedEvent,
    DropReason,
    InboxRow,
    Task,
    TaskStatus,
)
from tapescope.store import EventRow

__all__ = ["Change", "Key", "Tables", "Transaction", "from_line", "to_line"]

Key = int | str
Change = tuple[str, Key, Any]
"""A table, a key, and its new value; ``None``: it is gone."""


class Tables:
    """Every table as of the last line that was read: by key, in the order of the first writes."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[Key, Any]] = {}

    def get(self, table: str) -> Mapping[Key, Any]:
        """A table's rows."""
        return self._tables.get(table, {})

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over the changes of a transaction."""
        for table, key, value in changes:
            if value is not None:
                self._tables.setdefault(table, {})[key] = value
            elif (rows := self._tables.get(table)) is not None:
                rows.pop(key, None)
                if not rows:
                    del self._tables[table]


class Transaction:
    """Reads the tables with its own changes before them, which the tables do not have yet."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._changes: dict[str, dict[Key, Any]] = {}

    @property
    def changes(self) -> list[Change]:
        """What is to be committed, in the order of the first writes."""
        return [(table, *row) for table, rows in self._changes.items() for row in rows.items()]

    def get(self, table: str, key: Key) -> Any:
        """A row; ``None`` where there is none."""
        changed = self._changes.get(table, {})
        return changed[key] if key in changed else self._tables.get(table).get(key)

    def put(self, table: str, key: Key, value: Any) -> None:
        """Write a row; ``None`` deletes it."""
        self._changes.setdefault(table, {})[key] = value

    def scan(self, table: str) -> Mapping[Key, Any]:
        """A whole table."""
        rows, changed = self._tables.get(table), self._changes.get(table)
        if not changed:
            return rows
        return {key: row for key, row in {**rows, **changed}.items() if row is not None}

    def next_number(self, counter: str) -> int:
        """1, 2, 3 …: the next number of a counter."""
        number: int = (self.get("counters", counter) or 0) + 1
        self.put("counters", counter, number)
        return number


def to_line(changes: Iterable[Change]) -> list[Any]:
    """A transaction as its line holds it: what JSON has no word for in parts."""
    return [[table, key, _to_json(value)] for table, key, value in changes]


def from_line(line: Iterable[Any]) -> list[Change]:
    """A transaction, read from its line."""
    changes: list[Change] = []
    for table, key, value in line:
        read = _FROM_JSON.get(table.partition("/")[0])  # events/17: the tape of task 17
        changes.append((table, key, value if value is None or read is None else read(value)))
    return changes


def _to_json(value: Any) -> Any:
    if isinstance(value, Task | DroppedEvent):
        return asdict(value)
    return list(value) if isinstance(value, EventRow | InboxRow) else value


def _as_task(said: dict[str, Any]) -> Task:
    said["status"] = TaskStatus(said["status"])
    said["tags"] = tuple(said["tags"])
    if (cancel := said["cancel"]) is not None:
        cancel["reason"] = CancelReason(cancel["reason"])
        cancel["known"] = Assurance(cancel["known"])
        said["cancel"] = CancelRequest(**cancel)
    return Task(**said)


def _as_drop(said: dict[str, Any]) -> DroppedEvent:
    said["reason"] = DropReason(said["reason"])
    return DroppedEvent(**said)


_FROM_JSON: Final[Mapping[str, Callable[[Any], Any]]] = {
    "tasks": _as_task,
    "drops": _as_drop,
    "events": EventRow._make,
    "ends": EventRow._make,
    "inbox": InboxRow._make,
}
