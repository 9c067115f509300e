"""The recorder of a command's lines: puts them on the tape, and never lets it stop the command."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from tapescope.model.tape import LINES_LEFT_OUT, LOG
from tapescope.shell.backlog import Backlog
from tapescope.shell.lines import LineSplitter, count_lines
from tapescope.spool import SpooledEvent
from tapescope.store.validation import StoreLimits

if TYPE_CHECKING:
    from tapescope.errors import TapescopeError
    from tapescope.run import Reporter

__all__ = ["LineRecorder"]

_OTHERS: Final = 24
"""Events of a tape that are kept for what is not a line: our own, and the last parts of a long
line that began within the limit."""
_AT_ONCE: Final = 65_536
"""Bytes of output that are cut into lines in one turn of the loop."""
_TAIL: Final = 1_000
"""Last lines of each stream that are kept when there are too many for the tape."""
_TAIL_BYTES: Final = 524_288
"""Bytes of output of each stream that are held in memory for the last lines."""


class _Stream:
    """One stream of a command: what of it waits for the end, because the tape's head is full."""

    def __init__(self, name: str) -> None:
        self.splitter = LineSplitter(name)
        self.held: deque[tuple[int, bytes]] = deque()
        """Pieces of output, as they came, with their places in the order of both streams."""
        self.held_bytes = 0
        self.torn = False
        """Whether the next piece begins inside a line whose start is not kept."""
        self.left_lines = self.left_bytes = 0
        """What is kept neither on the tape nor here."""

    def hold(self, place: int, chunk: bytes) -> None:
        """Keep a piece for the end, and throw away what is too old."""
        self.held.append((place, chunk))
        self.held_bytes += len(chunk)
        while self.held_bytes - len(self.held[0][1]) >= _TAIL_BYTES:
            _, old = self.held.popleft()
            self.held_bytes -= len(old)
            self.left_lines += count_lines(old)
            self.left_bytes += len(old) + self.splitter.forget()
            self.torn = not old.endswith(b"\n")

    def begin_line(self, chunk: bytes) -> bytes:
        """The piece from where its first whole line begins."""
        if not self.torn:
            return chunk
        start = chunk.find(b"\n") + 1
        self.left_lines += start > 0
        self.left_bytes += start or len(chunk)
        self.torn = not start
        return chunk[start:] if start else b""


class LineRecorder:
    """Sends lines to a run's tape in order, and counts those that could not be recorded.

    A tape has a limit, and what a flood ends with is what tells why it ended. So the first lines go
    on the tape as they come; of the rest the last ones of each stream are held in memory, and put
    there at the end, after a ``lines_left_out``. One place in ten of the head is stderr's alone.
    ``lines`` is how many lines the tape is to have, at most what it takes.

    While the store keeps up, the command waits when many lines are with it. While the store is
    away it does not: lines wait here, in order, and are sent when the store is back (``Backlog``).
    A full tape, or one that is no longer the run's, takes no more lines.

    Without a ``report`` the lines wait for one: see ``attach``.
    """

    def __init__(self, report: Reporter | None, lines: int | None = None) -> None:
        self.backlog: Final = Backlog(self._lose)
        """The events that the tape is to have."""
        self._lines = lines
        self.fit(StoreLimits().tape_events if report is None else report.tape_room)
        self._streams: dict[str, _Stream] = {}
        self._pieces = self._sent = 0
        self.lost = 0
        """Lines, or parts of long ones, that are not on the tape."""
        self.left_out = 0
        """Those of them that were too many for the tape: their number is on it."""
        self.cause: TapescopeError | None = None
        """The error of the first of the others."""
        self.held: Sequence[str] = ()
        """The streams that a process held open after the command's end and the drain."""
        self._report: Reporter | None = None
        if report is not None:
            self.attach(report)

    def fit(self, events: int) -> None:
        """Plan for a tape that takes so many events. Before the first line."""
        room = max(events - _OTHERS, 0)
        self.limit = room if self._lines is None else min(self._lines, room)
        """Lines that the tape is to have."""
        self._tail = min(_TAIL, self.limit // 10)
        self._head = self.limit - 2 * self._tail
        self._for_stderr = self._head // 10

    def attach(self, report: Reporter) -> None:
        """Send the lines for this run from now on."""
        self._report = report.without_codec()  # the hook is given the line itself
        self.backlog.attach(report)

    async def record(self, stream: str, chunk: bytes) -> None:
        """Record a piece of output; may return before it is stored."""
        found = self._find(stream)
        if self.backlog.closed is not None:
            self.lost += count_lines(chunk)
            found.torn = not chunk.endswith(b"\n")
            return
        while chunk and not found.held and (room := self._count_room(stream)) > 0:
            taken = _find_end(chunk[:_AT_ONCE], room)
            await self._send_all(found.splitter.feed(chunk[:taken]))
            if chunk := chunk[taken:]:
                await asyncio.sleep(0)  # the loop has other work
        if chunk:
            found.hold(self._pieces, chunk)
            self._pieces += 1

    async def end(self, stream: str) -> None:
        """Record a last line that no newline ends."""
        found = self._find(stream)
        if self.backlog.closed is not None:
            self.lost += found.torn
        elif not found.held:
            await self._send_all(found.splitter.end())

    def finish(self) -> None:
        """Give the last lines to the backlog."""
        last, lines, size = self._choose_last()
        if size:
            self.left_out = max(lines, 1)  # a part of a line is no less
            self.lost += self.left_out
            self.note(LINES_LEFT_OUT, {"lines": self.left_out, "bytes": size})
        for body in last:
            self._send(body)

    async def settle(self) -> None:
        """Wait until every line is stored or refused."""
        await self.backlog.settle()

    async def aclose(self) -> None:
        """Send no more. What is left is the backlog's ``remaining`` until its ``close``."""
        await self.backlog.detach()

    def give_up(self) -> None:
        """Count what is left as lost: nobody will be told. After ``aclose``."""
        self.count_lost(self.backlog.remaining())
        self.backlog.close()

    def count_lost(self, events: Iterable[SpooledEvent]) -> None:
        """Count the lines among these events, which are kept nowhere, as lost."""
        self.lost += sum(event.type == LOG for event in events)

    def note(self, type: str, body: dict[str, Any]) -> None:
        """Record a fact about the command, which is not counted as a line when it is lost."""
        if self._report is not None:
            body = self._report.redact(type, body).value
        self.backlog.put(SpooledEvent(type, time.time_ns() // 1_000, body))

    def _find(self, stream: str) -> _Stream:
        if stream not in self._streams:
            self._streams[stream] = _Stream(stream)
        return self._streams[stream]

    def _count_room(self, stream: str) -> int:
        return self._head - self._sent - (0 if stream == "stderr" else self._for_stderr)

    def _choose_last(self) -> tuple[list[dict[str, Any]], int, int]:
        """The lines held that there is room for, in order; lines and bytes that are left out."""
        streams = [stream for stream in self._streams.values() if stream.held]
        if not streams:
            return [], 0, 0
        pieces = sorted((place, at) for at, s in enumerate(streams) for place, _ in s.held)
        bodies: list[tuple[int, dict[str, Any]]] = []
        for _, at in pieces:
            stream = streams[at]
            chunk = stream.begin_line(stream.held.popleft()[1])
            bodies += [(at, body) for body in stream.splitter.feed(chunk)]
        for at, stream in enumerate(streams):
            bodies += [(at, body) for body in stream.splitter.end()]
            stream.held_bytes = 0
        excess = Counter(at for at, _ in bodies)
        if len(bodies) > (room := self.limit - self._sent):
            excess.subtract(dict.fromkeys(excess, max(room, 0) // len(excess)))
        else:
            excess.clear()
        last: list[dict[str, Any]] = []
        lines = sum(stream.left_lines for stream in streams)
        size = sum(stream.left_bytes for stream in streams)
        for at, body in bodies:
            if excess[at] > 0:
                excess[at] -= 1
                lines += 1
                size += len(body["line"].encode()) + 1
            else:
                last.append(body)
        return last, lines, size

    async def _send_all(self, bodies: Iterable[dict[str, Any]]) -> None:
        for body in bodies:
            if self.backlog.full:
                await self.backlog.make_room()
            self._send(body)

    def _send(self, body: dict[str, Any]) -> None:
        self._sent += 1
        self.note(LOG, body)

    def _lose(self, event: SpooledEvent, error: TapescopeError) -> None:
        self.lost += event.type == LOG
        self.cause = self.cause or error


def _find_end(chunk: bytes, lines: int) -> int:
    """Where the first ``lines`` lines of the piece end: its length, if it has no more than that."""
    if len(chunk) <= lines or count_lines(chunk) <= lines:
        return len(chunk)
    end = 0
    for _ in range(lines):
        end = chunk.index(b"\n", end) + 1
    return end
