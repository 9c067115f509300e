"""``tapescope demo``: real work, and numbers that add up."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tapescope import TaskManager, TaskStatus, find_store
from tapescope.testing import until
from tests.cli.command import Tapescope, read_terminal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a few files to hash."""
    folder = tmp_path / "some files"
    (folder / "below").mkdir(parents=True)
    for number in range(40):
        (folder / "below" / f"{number}.txt").write_text(f"file {number}\n" * number)
    return folder


async def test_demo_adds_up_and_says_where_to_look(tapescope_on: Tapescope, folder: Path) -> None:
    """Every kind of end is there, the ledger agrees with the store, and its commands work."""
    done = tapescope_on("demo", "--folder", str(folder), "--store", tapescope_on.store)
    text = done.stdout.decode()
    sums = re.search(r"^([\d,]+) = ([\d,]+) \+ ([\d,]+) \+ ([\d,]+) ", text, re.MULTILINE)
    commands = re.findall(r"^  (\S*tapescope) (.+)$", text, re.MULTILINE)
    async with find_store(tapescope_on.store) as store:
        tasks = (await store.list(limit=1_000)).tasks
        tapes = [await store.read_tape(task.task_id) for task in tasks]
        quarantine = await store.read_quarantine()

    assert done.returncode == 0, text
    assert done.stderr == b""
    assert sums is not None
    offered, stored, dropped, failed = (int(n.replace(",", "")) for n in sums.groups())
    assert offered == stored + dropped + failed
    assert stored == sum(tape.last_seq for tape in tapes)
    assert dropped == len(quarantine.drops) + quarantine.overflow > 0
    assert {task.status.value for task in tasks} == {"succeeded", "failed", "cancelled"}
    assert all(tape.final_seq == tape.last_seq for tape in tapes)
    assert len(commands) == 3
    assert {shutil.which(program) is not None for program, _ in commands} == {True}
    for _, arguments in commands:
        assert tapescope_on.here(*shlex.split(arguments)).returncode == 0


@pytest.mark.slow
async def test_demo_really_hashes_the_files(tapescope: Tapescope, folder: Path) -> None:
    """The shares' results are of the folder's files: all of them, and all of their bytes."""
    tapescope("demo", "--folder", str(folder), "--store", tapescope.store)
    results: list[dict[str, Any]] = []
    async with TaskManager(tapescope.store) as manager:
        page = await manager.store.list(op="hash", status=TaskStatus.SUCCEEDED)
        results += [await manager.handle(task.task_id).result() for task in page.tasks]
    sizes = sizes_of_files(folder)

    assert sum(result["files"] for result in results) == len(sizes)
    assert sum(result["bytes"] for result in results) == sum(sizes)


@pytest.mark.slow
def test_demo_runs_without_any_setting_and_again(tapescope: Tapescope) -> None:
    """On its own store and the standard library, twice: each time a fresh store."""
    first, second = tapescope("demo"), tapescope("demo")
    stores = [re.search(rb"--store (\S+)", done.stdout) for done in (first, second)]

    assert (first.returncode, second.returncode) == (0, 0), first.stdout + second.stdout
    assert stores[0] is not None
    assert stores[1] is not None
    assert stores[0][1] != stores[1][1]


@pytest.mark.slow
def test_demo_on_a_terminal_has_bars(tapescope: Tapescope, folder: Path) -> None:
    """A person sees progress bars that end as the tasks do."""
    with tapescope.on_terminal("demo", "--folder", str(folder)) as (process, end):
        shown = read_terminal(end)
        status = process.wait(60)

    drawn = re.sub(rb"\x1b\[[0-9;?]*[A-Zac-ln-z]", b"", shown).decode()
    last: dict[str, str] = {}
    for line in drawn.splitlines():
        if "━" in line:
            last[re.sub(r"\x1b\[[0-9;]*m", "", line)[:28].strip()] = line

    assert status == 0
    assert "a thread that will not stop" in last
    for line in last.values():
        text = re.sub(r"\x1b\[[0-9;]*m", "", line)
        assert len(text) <= 80
        assert not re.search(r"\b1 events", text)
        assert ("\x1b[32m━" in line) == text.rstrip().endswith("succeeded"), line


def test_interrupted_demo_ends_at_once(tapescope: Tapescope, folder: Path) -> None:
    """Ctrl-C in the middle is 130, without a traceback, and its tapes are closed."""
    arguments = ("demo", "--folder", str(folder), "--store", tapescope.store)
    with tapescope.on_terminal(*arguments) as (process, end):
        read_terminal(end, until=[b"running"])
        os.write(end, b"\x03")
        shown = read_terminal(end)
        status = process.wait(60)
    statuses = {task["status"] for task in tapescope.json("list", "--limit", "1000")["tasks"]}

    assert status == 130
    assert b"Traceback" not in shown
    assert statuses <= {"succeeded", "failed", "cancelled"}


@pytest.mark.slow
async def test_demo_shows_tasks_that_go_on_arriving(tapescope: Tapescope, folder: Path) -> None:
    """Its page is there, with more and more tasks, until Ctrl-C: status 0, and every tape sound."""
    arguments = ("demo", "--serve", "--port", "0", "--folder", str(folder))
    with tapescope.started(*arguments, "--store", tapescope.store) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().decode() for _ in range(3)][-1]
        url = re.findall(r"http://127\.0\.0\.1:\d+/", said)[0]
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            page = await client.get("/")
            await until(lambda: _has_tasks(client, 4), within=30)
        process.send_signal(signal.SIGINT)
        status = process.wait(30)
        assert process.stderr is not None
        errors = process.stderr.read()
    audit = tapescope("audit", "--store", tapescope.store)

    assert "Needs a person now" in page.text
    assert (status, errors) == (0, b"")
    assert audit.returncode == 0, audit.stdout


async def _has_tasks(client: httpx.AsyncClient, n: int) -> bool:
    return len((await client.get("/v1/tasks")).json()["tasks"]) >= n


def sizes_of_files(folder: Path) -> list[int]:
    """The size of every file below the folder, in bytes."""
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
