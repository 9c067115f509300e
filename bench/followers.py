"""A thousand readers of live streams: ``python -m bench.followers``.

A worker serves its own store over HTTP; a process of its own follows. First all follow one task
that emits ten events a second, then each follows a task of its own that emits one a second. Prints
how long it took from an offer in the runner to the line in the reader, commit included, and what
the server took of memory and CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Final

from tapescope import Reporter, TaskManager
from tapescope.cli._environment import collect_garbage, collect_no_garbage, collect_no_program
from tapescope.http.api import ApiLimits, ApiServer, make_app
from tests.http.followers import AT_ONCE, Follower, tell
from tests.support.services import running_postgres

_ROOT: Final = Path(__file__).parents[1]
_OF_ALL: Final = 0.1
"""Seconds from event to event of the task that all follow."""
_OF_ONE: Final = 1.0
"""Of a task that one follows: so long on average, by chance, or all of them would emit at once."""


async def serve(url: str, followers: int, tasks: int, ticks: int) -> str:
    """Run the tasks, serve them, and have them followed. Gives a line for a person."""
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()
    manager = TaskManager(url, max_running=tasks, drain=0)

    @manager.op("tick")
    async def tick(report: Reporter) -> None:
        begun.release()
        await go_on.wait()
        for _ in range(ticks):
            pause = _OF_ALL if tasks == 1 else random.uniform(0, 2 * _OF_ONE)
            await asyncio.sleep(pause)
            await report.emit("tick", time.monotonic())

    app = make_app(manager, limits=ApiLimits(streams=followers))
    async with manager:
        collect_no_program()  # as ``tapescope serve`` does
        server = ApiServer(app, "127.0.0.1", 0)
        server.listen()
        serving = asyncio.ensure_future(server.serve())
        handles = [await manager.submit("tick") for _ in range(tasks)]
        for _ in handles:
            await begun.acquire()
        reader = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.followers", "--follow", str(server.port)),
            cwd=_ROOT,
            stdin=PIPE,
            stdout=PIPE,
        )
        assert reader.stdin is not None
        assert reader.stdout is not None
        ids = [handles[n % tasks].task_id for n in range(followers)]
        reader.stdin.write(json.dumps(ids).encode() + b"\n")
        seats = app.state.tapescope.seats
        while seats.taken < followers:  # noqa: ASYNC110  # a server tells nobody of its seats
            await asyncio.sleep(0.05)
        began, cpu = time.monotonic(), time.process_time()
        go_on.set()
        told = (await reader.stdout.read()).decode().strip()
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        assert await reader.wait() == 0, told
        server.drain()
        await serving
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    return f"{told}; server {memory:,.0f} MiB at most, {cpu / took:.0%} of a core"


async def follow(port: int, ids: list[str]) -> None:
    """Follow each task to its end; every ``seq`` once and in order, or an error."""
    gate = asyncio.Semaphore(AT_ONCE)
    followers = [Follower(port, task_id) for task_id in ids]
    await asyncio.gather(*(one.follow(gate) for one in followers))
    for one in followers:
        assert one.seqs == list(range(1, len(one.seqs) + 1)), one.seqs
        assert one.seqs[-1] == one.final_seq
    print(tell(f"{len(ids):,} followers of {len(set(ids)):,} tasks", followers))


def measure(url: str, followers: int, ticks: int) -> None:
    """Print both cases of one store."""
    print("  " + asyncio.run(serve(url, followers, 1, ticks)))
    print("  " + asyncio.run(serve(url, followers, followers, 10)))


def main() -> None:
    """Read the options, and measure each store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--followers", type=int, default=1_000)
    parser.add_argument("--ticks", type=int, default=100, help="events of the one task")
    parser.add_argument("--follow", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.follow:
        asyncio.run(follow(chosen.follow, json.loads(sys.stdin.readline())))
        return
    collect_no_garbage()
    collect_garbage()
    print("sqlite")
    with tempfile.TemporaryDirectory(prefix="tapescope-bench-") as folder:
        measure(f"sqlite:///{Path(folder) / 'tasks.db'}", chosen.followers, chosen.ticks)
    print("postgresql")
    with running_postgres() as server:
        measure(server.url(), chosen.followers, chosen.ticks)


if __name__ == "__main__":
    main()
