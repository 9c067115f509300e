"""``tapescope audit``, ``prune`` and ``migrate``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest

from tapescope import NewEvent, NewTask, TaskStore, find_store
from tapescope.model.tasks import FinalEvent
from tapescope.store.validation import new_task_id
from tests.adapters.next_version import NextVersion
from tests.cli.command import Tapescope
from tests.cli.conftest import Here
from tests.support.breaches import run_round


@pytest.fixture
async def store_on(store_url: str) -> AsyncGenerator[TaskStore]:
    """The store of each kind that ``tapescope_on`` reads, open here, too."""
    async with find_store(store_url) as store:
        yield store


async def make_ended(store: TaskStore) -> str:
    """A task that succeeded, and then reported once more."""
    task, _ = await store.create(NewTask(new_task_id(), "x"))
    claim = await store.claim_if_pending(task, "me", 60)
    assert claim is not None
    await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
    await store.append(claim.attempt, [NewEvent("log", "late")])
    return task.task_id


async def test_audit_of_a_sound_store(store_on: TaskStore, tapescope_on: Tapescope) -> None:
    """All is well: status 0, the JSON shape, and a line for people."""
    await make_ended(store_on)

    assert tapescope_on.json("audit") == {
        "checked": 1,
        "violations": [],
        "store": store_on.name,
    }
    assert tapescope_on("audit").stdout == b"tapes checked: 1; violations: 0\n"


async def test_audit_that_finds_something(tapescope: Tapescope, sqlite_url: str) -> None:
    """A violation is named with its rule and its task, and the status is 1."""
    async with find_store(sqlite_url) as store:
        task_id = await make_ended(store)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
        conn.execute("DROP TRIGGER events_live_with_task")
        conn.execute("DELETE FROM events WHERE type = 'final'")
        conn.commit()
    done = tapescope("audit", "--json")

    assert done.returncode == 1
    assert b'"rule":"missing_final"' in done.stdout
    assert task_id.encode() in done.stdout


async def test_audit_of_a_file_that_is_not_sound(here: Here, sqlite_url: str) -> None:
    """The whole file is looked at: an index that is not its table's has status 1, and a name."""
    async with find_store(sqlite_url) as store:
        await make_ended(store)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute(
            "UPDATE sqlite_schema SET rootpage = (SELECT sum(s.rootpage) FROM sqlite_schema s"
            " WHERE s.name IN ('tasks_lease', 'tasks_status_task_id')) - rootpage"
            " WHERE name IN ('tasks_lease', 'tasks_status_task_id')"
        )
        conn.commit()
    done = here("audit")

    assert done.returncode == 1
    assert b"file_damaged" in done.stdout


async def test_audit_that_repairs(store_url: str, tapescope_on: Tapescope) -> None:
    """A dry run tells and changes nothing; a repair mends with status 1; then all is well."""
    async with find_store(store_url) as store:
        task_id = await make_ended(store)
        key = (await store.get(task_id)).key
    await run_round(store_url, f"DELETE FROM events WHERE task = {key} AND type = 'final'")
    told = tapescope_on.here("audit", "--dry-run", "--json")
    done = tapescope_on.here("audit", "--repair")
    again = tapescope_on.here("audit", "--repair", "--json")
    async with find_store(store_url) as store:
        (trace,) = await store.maintenance.read_repairs()

    repair = {
        "rule": "missing_final",
        "task_id": task_id,
        "detail": "event 2 is now its final, and says succeeded as the row does",
    }
    shape = json.loads(told.stdout)
    assert (told.returncode, done.returncode, again.returncode) == (1, 1, 0)
    assert (shape["dry_run"], shape["repairs"], shape["left"]) == (True, [repair], [])
    assert b"tapes checked: 1; violations: 1; repairs: 1; left as they are: 0\n" in done.stdout
    assert json.loads(again.stdout)["violations"] == []
    assert "@" in trace.by


async def test_prune_says_what_it_did(store_on: TaskStore, tapescope_on: Tapescope) -> None:
    """A dry run deletes nothing; then the tasks go; the quarantine goes by itself."""
    for _ in range(2):
        await make_ended(store_on)
    first = tapescope_on.here("prune", "--older-than", "0s", "--dry-run")
    wrong = tapescope_on.here("prune", "--older-than", "0s", "--outcome", "failed")
    young = tapescope_on.here("prune", "--older-than", "30d")
    done = tapescope_on(
        "prune", "--older-than", "0s", "--outcome", "succeeded", "--op", "x", "--yes"
    )
    drops = tapescope_on.here("prune", "--older-than", "0s", "--quarantine", "--yes")

    assert first.stdout == b"tasks with their tapes that would be deleted: 2\n"
    assert wrong.stdout == young.stdout == b"tasks with their tapes deleted: 0\n"
    assert done.stdout == b"tasks with their tapes deleted: 2\n"
    assert drops.stdout == b"late events deleted: 2\n"
    assert (await store_on.list()).tasks == ()


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1y", "1d2h"])
def test_age_that_is_none_is_refused(here: Here, age: str) -> None:
    """An age without its unit, or of an unknown one, deletes nothing."""
    done = here("prune", f"--older-than={age}")

    assert done.returncode == 2
    assert b"is not an age" in done.stderr


def test_quarantine_goes_by_age_alone(here: Here) -> None:
    """``--quarantine`` with an op or an outcome is a mistake, and is told so."""
    done = here("prune", "--older-than=1d", "--quarantine", "--op=x")

    assert done.returncode == 2
    assert b"age alone" in done.stderr


@pytest.mark.unmade
def test_migrate_brings_a_store_up_to_date(store_url: str, tmp_path: Path) -> None:
    """``--check`` changes nothing and says by its status that something is missing."""
    tapescope = Tapescope(store_url, tmp_path)
    absent = tapescope.here("migrate", "--check")
    made = tapescope("migrate")
    next_version = NextVersion(tmp_path / "next")
    next_version.change_function()
    with next_version.running_here():
        missing = tapescope.here("migrate", "--check")
        still = tapescope.here("migrate", "--check")
        done = tapescope.here("migrate")
        again = tapescope.here("migrate")
        sound = tapescope.here("migrate", "--check")

    assert (absent.returncode, absent.stdout) == (2, b"")
    assert (missing.returncode, still.returncode, sound.returncode) == (1, 1, 0)
    assert missing.stdout == still.stdout
    assert b"migrations missing: 1" in missing.stdout
    assert (made.returncode, done.returncode, again.returncode) == (0, 0, 0)
    assert b": was 0" in made.stdout
    assert f": was {next_version.last - 1}".encode() in done.stdout
    assert b"nothing to do" in again.stdout
    assert b"up to date" in sound.stdout


def test_store_of_a_newer_version_is_left_alone(here: Here, sqlite_url: str) -> None:
    """A database from the future is refused by both forms."""
    here("migrate")
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
        conn.execute("PRAGMA user_version = 999")

    assert here("migrate").returncode == 1
    assert here("migrate", "--check").returncode == 1
