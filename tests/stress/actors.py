"""The runners of a stress run, and what each is to do: drawn from the seed before it begins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from tapescope import Reporter
from tapescope.errors import CancelRequested, EventDropped
from tapescope.run.reporter import ThreadReporter
from tests.stress.delays import Delays, pause

__all__ = ["Actor", "Cleanup", "Plan"]

Part = Literal["work", "emit", "thread"]
Cleanup = Literal["pass", "report", "raise", "return", "swallow"]


@dataclass(frozen=True)
class Plan:
    """One scenario. Times are in seconds."""

    part: Part
    """``work`` ends by itself; ``emit`` and ``thread`` report in a loop until they are stopped."""
    work: float
    """How long ``work`` takes, to the moment at which it is about to end."""
    tail: float
    """How long it takes from there to its end."""
    cleanup: Cleanup
    """What it does about its cancel; a thread that does not ``pass`` ignores it."""
    cancel_after: float | None
    """From the submit, or from when it is about to end; ``None``: not cancelled."""
    fails: bool = False
    """Whether ``work`` ends with an error."""
    at_completion: bool = False
    skip: int = 0
    """Ends that are let pass before the one that counts."""
    again_after: float | None = None
    """A second cancel, this long after the first."""
    follow: bool = False
    """Whether a follower reads the tape."""
    retries: int = 0
    """How often work that fails is done again."""
    from_outside: bool = False
    """Whether the cancel comes through another store on the same database, as from a process."""


class CleanupFailed(Exception):
    """What a cleanup raises."""


class WorkFailed(Exception):
    """How work ends that fails."""


class Actor:
    """Runs a plan, and can be asked whether it is still at it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.about_to_end = asyncio.Event()
        self.began = self.ended = False
        self.rounds = 0

    @property
    def at_rest(self) -> bool:
        """Whether nothing of it runs: it never began, or has ended, as a zombie perhaps."""
        return self.ended or not self.began

    async def run(self, report: Reporter) -> str:
        """The runner of ``work`` and ``emit``."""
        self.began = True
        try:
            try:
                await (self._work(report) if self.plan.part == "work" else self._emit(report))
            except asyncio.CancelledError:
                await self._clean_up(report)
            return "done"
        finally:
            self.ended = True

    def run_in_thread(self, report: ThreadReporter) -> str:
        """The runner of ``thread``: reports until it heeds its cancel, or is told to stop."""
        self.began = True
        try:
            n = 0
            while True:
                n += 1
                if n % 3:
                    report.log("info", f"line {n}")
                else:
                    report.emit_nowait("tick", n)
                if self.plan.cleanup == "pass":
                    report.raise_if_cancelled()
        except EventDropped:
            return "fenced"
        finally:
            self.ended = True

    async def _work(self, report: Reporter) -> None:
        await report.progress("work", 0, 2)
        await pause(self.plan.work / 2)
        _ = report.emit_nowait("tick", 1)
        await pause(self.plan.work / 2)
        await report.progress("work", 2, 2)
        self.rounds += 1
        if self.rounds > self.plan.skip:
            self.about_to_end.set()
        await pause(self.plan.tail)
        if self.plan.fails:
            raise WorkFailed("as planned")

    async def _emit(self, report: Reporter) -> None:
        n = 0
        while True:
            n += 1
            if n % 3:
                await report.log("info", f"line {n}")
            else:
                _ = report.emit_nowait("tick", n)

    async def _clean_up(self, report: Reporter) -> None:
        """Go about the cancel as planned; to return is to have swallowed it."""
        cleanup = self.plan.cleanup
        if cleanup == "raise":
            raise CleanupFailed("the cleanup failed")
        if cleanup == "report":
            await report.log("info", "cleaned up")
        if cleanup == "swallow":
            await self._run_on(report)
        if cleanup in ("pass", "report"):
            raise asyncio.CancelledError

    async def _run_on(self, report: Reporter) -> None:
        try:
            while True:
                await report.log("info", "I do not stop")
        except (EventDropped, CancelRequested):
            return


def draw_cleanup(delays: Delays) -> Cleanup:
    """Most let the cancel pass; some do each of the other things a runner can do."""
    choices: list[Cleanup] = ["pass", "report", "raise", "return", "swallow"]
    return delays.random.choices(choices, weights=[6, 1, 1, 1, 1])[0]
