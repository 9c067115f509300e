"""The program of a fleet's workers: ``tapescope worker --app tests.stress.fleet_program:manager``.

Each run leaves a line beside the store.
"""

from __future__ import annotations

import os
from typing import Final

from tapescope import Reporter, TaskManager
from tests.stress.delays import pause
from tests.stress.witness import note_run

__all__ = ["HEARTBEAT", "LEASE", "OP", "manager"]

OP: Final = "fleet"
LEASE: Final = 15.0
HEARTBEAT: Final = 1.0

manager = TaskManager(
    "sqlite:///not-this-one.db", lease=LEASE, heartbeat=HEARTBEAT, max_running=100
)


@manager.op(OP)
async def work(report: Reporter, folder: str, seconds: float) -> int:
    """Note the run, take some time where it is to, and say who ran it."""
    note_run(folder, report.task_id, report.attempt)
    if seconds:
        await pause(seconds)
    return os.getpid()
