"""``TemporalEngine``: one standalone activity for each task, on a Temporal server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Final

from temporalio.exceptions import ActivityAlreadyStartedError
from temporalio.service import RPCError

from tapescope.engine import Confirmation, Desk, Engine, EngineReport, EngineServer, Forgotten
from tapescope.errors import BadSetting, EngineUnavailable, EngineUnfit, ManagerOpen
from tapescope.model import Task
from tapescope_adapters.temporal._connection import Address, Connection
from tapescope_adapters.temporal._dispatch import Dispatcher
from tapescope_adapters.temporal._loop import EngineLoop
from tapescope_adapters.temporal._server import TemporalServer
from tapescope_telemetry.logger import Logger

__all__ = ["TemporalEngine"]

_log = Logger("tapescope")

_QUEUED: Final = 10_000
"""Tasks that wait to be told to the server; what is more is left to the reconciler."""


class TemporalEngine(Engine):
    """Brings tasks to workers through Temporal; see docs/howto/temporal.md.

    ``url`` is ``temporal://HOST:PORT/NAMESPACE``; what it leaves out, and TLS and API keys, come
    from Temporal's own settings: ``TEMPORAL_…`` variables, and a profile of its configuration file.
    ``heartbeat`` is how many seconds Temporal waits for a sign of life of a worker before it brings
    the task to another one, which has it only once its lease is over. Only ids travel: params,
    results and errors stay in the store.
    """

    name = "temporal"

    def __init__(self, url: str = "temporal://", *, heartbeat: float = 30.0) -> None:
        """Connects to nothing. Raises ``BadEngineUrl``, ``BadSetting``."""
        self._where = Address.parse(url)
        if not 1.0 <= heartbeat <= 3_600.0:
            raise BadSetting("heartbeat", heartbeat, "seconds from 1 to 3,600")
        self._heartbeat = float(heartbeat)
        self._life: _Life | None = None
        self.address = url

    async def open(self, store_id: str) -> None:
        if self._life is not None:
            raise ManagerOpen
        self._life = life = _Life(self._where, store_id, self._heartbeat)
        try:
            await life.open()
        except BaseException:
            await self.aclose()
            raise
        self.address = life.connection.name

    async def aclose(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            await life.said()
            await life.loop.stop()

    def dispatch(self, task: Task) -> None:
        if self._life is not None:
            self._life.queue(task)

    def forget(self, task_id: str) -> None:
        if self._life is not None:
            self._life.begin(self._life.dispatcher.forget(task_id, "cancelled in tapescope"))

    def serve(self, desk: Desk) -> EngineServer:
        life = self._require_life()
        beat = min(1.0, self._heartbeat / 4)
        return TemporalServer(life.loop, life.connection, desk, beat)

    async def confirm(self, tasks: Sequence[Task]) -> Confirmation:
        life = self._require_life()
        return await life.loop.call(life.dispatcher.confirm(tasks))

    async def find_forgotten(self) -> Sequence[Forgotten]:
        life = self._require_life()
        try:
            return await life.loop.call(life.dispatcher.find_forgotten())
        except RPCError as error:
            _log.info("What was cancelled in %s cannot be listed now: %s", self.address, error)
            return ()

    async def report(self, ops: Sequence[str]) -> EngineReport:
        life = self._require_life()
        await life.loop.call(life.connection.open())
        connection = life.connection
        try:
            pollers = await life.loop.call(life.dispatcher.count_pollers(ops))
        except RPCError as error:
            raise EngineUnavailable(connection.name, error.message) from error
        return EngineReport(connection.name, connection.version, dict(connection.able), pollers)

    def _require_life(self) -> _Life:
        if self._life is None:
            raise EngineUnavailable(self.address, "it is not open")
        return self._life


_SAID_WITHIN: Final = 2.0
"""Seconds that a close waits for what the server is being told."""


class _Life:
    """What an engine has from its opening to its end."""

    def __init__(self, where: Address, store_id: str, heartbeat: float) -> None:
        self.loop = EngineLoop()
        self.connection = Connection(where)
        self.dispatcher = Dispatcher(self.connection, store_id, heartbeat)
        self._untold: set[Future[None]] = set()
        """What the server is being told."""

    async def open(self) -> None:
        """Raises ``EngineUnfit``; a server that is away is waited for."""
        self.loop.start()
        try:
            await self.loop.call(self.connection.open())
        except EngineUnavailable as error:
            _log.warning("%s", error)
            self.loop.begin(self._reach())

    async def _reach(self) -> None:
        await self.connection.wait()

    def queue(self, task: Task) -> None:
        """Tell the server of a task, in the thread, when its turn comes."""
        if len(self._untold) < _QUEUED:
            self.begin(self._start(task))

    async def _start(self, task: Task) -> None:
        try:
            await self.dispatcher.start(task)
        except ActivityAlreadyStartedError:
            pass  # it has ended there; if it has not here, the reconciler sees to it
        except RPCError as error:
            _log.info("Task %s is told to the engine later: %s", task.task_id, error)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this in the thread, for nobody waits for it."""
        telling = self.loop.begin(_unheard(work))
        self._untold.add(telling)
        telling.add_done_callback(self._untold.discard)

    async def said(self) -> None:
        """Wait until the server was told all, for a moment: the rest is left to the reconciler."""
        if untold := [asyncio.wrap_future(one) for one in tuple(self._untold)]:
            await asyncio.wait(untold, timeout=_SAID_WITHIN)


async def _unheard(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (RPCError, EngineUnfit) as error:
        _log.info("The engine was not told: %s", error)
    except Exception as error:  # noqa: BLE001  # nobody waits for it; the reconciler tells it again
        _log.error("The engine was not told: %s", type(error).__name__, error=error)
