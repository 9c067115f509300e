"""Reading a SQLite file in a folder where no log may be made."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tapescope.store.opening import OpenMode
from tapescope.store.port import TaskStore
from tapescope_adapters.sqlite import SqliteStore
from tests.support.postgres_sessions import run_task
from tests.support.unprivileged import ordinary_thread, unwritable


async def test_file_that_is_written_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    """A reader that can take no lock sees that another process came, and reads what it wrote."""
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "tasks.db"
    url = f"sqlite:///{file}"

    async def write() -> str:
        async with SqliteStore(url) as store:
            return await run_task(store, 3)

    def write_as_owner() -> str:
        folder.chmod(0o755)
        file.chmod(0o644)
        task_id = asyncio.run(write())
        file.chmod(0o444)
        folder.chmod(0o555)
        return task_id

    async def read(writer: ThreadPoolExecutor) -> list[str]:
        async with SqliteStore(url, open_mode=OpenMode.READ) as store:
            written = [first]
            for _ in range(2):
                assert await list_ids(store) == written[::-1]
                written.append(await asyncio.wrap_future(writer.submit(write_as_owner)))
            assert await list_ids(store) == written[::-1]
            return written

    first = await write()
    with ThreadPoolExecutor(1) as writer, unwritable(folder, file), ordinary_thread() as ordinary:
        writer.submit(int).result()  # its thread has the rights of this one
        written = await asyncio.wrap_future(ordinary.submit(asyncio.run, read(writer)))

    assert len(written) == 3
    assert [path.name for path in folder.iterdir()] == ["tasks.db"]


async def list_ids(store: TaskStore) -> list[str]:
    """The ids of the tasks, newest first."""
    return [task.task_id for task in (await store.list()).tasks]
