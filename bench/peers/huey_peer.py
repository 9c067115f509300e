# /// script
# requires-python = ">=3.11"
# dependencies = ["huey==3.5.4"]
# ///
"""huey on SQLite: a task is deleted when it is taken; its result is what says that it has ended.

One thread submits: its writers take turns at the file, and more of them only wait. It has no bulk
submit and no steps.
"""

from __future__ import annotations

import sys
import time

from _race import LOOK_EVERY, WARM_UP, read, tell
from huey import SqliteHuey

race = read()
if race.work != "one":
    sys.exit(f"huey has nothing for {race.work!r}")
huey = SqliteHuey("race", filename=race.database, fsync=True, cache_mb=64)


@huey.task()
def do_nothing() -> int:
    """A task whose result is kept."""
    return 1


def run(tasks: int) -> None:
    """Submit them one by one, and wait until each has its result."""
    before = huey.storage.result_store_size()
    for _ in range(tasks):
        do_nothing()
    while huey.storage.result_store_size() < before + tasks:
        time.sleep(LOOK_EVERY)


WORKERS = 4
consumer = huey.create_consumer(
    workers=WORKERS, worker_type="thread", initial_delay=0.001, max_delay=0.005, periodic=False
)
consumer.start()
run(WARM_UP)
began = time.perf_counter()
run(race.tasks)
took = time.perf_counter() - began
consumer.stop(graceful=True)
tell(
    took,
    f"{WORKERS} threads, polling from 1 to 5 ms, fsync=True",
    "synchronous FULL; a task that was taken is lost with its process",
)
