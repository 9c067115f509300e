"""``tapescope run`` when its store is not there: the command is never the one to suffer."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager

import psutil
import pytest

from tapescope.testing import until
from tests.cli.command import Tapescope
from tests.support.services import Postgres


@contextmanager
def locked(store: str) -> Generator[sqlite3.Connection]:
    """Hold a SQLite store's write lock: to everybody else the store is away meanwhile."""
    path = store.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30.0)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@pytest.mark.parametrize(
    "store",
    [
        "postgresql://nobody@127.0.0.1:1/nothing",
        "postgresql://nobody:secret@host.invalid/nothing",
        "sqlite:////dev/null/tasks.db",
    ],
)
def test_run_without_a_store_runs_the_command(tapescope: Tapescope, store: str) -> None:
    """Output and status are the command's; one line on stderr says what is lost, no password."""
    done = tapescope("run", "--store", store, "--", "sh", "-c", "echo a; echo b; exit 7")

    assert done.returncode == 7
    assert done.stdout == b"a\nb\n"
    assert done.stderr.startswith(b"tapescope: ")
    assert done.stderr.endswith(b"The command has no tape; 2 lines of output not recorded.\n")
    assert done.stderr.count(b"\n") == 1
    assert b"secret" not in done.stderr


def test_run_without_a_store_still_times_out(tapescope: Tapescope) -> None:
    """``--timeout`` holds without a store, too."""
    done = tapescope(
        "run", "--store", "sqlite:////dev/null/t.db", "--timeout", "0.3", "--", "sleep", "600"
    )

    assert done.returncode == 124


def test_run_with_a_folder_that_cannot_be_made_runs_the_command(tapescope: Tapescope) -> None:
    """Without a data folder for the default store the command runs all the same."""
    env = {"TAPESCOPE_STORE": "", "HOME": "/dev/null", "XDG_DATA_HOME": "/dev/null/data"}
    done = tapescope("run", "--", "sh", "-c", "echo a; exit 7", env=env)

    assert (done.returncode, done.stdout) == (7, b"a\n")
    assert b"cannot be made" in done.stderr


def test_store_that_comes_back_has_every_line(tapescope: Tapescope) -> None:
    """While the store is away output passes through; once it is back, the tape is whole."""
    tapescope.here("list")
    script = "echo before; read _; seq 1 300; read _; exit 5"
    with tapescope.started("run", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"before\n"
        with locked(tapescope.store):
            process.stdin.write(b"\n")
            process.stdin.flush()
            seen = [process.stdout.readline() for _ in range(300)]
        process.stdin.write(b"\n")
        process.stdin.flush()
        status = process.wait(30)
    lines = [e["body"]["line"] for e in tapescope.tape() if e["type"] == "log"]

    assert status == 5
    assert seen[-1] == b"300\n"
    assert lines == ["before", *(str(n) for n in range(1, 301))]


@pytest.mark.slow
def test_store_away_for_long_costs_lines_and_no_more(tapescope: Tapescope) -> None:
    """A flood passes through whole beside a store that is gone; the lost lines are counted."""
    tapescope.here("list")
    script = "echo before; read _; seq 1 200000; read _; exit 6"
    with tapescope.started("run", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"before\n"
        with locked(tapescope.store):
            process.stdin.write(b"\n")
            process.stdin.flush()
            passed_through = [process.stdout.readline() for _ in range(200_000)]
        process.stdin.write(b"\n")
        process.stdin.flush()
        told = process.stderr.read().decode()
        status = process.wait(60)
    events = tapescope.tape()
    recorded = [int(e["body"]["line"]) for e in events[2:-1]]

    assert status == 6
    assert passed_through[-1] == b"200000\n"
    assert recorded == sorted(recorded)
    assert events[-1]["body"]["error"]["details"] == {
        "exit_status": 6,
        "lines_not_recorded": 200_000 - len(recorded),
    }
    assert told.count("\n") == 1
    assert f"{200_000 - len(recorded):,} lines of output not recorded" in told


async def test_next_ctrl_c_does_not_wait_for_the_store(tapescope: Tapescope) -> None:
    """The first signal ends the command; when only the store is waited for, a next one ends us."""
    tapescope.here("list")
    with tapescope.started("run", "--", "sh", "-c", "echo $$; exec sleep 600") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        child = psutil.Process(int(process.stdout.readline()))
        with locked(tapescope.store):
            process.send_signal(signal.SIGINT)
            await until(lambda: has_ended(child))

            def press_again() -> bool:
                process.send_signal(signal.SIGINT)
                return process.poll() is not None

            await until(press_again, within=5.0)
        told = process.stderr.read()

    assert process.returncode == -signal.SIGINT
    assert b"not be on its tape" in told


def test_wrong_database_is_no_reason_not_to_run(
    tapescope: Tapescope, postgres_server: Postgres
) -> None:
    """A PostgreSQL that refuses us is a store that cannot be used: the command runs."""
    url = postgres_server.url().replace("/postgres?", "/no_such_database?")
    done = tapescope("run", "--store", url, "--", "sh", "-c", "exit 7")

    assert done.returncode == 7
    assert done.stderr.count(b"\n") == 1


def test_url_says_how_long_to_wait_for_a_store(tapescope: Tapescope) -> None:
    """A store that is gone for good costs the command its tape, and no more time than was given."""
    tapescope.here("list")
    url = f"{tapescope.store}?patience=0.2"
    with tapescope.started("run", "--store", url, "--", "sh", "-c", "echo a; exit 7") as process:
        assert process.stdout is not None
        with locked(tapescope.store):
            status = process.wait(30)

    assert status == 7


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or would be if its parent had looked."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
