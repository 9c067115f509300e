"""``tapescope run`` when its store is not there: the command is never the one to suffer."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from tapescope.testing import until
from tests.cli.command import READ_A, Tapescope, read_terminal, slow
from tests.support.services import Postgres, running_postgres

AT_ONCE = int(os.environ.get("TAPESCOPE_TEST_AT_ONCE", "100"))
"""Commands at once on PostgreSQL, which takes 100 connections as it is set up."""

Away = Callable[[], AbstractContextManager[object]]


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
        slow("postgresql://nobody@127.0.0.1:1/nothing"),
        slow("postgresql://nobody:secret@host.invalid/nothing"),  # is asked for again and again
        "sqlite:////dev/null/tasks.db",
    ],
)
def test_run_without_a_store_runs_the_command(tapescope: Tapescope, store: str) -> None:
    """Output and status are the command's; one line on stderr says what is lost, no password."""
    done = tapescope("run", "--store", store, "--", "sh", "-c", "echo a; echo b; exit 7")

    assert done.returncode == 7
    assert done.stdout == b"a\nb\n"
    assert done.stderr.startswith(b"tapescope: ")
    assert b"'tapescope spool replay' adds it" in done.stderr
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
    tapescope.here("migrate")
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
def test_a_flood_beside_a_store_that_is_away(tapescope: Tapescope) -> None:
    """It passes through whole; the tape has its first and its last lines once the store is back."""
    tapescope.here("migrate")
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
    lines = [event["body"]["line"] for event in events if event["type"] == "log"]
    recorded = [int(line) for line in lines[1:]]

    assert (status, lines[0], recorded[-1]) == (6, "before", 200_000)
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
    tapescope.here("migrate")
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


async def test_a_key_that_is_heard_late_takes_no_end_from_the_tape(tapescope: Tapescope) -> None:
    """On a busy machine a key that the command lived through is heard when it has ended: that is
    not the wish of a person who waits for the store."""
    tapescope.here("migrate")
    script = f"trap 'echo caught' INT; echo $$ ready; {READ_A}; {READ_A}; echo got $a"
    with tapescope.on_terminal("run", "--grace", "0", "--", "bash", "-c", script) as (process, end):
        child = psutil.Process(int(read_terminal(end, until=[b"ready"]).split()[-2]))
        os.write(end, b"\x03")
        read_terminal(end, until=[b"caught"])
        with locked(tapescope.store):
            os.write(end, b"one\nmore\n")
            await until(lambda: not psutil.pid_exists(child.pid))  # its wrapper has looked, too
            os.write(end, b"\x03")
        shown = read_terminal(end)
        status = process.wait(30)

    assert (status, b"without waiting" in shown) == (0, False)
    assert tapescope.tape()[-1]["body"]["outcome"] == "succeeded"


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
    tapescope.here("migrate")
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


def test_what_a_store_was_not_told_is_replayed(tapescope: Tapescope, tmp_path: Path) -> None:
    """The whole tape of a command that had no store is there after the next run on that store."""
    folder = tmp_path / "later"
    tapescope.store = f"sqlite:///{folder / 'tasks.db'}"
    tapescope.env["TAPESCOPE_STORE"] = tapescope.store
    done = tapescope("run", "--op", "early", "--", "sh", "-c", "echo a; echo b >&2; exit 7")
    kept = json.loads(tapescope.here("spool", "--json").stdout)["spools"]
    folder.mkdir()
    after = tapescope("run", "--op", "late", "--", "sleep", "0.5")
    (early,) = tapescope.json("list", "--op", "early")["tasks"]
    events = tapescope.tape(early["task_id"])

    assert (done.returncode, after.returncode) == (7, 0)
    assert done.stderr.startswith(b"b\ntapescope: ")
    assert done.stderr.count(b"\n") == 2
    assert [(one["op"], one["outcome"], one["events"]) for one in kept] == [("early", "failed", 3)]
    assert (early["status"], early["attempt"]) == ("failed", 1)
    assert [event["type"] for event in events] == [
        "task_started",
        "command_started",
        "log",
        "log",
        "final",
    ]
    assert {event["body"]["line"] for event in events[2:4]} == {"a", "b"}
    assert all("at" in event["body"] for event in events[1:4])
    assert events[-1]["body"]["error"]["details"] == {"exit_status": 7}
    assert json.loads(tapescope.here("spool", "--json").stdout)["spools"] == []


def test_a_file_that_cannot_be_kept_is_said(tapescope: Tapescope) -> None:
    """Where neither the store nor the file takes the lines, their number is told."""
    env = {"TAPESCOPE_STORE": "sqlite:////dev/null/t.db", "XDG_STATE_HOME": "/dev/null"}
    done = tapescope("run", "--", "sh", "-c", "echo a; echo b; exit 7", env=env)

    assert (done.returncode, done.stdout) == (7, b"a\nb\n")
    assert b"cannot be kept in /dev/null/tapescope/spool" in done.stderr
    assert b"2 lines of output not recorded" in done.stderr


def test_spool_replay_says_what_it_did(tapescope: Tapescope, tmp_path: Path) -> None:
    """By hand: only what is of this store, once, and a torn file is named and left."""
    folder = tmp_path / "later"
    tapescope.env["TAPESCOPE_STORE"] = f"sqlite:///{folder / 'tasks.db'}"
    tapescope("run", "--", "true")
    (kept,) = json.loads(tapescope.here("spool", "--json").stdout)["spools"]
    whole = Path(kept["path"])
    torn = whole.with_name(f"torn.aa.{whole.name.split('.')[2]}.spool")
    torn.write_text("{}")
    listed = tapescope.here("spool")
    folder.mkdir()
    tapescope.here("migrate")
    first = tapescope.here("spool", "replay")
    torn.unlink()
    again = tapescope.here("spool", "replay")

    assert kept["task_id"].encode() in listed.stdout
    assert (first.returncode, again.returncode) == (1, 0)
    assert b"1 events added; its end is on the tape" in first.stdout
    assert torn.name.encode() in first.stderr
    assert again.stdout == b"Nothing is kept for this store.\n"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("url", "runs"),
    [
        ("sqlite_url", 4),
        pytest.param("sqlite_url", 200, marks=pytest.mark.slow),
        pytest.param("postgres_url", AT_ONCE, marks=pytest.mark.slow),
    ],
)
def test_many_at_once_have_each_their_tape(
    tapescope: Tapescope, request: pytest.FixtureRequest, url: str, runs: int
) -> None:
    """A store that is busy with others is waited for: each tape is whole, each end is true.

    A wrapper that the machine has kept from the store for too long has left a file, and says so.
    """
    tapescope.env["TAPESCOPE_STORE"] = tapescope.store = request.getfixturevalue(url)
    tapescope.here("migrate")
    script = "echo out; echo err >&2; exit "
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                tapescope.started("run", "--op", "many", "--", "sh", "-c", f"{script}{n % 3}")
            )
            for n in range(runs)
        ]
        said = [process.communicate(timeout=400) for process in started]
        statuses = [process.returncode for process in started]
    told = [stderr.removeprefix(b"err\n") for _, stderr in said]
    replayed = tapescope.here("spool", "replay")
    tasks = tapescope.json("list", "--op", "many", "--limit", "1000")["tasks"]
    counts = Counter((task["status"], task["error_code"]) for task in tasks)
    tapes = [tapescope.tape(task["task_id"]) for task in tasks[:12]]

    assert statuses == [n % 3 for n in range(runs)]
    assert all(line == b"" or b"'tapescope spool replay' adds it" in line for line in told)
    assert replayed.returncode == 0
    assert json.loads(tapescope.here("spool", "--json").stdout)["spools"] == []
    assert counts[("succeeded", None)] == len(range(0, runs, 3))
    assert counts[("failed", "tapescope.errors.CommandFailed")] == runs - len(range(0, runs, 3))
    assert {tuple(sorted(event["type"] for event in tape)) for tape in tapes} == {
        ("command_started", "final", "log", "log", "task_started")
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def away(request: pytest.FixtureRequest, tapescope: Tapescope) -> Generator[Away]:
    """Has the store be away, inside: its file locked, or its server crashed and started again."""
    if request.param == "sqlite":
        tapescope.here("migrate")
        yield lambda: locked(tapescope.store)
        return
    with running_postgres() as server:
        tapescope.env["TAPESCOPE_STORE"] = tapescope.store = server.url()
        tapescope.here("migrate")

        @contextmanager
        def stopped() -> Generator[None]:
            server.stop()
            yield
            server.start()

        yield stopped


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_store_away_in_mid_command_costs_nothing(tapescope: Tapescope, away: Away) -> None:
    """Away for a minute: the command is not signalled, its status is its own, the tape whole."""
    script = "trap 'echo signalled; exit 9' TERM INT HUP; echo before; read _; echo after; exit 5"
    with tapescope.started("run", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        with away():
            until_then = time.monotonic() + 60
            await until(lambda: time.monotonic() > until_then, within=70)
        process.stdin.write(b"\n")
        process.stdin.flush()
        stdout, _ = process.communicate(timeout=60)
    (row,) = tapescope.json("list")["tasks"]
    lines = [e["body"]["line"] for e in tapescope.tape() if e["type"] == "log"]

    assert (process.returncode, stdout) == (5, b"after\n")
    assert (row["status"], lines) == ("failed", ["before", "after"])


def has_three(tapescope: Tapescope, task_id: str) -> bool:
    """Whether a tape has its first three events."""
    return len(tapescope.tape(task_id)) == 3


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_suspended_wrapper_goes_on(tapescope: Tapescope) -> None:
    """Six of them, stopped for 20 seconds beside another: none of the commands is signalled."""
    tapescope.here("migrate")
    script = "trap 'exit 9' TERM INT HUP; echo here; read _; exit 4"
    with ExitStack() as stack:
        wrappers = [
            stack.enter_context(
                tapescope.started(
                    "run", "--op", "six", "--", "sh", "-c", script, stdin=subprocess.PIPE
                )
            )
            for _ in range(6)
        ]
        for process in wrappers:
            assert process.stdout is not None
            process.stdout.readline()
        ids = [task["task_id"] for task in tapescope.json("list", "--op", "six")["tasks"]]
        for task_id in ids:  # none holds the store's lock when it is stopped
            await until(partial(has_three, tapescope, task_id), within=60)
        for process in wrappers:
            process.send_signal(signal.SIGSTOP)
        until_then = time.monotonic() + 20
        await until(lambda: time.monotonic() > until_then, within=30)
        tapescope("run", "--", "true")
        for process in wrappers:
            process.send_signal(signal.SIGCONT)
        for process in wrappers:
            process.communicate(b"\n", timeout=60)
    rows = tapescope.json("list", "--op", "six")["tasks"]

    assert [process.returncode for process in wrappers] == [4] * 6
    assert {row["error_code"] for row in rows} == {"tapescope.errors.CommandFailed"}
