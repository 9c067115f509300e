"""Workers whose op has three slots: ``worker --app tests.stress.slots_program:manager``."""

from __future__ import annotations

from typing import Final

from tapescope import Reporter, TaskManager
from tests.stress.delays import pause

__all__ = ["BEGUN", "DONE", "OP", "SLOTS", "manager"]

OP: Final = "slotted"
SLOTS: Final = 3
BEGUN: Final = "begun"
DONE: Final = "done"

manager = TaskManager("sqlite:///not-this-one.db", lease=15.0, heartbeat=1.0, max_running=20)


@manager.op(OP, max_concurrent=SLOTS)
async def work(report: Reporter, seconds: float) -> None:
    """Say on the tape from when until when it has its slot: a little less than that is true."""
    await report.log("info", BEGUN)
    if seconds:
        await pause(seconds)
    await report.log("info", DONE)
