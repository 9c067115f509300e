"""A program with registered ops, for workers to run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tapescope import TaskHandle
from tests.cli.command import Tapescope

__all__ = ["APP", "Program", "begun", "read_log"]

APP = """
from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tapescope import Ops, Reporter, TaskManager, ThreadReporter

manager = TaskManager(
    "sqlite:///not-this-one.db", heartbeat=0.2, drain=600, max_running=50, cancel_grace=1
)


@manager.op("wait", max_running=2)
async def wait(report: Reporter, file: str) -> int:
    await report.log("info", "here")
    while not Path(file).exists():
        await asyncio.sleep(0.01)
    return report.attempt


@manager.op("double")
async def double(report: Reporter, n: int) -> int:
    return 2 * n


@manager.op("deaf")
def wait_deaf(report: ThreadReporter, file: str) -> None:
    report.log("info", "here")
    while not Path(file).exists():
        time.sleep(0.01)
    report.log("info", "too late")


@manager.op("fail", retries=0)
async def fail(report: Reporter) -> None:
    raise ValueError("no")


nothing = TaskManager("sqlite:///not-this-one.db")
shop = Ops()


@shop.op("triple")
async def triple(report: Reporter, n: int) -> int:
    return 3 * n
"""


def read_log(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next line of a worker's log."""
    assert process.stderr is not None
    line: dict[str, Any] = json.loads(process.stderr.readline())
    return line


class Program:
    """A program with registered ops, and the workers that run it."""

    def __init__(self, tapescope: Tapescope, folder: Path) -> None:
        self.tapescope = tapescope
        self.file = folder / "go on"
        """What tasks of ``wait`` wait for."""
        tapescope.folder = folder
        (folder / "program.py").write_text(APP)

    @contextmanager
    def worker(self, *options: str) -> Generator[subprocess.Popen[bytes]]:
        """A worker that has found its store."""
        with self.tapescope.started(
            *("worker", "--app", "program:manager", "--store", self.tapescope.store), *options
        ) as process:
            line = read_log(process)
            assert line["message"].endswith(": wait, double, deaf, fail"), line
            yield process

    def submit(self, op: str, *options: str, **params: Any) -> str:
        """Submit a task on the command line; its id."""
        done = self.tapescope.here("submit", op, "--params", json.dumps(params), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()


async def begun(task: TaskHandle) -> None:
    """Wait until its runner has reported."""
    async for event in task.follow():
        if event.type == "log":
            return
