"""The application is asked as a client asks it, with a lifespan of its own in each test."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from exports import web
from tapescope.testing import MemoryStore, until


@pytest.fixture(params=["memory", "sqlite"])
async def client(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncClient]:
    """The application in a lifespan of the test's own, on a store of the test's own."""
    monkeypatch.setattr(web, "FOLDERS", tmp_path)
    monkeypatch.setattr(web, "ARCHIVES", tmp_path / "archives")
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            web.manager.reconfigure(store=await stack.enter_async_context(MemoryStore()))
        else:
            web.manager.reconfigure(store=f"sqlite:///{tmp_path}/tasks.db")
        await stack.enter_async_context(web.lifespan(web.app))
        transport = ASGITransport(web.app)
        yield await stack.enter_async_context(
            AsyncClient(transport=transport, base_url="http://localhost")
        )


def make_folder(folder: Path, files: int) -> None:
    """A folder to pack."""
    folder.mkdir()
    for number in range(files):
        (folder / f"{number}.txt").write_text(f"page {number}", encoding="utf-8")


async def ask_until(client: AsyncClient, path: str, status: str) -> None:
    """Wait until the task has this status."""

    async def is_so() -> bool:
        return bool((await client.get(path)).json()["status"] == status)

    await until(is_so, within=30)


async def test_a_folder_is_packed_and_downloaded(client: AsyncClient, tmp_path: Path) -> None:
    """Begun twice with one key it is one task; its events end with the final."""
    make_folder(tmp_path / "photos", 3)
    key = {"Idempotency-Key": "order-17"}
    begun = [
        await client.post("/exports", json={"folder": "photos"}, headers=key) for _ in range(2)
    ]
    path = f"/exports/{begun[0].json()['id']}"
    events = (await client.get(f"{path}/events")).text
    archive = (await client.get(f"{path}/archive")).content
    again = (await client.get(f"{path}/events", headers={"Last-Event-ID": "1"})).text

    assert [one.status_code for one in begun] == [201, 200]
    assert begun[0].json() == begun[1].json()
    assert events.index("event: task_started") < events.index("event: final")
    assert '"outcome":"succeeded"' in events.replace(" ", "")
    assert "task_started" not in again
    assert zipfile.ZipFile(BytesIO(archive)).namelist() == ["0.txt", "1.txt", "2.txt"]


async def test_an_export_is_cancelled(client: AsyncClient, tmp_path: Path) -> None:
    """It ends as cancelled, and leaves no archive and no part of one."""
    make_folder(tmp_path / "films", 1_000)
    begun = await client.post("/exports", json={"folder": "films"})
    path = f"/exports/{begun.json()['id']}"
    await ask_until(client, path, "running")
    state = (await client.post(f"{path}/cancel")).json()
    await ask_until(client, path, "cancelled")
    missing = await client.get(f"{path}/archive")

    assert state == {"state": "recorded"}
    assert missing.status_code == 409
    assert list((tmp_path / "archives").iterdir()) == []


async def test_what_is_not_there_is_said(client: AsyncClient) -> None:
    """A task that nobody submitted, and a folder that is not a valid name."""
    unknown = await client.get("/exports/no-such-task")
    no_stream = await client.get("/exports/no-such-task/events")
    no_name = await client.post("/exports", json={"folder": "../etc"})

    assert [one.status_code for one in (unknown, no_stream, no_name)] == [404, 404, 422]
