"""Listening for other processes' commits: one connection, made again when it is lost."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from tapescope.store import RESYNC, BackendContext, Backoff, Change, FlushRefused, StoreAway
from tapescope_adapters.postgres._connection import DRIVER_ERRORS, Connector, drop, is_gone
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["Listener"]

_log = Logger("tapescope")

_PAYLOAD: Final = re.compile(r"[^|]*\|(?:\*|[^|:,]+:\d{1,10}(?:,[^|:,]+:\d{1,10})*)?\|[cw]*")
"""What a flush notifies, see ``Listener``."""

_CALM: Final = 200
"""Notifications a second that are passed on one by one. What comes beyond is passed on together,
``_TOGETHER`` seconds later: any role may notify, and a look costs more than a notification."""
_TOGETHER: Final = 0.1

_PING: Final = 3.0
"""Seconds without a notification after which the server is asked whether it is still there, and
seconds that it may take to answer: a network that is half-open says nothing."""


def _merge(end: int, waiting: int | None) -> int:
    """One end of a tape for two that were told: 0, which says "look", is more than any."""
    return end if waiting is None else min(end, waiting) and max(end, waiting)


class Listener:
    """Publishes what other stores' flushes notify: ``instance|task_id:last_seq,…|cw``.

    ``c`` where a running task is to be cancelled, ``w`` where tasks have come to wait for a claim.
    """

    def __init__(self, connector: Connector, context: BackendContext) -> None:
        self._connector = connector
        self._changes = context.changes
        self._own = f"{context.instance}|"
        self._tell_owners = context.tell_owners
        self._beat = context.beat
        self._stir = asyncio.Event()
        self._cancels = False
        self._count_foreign = context.count_foreign
        self._foreign = 0
        """Notifications that no store has sent: any role may notify any channel."""
        self._second = 0.0
        self._heard = 0
        """Notifications since then."""
        self._waiting: dict[str, int] = {}
        """What is passed on together: the ends of followed tapes, ``''`` for a look at all."""
        self._arrived = self._cancelled = False
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Listen until cancelled."""
        backoff = Backoff()
        while True:
            self._beat()
            try:
                conn = await self._connector.connect()
            except StoreAway:
                await backoff.wait(1.0)  # the next connection looks at all that was missed
                continue
            try:
                await self._listen(conn)
            except (StoreAway, FlushRefused, *DRIVER_ERRORS):
                await backoff.wait(1.0)  # as above
            else:
                backoff = Backoff()
            finally:
                self._hold_back()  # the next connection begins with a look at all
                drop(conn)  # at once, also when cancelled: there is nothing to take leave of

    async def _listen(self, conn: Connection) -> None:
        """Pass on notifications until the connection is lost."""
        conn.add_termination_listener(lambda _: self._stir.set())
        await conn.add_listener(self._connector.address.schema, self._hear)
        self._changes.publish(RESYNC)
        self._cancels = True  # also those that were recorded before it listened
        while not is_gone(conn):
            self._stir.clear()
            self._beat()
            if self._cancels:
                self._cancels = False
                await self._tell_owners()
                continue
            try:
                async with asyncio.timeout(_PING):
                    await self._stir.wait()
            except TimeoutError:
                await conn.execute("SELECT 1", timeout=_PING)

    def _hear(self, conn: object, pid: int, channel: str, payload: Any) -> None:
        if payload.startswith(self._own):
            return
        if _PAYLOAD.fullmatch(payload) is None:
            self._note_foreign(channel)
            return
        _, news, signal = payload.split("|")
        if news == "*":
            self._waiting[""] = 0
        elif news:
            for one in news.split(","):
                task_id, _, last_seq = one.partition(":")
                if self._changes.follows(task_id):
                    self._waiting[task_id] = _merge(int(last_seq), self._waiting.get(task_id))
        self._arrived = self._arrived or "w" in signal
        self._cancelled = self._cancelled or "c" in signal
        if self._is_calm():
            self._pass_on()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_TOGETHER, self._pass_on)

    def _is_calm(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1:
            self._second, self._heard = now, 0
        self._heard += 1
        return self._heard <= _CALM and self._timer is None

    def _pass_on(self) -> None:
        """Tell whom it concerns what was notified since the last time."""
        self._hold_back()
        waiting, self._waiting = self._waiting, {}
        if "" in waiting:
            self._changes.publish(RESYNC)
        else:
            for task_id, last_seq in waiting.items():
                self._changes.publish(Change(task_id, last_seq))
        if self._arrived:
            self._arrived = False
            self._changes.publish_arrival()
        if self._cancelled:
            self._cancelled = False
            self._cancels = True
            self._stir.set()

    def _hold_back(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note_foreign(self, channel: str) -> None:
        self._count_foreign()
        self._foreign += 1
        if self._foreign in (1, 10, 100, 1_000, 10_000, 100_000):
            _log.warning(
                "Notifications on channel %r that no store has sent are ignored: %d so far. "
                "Another program uses the channel; give the store a schema of its own.",
                channel,
                self._foreign,
            )
