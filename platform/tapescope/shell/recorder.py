"""The recorder of a command's lines: puts them on the tape, and never lets it stop the command."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from tapescope.errors import EventDropped, TapeFull, TapescopeError
from tapescope.model.tape import LOG

if TYPE_CHECKING:
    from tapescope.model.answers import Appended
    from tapescope.run import Reporter

__all__ = ["LineRecorder"]

_OUTSTANDING: Final = 512
"""Lines that may wait for the store: fewer than ``emit_nowait`` takes from one run."""


class LineRecorder:
    """Sends lines to a run's tape in order, and counts those that could not be recorded.

    While the store keeps up, at most ``_OUTSTANDING`` lines wait for it, and then the command
    waits. Once the store has failed, the command does not wait: lines over that limit are lost,
    until a line is stored again. A full tape, or one that is no longer the run's, takes no more
    lines.
    """

    def __init__(self, report: Reporter | None) -> None:
        self._report = report
        self._waiting: deque[asyncio.Future[Appended]] = deque()
        self._open = report is not None
        self._store_failed = False
        self.lost = 0
        """Lines, or parts of long ones, that are not on the tape."""
        self.cause: TapescopeError | None = None
        """The error of the first of them."""

    async def record(self, bodies: Iterable[dict[str, Any]]) -> None:
        """Record these lines; may return before they are stored."""
        for body in bodies:
            while len(self._waiting) >= _OUTSTANDING and not self._store_failed:
                await asyncio.wait([self._waiting[0]])
                self._note_answers()
            self._send(body)
        self._note_answers()

    async def settle(self) -> None:
        """Wait until every line is stored or lost."""
        while self._waiting:
            await asyncio.wait(self._waiting)
            self._note_answers()

    def _send(self, body: dict[str, Any]) -> None:
        self._note_answers()
        if self._report is None or not self._open or len(self._waiting) >= _OUTSTANDING:
            self.lost += 1
            return
        try:
            self._waiting.append(self._report.emit_nowait(LOG, body))
        except TapescopeError as error:
            self._lose(error)

    def _note_answers(self) -> None:
        while self._waiting and self._waiting[0].done():
            answer = self._waiting.popleft()
            if answer.cancelled():  # the loop is being torn down
                self.lost += 1
                continue
            error = answer.exception()
            if error is None and (reason := answer.result().dropped) is not None:
                assert self._report is not None, "only events of a reporter are answered"
                error = EventDropped(self._report.task_id, self._report.attempt, reason)
            if error is None:
                self._store_failed = False
            elif isinstance(error, TapescopeError):
                self._lose(error)
            else:
                raise error

    def _lose(self, error: TapescopeError) -> None:
        self.lost += 1
        self.cause = self.cause or error
        if isinstance(error, TapeFull | EventDropped):
            self._open = False
        else:
            self._store_failed = True
