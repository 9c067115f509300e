"""A full disk: told in so many words, nothing acknowledged is lost, and on when there is room."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tapescope.errors import StoreFull
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import FinalEvent, NewTask
from tapescope.store.flush import StoreOutOfRoom, as_unavailable
from tapescope.store.validation import new_task_id
from tapescope_adapters.postgres._connection import translate
from tapescope_adapters.sqlite import SqliteStore
from tapescope_adapters.sqlite._backend import SqliteBackend
from tests.cli.command import Tapescope


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes that only this test uses."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let its root mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the room there is; gives the file that has it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return ballast
    raise AssertionError("the disk was not filled")


def enlarge(folder: Path) -> None:
    """Give the file system more room."""
    subprocess.run(["mount", "-o", "remount,size=8m", folder], check=True)


async def test_full_disk_is_told_and_survived(small_disk: Path) -> None:
    """Calls fail as ``StoreFull``; what was acknowledged is there; with room the run goes on."""
    url = f"sqlite:///{small_disk / 'tasks.db'}?patience=0.2"
    async with SqliteStore(url) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(task, "me", 60)
        assert claim is not None
        stored = 0
        with pytest.raises(StoreFull, match=r"no room.*Make room on its disk"):  # noqa: PT012  # until
            while True:
                await store.append(claim.attempt, [NewEvent("log", "x" * 4_000)] * 10)
                stored += 10
        ballast = fill(small_disk)
        with pytest.raises(StoreFull):
            await store.append(claim.attempt, [NewEvent("log", "x" * 60_000)] * 10)
        page = await store.read_tape(task.task_id)
        ballast.unlink()
        await asyncio.to_thread(enlarge, small_disk)
        finished = await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        audit = await store.maintenance.audit()

    assert stored > 0
    assert page.last_seq == stored + 1
    assert finished.won
    assert finished.last_seq == stored + 2
    assert not audit.violations


async def test_file_that_may_not_grow_is_full(sqlite_url: str) -> None:
    """SQLite's own limit on a file is met as a full disk is: nothing is half written."""
    async with SqliteStore(sqlite_url, patience=0.1) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(task, "me", 60)
        assert claim is not None
        assert isinstance(store.backend, SqliteBackend)
        writer = store.backend.writer_conn  # the limit is a connection's
        assert writer is not None
        await writer.run(lambda conn: conn.execute("PRAGMA max_page_count = 60").fetchone())
        events = [NewEvent("log", "x" * 4_000)] * 100
        with pytest.raises(StoreFull):
            await store.append(claim.attempt, events)
        await writer.run(lambda conn: conn.execute("PRAGMA max_page_count = 100000").fetchone())
        appended = await store.append(claim.attempt, events)

    assert appended.stored == range(2, 102)


def test_postgres_says_it_alike() -> None:
    """A server whose disk is full can be reached, and the error says so."""
    met = translate(asyncpg.DiskFullError('could not extend file "base/1"'), sent=True)

    assert isinstance(met, StoreOutOfRoom)
    assert isinstance(as_unavailable("postgresql://h/db", met), StoreFull)


def test_run_on_a_full_disk_runs_the_command(small_disk: Path, tmp_path: Path) -> None:
    """The command is never the one to suffer: its output and status are its own."""
    store = f"sqlite:///{small_disk / 'tasks.db'}"
    tapescope = Tapescope(store, tmp_path)
    assert tapescope("migrate").returncode == 0
    fill(small_disk)
    done = tapescope("run", "--", "sh", "-c", "echo a; exit 7")

    assert (done.returncode, done.stdout) == (7, b"a\n")
    assert done.stderr.count(b"\n") == 1
    assert b"no room" in done.stderr


@pytest.mark.slow
def test_run_with_everything_on_a_full_disk_is_told(small_disk: Path) -> None:
    """Output, store and spool have no room: the status is not 0, and stderr says what is lost."""
    tapescope = Tapescope(f"sqlite:///{small_disk / 'tasks.db'}", small_disk)
    assert tapescope("migrate").returncode == 0
    with (small_disk / "output").open("wb") as output:
        fill(small_disk)
        done = subprocess.run(
            [sys.executable, "-m", "tapescope.cli", "run", "--", "seq", "20000"],
            stdout=output,
            stderr=subprocess.PIPE,
            env=tapescope.env,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert b"stdout cannot be written (No space left on device)" in done.stderr
    assert b"no room" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"the rest of the tape cannot be kept" in done.stderr
    assert b" lines of output not recorded" in done.stderr


def test_store_on_a_full_disk_can_be_read(small_disk: Path, tmp_path: Path) -> None:
    """There is no room for the log that SQLite makes beside a file, and none is needed to look."""
    tapescope = Tapescope(f"sqlite:///{small_disk / 'tasks.db'}", tmp_path)
    tapescope.here("submit", "x")
    fill(small_disk)
    before = sorted(path.name for path in small_disk.iterdir())
    listed = tapescope.here("list", "--json")
    checked = tapescope.here("migrate", "--check")

    assert (listed.returncode, checked.returncode) == (0, 0), listed.stderr
    assert b'"op":"x"' in listed.stdout
    assert sorted(path.name for path in small_disk.iterdir()) == before
