"""The table of guards fits the tree, and no guard of a kind that can be found is missing in it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.mutants.guard import POSTGRES, ROOT, SQLITE, TAPESCOPE, mutate
from tests.mutants.table import GUARDS

ROOMS: Final = (
    *(f"{TAPESCOPE}/{room}" for room in ("run", "manager", "store", "shell")),
    f"{TAPESCOPE}/shielded.py",
    f"{TAPESCOPE}/spool.py",
    SQLITE,
    POSTGRES,
)
CALLS: Final = re.compile(
    r"\bwait_shielded\(|\basyncio\.shield\(|\bforget_cancels\(\)|\b_to_its_end\(\w"
    r"|context=contextvars\.Context\(\)|\bwith (?:write|read)_transaction\(|\blane\.fence\("
    r"|\bos\.fsync\(|\bfcntl\.flock\(|\b_home\.check\(\)|\bself\.home\.check\(\)"
)
"""Calls that are there as guards alone."""
LOCKS: Final = re.compile(r"\bFOR (?:NO KEY )?UPDATE\b|^\s*LOCK TABLE\b|\bLOCK TABLE \w+ IN\b")
NAMED: Final = re.compile(
    r"^\s*(?:CREATE (?:OR REPLACE )?TRIGGER|CONSTRAINT|CREATE UNIQUE INDEX|ADD CONSTRAINT) (\w+)",
    re.MULTILINE,
)


@cache
def touched() -> dict[str, set[int]]:
    """The lines of each file that a row of the table takes something from."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for guard in GUARDS.values():
        for edit in guard.edits:
            found[edit.file].update(edit.lines())
    return found


def find_calls() -> Iterator[tuple[str, int]]:
    """Where the rooms call what is there as a guard alone."""
    for room in ROOMS:
        place = ROOT / room
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            yield from _search(file, CALLS, ("#", "def ", "async def "))


def find_locks() -> Iterator[tuple[str, int]]:
    """Where the SQL of PostgreSQL takes a lock."""
    for file in sorted((ROOT / POSTGRES / "sql").rglob("*.sql")):
        if file.parent.name != "migrations":
            yield from _search(file, LOCKS, ("--",))


def find_named(store: str) -> Iterator[tuple[str, int]]:
    """Where the migrations make each trigger and constraint for the last time."""
    sql = ROOT / store / "sql"
    names = NAMED.findall((sql / "schema.sql").read_text())
    assert len(names) > 20
    for name in names:
        made = re.compile(rf"\b(?:TRIGGER|CONSTRAINT|INDEX) {name}\b(?! ON tasks;)")
        places = [
            place
            for file in sorted((sql / "migrations").glob("*.sql"))
            for place in _search(file, made, ("--", "DROP "))
        ]
        yield places[-1]


def _search(file: Path, wanted: re.Pattern[str], but: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if wanted.search(line) and not line.lstrip().startswith(but):
            yield file.relative_to(ROOT).as_posix(), number


def test_each_row_fits_the_tree() -> None:
    """What it removes stands there exactly once, and the tests that it names are there."""
    for guard in GUARDS.values():
        texts = mutate(guard, GUARDS)
        missing = [test for test in guard.tests if not (ROOT / test.partition("::")[0]).exists()]

        assert all(text != (ROOT / name).read_text() for name, text in texts.items()), guard.name
        assert missing == [], guard.name
        assert guard.tests, guard.name
        assert len(guard.name) <= 30, guard.name


@pytest.mark.parametrize(
    ("what", "places"),
    [
        ("calls", list(find_calls())),
        ("locks", list(find_locks())),
        ("SQLite", list(find_named(SQLITE))),
        ("PostgreSQL", list(find_named(POSTGRES))),
    ],
)
def test_each_guard_has_a_row(what: str, places: list[tuple[str, int]]) -> None:
    """A trigger, constraint, lock, shield or fence that the table does not know is a new one."""
    unknown = [f"{file}:{line}" for file, line in places if line not in touched()[file]]

    assert len(places) > 5
    assert unknown == [], f"{what} without a row in tests/mutants/table: see CONTRIBUTING.md"
