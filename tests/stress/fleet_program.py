"""The program of a fleet's workers: ``tapescope worker --app tests.stress.fleet_program:manager``.

Each run leaves a line beside the store, in a file of its process: a witness that knows nothing of
tapes. A line is one write, so that a process that is killed leaves a whole one or none.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

from tapescope import Reporter, TaskManager
from tests.stress.delays import pause

__all__ = ["HEARTBEAT", "LEASE", "OP", "manager"]

OP: Final = "fleet"
LEASE: Final = 15.0
HEARTBEAT: Final = 1.0

manager = TaskManager(
    "sqlite:///not-this-one.db", lease=LEASE, heartbeat=HEARTBEAT, max_running=100
)


@cache
def _open_witness(folder: str) -> int:
    path = Path(folder) / f"{os.getpid()}.runs"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


@manager.op(OP)
async def work(report: Reporter, folder: str, seconds: float) -> int:
    """Note the run, take some time where it is to, and say who ran it."""
    os.write(_open_witness(folder), f"{report.task_id} {report.attempt}\n".encode())
    if seconds:
        await pause(seconds)
    return os.getpid()
