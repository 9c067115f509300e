"""Tables on a terminal: they fit it, nothing of use is cut, and piped they are whole."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing

import pytest
from rich.cells import cell_len

from tapescope import NewTask, TaskStore, find_store
from tapescope.model.wording import format_age, format_duration, shorten_id
from tapescope.store.validation import new_task_id
from tests.cli.command import Tapescope
from tests.cli.tasks import make_ended, make_every_kind, make_task

_TABLES = (("list",), ("drops",), ("drill", "--list"))
_HIGHEST = "ffffffff"


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` reads, open here, too."""
    async with find_store(sqlite_url) as store:
        yield store


@pytest.fixture
async def store_on(store_url: str) -> AsyncGenerator[TaskStore]:
    """The store of each kind that ``tapescope_on`` reads, open here, too."""
    async with find_store(store_url) as store:
        yield store


async def fill(store: TaskStore) -> dict[str, str]:
    """Tasks of every kind, of ops with long names, one of which breaks an invariant."""
    await make_every_kind(store, "a" * 64)
    ids = await make_every_kind(store, "resize.thumbnails-of-photos")
    return ids


@pytest.mark.parametrize("term", ["xterm", "dumb"])
async def test_tables_fit_the_terminal(store: TaskStore, tapescope: Tapescope, term: str) -> None:
    """No line is longer than the terminal is wide, and every id is in its short form."""
    ids = await fill(store)
    for command in _TABLES:
        for columns in (80, 120):
            screen = tapescope.screen(*command, columns=columns, env={"TERM": term})

            assert max(map(cell_len, screen.lines)) <= columns, screen.text
            if command == ("list",):
                assert all(shorten_id(task_id) in screen.text for task_id in ids.values())
                assert ("\x1b" in screen.drawn) == (term == "xterm")


async def test_audit_table_fits_the_terminal(store: TaskStore, tapescope: Tapescope) -> None:
    """The text of a violation goes on in the next line."""
    task_id = (await make_ended(store, "resize")).task_id
    with closing(sqlite3.connect(tapescope.store.removeprefix("sqlite:///"))) as conn:
        conn.execute("DROP TRIGGER events_live_with_task")
        conn.execute("DELETE FROM events WHERE type = 'final'")
        conn.commit()
    screen = tapescope.screen("audit")

    assert screen.status == 1
    assert shorten_id(task_id) in screen.text
    assert max(map(len, screen.lines)) <= 80, screen.text


async def test_list_says_how_each_task_stands(store: TaskStore, tapescope: Tapescope) -> None:
    """Each outcome has a sign besides its colour; an error is its class, without the module."""
    ids = await make_every_kind(store)
    screen = tapescope.screen("list")
    rows = {line.split()[0]: line for line in screen.lines if "resize" in line}
    signs = {state: rows[shorten_id(task_id)].split()[2] for state, task_id in ids.items()}

    assert all(f"{sign} {state}" in rows[shorten_id(ids[state])] for state, sign in signs.items())
    assert len(set(signs.values())) == len(signs)
    assert rows[shorten_id(ids["failed"])].endswith(" NoRoute")
    assert "\x1b[31m✗ failed" in screen.drawn


async def test_signs_of_a_terminal_without_unicode(store: TaskStore, tapescope: Tapescope) -> None:
    """Where the encoding lacks the signs there are plain ones, as many columns wide."""
    await make_every_kind(store, "a" * 64)
    screen = tapescope.screen("list", encoding="ascii")

    assert "x failed" in screen.text
    assert "~" in screen.text
    assert "\\u" not in screen.text
    assert max(map(len, screen.lines)) <= 80


async def test_wide_list_is_the_piped_one(store: TaskStore, tapescope: Tapescope) -> None:
    """``--wide`` has whole ids, RFC 3339 times and qualified errors on a terminal, too."""
    ids = await make_every_kind(store)
    wide = tapescope.screen("list", "--wide")
    piped = tapescope.here("list").stdout.decode()

    assert [line.rstrip() for line in wide.lines if line[:3] not in ("los", "Mor")] == (
        piped.splitlines()
    )
    assert all(task_id in piped for task_id in ids.values())
    assert "shop.errors.NoRoute" in piped
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", piped)


@pytest.mark.parametrize(
    "command",
    [["show"], ["tape"], ["drops"], ["retry"], ["cancel"], ["list", "--before"]],
    ids=" ".join,
)
async def test_short_id_names_the_task(
    store: TaskStore, tapescope: Tapescope, command: list[str]
) -> None:
    """What ``list`` shows is taken wherever an id is asked for, however alike the others are."""
    made = [(await make_ended(store, late=1)).task_id for _ in range(3)]
    done = tapescope.here(*command, shorten_id(made[1]), "--json")

    if command == ["retry"]:  # found, but no worker can run it
        assert b"'resize'" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    if command == ["list", "--before"]:
        assert [task["task_id"] for task in json.loads(done.stdout)["tasks"]] == made[:1]
    else:
        assert made[1].encode() in done.stdout
        assert made[0].encode() not in done.stdout


async def test_short_id_of_one_of_many_made_at_once(
    store_on: TaskStore, tapescope_on: Tapescope
) -> None:
    """Among hundreds of one millisecond the tail tells; where it does not, that is said."""
    head = new_task_id()[:13]
    ids = [f"{head}-7000-8000-{number:012x}" for number in range(250)]
    ids.append(f"{head}-7001-8000-{7:012x}")
    for task_id in ids:
        await store_on.create(NewTask(task_id, "resize"))
    one = tapescope_on.json("show", shorten_id(ids[11]))
    two = tapescope_on.here("show", shorten_id(ids[7]))
    none = tapescope_on.here("show", f"{head}-{_HIGHEST[:6]}")

    assert one["task_id"] == ids[11]
    assert (two.returncode, two.stderr.count(b"stands for")) == (2, 1)
    assert (none.returncode, none.stderr.count(b"has no task")) == (1, 1)


async def test_time_that_went_back_is_no_length(store: TaskStore, tapescope: Tapescope) -> None:
    """Where the clock was set back during a run, ``?`` stands for its length, with the reason."""
    attempt = await make_ended(store)
    with closing(sqlite3.connect(tapescope.store.removeprefix("sqlite:///"))) as conn:
        conn.execute("DROP TRIGGER tasks_terminal_never_change")
        conn.execute("UPDATE tasks SET claimed_at = claimed_at + 3600000000")
        conn.commit()
    screen = tapescope.screen("list")
    piped = tapescope.here("list").stdout.decode()

    assert re.search(rf"{shorten_id(attempt.task_id)} .* \?$", screen.text, re.MULTILINE)
    assert "the clock was set back" in screen.text
    assert piped.splitlines()[1].endswith(" ?")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.00s"),
        (9.994, "9.99s"),
        (9.996, "10.0s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (3_599.4, "59m59s"),
        (3_600, "1h00m"),
        (86_399, "23h59m"),
        (99 * 86_400 + 82_800, "99d23h"),
    ],
)
def test_durations_have_six_characters_at_most(seconds: float, shown: str) -> None:
    """A length of time is told with as much as is of use."""
    assert format_duration(seconds) == shown
    assert len(shown) <= 6


def test_ages_are_in_the_largest_unit() -> None:
    """And one of the future, by a clock that is ahead, is now."""
    now = 10**15
    ages = (0, 1, 59, 60, 3_599, 3_600, 86_400 * 40, -5)

    assert [format_age(now - age * 1_000_000, now) for age in ages] == [
        *("now", "1s", "59s", "1m", "59m", "1h", "40d", "now"),
    ]


async def test_no_row_is_wrong_where_two_pages_meet(store: TaskStore, tapescope: Tapescope) -> None:
    """The id under "More" leads to the next page, and is short, too."""
    ids = [(await make_task(store)).task_id for _ in range(5)]
    first = tapescope.screen("list", "--limit", "3")
    more = first.lines[-1].split()
    second = tapescope.screen("list", "--limit", "3", *more[1:])

    assert more == ["More:", "--before", shorten_id(ids[2])]
    assert [line.split()[0] for line in second.lines[1:]] == [
        shorten_id(task_id) for task_id in ids[1::-1]
    ]
