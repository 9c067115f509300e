"""Rates: many tasks of one key, and of some others, through real workers that are killed.

Judged from the store: a trigger of the test's own keeps when each attempt was claimed, by the
store's clock. In no window of the rate's length may more of a key begin than the rate has.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from contextlib import closing
from typing import Final

from tapescope import Submission, find_store
from tests.stress.fleet import KILL_EVERY, WORKERS, Fleet, judge_audit, work_off
from tests.stress.harness import Result
from tests.stress.rates_program import OP, RATE
from tests.support.postgres_sessions import session

__all__ = ["RATED", "play_rates"]

RATED: Final = "rates"
WORK: Final = 0.5
"""Seconds that a task takes: a kill shall find one that runs."""
RETRIES: Final = 100
"""More than kills."""
_TABLE: Final = "CREATE TABLE claims_seen (key text, at bigint)"
_ROW: Final = "INSERT INTO claims_seen (key, at) VALUES (NEW.concurrency_key, NEW.claimed_at);"
_CLAIMED: Final = "NEW.status = 'running' AND OLD.status <> 'running'"
_IN_SQLITE: Final = (
    f"CREATE TRIGGER tasks_are_seen AFTER UPDATE OF status ON tasks WHEN {_CLAIMED} "
    f"BEGIN {_ROW} END"
)
_IN_POSTGRES: Final = (
    "CREATE FUNCTION see_claim() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT"
    f" AS $$ BEGIN {_ROW} RETURN NULL; END $$;"
    " CREATE TRIGGER tasks_are_seen AFTER UPDATE ON tasks FOR EACH ROW"
    f" WHEN ({_CLAIMED}) EXECUTE FUNCTION see_claim()"
)


async def play_rates(
    store_name: str,
    url: str,
    tasks: int,
    *,
    workers: int = WORKERS,
    kill_every: float | None = KILL_EVERY,
) -> Result:
    """So many tasks, most of one key, through so many workers; times are in seconds."""
    result = Result(RATED, store_name, seed=0)
    began = time.perf_counter()
    async with find_store(url) as store:
        await _watch(url)
        async with Fleet(url, "tests.stress.rates_program:manager", OP).running(workers) as fleet:
            rows = await work_off(
                store,
                fleet,
                [_submission(n) for n in range(tasks)],
                result,
                kill_every=kill_every,
            )
        begun = await _read(url)
        if sum(map(len, begun.values())) != sum(row.attempt for row in rows):
            result.blame("store", "the claims that were seen are not the attempts")
        most = _judge(begun, result)
        audited = await judge_audit(store, result)
    result.figures = [
        f"{fleet.killed} workers killed, {sum(row.retries_spent for row in rows)} attempts again",
        f"at most {most} of a key in {RATE.per:g} s, of {RATE.times}",
        audited,
    ]
    result.late = most
    result.seconds = time.perf_counter() - began
    return result


def _submission(n: int) -> Submission:
    """Of three fourths of the tasks the key is one; a third takes a while, a tenth fails once."""
    key = "most" if n % 4 else f"other{n % 3}"
    params = {"seconds": 0.0 if n % 3 else WORK, "fails": n % 10 == 1}
    return Submission(OP, params=params, retries=RETRIES, concurrency_key=key)


async def _watch(url: str) -> None:
    if url.startswith("postgresql"):
        async with session(url) as conn:
            await conn.execute(f"{_TABLE}; {_IN_POSTGRES}")
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as raw:
        raw.execute(_TABLE)
        raw.execute(_IN_SQLITE)


async def _read(url: str) -> dict[str, list[int]]:
    """By key when its attempts were claimed, in their order; nothing is kept any more."""
    query = "SELECT key, at FROM claims_seen"
    if url.startswith("postgresql"):
        async with session(url) as conn:
            seen = [(row[0], row[1]) for row in await conn.fetch(query)]
            await conn.execute("DROP FUNCTION see_claim() CASCADE; DROP TABLE claims_seen")
    else:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as raw:
            seen = raw.execute(query).fetchall()
            raw.execute("DROP TRIGGER tasks_are_seen")
            raw.execute("DROP TABLE claims_seen")
    begun: defaultdict[str, list[int]] = defaultdict(list)
    for key, at in sorted(seen):
        begun[key].append(at)
    return begun


def _judge(begun: dict[str, list[int]], result: Result) -> int:
    """The most of a key that began in a window."""
    most = 0
    for key, times in begun.items():
        first = 0
        for n, at in enumerate(times):
            while times[first] <= at - RATE.per_us:
                first += 1
            most = max(most, n - first + 1)
            if n - first + 1 > RATE.times:
                result.blame(f"key {key}", f"{n - first + 1} in a window, up to {at}")
    return most
