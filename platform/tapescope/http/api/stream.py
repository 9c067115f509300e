"""A tape as a live stream: server-sent events, or one JSON object a line."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.responses import Response

from tapescope.errors import DamagedTape, TapeGap, UnknownTask
from tapescope.http.api.problems import Refused, describe
from tapescope.http.api.state import AT_READERS_PACE
from tapescope.model.internals import ConnectionAbort, Refusal, StreamEnd
from tapescope.model.json_shapes import event_shape
from tapescope.model.tape import is_event_type
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tapescope.http.api.state import ApiState
    from tapescope.model.tape import Event
    from tapescope.store.follow import TapeBatch

__all__ = ["EventStream", "JsonLines", "StreamForm", "TapeStream", "choose_form"]

_log = Logger("tapescope")

_SOON: Final = 1_000
"""Milliseconds after which a reader that lost the stream comes back."""
_LATER: Final = 60_000
"""The same, where to come back does not help: the tape itself must be looked at."""
_CHUNK: Final = 65_536
"""Bytes that are sent at once, or more where one event has more."""


_ENDS: Final[Mapping[Refusal | None, StreamEnd]] = {
    Refusal.DRAINING: StreamEnd.DRAINING,
    Refusal.UNAUTHENTICATED: StreamEnd.REFUSED,
    Refusal.FORBIDDEN: StreamEnd.REFUSED,
}


class StreamForm(ABC):
    """How what is told of a tape is written."""

    media_type: str
    opening: bytes = b""
    """What comes first."""
    heartbeat: bytes
    """What is sent when there is nothing to tell."""

    @abstractmethod
    def write(self, event: Event, batch: TapeBatch) -> bytes:
        """One event, with where the tape stands."""

    @abstractmethod
    def write_error(self, problem: dict[str, Any], retry: int) -> bytes:
        """Why the stream ends before the ``final``; ``retry`` in milliseconds."""


class EventStream(StreamForm):
    """Server-sent events, as a browser's ``EventSource`` reads them: the id is the ``seq``."""

    media_type = "text/event-stream"
    opening = f"retry: {_SOON}\n\n".encode()
    heartbeat = b": heartbeat\n\n"

    def write(self, event: Event, batch: TapeBatch) -> bytes:
        """A frame of the event's own type."""
        # A session may have written anything past tapescope, a line's end among it.
        type = event.type if is_event_type(event.type) else "message"
        head = f"id: {event.seq}\nevent: {type}\ndata: ".encode()
        return head + _dump(event, batch) + b"\n\n"

    def write_error(self, problem: dict[str, Any], retry: int) -> bytes:
        """A frame ``error``, without an id: the reader comes back after the last ``seq`` it saw."""
        return f"retry: {retry}\nevent: error\ndata: ".encode() + orjson.dumps(problem) + b"\n\n"


class JsonLines(StreamForm):
    """One JSON object a line; an empty line where there is nothing to tell."""

    media_type = "application/x-ndjson"
    heartbeat = b"\n"

    def write(self, event: Event, batch: TapeBatch) -> bytes:
        """A line."""
        return _dump(event, batch) + b"\n"

    def write_error(self, problem: dict[str, Any], retry: int) -> bytes:
        """A line of the type ``error``, which no event of a tape has; it has no ``seq``."""
        return orjson.dumps({**problem, "type": "error", "retry_ms": retry}) + b"\n"


def choose_form(accept: str) -> StreamForm:
    """Server-sent events, unless the header ``Accept`` asks for JSON lines.

    Raises ``Refused``, with 406.
    """
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    for kind in kinds:
        if kind in ("application/x-ndjson", "application/jsonl", "application/ndjson"):
            return JsonLines()
        if kind in ("", "*/*", "text/*", EventStream.media_type):
            return EventStream()
    detail = "There is text/event-stream, and application/x-ndjson."
    raise Refused(406, "NotAcceptable", detail)


class TapeStream(Response):
    """Tells a tape as it is committed (invariant I9), to its ``final`` or to an error frame.

    It reads at its client's pace: a slow one is told late, and disconnected in the end, and no
    writer waits for it.
    """

    def __init__(
        self,
        task_id: str,
        batches: AsyncGenerator[TapeBatch, None],
        form: StreamForm,
        state: ApiState,
        still_may: Callable[[], Awaitable[object]],
    ) -> None:
        """``still_may`` raises ``Refused`` once the reader may no longer read."""
        super().__init__(
            media_type=form.media_type,
            headers={"X-Accel-Buffering": "no"},  # nginx holds an answer back without it
        )
        del self.headers["content-length"]
        self._task_id = task_id
        self._batches = batches
        self._form = form
        self._state = state
        self._still_may = still_may
        self._end = StreamEnd.READER_GONE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. The seat that the route has taken is given back."""
        gone = asyncio.ensure_future(_wait_gone(receive))
        draining = asyncio.ensure_future(self._state.draining.wait())
        wire = _Wire(send, self._state.limits.read_within)
        scope.setdefault("state", {})[AT_READERS_PACE] = True
        meter = self._state.meter
        meter.stream_opened()
        try:
            await wire.begin(self.status_code, self.raw_headers)
            await wire.put(self._form.opening)
            await self._tell(wire, gone, draining)
            await wire.put(b"", more=False)
        except _ReaderStuck:
            self._end = StreamEnd.READER_STUCK
            meter.aborted(ConnectionAbort.READER_STUCK)
            _log.warning(
                "A reader of the tape of task %s took nothing for %g s, and is disconnected.",
                self._task_id,
                self._state.limits.read_within,
            )
            abort = scope.get("extensions", {}).get("tapescope.abort")
            if abort is None:
                raise  # the server ends the connection
            abort()
            await asyncio.wait((gone,), timeout=1)  # the server notices
        finally:
            meter.stream_ended(self._end)
            self._state.seats.leave()
            for waiting in (gone, draining):
                waiting.cancel()
            await self._batches.aclose()

    async def _tell(
        self, wire: _Wire, gone: asyncio.Future[None], draining: asyncio.Future[Any]
    ) -> None:
        """Tell the tape, or why it is told no further; it ends when the reader goes."""
        telling = asyncio.ensure_future(self._tell_tape(wire))
        try:
            await self._watch(wire, telling, gone, draining)
        except _ReaderStuck:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the end of a stream is never silence: it is told, and logged there
            await _stop(telling)  # what it sends is a whole frame, and this one is the last
            problem, _ = describe(error)
            refusal = error.refusal if isinstance(error, Refused) else None
            self._end = _ENDS.get(refusal, StreamEnd.FAILED)
            lasting = isinstance(error, TapeGap | DamagedTape | UnknownTask)
            await wire.put(self._form.write_error(problem, _LATER if lasting else _SOON))
        finally:
            await _stop(telling)

    async def _watch(
        self,
        wire: _Wire,
        telling: asyncio.Future[None],
        gone: asyncio.Future[None],
        draining: asyncio.Future[Any],
    ) -> None:
        """Wait for the first end; each ``heartbeat`` ask whether the reader still may, and say
        that the stream is alive where nothing else was sent."""
        loop, heartbeat = asyncio.get_running_loop(), self._state.limits.heartbeat
        asked = loop.time()
        while True:
            since = asked if wire.busy else min(asked, wire.sent_at)
            await asyncio.wait(
                (telling, gone, draining),
                timeout=since + heartbeat - loop.time(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if telling.done():
                telling.result()
                self._end = StreamEnd.FINAL
                return
            if draining.done():
                detail = "The server is about to stop: come back after the last seq."
                raise Refused(503, "Draining", detail)
            if gone.done():
                return
            if loop.time() - asked >= heartbeat:
                asked = loop.time()
                await self._still_may()  # a token may be revoked meanwhile
            if loop.time() - wire.sent_at >= heartbeat and not wire.busy:
                await wire.put(self._form.heartbeat)

    async def _tell_tape(self, wire: _Wire) -> None:
        async for batch in self._batches:
            for chunk in _gather(self._form.write(event, batch) for event in batch.events):
                await wire.put(chunk)
            await asyncio.sleep(0)  # a reader far behind takes turns with all others


async def _stop(work: asyncio.Future[None]) -> None:
    work.cancel()
    with suppress(asyncio.CancelledError, Exception):  # nobody asks for it any more
        await work


class _ReaderStuck(Exception):
    """The client takes nothing of what is sent."""


class _Wire:
    """The way to one client, on which nothing waits for longer than a time."""

    def __init__(self, send: Send, within: float) -> None:
        self._send, self._within = send, within
        self.sent_at = 0.0
        """When the last chunk was taken, by the loop's clock."""
        self.busy = False
        """Whether the client has yet to take what was sent before."""

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def put(self, chunk: bytes, *, more: bool = True) -> None:
        """Raises ``_ReaderStuck`` when the client has not taken what was sent before."""
        self.busy = True
        try:
            async with asyncio.timeout(self._within):
                await self._send({"type": "http.response.body", "body": chunk, "more_body": more})
        except TimeoutError as error:
            raise _ReaderStuck from error
        finally:
            self.busy = False
            self.sent_at = asyncio.get_running_loop().time()


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _gather(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Frames in chunks that are worth a send."""
    waiting: list[bytes] = []
    size = 0
    for frame in frames:
        waiting.append(frame)
        size += len(frame)
        if size >= _CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _dump(event: Event, batch: TapeBatch) -> bytes:
    shape = event_shape(event)
    return orjson.dumps(shape | {"last_seq": batch.last_seq, "final_seq": batch.final_seq})
