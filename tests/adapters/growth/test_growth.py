"""No statement of a store is more work in a big store than in a small one.

A statement may take one block more for each level that an index has grown by. All else that grows
is in one of the tables below, with the reason; and each statement of an adapter's ``.sql`` files is
asked by ``walk``, or is in ``NOT_ASKED``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tapescope.store import StoreLimits
from tapescope_adapters._sql import load
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.postgres._queries import load_queries
from tapescope_adapters.sqlite import SqliteStore
from tests.adapters.growth.counted import Work, count_blocks, count_steps
from tests.adapters.growth.filled import fill_file, fill_schema
from tests.adapters.growth.walk import walk
from tests.support.services import Postgres

SMALL, BIG, HUGE = 1_000, 20_000, 1_000_000
PATIENCE = 300.0
_FEW = {BIG: 50, HUGE: 300}
"""Steps or blocks that are no matter: in a huge store each task and event of a page of the audit is
looked up, where in a small one all of them stand in a block or two."""
_HUGE = (pytest.mark.growth, pytest.mark.timeout(3_600))
LIMITS = StoreLimits(looked_at=50)
"""A page of a list looks at so many tasks at most: what it costs then is the same in any store."""

_IN_EITHER: Mapping[str, str] = {
    "count_tasks": "the exact count of everything reads everything",
    "recount_backlog": "counts every task, and is asked by hand",
    "mend_backlog": "as above",
    "find_running": "reads what runs: as many as there are slots, however big the store",
    "list_workers": "reads what runs, as find_running",
    "read_owners": "reads what runs, and what waits for its owner alone",
    "read_ops": "reads a row for each op that a worker was ever told of: the program has so many",
    "rescue_expired of dead owners": "reads what runs, once an owner is known to be dead",
    "read_quarantine with its counts": "how many drops there were and are kept reads all of them",
    "read_size": "counts late events up to 20,000, and no more in any store",
    "count_overdue": "counts what an engine was not asked about up to 10,000, and no more",
    "find_open from the start": "the first look of who leads: where what has not ended begins",
}
_LOOK_FOR_LOST = "rescue_expired, nobody lost", "rescue_expired"
"""After a quiet time it reads what runs: as many as there are slots."""
GROWS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        **_IN_EITHER,
        "count_quarantine": "is asked where all are counted, as above",
        "read_running": "reads what runs, as find_running",
    },
    "postgresql": {
        **_IN_EITHER,
        "read_backlog": "reads what runs, and a row of each op that a worker was ever told of",
        "forget_stale_lanes": "reads a row for each store that was open in a day, at an opening",
    },
}
"""By store, and by statement or verb, why it may be more work in a bigger store."""

_LISTED = 300
"""Blocks that a list reads, in however small a store: a planner that is led astray reads all of a
small one, and of a big one where its statistics are others."""

NOT_ASKED: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "add_gone": "one number by its key, where tasks were deleted past the triggers",
    },
    "postgresql": {
        "lock_schema": "of a migration, which reads no table",
        "note_version": "of a migration: one row",
        "note_compatibility": "of a migration: one row",
        "find_searched_drop": "a part of read_quarantine, which is asked",
    },
}
"""By store, the statements that are not asked, and why."""


async def _walk_file(path: Path, rows: int, *, analysed: bool) -> Work:
    work = Work(load("tapescope_adapters.sqlite"))
    filled = await fill_file(str(path), rows, analysed=analysed)
    async with count_steps(work):
        with work.verb("open"):
            store = await SqliteStore(filled.url, limits=LIMITS, patience=PATIENCE).open()
        try:
            await walk(store, work, filled)
        finally:
            await store.aclose()
    with closing(sqlite3.connect(path)) as conn:
        work.find_counting(conn)
    return work


async def _walk_schema(server: Postgres, rows: int, *, quiet: bool) -> Work:
    filled = await fill_schema(server, rows, quiet=quiet)
    schema = filled.url.rpartition("=")[2]
    work = Work(load_queries(schema))
    with count_blocks(work, schema):
        with work.verb("open"):
            store = await PostgresStore(filled.url, limits=LIMITS, patience=PATIENCE).open()
        try:
            await walk(store, work, filled)
        finally:
            with work.verb("close"):
                await store.aclose()
    return work


def _judge(store: str, works: Mapping[int, Work], *, most: float) -> None:
    """None is more than ``most`` times the work of a small store but for what has a reason."""
    small, excused = works[SMALL].counted, GROWS[store].keys()
    grown: list[str] = []
    used: set[str] = set()
    for rows, work in works.items():
        used |= work.counting & excused
        grown += (f"{name} counts a whole table" for name in sorted(work.counting - excused))
        for (verb, name), counted in sorted(work.counted.items()):
            before = small[verb, name]
            if counted <= most * before + _FEW.get(rows, 0):
                continue
            if excuses := {verb, name} & excused:
                used |= excuses
            else:
                grown.append(f"{verb}: {name}: {before} at {SMALL:,} rows, {counted} at {rows:,}")

    assert not grown, "\n".join(["these grow with the store:", *grown])
    assert used == excused or HUGE not in works, "these do not grow: take out their reasons"


def _print(works: Mapping[int, Work]) -> None:
    """What each statement cost in each verb, by the size of the store."""
    print("", "verb", "statement", *(f"{rows:,}" for rows in works), sep=" | ")
    for verb, name in sorted(works[SMALL].counted):
        counts = (f"{work.counted[verb, name]:,}" for work in works.values())
        print("", verb, name, *counts, sep=" | ")


def _judge_asked(store: str, names: Sequence[str], works: Mapping[int, Work]) -> None:
    asked = {name for _, name in works[SMALL].counted}

    assert set(names) - asked == NOT_ASKED[store].keys()


@pytest.mark.parametrize(
    ("analysed", "sizes"),
    [
        (False, (SMALL, BIG)),
        pytest.param(True, (SMALL, BIG), marks=pytest.mark.slow),
        pytest.param(False, (SMALL, BIG, HUGE), marks=_HUGE),
        pytest.param(True, (SMALL, BIG, HUGE), marks=_HUGE),
    ],
    ids=["big", "big-analysed", "huge", "huge-analysed"],
)
async def test_no_statement_of_sqlite_grows(
    tmp_path: Path, sizes: Sequence[int], *, analysed: bool
) -> None:
    """Whether somebody has run ``ANALYZE`` or not."""
    works = {
        rows: await _walk_file(tmp_path / f"{rows}.db", rows, analysed=analysed) for rows in sizes
    }
    _print(works)

    _judge_asked("sqlite", [*load("tapescope_adapters.sqlite")], works)
    _judge("sqlite", works, most=1.3)


@pytest.mark.parametrize(
    ("quiet", "sizes"),
    [
        (False, (SMALL, BIG)),
        (True, (SMALL, BIG)),
        pytest.param(False, (SMALL, BIG, HUGE), marks=_HUGE),
    ],
    ids=["big", "big-quiet", "huge"],
)
async def test_no_statement_of_postgresql_grows(
    postgres_server: Postgres, sizes: Sequence[int], *, quiet: bool
) -> None:
    """Also after so many calls that one plan may do for all of them, and with statistics of a time
    when nothing waited or ran: a task's id leads to it, whatever a planner takes what runs for."""
    works = {rows: await _walk_schema(postgres_server, rows, quiet=quiet) for rows in sizes}
    _print(works)

    _judge_asked("postgresql", [*load("tapescope_adapters.postgres")], works)
    for work in works.values():
        lists = {at: blocks for at, blocks in work.counted.items() if at[0].startswith("list ")}
        assert max(lists.values()) <= _LISTED, lists
    for work in works.values() if quiet else ():
        work.counted.pop(_LOOK_FOR_LOST)
    _judge("postgresql", works, most=2)
