"""Who may read a SQLite file that tapescope has made: params and results are in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapescope.errors import BadStoreUrl
from tapescope.model.tasks import NewTask
from tapescope.store.validation import new_task_id
from tapescope_adapters.sqlite import SqliteStore


@pytest.fixture(params=[0o022, 0o077, 0o000], ids=oct)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def read_modes(folder: Path) -> dict[str, int]:
    """The permissions of each file of a folder."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize(
    ("query", "mode"), [("", 0o600), ("?mode=660", 0o660), ("?mode=0640&patience=3", 0o640)]
)
async def test_a_file_is_its_owners_unless_the_url_says_so(
    tmp_path: Path, query: str, mode: int
) -> None:
    """The file, its log and its index have the same permissions, whatever the umask."""
    async with SqliteStore(f"sqlite:///{tmp_path}/tasks.db{query}") as store:
        await store.create(NewTask(new_task_id(), "x"))
        modes = read_modes(tmp_path)

    assert modes == dict.fromkeys(("tasks.db", "tasks.db-wal", "tasks.db-shm"), mode)


async def test_a_file_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    """What its owner has chosen is not ours to change."""
    path = tmp_path / "tasks.db"
    path.touch()
    path.chmod(0o644)
    async with SqliteStore(f"sqlite:///{path}"):
        pass

    assert read_modes(tmp_path) == {"tasks.db": 0o644}


@pytest.mark.parametrize("mode", ["ro", "777", "400", "0o600", "", "6600"])
def test_a_mode_of_no_use_is_refused(mode: str) -> None:
    """With what a mode looks like."""
    with pytest.raises(BadStoreUrl, match="as 600, 640 or 660"):
        SqliteStore(f"sqlite:///tasks.db?mode={mode}")
