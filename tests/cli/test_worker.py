"""``tapescope worker``: processes that share a store's work, and what is left of one that ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from tapescope import Task, TaskCancelled, TaskManager, TaskStatus
from tapescope.cli._load_app import BadApp, load_manager
from tapescope.store.flush import CancelState
from tapescope.testing import until
from tests.cli.command import Tapescope, slow
from tests.cli.conftest import Here
from tests.cli.program import APP, Program, begun, read_log
from tests.support.callers import calling


@pytest.fixture
def program(tapescope_on: Tapescope, tmp_path: Path) -> Program:
    """A program on a fresh store of each kind."""
    return Program(tapescope_on, tmp_path)


def pid_of(owner: str | None) -> int:
    """The process of an owner."""
    assert owner is not None
    return int(owner.split(":")[1])


async def test_a_submitted_task_runs_in_the_worker(program: Program) -> None:
    """``submit --wait`` prints the id and the result; SIGTERM then ends the worker with 0."""
    with program.worker() as worker:
        done = program.tapescope("submit", "double", "--params", '{"n": 21}', "--wait")
        shape = program.tapescope.json("submit", "double", "--params", '{"n": 4}', "--wait")
        failed = program.tapescope("submit", "fail", "--wait")
        worker.send_signal(signal.SIGTERM)
        _, stderr = worker.communicate(timeout=30)
    told = [json.loads(line)["message"] for line in stderr.splitlines()]

    assert done.stdout.split()[1:] == [b"42"]
    assert done.stderr == b""
    assert (shape["status"], shape["result"], shape["op"]) == ("succeeded", 8, "double")
    assert (failed.returncode, failed.stderr.count(b"\n")) == (1, 1)
    assert b"failed with ValueError: no" in failed.stderr
    assert worker.returncode == 0
    assert "Draining: no more tasks are started; a second signal skips the wait." in told
    assert told[-1] == "The worker has stopped."


async def test_a_worker_takes_its_ops_and_queues(program: Program) -> None:
    """Others wait, ``workers`` and ``stats`` say so; an op that the program has not is refused."""
    tapescope, params = program.tapescope, ("--params", '{"n": 4}')
    start = ("worker", "--app", "program:manager", "--store", tapescope.store)
    with tapescope.started(
        *start, "--op", "double", "--queue", "bulk", "--queue", "night"
    ) as worker:
        said = read_log(worker)["message"]
        left = tapescope.json("submit", "double", *params)["task_id"]
        other = tapescope.json("submit", "fail", "--queue", "bulk")["task_id"]
        done = tapescope.json("submit", "double", *params, "--queue", "night", "--wait")
        (told,) = tapescope.json("workers")["workers"]
        rows = {one["task_id"]: one["status"] for one in tapescope.json("list")["tasks"]}
        numbers = {one["op"]: one for one in tapescope.json("stats")["ops"]}
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)
    with tapescope.started(*start, "--op", "absent") as refused:
        _, wrong = refused.communicate(timeout=30)

    assert done["status"] == "succeeded"
    assert (told["ops"], told["queues"]) == (["double"], ["bulk", "night"])
    assert (rows[left], rows[other]) == ("pending", "pending")
    assert (numbers["double"]["workers"], numbers["double"]["unserved"]) == (1, ["default"])
    assert said.endswith(": double; from the queues bulk, night")
    assert refused.returncode == 2
    assert b"absent is not an op of the program, which has: wait, double, deaf, fail" in wrong


async def test_kill_9_has_the_other_worker_run_it_again(program: Program) -> None:
    """Each of two workers runs a task; one is killed, and the other one does both."""
    with program.worker("--max-running", "1"), program.worker("--max-running", "1") as other:
        async with TaskManager(program.tapescope.store, heartbeat=0.2, work=False) as manager:
            params = {"file": str(program.file)}
            tasks = [await manager.submit("wait", params=params) for _ in range(2)]
            for task in tasks:
                await begun(task)
            rows = [await task.status() for task in tasks]
            (lost,) = [row for row in rows if pid_of(row.owner) == other.pid]
            os.kill(other.pid, signal.SIGKILL)
            program.file.touch()
            results = {task.task_id: await task.result(timeout=60) for task in tasks}
            row = await manager.handle(lost.task_id).status()
            tape = [event.type for event in (await manager.tape(lost.task_id)).events]

    assert sorted(results.values()) == [1, 2]
    assert results[lost.task_id] == 2
    assert (row.attempt, row.retries_spent, pid_of(row.owner) != other.pid) == (2, 1, True)
    assert tape == ["task_started", "log", "attempt_failed", "task_started", "log", "final"]


async def test_a_cancel_reaches_the_worker(program: Program) -> None:
    """What runs in a worker is cancelled from another process, and its end is told there."""
    with program.worker():
        async with TaskManager(program.tapescope.store, work=False) as manager:
            task = manager.handle(program.submit("wait", file=str(program.file)))
            await begun(task)
            answer = await task.cancel("no longer wanted")
            with pytest.raises(TaskCancelled, match="no longer wanted"):
                await task.result(timeout=60)
            tape = [event.type for event in (await task.tape()).events]

    assert answer.state is CancelState.RECORDED
    assert tape == ["task_started", "log", "final"]


async def test_a_task_of_the_callers_transaction_runs_in_a_worker(program: Program) -> None:
    """Another process hears of it at the commit; what is rolled back never was."""
    with program.worker():
        async with (
            TaskManager(program.tapescope.store, work=False) as manager,
            calling(program.tapescope.store) as caller,
        ):
            async with caller.transaction():
                kept = await manager.submit(
                    "double", params={"n": 21}, connection=caller.connection
                )
            with suppress(LookupError):
                async with caller.transaction():
                    await manager.submit("double", params={"n": 1}, connection=caller.connection)
                    raise LookupError
            result = await kept.result(timeout=60)
            counts = await manager.store.count()

    assert result == 42
    assert sum(counts.values()) == 1


async def test_sigterm_gives_the_task_to_the_other_worker(program: Program) -> None:
    """With no drain left a running task is released: another worker ends it, no retry spent."""
    with program.worker("--drain", "0") as first:
        task_id = program.submit("wait", "--retries", "0", file=str(program.file))
        async with TaskManager(program.tapescope.store, work=False) as manager:
            task = manager.handle(task_id)
            await begun(task)
            first.send_signal(signal.SIGTERM)
            _, stderr = first.communicate(timeout=30)
            released = await task.status()
            program.file.touch()
            with program.worker():
                result = await task.result(timeout=60)
            row = await task.status()

    assert (first.returncode, b"released" in stderr) == (0, True)
    assert (released.status, released.retries_spent) == (TaskStatus.PENDING, 0)
    assert result == 2
    assert (row.attempt, row.retries_spent) == (2, 0)


async def test_a_second_signal_skips_the_drain(program: Program) -> None:
    """The first signal waits for what runs; the second gives it back at once, with status 0."""
    with program.worker() as worker:
        task_id = program.submit("wait", file=str(program.file))
        async with TaskManager(program.tapescope.store, work=False) as manager:
            task = manager.handle(task_id)
            await begun(task)
            worker.send_signal(signal.SIGINT)
            assert worker.stderr is not None
            line = worker.stderr.readline()
            draining = (await task.status()).status
            worker.send_signal(signal.SIGINT)
            worker.communicate(timeout=30)
            row = await task.status()

    assert b"Draining" in line
    assert draining is TaskStatus.RUNNING
    assert worker.returncode == 0
    assert (row.status, row.retries_spent) == (TaskStatus.PENDING, 0)


@pytest.mark.slow
async def test_two_signals_at_once_close_the_worker(program: Program) -> None:
    """The second may come before the drain has begun: what runs is given back all the same."""
    with program.worker() as worker:
        task_id = program.submit("wait", file=str(program.file))
        async with TaskManager(program.tapescope.store, work=False) as manager:
            task = manager.handle(task_id)
            await begun(task)
            for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
                worker.send_signal(number)
            worker.communicate(timeout=30)
            row = await task.status()

    assert worker.returncode == 0
    assert (row.status, row.retries_spent) == (TaskStatus.PENDING, 0)


async def test_limits_hold_across_a_restart(program: Program) -> None:
    """A worker that comes after a killed one runs no more of an op at once than the op allows.

    The tasks of the killed one are its own until they are rescued, and count for no other worker.
    """
    most = 0
    async with TaskManager(program.tapescope.store, heartbeat=0.2, work=False) as manager:

        async def read_running() -> list[Task]:
            nonlocal most
            running = (await manager.store.list(op="wait", status=TaskStatus.RUNNING)).tasks
            most = max([most, *Counter(task.owner for task in running).values()])
            return list(running)

        async def all_run() -> bool:
            return len(await read_running()) == 2

        with program.worker() as killed:
            params = {"file": str(program.file)}
            tasks = [await manager.submit("wait", params=params) for _ in range(6)]
            await until(all_run, within=30)
            lost = {task.owner for task in await read_running()}
            killed.kill()
            killed.communicate()
        with program.worker():

            async def run_elsewhere() -> bool:
                running = await read_running()
                return len(running) == 2 and lost.isdisjoint(task.owner for task in running)

            await until(run_elsewhere, within=30)
            program.file.touch()

            async def have_ended() -> bool:
                await read_running()
                return (await manager.store.count())[TaskStatus.SUCCEEDED] == 6

            await until(have_ended, within=60)
        rows = [await task.status() for task in tasks]

    assert most == 2
    assert sorted(row.retries_spent for row in rows) == [0, 0, 0, 0, 1, 1]


async def test_what_has_ended_is_retried(program: Program) -> None:
    """``retry`` submits a task's op and params again, and refuses one that lives."""
    with program.worker():
        first = program.tapescope.json("submit", "double", "--params", '{"n": 3}', "--wait")
        again = program.tapescope.json("retry", first["task_id"], "--wait")
        lives = program.submit("double", "--delay", "600", n=1)
        refused = program.tapescope.here("retry", lives)

    assert (again["result"], again["task_id"] != first["task_id"]) == (6, True)
    assert refused.returncode == 1
    assert b"is pending: it has not ended" in refused.stderr


async def test_a_task_that_no_worker_can_run_is_not_retried(tapescope: Tapescope) -> None:
    """A command is run by the ``tapescope run`` that was told to: no worker could."""
    tapescope("run", "--", "true")
    refused = tapescope.here("retry", tapescope.newest())

    assert refused.returncode == 1
    assert b"No worker of this store has registered the op 'shell'" in refused.stderr
    assert refused.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("program", "write it as module:manager"),
        (":manager", "write it as module:manager"),
        ("program:", "write it as module:manager"),
        ("nowhere:manager", "there is no module 'nowhere'"),
        ("nowhere.at.all:manager", "there is no module 'nowhere'"),
        ("program:boss", "'program' has no 'boss'; it has manager, nothing, shop"),
        ("program:Path", "'Path' is a type, not a TaskManager or an Ops"),
        ("program:double", "'double' is an Op, not a TaskManager or an Ops"),
        ("program:shop", "'shop' is an Ops, which has no store: name one, with --store URL"),
        ("program:nothing", "'nothing' has no op: register one"),
        ("broken:manager", "importing its module raised ZeroDivisionError: "),
        ("broken:manager", "(broken.py, line 2)"),
        ("needy:manager", "importing its module raised ModuleNotFoundError: "),
        ("leaving:manager", "importing its module raised SystemExit: 3"),
        ("wrong:manager", "its module has a syntax error"),
    ],
)
def test_an_app_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app: str, says: str
) -> None:
    """A mistake in ``--app``, or in the program, is an error that names it."""
    write_apps(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with patch.dict(sys.modules), pytest.raises(BadApp, match=re.escape(says)) as raised:
        load_manager(app)

    assert f"The app {app!r} cannot be used: " in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_a_registry_is_an_app(program: Program) -> None:
    """An ``Ops`` has no store: the worker makes a manager for it, on the store that is named."""
    store = program.tapescope.store
    with program.tapescope.started("worker", "--app", "program:shop", "--store", store) as process:
        line = read_log(process)
        async with TaskManager(store, work=False) as manager:
            task = await manager.submit("triple", params={"n": 14})
            result = await task.result(timeout=60)

    assert line["message"].endswith(": triple")
    assert result == 42


@pytest.mark.parametrize("app", [slow("nowhere:manager"), "broken:manager", slow("program:boss")])
def test_a_worker_without_its_app_ends(tapescope: Tapescope, tmp_path: Path, app: str) -> None:
    """What is wrong with ``--app`` is one line, and status 1."""
    write_apps(tmp_path)
    tapescope.folder = tmp_path
    done = tapescope("worker", "--app", app)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"tapescope: The app '{app}' cannot be used: ".encode())
    assert done.stderr.count(b"\n") == 1


SHADOWED = """
import json, sys
sys.path[:] = [path for path in sys.path if path]  # as a console script has it
from pathlib import Path
from tapescope.cli._load_app import BadApp, load_manager
try:
    load_manager("program:manager", *map(Path, sys.argv[1:]))
    import aiosqlite
    print("loaded", hasattr(aiosqlite, "connect"))
except BadApp as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("options", "folder", "says"),
    [
        ((), (), "loaded True"),
        (("-P",), (), "with PYTHONSAFEPATH its folder must be named: --app-dir"),
        (("-P",), (".",), "loaded True"),
    ],
)
def test_the_current_folder_is_trusted_last(
    tmp_path: Path, options: tuple[str, ...], folder: tuple[str, ...], says: str
) -> None:
    """A file in it is no driver of ours; where Python does not trust it, it is not searched."""
    write_apps(tmp_path)
    (tmp_path / "aiosqlite.py").write_text("")
    done = subprocess.run(
        [sys.executable, *options, "-c", SHADOWED, *folder],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert says in done.stdout


def write_apps(folder: Path) -> None:
    """A program with a manager, and some that cannot be imported."""
    (folder / "program.py").write_text(APP)
    (folder / "broken.py").write_text("\n1 / 0\n")
    (folder / "needy.py").write_text("import nothing_of_the_kind\n")
    (folder / "leaving.py").write_text("import sys; sys.exit(3)\n")
    (folder / "wrong.py").write_text("def (:\n")


@pytest.mark.parametrize(
    ("arguments", "says", "status"),
    [
        (["submit", "no name"], "is not a valid op name", 1),
        (["submit", "work", "--params", "{"], "--params is not valid JSON", 1),
        (["submit", "work", "--params", "[1]"], "--params must be an object", 1),
        (["submit", "work", "--retries", "-1"], "retries is -1", 1),
        (["submit", "work", "--timeout", "0"], "timeout is 0", 1),
        (["submit", "work", "--delay", "-1"], "delay is -1", 1),
        (["submit", "work", "--run-at", "tomorrow"], "write 2026-01-31T12:00:00Z", 2),
        (["submit", "work", "--run-at", "2026-01-31T12:00:00"], "with a time zone", 2),
        (["retry", "01900000-0000-7000-8000-000000000000"], "has no task", 1),
        (["worker"], "--app", 2),
    ],
)
def test_a_mistake_is_one_line(here: Here, arguments: list[str], says: str, status: int) -> None:
    """What a user may get wrong is told in one line, and nothing is submitted or run."""
    here("migrate")
    done = here(*arguments)

    assert done.returncode == status
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert says in done.stderr.decode()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        slow("--max-running", "0", "max_running is 0"),
        slow("--drain", "-1", "drain is -1"),
        ("--store", "tasks.db", "no scheme"),
    ],
)
def test_a_worker_with_a_wrong_setting_takes_no_task(
    tapescope: Tapescope, tmp_path: Path, option: str, value: str, says: str
) -> None:
    """A setting that cannot be is one line, once the app is there, and status 1."""
    Program(tapescope, tmp_path)
    done = tapescope("worker", "--app", "program:manager", option, value)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert says in done.stderr.decode()


def test_a_submit_of_an_unknown_op_waits_and_says_so(tapescope: Tapescope) -> None:
    """An op that no worker has registered may come yet; a misspelt one is seen at once."""
    first = tapescope.here("submit", "reszie", "--key", "a", "--run-at", "2126-01-31T12:00:00Z")
    again = tapescope.here("submit", "reszie", "--key", "a")
    (task,) = tapescope.json("list")["tasks"]

    assert first.stdout == again.stdout == f"{task['task_id']}\n".encode()
    assert b"no worker of this store has registered 'reszie' yet" in first.stderr
    assert (task["status"], task["retries"]) == ("pending", 3)
    assert task["run_at"].startswith("2126-01-31T12:00:00")
