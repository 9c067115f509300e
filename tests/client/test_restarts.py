"""A server that is killed and started again: every follower has every seq once (I9)."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sized
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tapescope import Reporter, TaskManager
from tapescope.client import Client, SyncClient
from tapescope.model.tape import Event
from tapescope.testing import until
from tests.cli.command import Tapescope
from tests.client.servers import collect


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def served(
    tapescope: Tapescope, port: int, *options: str
) -> AsyncGenerator[subprocess.Popen[bytes]]:
    """A server of the store in a process of its own, once it answers; then it is killed (-9)."""
    with tapescope.started("serve", "--port", str(port), *options) as process:
        assert process.stderr is not None
        said = await asyncio.to_thread(process.stderr.readline)
        assert f" on http://127.0.0.1:{port}".encode() in said, said
        yield process


APP = """
import asyncio
import os

from tapescope import Reporter, TaskManager

store = os.environ["TAPESCOPE_STORE"]
manager = TaskManager(store, lease=2, heartbeat=0.3, max_running=30, drain=0)


@manager.op("count", retries=20)
async def count(report: Reporter, to: int) -> int:
    for n in range(to):
        await report.emit("count", n)
        await asyncio.sleep(0.02)
    return to
"""


@pytest.mark.slow
async def test_a_server_that_is_killed_while_it_runs_tasks_loses_nothing(
    store_url: str, tmp_path: Path
) -> None:
    """Twice, under load: who followed has every seq once, each task goes on, no rule is broken."""
    (tmp_path / "program.py").write_text(APP)
    tapescope = Tapescope(store_url, tmp_path)
    tapescope.folder = tmp_path
    port, tasks = free_port(), 60
    app = ("--app", "program:manager")
    told: dict[str, list[Event]] = {}

    async def follow(client: Client, task_id: str) -> None:
        async for event in client.follow(task_id):
            told[task_id].append(event)

    async with (
        Client(f"http://127.0.0.1:{port}", reconnect=60) as client,
        asyncio.TaskGroup() as following,
    ):
        async with served(tapescope, port, *app):
            for _ in range(tasks):
                task = await client.submit("count", params={"to": 100})
                told[task.task_id] = []
                following.create_task(follow(client, task.task_id))
            await until(lambda: sum(map(len, told.values())) > 300, within=60)
        async with served(tapescope, port, *app):
            before = sum(map(len, told.values()))
            await until(lambda: sum(map(len, told.values())) > before + 900, within=60)
        async with served(tapescope, port, *app):
            await until(
                lambda: all(events and events[-1].type == "final" for events in told.values()),
                within=120,
            )
    rows = [tapescope.json("show", task_id) for task_id in told]

    for events in told.values():
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert {row["status"] for row in rows} == {"succeeded"}
    assert sum(row["attempt"] > 1 for row in rows) >= 30
    assert tapescope.json("audit")["violations"] == []


@pytest.mark.slow
async def test_followers_see_every_seq_once_while_servers_are_killed(
    sqlite_url: str, tmp_path: Path
) -> None:
    """By both clients and by the command line, from one server to the next."""
    tapescope, port, steps = Tapescope(sqlite_url, tmp_path), free_port(), 40
    go_on = [asyncio.Event() for _ in range(3)]
    url = f"http://127.0.0.1:{port}"

    async def count(report: Reporter) -> None:
        for gate in go_on:
            await gate.wait()
            for n in range(steps):
                await report.emit("count", n)

    seen: dict[type, list[int]] = {Client: [], SyncClient: []}
    async with TaskManager(sqlite_url, drain=0) as worker:
        task = await worker.submit("count", count)
        async with served(tapescope, port):
            following = [
                asyncio.ensure_future(collect(kind, url, task.task_id, into=seqs, reconnect=60))
                for kind, seqs in seen.items()
            ]
            command = subprocess.Popen(  # noqa: ASYNC220  # it is read in a thread
                (*_command(url), "tape", task.task_id, "--follow", "--json"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=tapescope.env,
            )
            printed: list[bytes] = []
            told = asyncio.ensure_future(asyncio.to_thread(_read, command, printed))
            go_on[0].set()
            followers: list[Sized] = [printed, *seen.values()]
            await until(lambda: all(len(one) > steps for one in followers), within=30)
        go_on[1].set()  # while there is no server
        async with served(tapescope, port):
            await until(lambda: all(len(one) > 2 * steps for one in followers), within=30)
            go_on[2].set()  # while it is killed
        async with served(tapescope, port):
            by_client = await asyncio.wait_for(asyncio.gather(*following), 60)
            said = await told

    every = list(range(1, 3 * steps + 3))
    assert [[event.seq for event in events] for events in by_client] == [every, every]
    assert [json.loads(line)["seq"] for line in printed] == every
    assert said.count(b"trying again") in (1, 2)
    assert command.returncode == 0


def _read(command: subprocess.Popen[bytes], printed: list[bytes]) -> bytes:
    """Put its lines there as they come; gives what it said on stderr."""
    assert command.stdout is not None
    for line in iter(command.stdout.readline, b""):
        printed.append(line)  # noqa: PERF402  # one by one, as they come
    return command.communicate(timeout=60)[1]


def _command(url: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tapescope.cli", "--server", url)
