"""The examples under the servers that they are deployed with: no submit is lost, none made twice.

``SUBMITS=10000`` is the long run; by default there are fewer.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tapescope import OpenMode, find_store
from tapescope.testing import until
from tests.support.services import find_ports

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SUBMITS: Final = int(os.environ.get("SUBMITS", "320"))
CLIENTS: Final = 32
ORDERS: Final = {
    "gunicorn": (
        *("gunicorn", "--preload", "--workers=2", "--threads=16", "--bind=127.0.0.1:{port}"),
        "django.core.wsgi:get_wsgi_application()",
    ),
    "runserver": ("manage.py", "runserver", "--noreload", "{port}"),
    "asgi": ("uvicorn", "--factory", "--port={port}", "django.core.asgi:get_asgi_application"),
}


@contextmanager
def running(
    folder: Path, words: Sequence[str], variables: Mapping[str, str], log: Path
) -> Generator[subprocess.Popen[bytes]]:
    """A server with its own process group, which ends with the block."""
    first = [] if words[0].endswith(".py") else ["-m"]
    with (
        log.open("wb") as said,
        subprocess.Popen(
            [sys.executable, *first, *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), **variables},
            stdout=said,
            stderr=said,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def await_server(client: httpx.Client, path: str, status: int, log: Path) -> None:
    """Until it answers this path so."""

    def answers() -> bool:
        try:
            return client.get(path).status_code == status
        except httpx.TransportError:
            return False

    try:
        asyncio.run(until(answers, within=60))
    except TimeoutError as error:
        raise AssertionError(log.read_text()) from error


async def read_params(store_url: str) -> list[Any]:
    """The params of every task of a store."""
    found: list[Any] = []
    store = find_store(store_url)
    store.open_mode = OpenMode.EXISTING
    async with store:
        before = None
        while True:
            page = await store.list(limit=1_000, before=before)
            found += [task.params for task in page.tasks]
            if (before := page.next) is None:
                return found


@pytest.mark.slow
@pytest.mark.timeout(60 + SUBMITS / 10)
@pytest.mark.parametrize("server", list(ORDERS))
def test_orders_of_many_clients_have_a_task_each(tmp_path: Path, server: str) -> None:
    """Django: with a module that is loaded before the fork, in threads, and under an event loop."""
    variables = {"ORDERS_DATA": str(tmp_path), "DJANGO_SETTINGS_MODULE": "orders.settings"}
    project, store = EXAMPLES / "django_app", f"sqlite:///{tmp_path}/orders.db"
    for words in (("manage.py", "migrate"), ("-m", "tapescope.cli", "migrate", "--store", store)):
        subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env={**os.environ, **variables},
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
    (port,) = find_ports(1)
    log = tmp_path / "server.log"
    with (
        running(project, [word.format(port=port) for word in ORDERS[server]], variables, log),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        ThreadPoolExecutor(CLIENTS) as threads,
    ):
        await_server(client, "/receipts/none", 404, log)

        def place(things: int) -> dict[str, Any]:
            fields = {"email": "ann@example.com", "things": str(things)}
            answer = client.post("/orders", data=fields)
            assert answer.status_code == 201, log.read_text()[-3_000:]
            placed: dict[str, Any] = answer.json()
            return placed

        placed = list(threads.map(place, range(SUBMITS)))
    orders = sorted(params["order_id"] for params in asyncio.run(read_params(store)))

    assert len({one["task"] for one in placed}) == SUBMITS
    assert orders == sorted(one["order"] for one in placed) == list(range(1, SUBMITS + 1))


@pytest.mark.slow
@pytest.mark.timeout(60 + SUBMITS / 10)
@pytest.mark.parametrize(
    "options", [("--reload",), ("--workers=2",)], ids=["reload", "two-processes"]
)
def test_exports_of_many_clients_are_there_once(tmp_path: Path, options: tuple[str, ...]) -> None:
    """FastAPI: a server that is made anew under its clients has each export that one asked for."""
    project, store = tmp_path / "app", f"sqlite:///{tmp_path}/exports.db"
    shutil.copytree(EXAMPLES / "fastapi_app", project)
    (port,) = find_ports(1)
    variables = {
        "EXPORTS_STORE": store,
        "EXPORTS_FOLDERS": str(tmp_path / "folders"),
        "EXPORTS_ARCHIVES": str(tmp_path / "archives"),
    }
    log = tmp_path / "server.log"
    # What a busy machine leaves idle for five seconds is closed, perhaps under a request.
    uvicorn = ("uvicorn", "--timeout-keep-alive=60")
    again = Counter[str]()
    with (
        running(project, [*uvicorn, *options, f"--port={port}", "exports.web:app"], variables, log),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        ThreadPoolExecutor(CLIENTS) as threads,
    ):
        await_server(client, "/exports/none", 404, log)

        def begin(number: int) -> str:
            if options == ("--reload",) and number % (SUBMITS // 4) == SUBMITS // 8:
                source = project / "exports" / "tasks.py"
                source.write_text(f"{source.read_text()}# {number}\n")
            headers = {"Idempotency-Key": f"export-{number}"}
            while True:
                try:
                    answer = client.post("/exports", json={"folder": f"f{number}"}, headers=headers)
                except httpx.TransportError as error:  # nobody listens, or it was ended in between
                    again[type(error).__name__] += 1
                    continue
                assert answer.status_code in {200, 201}, log.read_text()[-3_000:]
                return str(answer.json()["id"])

        ids = list(threads.map(begin, range(SUBMITS)))
    folders = Counter(Path(params["folder"]).name for params in asyncio.run(read_params(store)))

    assert len(set(ids)) == SUBMITS
    assert folders == dict.fromkeys((f"f{number}" for number in range(SUBMITS)), 1)
    assert bool(again) == (options == ("--reload",)), again
