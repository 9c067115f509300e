"""Several worker processes of one command: the parent that keeps them, and a child's line to it.

The line is one end of a pair of sockets. The child says on it, once, that it works; and it ends for
the child with the parent, however that one came to its end. Nothing else of the parent is a child's
affair. See ``docs/decisions/0108-a-parent-keeps-its-workers.md``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from tapescope.cli._service import EndSignals
from tapescope.cli._signals import describe_signal
from tapescope_telemetry.logger import Logger

__all__ = ["ParentLine", "Pauses", "Supervisor", "find_program"]

_log = Logger("tapescope")

_ALONE: Final = 5.0
"""Seconds in which the first child is alone, so that a mistake is told once; less if it works."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_LONG_LIFE: Final = 60.0
"""Seconds after which a child's end counts as the first one."""


def find_program(option: str) -> Sequence[str]:
    """What a child is started with: interpreter, its flags and the program, as this process was.

    So a child searches for modules where its parent does. ``option`` is one that the command line
    has: where it is not among the words of this process, they came from a program that calls
    ``tapescope.cli.main``. That one is not run again: it would call it with the same words.
    """
    words = sys.argv[1:]
    begun, told = sys.orig_argv[: -len(words)], sys.orig_argv[-len(words) :]
    if told != words or not any(word.partition("=")[0] == option for word in words):
        return (sys.executable, "-m", "tapescope.cli")
    return (sys.executable, *begun[1:])


class ParentLine:
    """A child's line to its parent, by the descriptor that it was started with."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_inheritable(fd, False)  # it is no affair of what the user's program starts

    def watch(self) -> None:
        """From now on the parent's end is one more signal to this process."""
        asyncio.get_running_loop().add_reader(self._fd, self._end)

    def tell_works(self) -> None:
        """Say that this process has come through its start."""
        with suppress(BrokenPipeError):
            os.write(self._fd, b"+")

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.kill(os.getpid(), signal.SIGTERM)


class Pauses:
    """How long to wait before what has ended is started again."""

    def __init__(self) -> None:
        self._next = _FIRST_PAUSE

    def next(self, lived: float) -> float:
        """The seconds after one that lived for ``lived`` seconds."""
        pause = _FIRST_PAUSE if lived >= _LONG_LIFE else self._next
        self._next = min(2 * pause, _LONGEST_PAUSE)
        return pause


class Supervisor:
    """Keeps so many children, hands them the signals that ask for an end, and ends behind them.

    ``command`` gives the words that start a child, by its number from 0. Use it once.
    """

    def __init__(self, count: int, command: Callable[[int], Sequence[str]]) -> None:
        self._count, self._command = count, command
        self._children: dict[int, _Child] = {}
        self._one_works = False
        self._others_may = asyncio.Event()
        self._ending = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Until all have ended because that was asked for, or none can start; the exit status.

        It is 0 where each child's was, else that of the first with another: 128+n for one that
        signal n ended. Raises ``OSError`` where no process can be started.
        """
        signals = EndSignals(self._hurry)
        asked = asyncio.ensure_future(self._drain_when_asked(signals))
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        await asyncio.gather(*(self._keep(number) for number in range(self._count)))
        if asked.done():
            _log.info("The worker processes have stopped.")
        asked.cancel()
        return self._status

    async def _drain_when_asked(self, signals: EndSignals) -> None:
        await signals.wait()
        self._drain()

    async def _keep(self, number: int) -> None:
        """Have one child, and another in its place, until an end is asked for."""
        if number > 0:
            await _wait(self._others_may, _ALONE)
        loop, pauses = asyncio.get_running_loop(), Pauses()
        while not self._ending.is_set():
            began = loop.time()
            status, how = await self._live(number)
            if self._ending.is_set():
                # Who is so young that it has no handler yet ends by our signal, and has no task.
                self._note(0 if status == -signal.SIGTERM else status)
            elif status and not self._one_works:
                if status < 0:  # else the child has said why itself
                    _log.error("Worker process %d %s before it worked.", number + 1, how)
                self._note(status)
                self._drain()
            else:
                pause = pauses.next(loop.time() - began)
                _log.warning(
                    "Worker process %d of %d %s; the next one starts in %g s.",
                    *(number + 1, self._count, how, pause),
                )
                await _wait(self._ending, pause)

    async def _live(self, number: int) -> tuple[int, str]:
        """The whole life of one child: its status, -n for signal n, and how it ended, in words."""
        try:
            child = _Child(self._command(number))
        except OSError as error:
            if not self._one_works:
                raise
            return 1, f"could not be started ({error.strerror})"
        self._children[number] = child
        asyncio.get_running_loop().add_reader(child.line, self._hear, child)
        try:
            status = await child.ended
            self._hear(child)  # it may have said so with its last breath
        finally:
            del self._children[number]
            child.line.close()
        how = (
            f"ended with status {status}"
            if status >= 0
            else f"was ended by {describe_signal(-status)}"
        )
        return status, f"(pid {child.process.pid}) {how}"

    def _hear(self, child: _Child) -> None:
        asyncio.get_running_loop().remove_reader(child.line)  # there is no more to be heard
        if child.says_it_works() and not self._one_works:
            self._one_works = True
            self._others_may.set()
            _log.info("Keeping %d worker processes: the first one works.", self._count)

    def _reap(self) -> None:
        for child in self._children.values():
            child.reap()

    def _note(self, status: int) -> None:
        self._status = self._status or (status if status >= 0 else 128 - status)

    def _drain(self) -> None:
        """Have all children drain, and start no other. No-op after the first time."""
        if not self._ending.is_set():
            self._ending.set()
            self._others_may.set()
            if self._children:
                _log.info("Draining %d worker processes.", len(self._children))
            self._tell(signal.SIGTERM)

    def _hurry(self) -> None:
        """The second signal is another one: two of a kind may reach a busy child as one."""
        self._drain()
        self._tell(signal.SIGINT)

    def _tell(self, number: signal.Signals) -> None:
        for child in self._children.values():
            child.process.send_signal(number)


class _Child:
    """A worker process, in a session of its own: no key of the terminal reaches it."""

    def __init__(self, words: Sequence[str]) -> None:
        """Start it. Raises ``OSError``."""
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.line, theirs = socket.socketpair()
        self.line.setblocking(False)
        try:
            self.process = subprocess.Popen(
                [*words, f"--parent-line={theirs.fileno()}"],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            self.line.close()
            raise
        finally:
            theirs.close()

    def reap(self) -> None:
        """Note its end, if it has ended."""
        status = self.process.poll()
        if status is not None and not self.ended.done():
            self.ended.set_result(status)

    def says_it_works(self) -> bool:
        """Whether it has just said so."""
        try:
            return bool(self.line.recv(1))
        except BlockingIOError:
            return False


async def _wait(event: asyncio.Event, within: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await event.wait()
