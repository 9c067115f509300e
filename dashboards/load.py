"""``python -m dashboards.load``: a program with tasks of every kind, to look at the boards with.

Most tasks succeed, some fail, wait, are cancelled or made again, and one in a while does not heed
its cancel and reports too late; of one op a single task may wait. It serves the HTTP API, too, and
asks it itself: most requests are good, one in a while is refused, and one connection says nothing
until it is hung up on. Nothing here is needed to use the boards with programs of your own.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from httpx import AsyncClient

from tapescope import (
    EventDropped,
    OpFull,
    Reporter,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TaskManager,
)
from tapescope.client import Client
from tapescope.http.api import ApiServer, make_app
from tapescope.http.health import DEFAULT_HOST, DEFAULT_PORT, serve_health
from tapescope_telemetry import setup
from tapescope_telemetry.prometheus import PrometheusReader

__all__ = ["Load", "main"]

LATE: Final = 5
"""Events that a runner which ignores its cancel still reports."""

FOLLOWED: Final = 0.3
"""The share of the good tasks that are followed."""


class Load:
    """Tasks of every kind, a round at a time. ``pace`` is the seconds that one thing takes.

    ``server`` serves the HTTP API of the manager, and is asked as well.
    """

    def __init__(self, manager: TaskManager, server: ApiServer, pace: float, seed: int = 0) -> None:
        self.manager = manager
        self._server = server
        self._pace = pace
        self._chance = random.Random(seed)
        self._rounds = 0

    async def run(self) -> None:
        """One round after the other, until it is cancelled; an audit of all tapes now and then.

        Besides, a schedule makes a task each second.
        """
        self.manager.op("convert")(self._work)
        self.manager.op("sweep", max_waiting=1)(self._sweep)
        await self.manager.schedules.add("sweep", "sweep", every=1)
        async with (
            Client(self._server.url) as client,
            AsyncClient(base_url=self._server.url) as stranger,
            asyncio.TaskGroup() as under_way,
        ):
            under_way.create_task(self._idle())
            while True:
                under_way.create_task(self.make_round())
                under_way.create_task(self._ask(client))
                if self._rounds % 20 == 0:
                    under_way.create_task(self._audit())
                    under_way.create_task(self._ask_as_another_host(stranger))
                self._rounds += 1
                await asyncio.sleep(self._pace * 4)

    async def make_round(self) -> None:
        """A dozen tasks that end as they may."""
        manager, chance = self.manager, self._chance
        good = [
            await manager.submit(op, self._work, params={"steps": chance.randint(2, 5)})
            for op in ("resize", "resize", "resize", "thumbnail")
        ]
        bad = await manager.submit("import", self._fail, retries=1)
        slow = await manager.submit("export", self._hang, timeout=self._pace)
        waits = [await manager.submit("report", self._hang) for _ in range(2)]
        ends = [self._watch(task) for task in good if chance.random() < FOLLOWED]
        ends += [self._settle(task) for task in (*good, bad, slow)]
        ends += [self._cancel(task) for task in waits]
        signed = await manager.submit("sign", self._await_word)
        await signed.send({"signed": True})
        ends.append(self._settle(signed))
        with suppress(OpFull):  # that of the round before waits yet
            ends.append(self._settle(await manager.submit("sweep", delay=self._pace * 6)))
        if self._rounds % 3 == 0:
            ends.append(self._cancel(await manager.submit("legacy", self._ignore)))
        await asyncio.gather(*ends)

    async def _audit(self) -> None:
        await self.manager.audit()

    async def _ask(self, client: Client) -> None:
        """A submit, its tape to the end, and what a board of one's own would ask."""
        handle = await client.submit("convert", params={"steps": 5})
        async for _ in handle.follow():
            pass
        await client.list(limit=20)
        await client.stats()

    async def _ask_as_another_host(self, stranger: AsyncClient) -> None:
        """As a page of another site would whose name leads here: it is refused."""
        await stranger.get("/v1/tasks", headers={"Host": "shop.example"})

    async def _idle(self) -> None:
        """A connection that asks nothing, until the server hangs up; then another one."""
        while True:
            reader, writer = await asyncio.open_connection(self._server.host, self._server.port)
            with suppress(ConnectionResetError):  # which is how it hangs up
                await reader.read()
            writer.close()

    async def _work(self, report: Reporter, steps: int) -> dict[str, int]:
        for done in range(1, steps + 1):
            await asyncio.sleep(self._pace * self._chance.random())
            await report.progress("work", done, steps)
        await report.log("info", "done")
        return {"steps": steps}

    async def _sweep(self, report: Reporter) -> None:
        await report.log("info", "swept")

    async def _await_word(self, report: Reporter) -> None:
        await report.message()

    async def _fail(self, report: Reporter) -> None:
        await report.log("warning", "this will not end well")
        await asyncio.sleep(self._pace * self._chance.random())
        raise ConnectionError("the other side is away")

    async def _hang(self, report: Reporter) -> None:
        await report.partial("rows", {"n": 1})
        await asyncio.Event().wait()

    async def _ignore(self, report: Reporter) -> None:
        """Does not heed its cancel, and reports when its grace is over."""
        deadline = asyncio.get_running_loop().time() + self._pace * 12
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            with suppress(asyncio.CancelledError):  # that is what is wrong with it
                await asyncio.sleep(left)
        for _ in range(LATE):
            with suppress(EventDropped):  # and it does not heed that, either
                await report.log("info", "done at last")

    async def _watch(self, task: TaskHandle) -> None:
        async for _ in task.follow():
            pass

    async def _settle(self, task: TaskHandle) -> None:
        with suppress(TaskFailed, TaskCancelled):  # the tape tells
            await task.result()

    async def _cancel(self, task: TaskHandle) -> None:
        await asyncio.sleep(self._pace * 2)
        await task.cancel("no longer needed")
        await self._settle(task)


async def _serve(
    store: str,
    host: str,
    port: int,
    pace: float,
) -> None:
    """Run the load until SIGTERM or Ctrl-C, scraped at this address; 0 takes a free port.

    Says on standard output where it is scraped.
    """
    reader = PrometheusReader()
    async with setup(metric_readers=[reader], as_global=True) as telemetry_setup:
        manager = TaskManager(
            store,
            max_running=20,
            cancel_grace=pace * 4,
            drain=pace * 4,
            retry_delay=pace,
            telemetry=telemetry_setup.telemetry,
        )
        with serve_health(manager, metrics=reader, host=host, port=port) as listener:
            async with manager, _serving_api(manager) as server:
                print(f"{listener.url}/metrics", flush=True)
                work = asyncio.ensure_future(Load(manager, server, pace).run())
                over = asyncio.ensure_future(_await_signal())
                await asyncio.wait([over, work], return_when=asyncio.FIRST_COMPLETED)
                over.cancel()
                work.cancel()
                with suppress(asyncio.CancelledError):  # ours; what else ends it is raised
                    await work


@asynccontextmanager
async def _serving_api(manager: TaskManager) -> AsyncGenerator[ApiServer]:
    """The HTTP API on a free port of this machine."""
    server = ApiServer(make_app(manager), DEFAULT_HOST, 0)
    server.listen()
    serving = asyncio.ensure_future(server.serve())
    try:
        yield server
    finally:
        server.drain()
        await serving


async def _await_signal() -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(prog="dashboards.load", description=__doc__)
    parser.add_argument("--store", help="default: a SQLite file that goes with the program")
    parser.add_argument("--host", default=DEFAULT_HOST, help="where it is scraped")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--pace", type=float, default=0.5, help="seconds that one step takes")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tapescope-load-") as folder:
        store = given.store or f"sqlite:///{Path(folder) / 'tasks.db'}"
        asyncio.run(_serve(store, given.host, given.port, given.pace))


if __name__ == "__main__":
    main()
