"""The SDK's workers of one manager: one for each op, on a task queue of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.worker import Worker

from tapescope.engine import Desk, EngineServer
from tapescope_adapters.temporal._attempt import make_activity
from tapescope_adapters.temporal._connection import Connection
from tapescope_adapters.temporal._loop import EngineLoop
from tapescope_adapters.temporal._names import make_queue
from tapescope_telemetry.logger import Logger

__all__ = ["TemporalServer"]

_log = Logger("tapescope")

_GRACEFUL: Final = timedelta(days=1)
"""The manager ends its runs; the SDK is not to cancel what waits for their ends."""
_ANEW_IN: Final = 1.0
"""Seconds until a worker that ended begins anew."""
_STOP_WITHIN: Final = 10.0
"""Seconds that the workers have for their last words to a server, once no run goes on here."""


class TemporalServer(EngineServer):
    """Asks Temporal for tasks. Its methods are called in the manager's loop."""

    def __init__(self, loop: EngineLoop, connection: Connection, desk: Desk, beat: float) -> None:
        super().__init__("tapescope-temporal")
        self._loop, self._connection, self._desk, self._beat = loop, connection, desk, beat
        self._serving: dict[str, Future[None]] = {}
        """By op."""
        self._workers: list[Worker] = []
        """In the engine's thread alone."""
        self._waiting: set[asyncio.Task[None]] = set()
        """What has no worker yet, as the server was not reached; in the engine's thread alone."""
        self._leaving = False
        self._home: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        super().start()
        self._take()

    def _begin(self) -> None:
        self._home = asyncio.get_running_loop()

    def _take(self) -> None:
        if self._leaving or self._home is None:
            return
        for op, slots in self._desk.ops.items():
            if op not in self._serving:
                work = self._serve(op, slots, self._home)
                self._serving[op] = self._loop.begin(work)

    async def _serve(self, op: str, slots: int, home: asyncio.AbstractEventLoop) -> None:
        pause = 0.0
        while not self._leaving:
            client = await self._wait(pause)
            try:
                await self._work(client, op, slots, home)
            except Exception as error:  # noqa: BLE001  # whatever the SDK raises, the next may go well
                _log.error("The worker of %s on Temporal ended, and begins anew: %s", op, error)
                pause = _ANEW_IN

    async def _wait(self, pause: float) -> Client:
        """The client, once the server is reached. Nobody waits on for it when this is to end."""
        own = asyncio.current_task()
        assert own is not None
        self._waiting.add(own)
        try:
            await asyncio.sleep(pause)
            return await self._connection.wait()
        finally:
            self._waiting.discard(own)

    async def _work(
        self, client: Client, op: str, slots: int, home: asyncio.AbstractEventLoop
    ) -> None:
        worker = Worker(
            client,
            task_queue=make_queue(self._desk.store_id, op),
            activities=[make_activity(op, self._desk, home, client, self._beat)],
            max_concurrent_activities=slots,
            max_heartbeat_throttle_interval=timedelta(seconds=self._beat),
            default_heartbeat_throttle_interval=timedelta(seconds=self._beat),
            graceful_shutdown_timeout=_GRACEFUL,
        )
        self._workers.append(worker)
        try:
            if not self._leaving:
                await worker.run()
        finally:
            self._workers.remove(worker)

    def stop_taking(self) -> None:
        if not self._leaving:
            self._leaving = True
            if self._serving:
                self._loop.begin(self._shut_down())

    async def _shut_down(self) -> None:
        """No more polls; returns when what was brought has ended."""
        for waiting in self._waiting:
            waiting.cancel()
        await asyncio.gather(*(one.shutdown() for one in self._workers), return_exceptions=True)

    async def _end(self) -> None:
        self.stop_taking()
        ended = [asyncio.wrap_future(one) for one in self._serving.values()]
        if not ended:
            return
        _, left = await asyncio.wait(ended, timeout=_STOP_WITHIN)
        if left:
            _log.warning("%d workers on Temporal did not end in time, and are left.", len(left))
        for one in left:
            one.cancel()
