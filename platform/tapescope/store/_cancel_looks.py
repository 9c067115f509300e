"""Requests of the cancels that a look has found, each a task of its own, and who is in their way.

A look is bounded, and the next one goes on from there, round and round: so one that cannot be
cancelled is left for the next round, and no other waits for it (docs/decisions/0096, 0104).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, Generic, Protocol, TypeVar

from tapescope.errors import BadSetting, StoreBusy, StoreRefused, UnknownTask
from tapescope.store.flush import CancelAnswer
from tapescope_telemetry.logger import Logger

__all__ = ["CancelLooks"]

_log = Logger("tapescope")

_WAIT: Final = 1.0
"""Seconds that a look waits for its requests: a row that a session holds locked has the next one.

A heartbeat asks, and it has other things to do.
"""


class Found(Protocol):
    """What a look has found."""

    @property
    def task_id(self) -> str:
        """The task that is to be cancelled."""
        ...


F = TypeVar("F", bound=Found)


class CancelLooks(Generic[F]):
    """Which of the tasks that looks have found could not be cancelled, of one kind of looks."""

    def __init__(
        self, request_cancel: Callable[[F], Coroutine[None, None, CancelAnswer]], what: str
    ) -> None:
        """``what`` says of tasks what they could not be, for the warning."""
        self._request_cancel = request_cancel
        self._what = what
        self._stuck: set[str] = set()
        """Tasks that could not be cancelled in this round."""
        self._told: set[str] = set()
        """Those of the round before: they have been warned of."""

    def end_round(self) -> None:
        """The next look is at the first ones again."""
        self._told, self._stuck = self._stuck, set()

    async def cancel_all(self, found: Sequence[F]) -> list[CancelAnswer]:
        """Request the cancels; gives the answers of those that were answered in time.

        Raises what is no task's own, such as ``StoreUnavailable``, once all have been asked for.
        """
        if not found:
            return []
        # Tasks of their own: all are in one flush, and one that is locked holds up no other.
        requests = {asyncio.ensure_future(self._request_cancel(one)): one for one in found}
        answers: list[CancelAnswer | BaseException] = []
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait(requests, timeout=_WAIT)
        finally:
            if not loop.is_closed():  # else they have ended with it
                for request in requests:
                    request.cancel()  # one that is not answered is withdrawn
                answers = await asyncio.gather(*requests, return_exceptions=True)
        failed: list[tuple[F, str]] = []
        away: BaseException | None = None
        for one, answer in zip(found, answers, strict=True):
            if isinstance(answer, asyncio.CancelledError):
                failed.append((one, f"it took longer than {_WAIT:g} s; is its row locked?"))
            elif isinstance(answer, StoreBusy | StoreRefused | BadSetting):
                failed.append((one, str(answer)))
            elif isinstance(answer, BaseException) and not isinstance(answer, UnknownTask):
                away = away or answer  # no task's own
        self._warn(failed)
        if away is not None:
            raise away
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    def _warn(self, failed: Sequence[tuple[F, str]]) -> None:
        """Warn of those that were not warned of before, together."""
        new = [
            (one, why)
            for one, why in failed
            if one.task_id not in self._told and one.task_id not in self._stuck
        ]
        self._stuck.update(one.task_id for one, _ in failed)
        if new:
            (first, why), *_ = new
            _log.warning(
                "%d tasks could not be %s (%s, …): %s It is tried again with later heartbeats.",
                len(new),
                self._what,
                first.task_id,
                why,
            )
