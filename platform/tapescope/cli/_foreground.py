"""A command in the foreground: its streams, and the signals that tapescope gets meanwhile.

The command's output is handed on byte for byte, without blocking the event loop. Its signals are
its own: what reaches tapescope is passed on as it came, and what the command makes of it is the
command's affair. See ``docs/decisions/0026-who-gets-which-signal.md``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import select
import signal
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from tapescope.cli._output import say
from tapescope.cli._settings import EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND, EXIT_OUTPUT_LOST
from tapescope.cli._signals import Heard, Signals, describe_signal, end_as
from tapescope.errors import CommandFailed
from tapescope.shell.command import ShellCommand, TraceHeaders
from tapescope.shell.process import Child, start_in_place
from tapescope.shell.recorder import LineRecorder

__all__ = ["Foreground"]

_END: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT})
"""Signals by which a process asks for an end. A terminal's keys ask the command, which may well
live on: Ctrl-C in psql ends a query. So may a hangup: it makes many a server read its settings."""
_MAY_END: Final = _END | {signal.SIGHUP}
"""Signals by whose end, or soon after which, a command counts as cancelled."""
_SAME_MOMENT: Final = 0.5
"""Seconds after the command's end in which a signal counts as one that came before it."""


class Foreground:
    """Runs a command at most once, hands its output on, and remembers how it ended.

    With a terminal the command is in our own process group, as under env or nice, so that the
    terminal treats it as its own; without one it leads a group. Times are in seconds.
    """

    def __init__(
        self,
        argv: Sequence[str],
        grace: float,
        drain: float,
        signals: Signals,
        *,
        die_together: bool = False,
        pty: bool = False,
    ) -> None:
        self._argv, self._grace, self._drain = tuple(argv), grace, drain
        self._die_together, self._pty = die_together, pty
        self._signals = signals
        self._loop = asyncio.get_running_loop()
        self._owns_group = not _has_terminal()
        stdout = _OutputWriter(1)
        self._writers = {"stdout": stdout, "stderr": stdout if _is_same() else _OutputWriter(2)}
        self._child: Child | None = None
        self._command: asyncio.Task[dict[str, Any]] | None = None
        self._was_ended_here = False
        self._on_end: Callable[[int], None] | None = None
        self._main = asyncio.current_task()
        self._early: list[Heard] = []
        self._heard: dict[int, float] = {}
        self._heard_one = asyncio.Event()
        self._ended_at: float | None = None
        self._continued = 0  # how many SIGCONTs have been dealt with
        self._was_told_to_stop = False
        self.recorder = LineRecorder(None)
        self.begun = asyncio.Event()
        """Set when the command is about to be started, whether that succeeds or not."""
        self.status: int | None = None
        """The exit status; -n when signal n ended the command."""
        self.signal: int | None = None
        """The signal by which a process asked for an end first."""
        self.bytes_lost = 0
        """Bytes of output that could not be written, though somebody was there to read."""
        signals.listen(self._hear_in_thread)

    async def execute(self, recorder: LineRecorder, trace: TraceHeaders) -> dict[str, Any]:
        """Run the command; its lines go to ``recorder``, its environment gets ``trace``.

        Raises ``OSError`` and ``CommandFailed``.
        """
        assert not self.begun.is_set(), "a command is run once"
        self.begun.set()
        self.recorder = recorder
        command = ShellCommand(self._argv, grace=self._grace, drain=self._drain, sink=self._hand_on)
        self._command = asyncio.create_task(command.run(recorder, trace, start=self._start))
        try:
            result = await self._command
        except OSError as error:
            self._explain(error)
            raise
        except asyncio.CancelledError:
            if self.status is None or not (self._was_ended_here or self.bytes_lost):
                raise
            raise self._describe_failure() from None
        except CommandFailed:
            raise self._describe_failure() from None
        if self.bytes_lost:
            raise self._describe_failure()
        return result

    @property
    def ended_by_us(self) -> bool:
        """Whether a signal ended the command that we sent of our own accord, after the grace."""
        return (
            self._child is not None and self.status is not None and -self.status in self._child.sent
        )

    def end(self) -> None:
        """End the command without its task: it is told to end, and killed after the grace."""
        if self._command is not None and not self._command.done():
            self._was_ended_here = True
            self._command.cancel()
        elif self._main is not None and not self.begun.is_set():
            self._main.cancel()

    def on_end(self, act: Callable[[int], None] | None) -> None:
        """Have ``act`` end the command when a process asks for it; ``None``: it ends at once."""
        self._on_end = act

    async def find_cause(self) -> int | None:
        """The signal because of which the command has ended, if it was one that asks for that."""
        if self.status is None or self.signal is not None:
            return self.signal
        if -self.status in _MAY_END and not self._heard and not self._owns_group:
            with suppress(TimeoutError):  # the same key is on its way to us, if it was one
                async with asyncio.timeout(_SAME_MOMENT):
                    await self._heard_one.wait()
        if -self.status in self._heard:
            return -self.status
        for number, at in self._heard.items():
            if self.status and self._ended_at is not None and self._ended_at - at <= self._grace:
                return number
        return None

    # --- signals ----------------------------------------------------------------------------------

    def _hear_in_thread(self, heard: Heard) -> None:
        try:
            self._loop.call_soon_threadsafe(self._hear, heard)
        except RuntimeError:  # the loop is closed: the store is done with, telemetry may not be
            self._leave(heard.number)

    def _hear(self, heard: Heard) -> None:
        number, child = heard.number, self._child
        if number == signal.SIGCONT and child is not None:
            self._continued += 1
        if self._ended_at is not None:
            self._hear_late(number)
        elif child is None:
            if number in _END and not self.begun.is_set():
                self._ask_for_end(number)
            else:
                self._early.append(heard)
        elif heard.sender != child.pid:  # what it sends to its parent is not for itself
            self._pass_on(heard, child)

    def _pass_on(self, heard: Heard, child: Child) -> None:
        number = heard.number
        if number == signal.SIGWINCH and self._pty:
            child.resize()  # told by the terminal it may have looked before
            return
        reached = heard.by_terminal and not child.owns_group
        if number in _END and not reached:
            child.told = number
            child.remember()
        if not reached and (number != signal.SIGCONT or self._needs_sigcont(child)):
            child.forward(number)
            if number in (signal.SIGTSTP, signal.SIGCONT):
                self._was_told_to_stop = number == signal.SIGTSTP
        if number in _MAY_END:
            self._heard[number] = self._loop.time()
            self._heard_one.set()
            if number in _END and not reached:
                self._ask_for_end(number)

    def _needs_sigcont(self, child: Child) -> bool:
        """A shell sends it to the whole group, and a command that heeds it may not see it twice."""
        return child.owns_group or child.is_stopped() or self._was_told_to_stop

    def _ask_for_end(self, number: int) -> None:
        if self.signal is None:
            self.signal = number
            if self._on_end is not None:
                self._on_end(number)
            else:
                self.end()

    def _hear_late(self, number: int) -> None:
        """The command has ended, and only the store is waited for."""
        assert self._ended_at is not None
        now = self._loop.time()
        if number in _MAY_END and now - self._ended_at < _SAME_MOMENT:
            # The key that ended the command came to us, too; so did one that it lived through, and
            # on a busy machine either is heard late.
            self._heard[number] = now
            self._heard_one.set()
        else:
            self._leave(number)

    def _leave(self, number: int) -> None:
        """End at once, as the command has: one more signal, and nothing is waited for any more."""
        if number in _MAY_END and self.status is not None:
            say("stopped without waiting: the end of the task may not be on its tape")
            end_as(self.status)

    def _follow_stop(self, number: int) -> None:
        """Stop as the command has, for a shell with job control to see.

        SIGTTIN and SIGTTOU have come to us, too. SIGSTOP is not followed: who stops the command
        with it also continues the command, and not us.
        """
        child = self._child
        if number == signal.SIGTSTP and child is not None and child.is_stopped():
            self._signals.stop(number, self._continued)

    def _say_refusal(self, number: int, pid: int) -> None:
        name = describe_signal(number)
        say(f"{name} to process {pid} is not permitted: it runs as another user, and goes on")

    # --- the command ------------------------------------------------------------------------------

    def _start(self, argv: Sequence[str], env: Mapping[str, str] | None) -> Child:
        self._child = child = start_in_place(
            argv,
            env=env,
            mask=self._signals.mask,
            owns_group=self._owns_group,
            merged=_is_same() and not os.isatty(1),
            refused=self._say_refusal,
            stopped=self._follow_stop,
            dies_with_us=self._die_together,
            terminals=self._pty,
        )
        child.ended.add_done_callback(self._note_end)
        early, self._early = self._early, []
        for heard in early:
            self._hear(heard)
        return child

    def _note_end(self, ended: asyncio.Future[int]) -> None:
        if not ended.cancelled():
            self._ended_at = self._loop.time()
            self.status = ended.result()

    def _describe_failure(self) -> CommandFailed:
        """How the command failed; where we have lost output, no status may say that all is well."""
        assert self.status is not None, "it has ended"
        failure = CommandFailed(self._argv, self.status, self.recorder.lost, self.bytes_lost)
        if self.bytes_lost and self.status in (0, -signal.SIGPIPE):
            self.status = EXIT_OUTPUT_LOST
        return failure

    async def _hand_on(self, stream: str, chunk: bytes) -> None:
        left, error = await self._writers[stream].write(chunk)
        if error is None:
            return
        if error.errno != errno.EPIPE:  # that is its reader's own decision
            assert self._child is not None, "it has said something"
            left += self._child.streams[stream].take_rest()
            self.bytes_lost += left
            say(f"{stream} cannot be written ({error.strerror}): {left:,} bytes are lost")
        raise error

    def _explain(self, error: OSError) -> None:
        """Say why the command cannot be started, as a shell does, with a shell's exit status."""
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        self.status = EXIT_NOT_FOUND if missing else EXIT_CANNOT_EXECUTE
        say(f"{self._argv[0]}: {'command not found' if missing else error.strerror}")


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal, whatever its streams are."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _is_same() -> bool:
    """Whether stdout and stderr are one file, one pipe or one terminal."""
    one, other = os.fstat(1), os.fstat(2)
    if stat.S_ISCHR(one.st_mode) and not os.isatty(1):
        return False  # /dev/null: there is no order to keep
    return os.path.samestat(one, other)


class _OutputWriter:
    """Writes to a descriptor of this process, in a thread: it may be a pipe that is never read.

    The descriptor is not made non-blocking, for it may be shared with the shell that started
    tapescope. The thread is a daemon: a reader that never reads cannot keep tapescope from ending.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[_Written]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, name=f"tapescope-output-{fd}", daemon=True).start()

    async def write(self, chunk: bytes) -> _Written:
        """Returns once the chunk is written: how many bytes of it could not be, and why."""
        done: asyncio.Future[_Written] = self._loop.create_future()
        self._waiting.put((chunk, done))
        return await done

    def _work(self) -> None:
        while True:
            chunk, done = self._waiting.get()
            written = self._write(chunk)
            with suppress(RuntimeError):  # the loop is closed: nothing waits for the chunk any more
                self._loop.call_soon_threadsafe(_settle, done, written)

    def _write(self, chunk: bytes) -> _Written:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another process that shares it has made it non-blocking
                select.select([], [self._fd], [])
            except OSError as error:
                return len(rest), error
        return 0, None


_Written = tuple[int, OSError | None]


def _settle(done: asyncio.Future[_Written], written: _Written) -> None:
    if not done.done():
        done.set_result(written)
