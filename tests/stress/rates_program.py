"""Workers whose op has a rate: ``worker --app tests.stress.rates_program:manager``."""

from __future__ import annotations

from typing import Final

from tapescope import RateLimit, Reporter, TaskManager
from tests.stress.delays import pause

__all__ = ["OP", "RATE", "manager"]

OP: Final = "rated"
RATE: Final = RateLimit(20, per=0.5)

manager = TaskManager("sqlite:///not-this-one.db", lease=15.0, heartbeat=1.0, max_running=20)


@manager.op(OP, rate_limit=RATE)
async def work(report: Reporter, seconds: float, fails: bool) -> None:
    """Take a while; the first attempt may fail, so that another one begins."""
    if seconds:
        await pause(seconds)
    if fails and report.attempt == 1:
        raise LookupError
