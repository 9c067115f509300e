"""What a command's task is to be told, in order, while its store keeps up and while it is away."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, cast

from tapescope.clock import Backoff
from tapescope.codec import decode, encode
from tapescope.errors import (
    EventDropped,
    EventFateUnknown,
    StoreClosed,
    StoreUnavailable,
    TapeFull,
    TapescopeError,
)
from tapescope.run import RedactedBody
from tapescope.shielded import raise_defect
from tapescope.spool import SpooledEvent

if TYPE_CHECKING:
    from tapescope.model.answers import Appended
    from tapescope.model.tape import Event, TapePage
    from tapescope.run import Reporter

__all__ = ["AT", "Backlog", "match", "read_since"]

_OUTSTANDING: Final = 512
"""Events that are with the store at once: fewer than ``emit_nowait`` takes from one run."""
_IN_MEMORY: Final = 8_388_608
"""Bytes that wait in memory, about; what comes after them waits in a file."""
_BLOCK: Final = 65_536
"""Bytes of that file that are read at once."""
_STALLED: Final = 1.0
"""Seconds without an answer after which the store is not keeping up, and nobody waits for it."""

AT: Final = "at"
"""In the body of an event that came late: when it happened, RFC 3339."""

Refused = Callable[[SpooledEvent, TapescopeError], object]
"""Called for an event that no tape will take: the tape is full, or another's by now."""


class Backlog:
    """Events of one attempt, kept from their ``put`` until the tape has them.

    They are sent once there is a run to send them for (``attach``). What the store does not take
    while it is away is sent again when it is back, after a look at what the tape has of it, so that
    no event is there twice. What is left at the end is ``remaining``.
    """

    def __init__(self, refused: Refused, *, in_memory: int = _IN_MEMORY) -> None:
        self._refused = refused
        self._queue = _Queue(in_memory)
        self._sent: deque[tuple[asyncio.Future[Appended], SpooledEvent]] = deque()
        self._unsure: list[SpooledEvent] = []
        """Events whose fate is not known, older than all of the queue."""
        self._report: Reporter | None = None
        self._pump: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._answered_at = 0.0
        self.confirmed = 0
        """The highest ``seq`` that the store has confirmed."""
        self.closed: TapescopeError | None = None
        """Why the tape takes no more."""

    def put(self, event: SpooledEvent) -> None:
        """Add an event; waits for nothing."""
        if self.closed is not None:
            self._refused(event, self.closed)
            return
        try:
            self._queue.put(event)
        except OSError as error:  # our own disk must not cost the command its output
            why = f"there is no room for what waits for the store: {error.strerror}"
            self._refused(event, TapescopeError(why))
            return
        self._settled.clear()
        self._moved.set()

    def attach(self, report: Reporter) -> None:
        """Send the events for this run from now on."""
        self._report = report
        loop = asyncio.get_running_loop()
        self._answered_at = loop.time()
        self._pump = loop.create_task(self._send(), name="tapescope-backlog")

    @property
    def full(self) -> bool:
        """Whether the store keeps up and has enough to do."""
        return len(self._queue) >= _OUTSTANDING and self._keeps_up()

    async def make_room(self) -> None:
        """Wait while it is full: so the store holds the command back."""
        while self.full:
            await asyncio.wait([self._sent[0][0]], timeout=_STALLED)
            await asyncio.sleep(0)  # the sender notes the answer, and sends the next

    async def settle(self) -> None:
        """Wait until the tape has every event, or refuses it."""
        if self._pump is not None:
            settled = asyncio.ensure_future(self._settled.wait())
            await asyncio.wait([settled, self._pump], return_when=asyncio.FIRST_COMPLETED)
            settled.cancel()

    async def detach(self) -> None:
        """Send no more."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
            raise_defect(self._pump)

    @property
    def waits(self) -> bool:
        """Whether an event waits for the tape."""
        return bool(self._unsure or self._sent or len(self._queue))

    def remaining(self) -> Iterator[SpooledEvent]:
        """The events that the tape has not, or perhaps not, in order; after ``detach``."""
        yield from self._unsure
        yield from (event for _, event in self._sent)
        while (event := self._queue.take()) is not None:
            yield event

    def close(self) -> None:
        """Forget what is left."""
        self._queue.close()

    def _keeps_up(self) -> bool:
        if not self._sent or self._unsure:
            return False
        return asyncio.get_running_loop().time() - self._answered_at < _STALLED

    # --- sending ----------------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            await self._resolve_doubt()
            while len(self._sent) < _OUTSTANDING and (event := self._queue.take()) is not None:
                self._offer(event)
            if self._sent:
                await asyncio.wait([self._sent[0][0]])
                self._note_answers()
            if self.waits:
                self._moved.set()
            else:
                self._settled.set()

    def _offer(self, event: SpooledEvent) -> None:
        assert self._report is not None, "attached"
        try:
            if self.closed is not None:
                raise self.closed
            body = RedactedBody(event.body)  # asked about when it was put
            self._sent.append((self._report.emit_nowait(event.type, body), event))
        except TapescopeError as error:
            self._refuse(event, error)

    def _note_answers(self) -> None:
        assert self._report is not None, "attached"
        while self._sent and self._sent[0][0].done():
            answer, event = self._sent.popleft()
            error = answer.exception()
            if isinstance(error, StoreUnavailable | EventFateUnknown):
                self._unsure.append(event)
                continue
            if error is not None:
                if not isinstance(error, TapescopeError):
                    raise error
                self._refuse(event, error)
                continue
            self._answered_at = asyncio.get_running_loop().time()
            if (reason := answer.result().dropped) is not None:
                report = self._report
                self._refuse(event, EventDropped(report.task_id, report.attempt, reason))
            elif not self._unsure:  # later ones are looked at when the doubt is resolved
                self.confirmed = answer.result().stored[-1]

    def _refuse(self, event: SpooledEvent, error: TapescopeError) -> None:
        if isinstance(error, EventDropped | TapeFull | StoreClosed):
            self.closed = self.closed or error
        self._refused(event, error)

    async def _resolve_doubt(self) -> None:
        """Wait for the store, and see which events of unknown fate the tape has."""
        if not self._unsure:
            return
        assert self._report is not None, "attached"
        while self._sent:  # what was sent after them may be on the tape, too
            await asyncio.wait([self._sent[0][0]])
            answer, event = self._sent.popleft()
            if answer.exception() is not None or answer.result().dropped is None:
                self._unsure.append(event)
            else:
                self._note_drop(answer.result(), event)
        backoff = Backoff()
        while True:
            try:
                found = await read_since(self._read, self.confirmed)
                break
            except TapescopeError:  # the store is still away: the events wait
                await backoff.wait(_STALLED)
        missing, self.confirmed = match(self._unsure, found, self.confirmed)
        self._unsure = []
        self._answered_at = asyncio.get_running_loop().time()
        for event in missing:
            self._offer(event)

    def _read(self, after: int) -> Awaitable[TapePage]:
        assert self._report is not None, "attached"
        return self._report.read_tape(after_seq=after)

    def _note_drop(self, answer: Appended, event: SpooledEvent) -> None:
        assert self._report is not None, "attached"
        assert answer.dropped is not None, "a drop"
        report = self._report
        self._refuse(event, EventDropped(report.task_id, report.attempt, answer.dropped))


async def read_since(read: Callable[[int], Awaitable[TapePage]], after: int) -> list[Event]:
    """The events of a tape after that ``seq``. Raises what ``read`` raises."""
    found: list[Event] = []
    while page := (await read(after)).events:
        found += page
        after = page[-1].seq
    return found


def match(
    events: Sequence[SpooledEvent], found: Sequence[Event], confirmed: int
) -> tuple[list[SpooledEvent], int]:
    """Those of ``events`` that are not among ``found``, and the end of what is known of the tape.

    Events that say the same are told apart by nothing: as many are missing as there are fewer on
    the tape. ``at``, which a replay adds, says nothing of its own.
    """
    there = Counter(_name(event.type, event.body) for event in found)
    missing: list[SpooledEvent] = []
    for event in events:
        name = _name(event.type, event.body)
        if there[name]:
            there[name] -= 1
        else:
            missing.append(event)
    return missing, found[-1].seq if found else confirmed


def _name(type: str, body: Any) -> tuple[str, str]:
    if isinstance(body, Mapping):
        said = cast("Mapping[str, Any]", body)
        body = {key: part for key, part in said.items() if key != AT}
    return type, encode(body, "body")


def _size(event: SpooledEvent) -> int:
    """About the bytes that it takes in memory."""
    body = event.body
    parts = cast("Mapping[str, Any]", body).values() if isinstance(body, Mapping) else (body,)
    return 256 + sum(len(part) for part in parts if isinstance(part, str))


class _Queue:
    """Events in order: in memory up to a number of bytes, and behind those in a file."""

    def __init__(self, in_memory: int) -> None:
        self._room = in_memory
        self._memory: deque[SpooledEvent] = deque()
        self._file: IO[bytes] | None = None
        self._in_file = self._written_to = self._read_to = 0
        self._lines: deque[bytes] = deque()
        """Read from the file, and not taken yet."""

    def __len__(self) -> int:
        return len(self._memory) + self._in_file

    def put(self, event: SpooledEvent) -> None:
        """Add an event at the end. Raises ``OSError``, and then it was not added."""
        if self._room > 0 and not self._in_file:
            self._memory.append(event)
            self._room -= _size(event)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # nameless: it goes with us
        line = encode([event.type, event.ts_us, event.body], "event").encode() + b"\n"
        end = self._written_to
        while line:
            written = os.pwrite(self._file.fileno(), line, end)
            end += written
            line = line[written:]
        self._written_to = end  # a part of a line is written over by the next
        self._in_file += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def take(self) -> SpooledEvent | None:
        """The first event; ``None`` when there is none."""
        if self._memory:
            event = self._memory.popleft()
            self._room += _size(event)
            return event
        if self._file is None or not self._in_file:
            return None
        if not self._lines:
            self._read_lines(self._file.fileno())
        self._in_file -= 1
        type_, ts_us, body = decode(self._lines.popleft())
        if not self._in_file:
            self._file.truncate(0)
            self._written_to = self._read_to = 0
        return SpooledEvent(type_, ts_us, body)

    def _read_lines(self, fd: int) -> None:
        block = b""
        while b"\n" not in block:
            begin = self._read_to + len(block)
            block += os.pread(fd, min(_BLOCK, self._written_to - begin), begin)
        whole = block.rpartition(b"\n")[0]
        self._lines.extend(whole.split(b"\n"))
        self._read_to += len(whole) + 1
