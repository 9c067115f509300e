"""What a user may get wrong: one line on stderr, an exit status that is not 0, no traceback."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.command import Tapescope
from tests.cli.conftest import Here
from tests.support.postgres_sessions import make_role
from tests.support.services import Postgres

_UNKNOWN = "01900000-0000-7000-8000-000000000000"


def check(run: Here, *arguments: str, says: str, status: int = 1) -> None:
    """Run it and see that it fails as it should."""
    done = run(*arguments)
    assert done.returncode == status, done.stderr
    assert done.stdout == b""
    assert re.fullmatch(rb"tapescope: [^\n]+\n", done.stderr), done.stderr
    assert says in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", _UNKNOWN], "has no task"),
        (["tape", _UNKNOWN], "has no task"),
        (["tape", "--follow", _UNKNOWN], "has no task"),
        (["tape", "--json", _UNKNOWN], "has no task"),
        (["drops", _UNKNOWN], "has no task"),
        (["cancel", _UNKNOWN], "has no task"),
        (["cancel", "not an id"], "has no task"),
        (["show", "' OR 1=1 --"], "has no task"),
        (["show", "evil\x1b[31m\nid"], "has no task"),
        (["list", "--op", "Bad Op"], "is not a valid op name"),
        (["list", "--limit", "0"], "between 1 and 10,000"),
        (["list", "--store", "nothing://x"], "Known here: postgres, postgresql, sqlite"),
        (["list", "--store", "tasks.db"], "it has no scheme"),
        (["list", "--store", "sqlite://host/tasks.db"], "three slashes"),
        (["demo", "--folder", "/nowhere/at/all"], "--folder"),
    ],
)
def test_mistake_is_one_line_and_status_1(here: Here, arguments: list[str], says: str) -> None:
    """A mistake that the command meets is told in one line that says what to do."""
    here("migrate")
    check(here, *arguments, says=says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-command"], "no-such-command"),
        (["list", "--no-such-option"], "--no-such-option"),
        (["list", "--status", "done"], "'done'"),
        (["list", "--limit", "many"], "--limit: 'many' is not a whole number."),
        (["list", "--limit", "1.5"], "--limit: '1.5' is not a whole number."),
        (["list", "--status", "fail"], "--status: 'fail' is not one of 'pending', "),
        (["lst"], "No such command 'lst'. Did you mean 'list'? See"),
        (["submit", "x", "--timeout", "y"], "--timeout: 'y' is not a number."),
        (["prune", "--older-than", "5"], "--older-than: '5' is not an age"),
        (["submit", "x", "--run-at", "5"], "--run-at: '5' is not a time"),
        (["show"], "TASK_ID"),
        (["list", "--limit"], "Option '--limit' requires an argument. See 'tapescope list --help'"),
        (["list", "--json=3"], "does not take a value. See 'tapescope list --help'"),
        (["cancel"], "tapescope: name a task"),
        (["show", "a", "b"], "b"),
    ],
)
def test_command_line_that_cannot_be_read_is_status_2(
    here: Here, arguments: list[str], says: str
) -> None:
    """A usage error is one line, too, in no words of a library's, with its own status."""
    check(here, *arguments, says=says, status=2)
    done = here(*arguments)

    assert not re.search(rb"\.\.|\?\.|Invalid value|click", done.stderr)


def test_store_of_a_newer_version_is_refused(tapescope: Tapescope) -> None:
    """A database that a newer tapescope has migrated is left alone."""
    tapescope.here("migrate")
    with closing(sqlite3.connect(tapescope.store.removeprefix("sqlite:///"))) as connection:
        connection.execute("PRAGMA user_version = 999")

    check(tapescope.here, "list", says="schema version 999")


def test_file_that_is_no_database_is_refused(tapescope: Tapescope, tmp_path: Path) -> None:
    """Another kind of file is neither read nor changed."""
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but longer than its header would be " * 40)
    before = file.read_bytes()

    check(
        tapescope.here, "list", "--store", f"sqlite:///{file}", says="not a usable SQLite database"
    )
    assert file.read_bytes() == before


def test_unreachable_host_is_told_without_the_password(tapescope: Tapescope) -> None:
    """An address where no server listens is an error within seconds, and keeps the secret."""
    done = tapescope("list", "--store", "postgresql://me:hunter2@127.0.0.1:1/db")

    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"cannot be reached" in done.stderr
    assert b"hunter2" not in done.stderr


def test_missing_database_is_one_line(tapescope: Tapescope, postgres_server: Postgres) -> None:
    """A PostgreSQL that has no such database has no store there."""
    url = postgres_server.url().replace("/postgres?", "/no_such_database?")

    check(tapescope.here, "list", "--store", url, says="no_such_database", status=2)


def test_default_store_is_a_file_in_the_data_folder(tapescope: Tapescope, tmp_path: Path) -> None:
    """With neither option nor variable the store is a file below the user's home, made by a run.

    File and folder are the user's alone, whatever the umask.
    """
    done = tapescope("run", "--", "true", env={"TAPESCOPE_STORE": ""})
    (file,) = tmp_path.rglob("tasks.db")

    assert done.returncode == 0
    assert [oct(path.stat().st_mode & 0o777) for path in (file, file.parent)] == ["0o600", "0o700"]


def test_store_option_beats_the_variable(tapescope: Tapescope, tmp_path: Path) -> None:
    """``--store`` counts before and after the command's name, and before ``TAPESCOPE_STORE``."""
    other = f"sqlite:///{tmp_path / 'other.db'}"
    tapescope("--store", other, "run", "--", "true")
    tapescope("run", "--store", other, "--", "true")
    tapescope.here("migrate")

    assert tapescope.json("list")["tasks"] == []
    assert len(tapescope.json("list", "--store", other)["tasks"]) == 2


def test_version_and_help_need_no_store(tapescope: Tapescope) -> None:
    """``--version`` and ``--help`` answer wherever the store is."""
    nowhere = {"TAPESCOPE_STORE": "nothing://x"}
    version = tapescope("--version", env=nowhere)
    helped = tapescope.here("--store", "nothing://x", "run", "--help")

    assert re.fullmatch(rb"tapescope \d+\.\d+\.\d+\S*\n", version.stdout)
    assert helped.returncode == 0
    assert b"--timeout" in helped.stdout


async def test_wrong_password_is_told_in_one_line(postgres_server: Postgres, here: Here) -> None:
    """The user and the database are named, the password is not, whichever command asks."""
    role = await make_role(postgres_server, "right")
    url = postgres_server.url().replace("postgres@", f"{role}:s3cret@")
    for command in (["list"], ["audit"], ["migrate"], ["show", _UNKNOWN]):
        done = await asyncio.to_thread(here, *command, "--store", url)

        assert done.returncode != 0
        assert re.fullmatch(rb"tapescope: [^\n]+\n", done.stderr), done.stderr
        assert f"user '{role}' into database 'postgres'".encode() in done.stderr
        assert b"s3cret" not in done.stderr
