"""What writers notice of clients that mean ill: ``python -m bench.hostile``.

A worker appends to a hundred tasks, at a steady pace; another process serves the same store over
HTTP; a third one is the clients, of the lowest priority: in life they have machines of their own,
and take no processor from a writer. What an append waits is measured in turns, alone and beside
each kind of client: ``slowloris`` (requests that never end), ``idle`` (10,000 streams that nothing
is told on, of which the server takes 1,000), ``trickle`` (readers of a long tape that take a byte a
second), ``bodies`` (uploads over the limit, one after the other).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from bench.serving import serving
from tapescope import NewEvent, NewTask, TaskStore, find_store
from tapescope.model.tasks import Claim
from tapescope.store.validation import new_task_id
from tests.support.services import running_postgres

_ROOT: Final = Path(__file__).parents[1]
_WRITERS: Final = 100
_PAUSE: Final = 0.5
"""Seconds between two appends of a task: 200 a second in all."""
_LONG: Final = 20_000
"""Events of the tape that is read a byte a second."""
_EVENT: Final = NewEvent("log", {"message": "x" * 180})


# --- the clients: a process of their own ----------------------------------------------------------


async def _slowloris(port: int, task_id: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/tasks/{task_id} HTTP/1.1\r\nHost: localhost\r\nX-A: ".encode())
    while True:
        writer.write(b"a")
        await asyncio.sleep(1)


async def _idle(port: int, task_id: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /v1/tasks/{task_id}/stream?after_seq=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    writer.write(head.encode())
    while await reader.read(4_096):
        pass  # heartbeats, or that there are too many
    await asyncio.sleep(3_600)


async def _trickle(port: int, task_id: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(f"GET /v1/tasks/{task_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    while await reader.read(1):  # noqa: ASYNC110  # a byte a second is what it is about
        await asyncio.sleep(1)
    await asyncio.sleep(3_600)


async def _bodies(port: int, task_id: str) -> None:
    head = f"POST /v1/tasks/{task_id}/cancel HTTP/1.1\r\nHost: localhost\r\n"
    head += "Content-Type: application/json\r\n"
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):  # it hangs up: that is its right
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(40):
                writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
                await writer.drain()
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
        await asyncio.sleep(0.5)


_KINDS: Final[dict[str, tuple[int, Callable[[int, str], Coroutine[Any, Any, None]]]]] = {
    "slowloris": (1_000, _slowloris),
    "idle": (10_000, _idle),
    "trickle": (100, _trickle),
    "bodies": (10, _bodies),
}


async def press(kind: str, port: int, task_id: str) -> None:
    """Be so many clients, and come again where one was hung up on; until the process is ended."""
    os.nice(19)
    clients, client = _KINDS[kind]

    async def come_again() -> None:
        while True:
            with suppress(OSError):  # hung up on, or the server's queue is full
                await client(port, task_id)
            await asyncio.sleep(1)

    coming: list[asyncio.Future[None]] = []
    for n in range(clients):
        coming.append(asyncio.ensure_future(come_again()))
        if n % 50 == 49:
            await asyncio.sleep(0.02)
    print("there", flush=True)
    await asyncio.gather(*coming)


# --- the writers ----------------------------------------------------------------------------------


class Writers:
    """Tasks that append, each at its pace; what each append waited, in seconds."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self.took: list[float] = []

    async def write(self, nth: int, claim: Claim) -> None:
        """Append until cancelled."""
        await asyncio.sleep(_PAUSE * nth / _WRITERS)
        while True:
            began = time.perf_counter()
            await self._store.append(claim.attempt, [_EVENT])
            self.took.append(time.perf_counter() - began)
            await asyncio.sleep(_PAUSE)

    async def measure(self, seconds: float) -> tuple[float, float]:
        """Milliseconds that an append waited: p50 and p99."""
        self.took.clear()
        await asyncio.sleep(seconds)
        cuts = quantiles(self.took, n=100)
        return cuts[49] * 1e3, cuts[98] * 1e3


async def _start(store: TaskStore) -> Claim:
    task, _ = await store.create(NewTask(new_task_id(), "bench"))
    claim = await store.claim_if_pending(task, "bench", 3_600)
    assert claim is not None
    return claim


async def measure(url: str, folder: Path, rounds: int, turn: float) -> None:
    """Print a line for each kind."""
    async with find_store(url) as store:
        long = await _start(store)
        for _ in range(_LONG // 500):
            await store.append(long.attempt, [_EVENT] * 500)
        writers = Writers(store)
        claims = [await _start(store) for _ in range(_WRITERS)]
        with serving(url, folder) as at:
            port = at.rpartition(":")[2]
            async with asyncio.TaskGroup() as group:
                writing = [group.create_task(writers.write(*one)) for one in enumerate(claims)]
                await writers.measure(2.0)
                for kind in _KINDS:
                    await _take_turns(writers, kind, port, long.attempt.task_id, rounds, turn)
                for one in writing:
                    one.cancel()


async def _take_turns(
    writers: Writers, kind: str, port: str, task_id: str, rounds: int, turn: float
) -> None:
    alone: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    for _ in range(rounds):
        alone.append(await writers.measure(turn))
        clients = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.hostile", "--be", kind, port, task_id),
            cwd=_ROOT,
            stdout=subprocess.PIPE,
        )
        assert clients.stdout is not None
        await clients.stdout.readline()
        beside.append(await writers.measure(turn))
        clients.terminate()
        await clients.wait()
        await asyncio.sleep(1)
    of, also = _middle(alone), _middle(beside)
    print(
        f"  {kind:<10} p50 {of[0]:5.1f} -> {also[0]:5.1f} ms (x {also[0] / of[0]:.2f}), "
        f"p99 {of[1]:5.1f} -> {also[1]:5.1f} ms (x {also[1] / of[1]:.2f})",
        flush=True,
    )


def _middle(found: list[tuple[float, float]]) -> tuple[float, float]:
    return median(p50 for p50, _ in found), median(p99 for _, p99 in found)


def main() -> None:
    """Read the options, and measure each store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns alone, and beside clients")
    parser.add_argument("--turn", type=float, default=5.0, help="seconds of a turn")
    parser.add_argument("--be", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.be:
        kind, port, task_id = chosen.be
        asyncio.run(press(kind, int(port), task_id))
        return
    given = chosen.rounds, chosen.turn
    with tempfile.TemporaryDirectory(prefix="tapescope-bench-") as folder:
        print("sqlite")
        asyncio.run(measure(f"sqlite:///{Path(folder) / 'tasks.db'}", Path(folder), *given))
        print("postgresql")
        with running_postgres() as postgres:
            asyncio.run(measure(postgres.url(), Path(folder), *given))


if __name__ == "__main__":
    main()
