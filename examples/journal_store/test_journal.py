"""What the journal does beyond the suite: broken ends, a full disk, other processes, repairs."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from journal_store import JournalStore
from tapescope.errors import BadStoreUrl, StoreFull, StoreUnavailable
from tapescope.model import AuditRule, FinalEvent, TaskStatus
from tapescope.store import TaskStore, find_store
from tapescope.testing.tasks import create, log, start

ROOT = Path(__file__).parent

OTHER_PROCESS = """
import asyncio, sys
from tapescope.store import find_store
from tapescope.testing.tasks import create

async def main() -> None:
    async with find_store(sys.argv[1]) as store:
        print(await create(store))

asyncio.run(main())
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a journal that only this test uses."""
    return f"journal:///{tmp_path / 'tasks.journal'}"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the metadata that an install of the example has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    entries = project["entry-points"]["tapescope.stores"]
    metadata = tmp_path / "site" / f"tapescope_journal-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n",
        encoding="utf-8",
    )
    (metadata / "entry_points.txt").write_text(
        "[tapescope.stores]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items()),
        encoding="utf-8",
    )
    monkeypatch.setattr(sys, "path", [str(metadata.parent), *sys.path])
    return metadata.parent


async def end(store: TaskStore) -> str:
    """A task of three events that ended."""
    attempt = await start(store)
    await store.append(attempt, [log("on it")])
    await store.finish_if_running(attempt, FinalEvent.succeeded())
    return attempt.task_id


def add_line(url: str, *changes: list[Any]) -> None:
    """Write to the journal by hand, past its rules."""
    with Path(url.removeprefix("journal:///")).open("a", encoding="utf-8") as file:
        file.write(json.dumps(changes) + "\n")


async def test_store_is_found_by_its_scheme(installed: Path, url: str) -> None:
    """The entry point of an installed package leads from the URL to the class."""
    store = find_store(url, patience=3)

    assert isinstance(store, JournalStore)
    assert (store.name, store.patience) == (url, 3)


@pytest.mark.parametrize("url", ["journal://host/file", "journal:///", "journal:///a?b=c"])
def test_urls_that_name_no_file_are_refused(url: str) -> None:
    """A journal is a file on this host."""
    with pytest.raises(BadStoreUrl, match="a journal is journal:///file"):
        JournalStore(url)


async def test_another_process_shares_the_journal(installed: Path, url: str) -> None:
    """A program that knows only the URL adds a task, and an open store sees it."""
    path = os.pathsep.join([str(installed), str(ROOT)])
    async with JournalStore(url) as store:
        own = await create(store)
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", OTHER_PROCESS, url],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=True,
        )
        listed = [task.task_id for task in (await store.list()).tasks]

    assert sorted(listed) == sorted([own, done.stdout.strip()])


async def test_line_of_a_killed_writer_is_not_there(url: str, tmp_path: Path) -> None:
    """A line without its end was never committed: readers pass it over, a writer replaces it."""
    async with JournalStore(url) as store:
        task_id = await create(store)
        with (tmp_path / "tasks.journal").open("a", encoding="utf-8") as file:
            file.write('[["tasks", 1, null], ["ids"')
        torn = await store.count()
        second = await create(store)
    async with JournalStore(url) as store:
        listed = {task.task_id for task in (await store.list()).tasks}

    assert torn[TaskStatus.PENDING] == 1
    assert listed == {task_id, second}


async def test_full_disk_leaves_no_half_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told that the disk is full; what was written of the line is taken back."""
    write = os.write

    def write_half(file: int, text: bytes) -> int:
        write(file, text[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    async with JournalStore(url, patience=0.01) as store:
        await create(store)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", write_half)
            with pytest.raises(StoreFull, match="No space left"):
                await create(store)
        await create(store)
        counts = await store.count()

    assert counts[TaskStatus.PENDING] == 2


async def test_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A journal whose folder is missing cannot be opened."""
    store = JournalStore(f"journal:///{tmp_path / 'nowhere' / 'tasks.journal'}", patience=0.01)
    with pytest.raises(StoreUnavailable, match="No such file"):
        await store.open()


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        (AuditRule.MISSING_FINAL, [["events/1", 3, None], ["ends", 1, None]]),
        (AuditRule.FINAL_NOT_LAST, [["events/1", 4, [1, 4, 1, 9, "log", 1, "{}", "me"]]]),
        (
            AuditRule.MULTIPLE_FINAL,
            [["events/1", 4, [1, 4, 1, 9, "final", 1, '{"outcome": "succeeded"}', "me"]]],
        ),
        (AuditRule.DROPPED_COUNT_MISMATCH, [["counted", "{task_id}", {"after_terminal": 0}]]),
    ],
)
async def test_what_is_broken_by_hand_is_found_and_mended(
    url: str, rule: AuditRule, changes: list[list[Any]]
) -> None:
    """The audit names the rule; a dry run says what a repair then does; the log keeps it."""
    async with JournalStore(url) as store:
        task_id = await end(store)
        attempt = await start(store)
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        await store.append(attempt, [log("late")])
        broken = attempt.task_id if rule is AuditRule.DROPPED_COUNT_MISMATCH else task_id
        add_line(url, *([t, k if k != "{task_id}" else broken, v] for t, k, v in changes))
        before = await store.maintenance.audit()
        dry = await store.maintenance.repair(broken, by="the tests", dry_run=True)
        still = await store.maintenance.audit()
        mended = await store.maintenance.repair(broken, by="the tests")
        after = await store.maintenance.audit()
        logged = await store.maintenance.read_repairs()

    assert [(one.rule, one.task_id) for one in before.violations] == [(rule, broken)]
    assert still.violations == before.violations
    assert [one.rule for one in dry.repairs] == [one.rule for one in mended.repairs] == [rule]
    assert (mended.left, after.violations) == ((), ())
    assert [(one.rule, one.task_id, one.by) for one in logged] == [(rule, broken, "the tests")]
