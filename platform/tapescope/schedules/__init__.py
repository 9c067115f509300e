"""Schedules: when a task is to be made, and the loop that makes it.

Of all the workers of a store one fires at a time. What it does can be done again by any other one:
a firing makes one task, by the key of the task (docs/decisions/0073).
"""

from __future__ import annotations

from tapescope.schedules.definition import check_name, define, is_declared_so, merge
from tapescope.schedules.scheduler import Scheduler
from tapescope.schedules.timing import MOST_CAUGHT_UP, Timing

__all__ = [
    "MOST_CAUGHT_UP",
    "Scheduler",
    "Timing",
    "check_name",
    "define",
    "is_declared_so",
    "merge",
]
