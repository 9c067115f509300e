"""``tapescope worker --processes``: a parent that keeps its workers, and ends behind them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest

from tapescope import Task, TaskHandle, TaskManager, TaskStatus
from tapescope.cli import _processes
from tapescope.cli._processes import Pauses, Supervisor, find_program
from tapescope.testing import until
from tests.cli.command import Tapescope, read_terminal
from tests.cli.conftest import Here
from tests.cli.program import Program, begun, read_log
from tests.support.scrapes import fetch

DRAINING = "Draining: no more tasks are started; a second signal skips the wait."
"""What each worker says of the first signal."""


@pytest.fixture
def program(tapescope: Tapescope, tmp_path: Path) -> Program:
    """A program on a fresh SQLite store."""
    return Program(tapescope, tmp_path)


def pid_of(owner: str | None) -> int:
    """The process of an owner."""
    assert owner is not None
    return int(owner.split(":")[1])


def find_children(parent: subprocess.Popen[bytes]) -> list[int]:
    """The processes that it keeps."""
    return sorted(child.pid for child in psutil.Process(parent.pid).children())


def lives(pid: int) -> bool:
    """Whether there is such a process, and no corpse of it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read_until(process: subprocess.Popen[bytes], text: str, times: int = 1) -> list[str]:
    """The messages of the log up to the one with which so many have had this text."""
    told: list[str] = []
    while sum(text in one for one in told) < times:
        told.append(read_log(process)["message"])
    return told


async def submit_waits(manager: TaskManager, program: Program, count: int) -> list[TaskHandle]:
    """Tasks that run until the program's file is there."""
    params = {"file": str(program.file)}
    return [await manager.submit("wait", params=params) for _ in range(count)]


async def find_running(manager: TaskManager) -> list[Task]:
    """The tasks that run now."""
    return list((await manager.store.list(status=TaskStatus.RUNNING)).tasks)


async def test_the_processes_share_the_work(program: Program) -> None:
    """Three workers of one store run 20 tasks; SIGTERM ends each of them, and the parent with 0."""
    owners: Counter[int] = Counter()
    async with TaskManager(program.tapescope.store, work=False) as manager:
        tasks = await submit_waits(manager, program, 20)
        with program.worker("--processes", "3") as parent:

            async def all_work() -> bool:
                running = await find_running(manager)
                owners.clear()
                owners.update(pid_of(task.owner) for task in running)
                return len(running) == 6

            await until(all_work, within=30)
            children = find_children(parent)
            living = program.tapescope.json("workers")["workers"]
            program.file.touch()
            results = [await task.result(timeout=60) for task in tasks]
            parent.terminate()
            told = read_until(parent, "The worker processes have stopped.")
            parent.communicate(timeout=30)

    assert owners == dict.fromkeys(children, 2)
    assert sorted(pid_of(one["owner"]) for one in living) == children
    assert results == [1] * 20
    assert parent.returncode == 0
    assert (told.count(DRAINING), told.count("The worker has stopped.")) == (3, 3)
    assert "Draining 3 worker processes." in told


@pytest.mark.slow
async def test_the_first_signal_drains_and_the_second_skips_the_wait(program: Program) -> None:
    """What runs goes on after the first signal, and is given back at the second one; status 0."""
    async with TaskManager(program.tapescope.store, work=False) as manager:
        tasks = await submit_waits(manager, program, 4)
        with program.worker("--processes", "2") as parent:
            for task in tasks:
                await begun(task)
            parent.send_signal(signal.SIGINT)
            read_until(parent, DRAINING, times=2)
            draining = {task.status for task in await find_running(manager)}
            parent.send_signal(signal.SIGINT)
            parent.communicate(timeout=30)
            rows = [await task.status() for task in tasks]

    assert draining == {TaskStatus.RUNNING}
    assert parent.returncode == 0
    assert {(row.status, row.retries_spent) for row in rows} == {(TaskStatus.PENDING, 0)}


@pytest.mark.slow
async def test_a_third_signal_ends_all_at_once(program: Program) -> None:
    """The parent has no handler any more; its end is the third signal of each child."""
    with program.worker("--processes", "2") as parent:
        await until(lambda: len(find_children(parent)) == 2)
        read_until(parent, "Worker ")
        children = find_children(parent)
        for child in children:
            os.kill(child, signal.SIGSTOP)
        parent.send_signal(signal.SIGTERM)
        read_until(parent, "Draining 2 worker processes.")

        def end() -> bool:
            parent.send_signal(signal.SIGTERM)
            return parent.poll() is not None

        await until(end)
        stopped = [psutil.Process(child).status() for child in children]
        for child in children:
            os.kill(child, signal.SIGCONT)
        await until(lambda: not any(lives(child) for child in children), within=30)

    assert parent.returncode == -signal.SIGTERM
    assert stopped == [psutil.STATUS_STOPPED] * 2


@pytest.mark.slow
async def test_a_killed_process_is_replaced(program: Program) -> None:
    """Its task is run again, the log says which it was, and as many processes as before work."""
    async with TaskManager(program.tapescope.store, heartbeat=0.2, work=False) as manager:
        with program.worker("--processes", "2") as parent:
            read_until(parent, "Worker ")
            (task,) = await submit_waits(manager, program, 1)
            await begun(task)
            killed = pid_of((await task.status()).owner)
            before = find_children(parent)
            os.kill(killed, signal.SIGKILL)
            told = read_until(parent, "the next one starts in")[-1]
            read_until(parent, "Worker ")
            after = find_children(parent)
            program.file.touch()
            result = await task.result(timeout=60)
            parent.terminate()
            parent.communicate(timeout=30)

    assert f" of 2 (pid {killed}) was ended by SIGKILL; the next one starts in 1 s." in told
    assert (len(after), killed in after, len(set(before) & set(after))) == (2, False, 1)
    assert result == 2
    assert parent.returncode == 0


@pytest.mark.slow
async def test_no_child_stays_behind_its_parent(program: Program) -> None:
    """After a kill -9 of the parent its children drain, and give back what they run."""
    async with TaskManager(program.tapescope.store, work=False) as manager:
        tasks = await submit_waits(manager, program, 4)
        with program.worker("--processes", "2", "--drain", "0") as parent:
            for task in tasks:
                await begun(task)
            children = find_children(parent)
            parent.kill()
            _, told = parent.communicate(timeout=30)
            await until(lambda: not any(lives(child) for child in children), within=30)
            rows = [await task.status() for task in tasks]

    assert len(children) == 2
    assert told.count(DRAINING.encode()) == 2
    assert {(row.status, row.retries_spent) for row in rows} == {(TaskStatus.PENDING, 0)}


@pytest.mark.slow
async def test_ctrl_c_reaches_each_process_once(program: Program) -> None:
    """The key ends nothing that runs: each worker drains, and no wait is skipped."""
    options = ("--app", "program:manager", "--store", program.tapescope.store)
    async with TaskManager(program.tapescope.store, work=False) as manager:
        tasks = await submit_waits(manager, program, 4)
        with program.tapescope.on_terminal("worker", *options, "--processes", "2") as (parent, end):
            for task in tasks:
                await begun(task)
            os.write(end, b"\x03")
            shown = b""
            while shown.count(DRAINING.encode()) < 2:
                shown += read_terminal(end, until=[b"\n"])
            program.file.touch()
            shown += read_terminal(end)
            parent.wait(timeout=30)
            rows = [await task.status() for task in tasks]

    assert parent.returncode == 0
    assert shown.count(DRAINING.encode()) == 2
    assert {(row.status, row.attempt) for row in rows} == {(TaskStatus.SUCCEEDED, 1)}


@pytest.mark.observability
async def test_each_process_has_a_port_of_its_own(program: Program) -> None:
    """The first one listens on the port that is named, the others on those that follow."""
    port = find_free_ports(2)
    options = (
        *("--app", "program:manager", "--store", program.tapescope.store),
        *("--processes", "2", "--metrics-port", str(port)),
    )
    with program.tapescope.started("worker", *options) as parent:
        told = read_until(parent, "Worker ", times=2)
        answers = [fetch(f"http://127.0.0.1:{port + number}/livez").status for number in range(2)]
        parent.terminate()
        parent.communicate(timeout=30)

    assert {one for one in told if "served" in one} == {
        f"Metrics and health are served on http://127.0.0.1:{port + number}." for number in range(2)
    }
    assert answers == [200, 200]
    assert parent.returncode == 0


def find_free_ports(count: int) -> int:
    """The first of so many ports in a row on which nobody listens now."""
    while True:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            first: int = taken.getsockname()[1]
        try:
            for number in range(count):
                socket.create_server(("127.0.0.1", first + number)).close()
        except (OSError, OverflowError):
            continue
        return first


@pytest.mark.slow
def test_a_mistake_is_told_once(program: Program) -> None:
    """An app that is not there is one line and status 1, however many processes were wanted."""
    done = program.tapescope("worker", "--app", "program:boss", "--processes", "8")

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"tapescope: The app 'program:boss' cannot be used: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
async def test_one_process_has_no_parent(program: Program) -> None:
    """``--processes 1`` is the worker itself."""
    with program.tapescope.started(
        *("worker", "--app", "program:manager", "--processes", "1"),
        *("--store", program.tapescope.store),
    ) as worker:
        said = read_log(worker)["message"]
        children = find_children(worker)
        worker.terminate()
        worker.communicate(timeout=30)

    assert said.startswith("Worker ")
    assert pid_of(said) == worker.pid
    assert children == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--processes", "0"], "--processes: 0 is not a number from 1 to 256."),
        (["--processes", "257"], "--processes: 257 is not a number from 1 to 256."),
        (["--processes", "-1"], "--processes: -1 is not a number from 1 to 256."),
        (["--processes", "two"], "--processes: 'two' is not a whole number."),
        (
            ["--processes", "3", "--metrics-port", "65534"],
            "--metrics-port: 65534 leaves no port for each of 3 processes: the last port is 65535.",
        ),
    ],
)
def test_a_number_that_cannot_be(here: Here, options: list[str], says: str) -> None:
    """What is wrong with the number, or with the ports for so many, is a line and status 2."""
    done = here("worker", "--app", "program:manager", *options)

    assert done.returncode == 2
    assert done.stderr.decode() == f"tapescope: {says} See 'tapescope worker --help'.\n"


# --- a parent of children that are no workers -----------------------------------------------------

BORN = """
import os, signal, sys, time
from pathlib import Path
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
line = int(sys.argv[1].partition("=")[2])
"""
WORKS = "os.write(line, b'+')\n"


def make_child(*lines: str) -> Sequence[str]:
    """The words of a child that does this; the signals that ask for an end are held back."""
    return (sys.executable, "-ISc", BORN + "\n".join(lines))


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
    ],
)
async def test_the_first_status_that_is_not_0(tmp_path: Path, end: str, status: int) -> None:
    """The parent ends as the one of its children that did not end well."""

    def command(number: int) -> Sequence[str]:
        return make_child(
            f"Path({str(tmp_path)!r}, '{number}').touch()",
            WORKS,
            "signal.sigwait({signal.SIGTERM})",
            end if number == 1 else "",
        )

    running = asyncio.create_task(Supervisor(3, command).run())
    await until(lambda: len(list(tmp_path.iterdir())) == 3)
    os.kill(os.getpid(), signal.SIGTERM)

    assert await running == status


async def test_a_child_without_a_handler_ends_well(tmp_path: Path) -> None:
    """Who is ended by our own SIGTERM in its first moments has lost nothing: it is no failure."""
    file = tmp_path / "born"

    def command(_: int) -> Sequence[str]:
        return make_child(
            "signal.pthread_sigmask(signal.SIG_SETMASK, set())",
            f"Path({str(file)!r}).touch()",
            "time.sleep(60)",
        )

    running = asyncio.create_task(Supervisor(2, command).run())
    await until(file.exists)
    os.kill(os.getpid(), signal.SIGTERM)

    assert await running == 0


@pytest.mark.parametrize(
    ("end", "status", "says"),
    [
        ("sys.exit(3)", 3, []),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, ["was ended by SIGKILL before it worked."]),
    ],
)
async def test_what_cannot_start_is_not_started_again(
    caplog: pytest.LogCaptureFixture, end: str, status: int, says: list[str]
) -> None:
    """The first child is alone: its end before it worked is that of all, and told once."""
    started: list[int] = []

    def command(number: int) -> Sequence[str]:
        started.append(number)
        return make_child(end)

    ended = await Supervisor(3, command).run()

    assert (ended, started) == (status, [0])
    assert [record.getMessage().partition(") ")[2] for record in caplog.records] == says


async def test_a_slow_start_that_fails_ends_the_others() -> None:
    """Others start when the first one takes long; they are drained when it fails after all."""
    started: list[int] = []

    def command(number: int) -> Sequence[str]:
        started.append(number)
        end = "sys.exit(3)" if number == 1 else "signal.sigwait({signal.SIGTERM})"
        return make_child(end)

    with patch.object(_processes, "_ALONE", 0.01):
        ended = await asyncio.wait_for(Supervisor(2, command).run(), 30)

    assert (ended, started) == (3, [0, 1])


async def test_who_dies_is_replaced_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever its status; also where the next one cannot be started at first."""
    lives = iter(
        [
            make_child(WORKS, "sys.exit(0)"),
            ("/nowhere/at/all",),
            make_child("sys.exit(1)"),
            make_child("os.kill(os.getpid(), signal.SIGSEGV)"),
        ]
    )
    started = asyncio.Event()

    def command(_: int) -> Sequence[str]:
        words = next(lives, None)
        if words is None:
            started.set()
        return words or make_child("signal.sigwait({signal.SIGTERM})")

    with patch.object(_processes, "_FIRST_PAUSE", 0.001):
        running = asyncio.create_task(Supervisor(1, command).run())
        await asyncio.wait_for(started.wait(), 30)
        os.kill(os.getpid(), signal.SIGTERM)
        status = await running
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]

    assert status == 0
    assert [one.partition(";")[0].rpartition(") ")[2] for one in told] == [
        "ended with status 0",
        "Worker process 1 of 1 could not be started (No such file or directory)",
        "ended with status 1",
        "was ended by SIGSEGV",
    ]
    assert [one.partition("; ")[2] for one in told] == [
        f"the next one starts in {seconds} s." for seconds in ("0.001", "0.002", "0.004", "0.008")
    ]


async def test_one_that_dies_at_once_has_worked(caplog: pytest.LogCaptureFixture) -> None:
    """What it said is heard also where its end is heard of first: another one is started."""
    lives = iter([make_child(WORKS, "sys.exit(1)")])
    started = asyncio.Event()

    def command(_: int) -> Sequence[str]:
        words = next(lives, None)
        if words is None:
            started.set()
        return words or make_child("signal.sigwait({signal.SIGTERM})")

    supervisor = Supervisor(1, command)
    with (
        patch.object(_processes, "_FIRST_PAUSE", 0.001),
        patch.object(asyncio.get_running_loop(), "add_reader"),  # nothing is heard meanwhile
    ):
        running = asyncio.create_task(supervisor.run())
        await asyncio.wait_for(started.wait(), 30)
        os.kill(os.getpid(), signal.SIGTERM)
        status = await running

    assert status == 0
    assert "ended with status 1; the next one" in caplog.text


async def test_an_end_in_a_pause_starts_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Who asks for an end while no child is there waits for none."""
    started: list[int] = []

    def command(number: int) -> Sequence[str]:
        started.append(number)
        return make_child(WORKS, "sys.exit(1)")

    with patch.object(_processes, "_FIRST_PAUSE", 600):
        running = asyncio.create_task(Supervisor(1, command).run())
        await until(lambda: "the next one starts in" in caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)
        status = await asyncio.wait_for(running, 30)

    assert (status, started) == (0, [0])


def test_the_pauses_grow_and_begin_anew() -> None:
    """They double up to half a minute; once one has lived for a minute the next is short."""
    pauses = Pauses()
    grown = [pauses.next(0.1) for _ in range(7)]

    assert grown == [1, 2, 4, 8, 16, 30, 30]
    assert [pauses.next(lived) for lived in (59.9, 60, 0.1)] == [30, 1, 2]


@pytest.mark.parametrize(
    ("begun_as", "words", "program"),
    [
        (["python", "/bin/tapescope"], ["worker", "--processes", "2"], ["/bin/tapescope"]),
        (["python", "-P", "-m", "x"], ["worker", "--processes=2"], ["-P", "-m", "x"]),
        (["python", "boss.py"], ["at", "night"], ["-m", "tapescope.cli"]),
        (["python", "boss.py"], [], ["-m", "tapescope.cli"]),
    ],
)
def test_a_child_is_begun_as_its_parent(
    begun_as: list[str], words: list[str], program: list[str]
) -> None:
    """With the interpreter's flags and the same program; not one that calls us with its words."""
    with patch.object(sys, "argv", ["x", *words]), patch.object(sys, "orig_argv", begun_as + words):
        found = find_program("--processes")

    assert list(found) == [sys.executable, *program]


def test_a_child_has_the_words_of_its_parent(here: Here) -> None:
    """Those before the command, too, and an option as often as it is given; but a port of its own,
    unless each takes a free one."""
    begun: list[Sequence[str]] = []

    class Noted(Supervisor):
        async def run(self) -> int:
            begun.append(self._command(1))
            return 0

    words = (
        *("--log-level", "warning", "--store", "", "worker", "--app", "x:y", "--op", "a"),
        *("--op", "--b", "--drain", "3", "--processes", "2", "--store", "sqlite:///x.db"),
    )
    with patch.object(_processes, "Supervisor", Noted):
        here(*words, "--metrics-port", "9464")
        here(*words, "--metrics-port", "0")
    first, second = (list(each)[3:] for each in begun)

    assert first == [
        *("--log-level=warning", "worker", "--app=x:y", "--op=a", "--op=--b"),
        *("--metrics-port=9464", "--drain=3.0", "--store=sqlite:///x.db", "--metrics-port=9465"),
    ]
    assert second == [
        "--metrics-port=0" if word == "--metrics-port=9464" else word for word in first[:-1]
    ]


def test_where_no_process_can_be_started_it_says_so(here: Here) -> None:
    """A line and status 1, and no traceback."""
    with patch.object(sys, "executable", "/nowhere/python"):
        done = here("worker", "--app", "x:y", "--processes", "2")

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().splitlines()[-1] == (
        "tapescope: no worker process can be started: No such file or directory"
    )
