"""Looking changes nothing: which commands make a store, which migrate one, and which read it."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from uuid import uuid4

import pytest

from tapescope import NewTask, find_store
from tapescope.cli.app import app
from tapescope.store.validation import new_task_id
from tapescope_adapters.sqlite import SqliteStore
from tests.adapters.next_version import NextVersion, migrating
from tests.cli.command import Tapescope, read_terminal
from tests.support.postgres_sessions import run_task, schema_of, session
from tests.support.unprivileged import ordinary_thread, unwritable

pytestmark = pytest.mark.unmade

UNKNOWN = "01900000-0000-7000-8000-000000000000"
NO_TRACE = ("trace", "0af7651916cd43dd8448eb211c80319c")
"""It finds no task, and its status says so."""
LOOKS: tuple[tuple[str, ...], ...] = (
    ("list",),
    ("list", "--json"),
    ("stats",),
    ("schedule", "list"),
    ("workers",),
    ("show", "{task}"),
    ("tape", "{task}"),
    ("tape", "--follow", "{task}"),
    ("messages", "{task}"),
    ("drops",),
    NO_TRACE,
    ("audit",),
    ("migrate", "--check"),
    ("prune", "--older-than", "0s", "--dry-run"),
    ("prune", "--older-than", "0s", "--dry-run", "--quarantine"),
)
"""What only reads a store."""
ACTS: tuple[tuple[str, ...], ...] = (
    ("cancel", UNKNOWN),
    ("send", UNKNOWN, "1"),
    ("retry", UNKNOWN),
    ("prune", "--older-than", "30d"),
    ("audit", "--dry-run"),
    ("audit", "--repair"),
    ("schedule", "pause", "nightly"),
    ("schedule", "resume", "nightly"),
    ("schedule", "trigger", "nightly"),
    ("schedule", "remove", "nightly"),
    ("pause", "x"),
    ("resume", "x"),
    ("workers", "drain", "me"),
    ("workers", "undrain", "me"),
    ("spool", "replay"),
    ("drill", "failure-burst"),
)
"""What changes a store that is there, and makes none."""
FEW: tuple[tuple[str, ...], ...] = (("list",), ("migrate", "--check"), ("cancel", UNKNOWN))
"""One of each way to open a store, for what differs by the store and not by the command."""
MAKERS = {"run", "worker", "submit", "demo", "migrate"}
STORELESS = {"completion", "dashboards", "token"}
ENGINES = {"engine"}
"""What asks an engine about an application's store: in tests/temporal."""
SERVES = {"exporter", "serve"}
"""What serves a store that is there, until a signal: in test_exporter.py and test_serve.py."""


def fill_in(command: tuple[str, ...], task_id: str = UNKNOWN) -> list[str]:
    """The command line, with the id of a task in its place."""
    return [part.format(task=task_id) for part in command]


def saw(command: tuple[str, ...], done: subprocess.CompletedProcess[bytes]) -> bool:
    """Whether a command of ``LOOKS`` could look, and had nothing to complain of."""
    if command == NO_TRACE:
        return done.returncode == 1 and b"No run in " in done.stderr
    return (done.returncode, done.stderr) == (0, b"")


def read_folder(folder: Path) -> dict[str, bytes]:
    """What is in a folder, but for the index of a log, which says where readers are."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): b"" if path.name.endswith("-shm") else path.read_bytes()
        for path in files
    } | {str(path.relative_to(folder)): b"" for path in folder.rglob("*") if path.is_dir()}


def test_every_command_is_one_of_these() -> None:
    """A new command says here whether it looks, acts or makes."""
    named = {command[0] for command in (*LOOKS, *ACTS)}

    assert named | MAKERS | STORELESS | ENGINES | SERVES == set(app.commands)


def make_foreign(path: Path, journal: str) -> None:
    """A SQLite database of another program."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA journal_mode = {journal}")
        conn.execute("PRAGMA user_version = 7")
        conn.execute("CREATE TABLE notes (text)")
        conn.commit()


@pytest.mark.parametrize("place", ["no file", "no folder", "empty", "foreign", "foreign wal"])
def test_store_that_is_not_there_is_not_made(
    tapescope: Tapescope, tmp_path: Path, place: str
) -> None:
    """One line, status 2, and nothing was made: not the file, its folder, or a log beside it."""
    folder = tmp_path / "data"
    file = folder / "tasks.db"
    if place != "no folder":
        folder.mkdir()
    if place == "empty":
        file.touch()
    elif place != "no file" and place != "no folder":
        make_foreign(file, "wal" if place.endswith("wal") else "delete")
    before = read_folder(tmp_path)
    tapescope.env["TAPESCOPE_STORE"] = f"sqlite:///{file}"
    for command in (*LOOKS, *ACTS) if place == "no folder" else FEW:
        check_absent(tapescope.here(*fill_in(command)), f"sqlite:///{file}")

        assert read_folder(tmp_path) == before, command


@pytest.mark.parametrize("made", [False, True], ids=["no schema", "empty schema"])
async def test_schema_that_is_not_there_is_not_made(
    postgres_url: str, tmp_path: Path, made: bool
) -> None:
    """The same of PostgreSQL: no schema, and no table in a schema of others."""
    schema = schema_of(postgres_url)
    tapescope = Tapescope(f"{postgres_url}&password=s3cret", tmp_path)
    async with session(postgres_url) as raw:
        if made:
            await raw.execute(f"CREATE SCHEMA {schema} CREATE TABLE schema_version (other text)")
        for command in FEW if made else (*LOOKS, *ACTS):
            check_absent(tapescope.here(*fill_in(command)), f"schema={schema}")
        tables = await raw.fetchval(
            "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($1)", schema
        )
        there = await raw.fetchval("SELECT to_regnamespace($1) IS NOT NULL", schema)

    assert (there, tables) == (made, int(made))


def check_absent(done: CompletedProcess[bytes], named: str) -> None:
    """One line that names the store, without its password, and says what to do; status 2."""
    assert (done.returncode, done.stdout) == (2, b""), done
    assert re.fullmatch(rb"tapescope: There is no store at [^\n]+\n", done.stderr), done.stderr
    assert named in done.stderr.decode()
    assert b"'tapescope migrate'" in done.stderr
    assert b"s3cret" not in done.stderr


def test_default_store_is_not_made_by_a_look(tapescope: Tapescope, tmp_path: Path) -> None:
    """Neither the file in the data folder nor the folder."""
    tapescope.env["TAPESCOPE_STORE"] = ""
    before = read_folder(tmp_path)
    for command in FEW:
        check_absent(tapescope.here(*fill_in(command)), f"{tmp_path}/.local/share/tapescope")

    assert read_folder(tmp_path) == before


def test_list_of_the_drills_needs_no_store(tapescope: Tapescope, tmp_path: Path) -> None:
    """It is about the program, and opens nothing."""
    before = read_folder(tmp_path)
    done = tapescope.here("drill", "--list")

    assert (done.returncode, done.stderr) == (0, b"")
    assert read_folder(tmp_path) == before


@pytest.mark.parametrize("state", ["closed", "crashed", "copy"])
async def test_look_changes_no_file(tmp_path: Path, state: str) -> None:
    """A store is as it was: closed, with the log of a process that was killed, or a copy."""
    folder = tmp_path / "data"
    folder.mkdir()
    url = f"sqlite:///{folder / 'tasks.db'}"
    async with find_store(url) as store:
        task_id = await run_task(store, 3)
        if state == "crashed":
            for name in ("tasks.db", "tasks.db-wal", "tasks.db-shm"):
                (folder / name.replace("tasks", "left")).write_bytes((folder / name).read_bytes())
            url = f"sqlite:///{folder / 'left.db'}"
    if state == "copy":
        with closing(sqlite3.connect(folder / "tasks.db")) as conn:
            conn.execute("VACUUM INTO ?", (str(folder / "copy.db"),))
        url = f"sqlite:///{folder / 'copy.db'}"
    tapescope = Tapescope(url, tmp_path)
    before = read_folder(folder)
    for command in LOOKS:
        done = tapescope.here(*fill_in(command, task_id))

        assert saw(command, done), command
        assert read_folder(folder) == before, command
    assert (state == "crashed") == ("left.db-wal" in before)


async def test_older_schema_is_migrated_by_migrate_alone(store_url: str, tmp_path: Path) -> None:
    """Every other command says what to type, and changes nothing, whatever its URL allows."""
    tapescope = Tapescope(migrating(store_url), tmp_path)
    async with find_store(store_url) as store:
        task_id = await run_task(store, 1)
        name = store.name
    version = NextVersion(tmp_path / "next")
    version.change_function()
    with version.running_here():
        for command in (*LOOKS, *ACTS, ("--store", store_url, "submit", "x")):
            done = tapescope.here(*fill_in(command, task_id))
            if command == ("migrate", "--check"):
                assert (done.returncode, done.stdout.count(b"missing: 1")) == (1, 1)
            else:
                assert done.returncode == (2 if command[0] == "audit" else 1), command
                assert f"Migrate it: tapescope migrate --store {quoted(name)}\n".encode() in (
                    done.stderr
                )
        before = await find_store(store_url).maintenance.schema_versions()
        migrated = tapescope.here("migrate", "--store", name)
        listed = tapescope.here("list")

    assert (before.found, before.known) == (version.last - 1, version.last)
    assert migrated.returncode == listed.returncode == 0


def quoted(url: str) -> str:
    """A URL as a shell takes it."""
    return f"'{url}'" if "?" in url else url


async def test_run_on_an_older_schema_runs_the_command(
    tapescope: Tapescope, sqlite_url: str, tmp_path: Path
) -> None:
    """The command has no tape, one line says what to type, and the store is as it was."""
    async with find_store(sqlite_url):
        pass
    version = NextVersion(tmp_path / "next")
    version.change_function()
    tapescope.env["PYTHONPATH"] = str(version.folder)
    done = tapescope("run", "--", "sh", "-c", "echo a; exit 7")
    async with find_store(sqlite_url) as store:
        tasks = await store.count()

    assert (done.returncode, done.stdout) == (7, b"a\n")
    assert done.stderr.count(b"\n") == 1
    assert f"tapescope migrate --store {sqlite_url}".encode() in done.stderr
    assert sum(tasks.values()) == 0


@pytest.mark.parametrize("alone", [True, False])
async def test_default_file_is_migrated_where_no_other_has_it_open(
    tapescope: Tapescope, tmp_path: Path, alone: bool
) -> None:
    """By what makes a store; a look does not even then, and nothing does beside another process."""
    file = tmp_path / ".local/share/tapescope/tasks.db"
    file.parent.mkdir(parents=True)
    other = await find_store(f"sqlite:///{file}").open()
    if alone:
        await other.aclose()
    tapescope.env["TAPESCOPE_STORE"] = ""
    version = NextVersion(tmp_path / "next")
    version.change_function()
    with version.running_here():
        look = tapescope.here("list")
        done = tapescope.here("submit", "x")
        found = (await SqliteStore(f"sqlite:///{file}").maintenance.schema_versions()).found
    if not alone:
        await other.create(NewTask(new_task_id(), "x"))  # it was not disturbed
        await other.aclose()

    assert look.returncode == 1
    assert (done.returncode, found) == ((0, version.last) if alone else (1, version.last - 1))
    assert (b"Migrate it: " in done.stderr) is not alone


def test_terminal_is_told_which_store(tapescope: Tapescope, tmp_path: Path) -> None:
    """On a terminal's stderr, without the password; not where stderr goes elsewhere."""
    tapescope.here("migrate")
    with tapescope.on_terminal("list") as (_, end):
        shown = read_terminal(end)
    piped = tapescope.here("list")

    assert f"tapescope: store {tapescope.store}".encode() in shown.replace(b"\r\n", b"")
    assert piped.stderr == b""


async def test_store_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    """In a folder where this user may not write; beside a writer, and without one."""
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "tasks.db"
    tapescope = Tapescope(f"sqlite:///{file}", tmp_path)
    async with find_store(tapescope.store) as store:
        task_id = await run_task(store, 3)
        with unwritable(folder, *folder.iterdir()), ordinary_thread() as ordinary:
            for command in FEW[:2]:
                done = ordinary.submit(tapescope.here, *command).result()
                assert (done.returncode, done.stderr) == (0, b""), command
    before = read_folder(folder)
    with unwritable(folder, file), ordinary_thread() as ordinary:
        for command in LOOKS:
            done = ordinary.submit(tapescope.here, *fill_in(command, task_id)).result()
            assert saw(command, done), command
        refused = ordinary.submit(tapescope.here, "cancel", task_id).result()

    assert list(before) == ["tasks.db"]
    assert read_folder(folder) == before
    assert refused.returncode == 1
    assert b"This user may not write to the SQLite file" in refused.stderr


async def test_file_whose_owner_alone_may_write_gets_no_log_of_others(tmp_path: Path) -> None:
    """In a folder that all may write in: a log that a reader made would lock its owner out."""
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "tasks.db"
    tapescope = Tapescope(f"sqlite:///{file}", tmp_path)
    async with find_store(tapescope.store) as store:
        await run_task(store, 3)
    seen: set[str] = set()
    with unwritable(file), ordinary_thread() as ordinary:
        for command in FEW[:2]:
            done = ordinary.submit(tapescope.here, *command).result()
            assert (done.returncode, done.stderr) == (0, b""), command
            seen |= set(read_folder(folder))

    assert seen == {"tasks.db"}


async def test_log_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """What was not moved into the file yet needs an index, and none can be made: one line."""
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "copy.db"
    async with find_store(f"sqlite:///{tmp_path / 'tasks.db'}") as store:
        await run_task(store, 3)
        for suffix in ("", "-wal"):
            (folder / f"copy.db{suffix}").write_bytes((tmp_path / f"tasks.db{suffix}").read_bytes())
    tapescope = Tapescope(f"sqlite:///{file}", tmp_path)
    with unwritable(folder, file), ordinary_thread() as ordinary:
        done = ordinary.submit(tapescope.here, "list").result()
        checked = ordinary.submit(tapescope.here, "migrate", "--check").result()
    cured = tapescope.here("migrate")
    with unwritable(folder, file), ordinary_thread() as ordinary:
        again = ordinary.submit(tapescope.here, "list").result()

    for refused in (done, checked):
        assert refused.returncode == 1
        assert re.fullmatch(rb"tapescope: [^\n]+copy\.db-wal[^\n]+\n", refused.stderr)
    assert cured.returncode == again.returncode == 0


async def test_role_that_may_only_select_can_look(postgres_url: str, tmp_path: Path) -> None:
    """SELECT on the tables is enough to read; to act is refused in one line; no right, one line."""
    role = f"r_{uuid4().hex[:8]}"
    async with find_store(postgres_url) as store, session(postgres_url) as raw:
        task_id = await run_task(store, 3)
        schema = schema_of(postgres_url)
        await raw.execute(f"CREATE ROLE {role} LOGIN")
        tapescope = Tapescope(postgres_url.replace("postgres@", f"{role}@"), tmp_path)
        barred = [tapescope.here(*fill_in(command, task_id)) for command in LOOKS]
        await raw.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        await raw.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
        for command in LOOKS:
            done = tapescope.here(*fill_in(command, task_id))
            assert saw(command, done), command
        refused = tapescope.here("cancel", task_id)

    for done in (*barred, refused):
        assert done.returncode != 0
        assert re.fullmatch(rb"tapescope: [^\n]+permission denied[^\n]+\n", done.stderr), done
