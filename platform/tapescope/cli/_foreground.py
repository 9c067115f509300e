"""A command in the foreground: its streams, and the signals that tapescope gets meanwhile.

The command's output is handed on byte for byte, without blocking the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from tapescope.cli._output import say
from tapescope.cli._settings import EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND
from tapescope.errors import CommandFailed
from tapescope.shell.command import ShellCommand
from tapescope.shell.process import Child
from tapescope.shell.recorder import LineRecorder

__all__ = ["Foreground"]

_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Foreground:
    """Runs a command at most once, hands its output on, and remembers how it ended."""

    def __init__(self, argv: Sequence[str], grace: float) -> None:
        self._argv = tuple(argv)
        self._grace = grace
        self._writers = {"stdout": _OutputWriter(1), "stderr": _OutputWriter(2)}
        self._broken: set[str] = set()
        self._child: Child | None = None
        self._on_signal: Callable[[signal.Signals], None] | None = None
        self._main = asyncio.current_task()
        self.recorder = LineRecorder(None)
        self.begun = asyncio.Event()
        """Set when the command is about to be started, whether that succeeds or not."""
        self.status: int | None = None
        """The exit status, as a shell has it: 128 + n when signal n ended the command."""
        self.signal: signal.Signals | None = None
        """The first signal that told tapescope to stop."""

    async def execute(self, recorder: LineRecorder, traceparent: str | None) -> dict[str, object]:
        """Run the command; its lines go to ``recorder``, its environment gets ``traceparent``.

        Raises ``OSError`` and ``CommandFailed``.
        """
        assert not self.begun.is_set(), "a command is run once"
        self.begun.set()
        self.recorder = recorder
        command = ShellCommand(
            self._argv, stdin=_choose_stdin(), grace=self._grace, sink=self._hand_on
        )
        try:
            result = await command.run(recorder, traceparent, started=self._note_start)
        except OSError as error:
            self._explain(error)
            raise
        except CommandFailed as error:
            self.status = _as_shell_status(error.exit_status)
            raise
        self.status = 0
        return result

    def terminate(self) -> None:
        """End the command without its task: SIGTERM now, SIGKILL after the grace."""
        if self._child is not None:
            self._child.terminate()
            asyncio.get_running_loop().call_later(self._grace, self._child.kill)

    @contextmanager
    def signals(self) -> Generator[None]:
        """Handle Ctrl-C, SIGTERM, SIGHUP and Ctrl-Z, except those that the caller has ignored."""
        loop = asyncio.get_running_loop()
        handled = [n for n in _ENDING_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        for number in handled:
            loop.add_signal_handler(number, self._hear, number)
        if stops := signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        try:
            yield
        finally:
            for number in [*handled, *([signal.SIGTSTP] if stops else [])]:
                loop.remove_signal_handler(number)

    def on_signal(self, act: Callable[[signal.Signals], None] | None) -> None:
        """Have ``act`` end the command on a first signal; ``None``: the main task is cancelled."""
        self._on_signal = act

    def _hear(self, number: signal.Signals) -> None:
        if self.signal is None:
            self.signal = number
            if self._on_signal is not None:
                self._on_signal(number)
            elif self._main is not None:
                self._main.cancel()
        elif self._child is not None and not self._child.ended.done():
            self._child.kill()
        else:
            # The command is over and only the store is waited for: one more signal ends tapescope
            # at once, as if it were killed. The tape stays open.
            say("stopped without waiting for the store: the end of the task is not on its tape")
            os._exit(128 + number)

    def _suspend(self) -> None:
        """Stop the command, too: it has a session of its own, so Ctrl-Z reaches tapescope alone."""
        if self._child is not None:
            self._child.suspend()
        os.kill(os.getpid(), signal.SIGSTOP)
        if self._child is not None:
            self._child.resume()

    def _note_start(self, child: Child) -> None:
        self._child = child
        child.ended.add_done_callback(self._note_end)

    def _note_end(self, ended: asyncio.Future[int]) -> None:
        if not ended.cancelled():
            self.status = _as_shell_status(ended.result())

    async def _hand_on(self, stream: str, chunk: bytes) -> None:
        try:
            await self._writers[stream].write(chunk)
        except OSError as error:
            if error.errno != errno.EPIPE and stream not in self._broken:
                say(f"{stream} cannot be written ({error.strerror}): it is closed for the command")
            self._broken.add(stream)
            raise

    def _explain(self, error: OSError) -> None:
        """Say why the command cannot be started, as a shell does, with a shell's exit status."""
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        self.status = EXIT_NOT_FOUND if missing else EXIT_CANNOT_EXECUTE
        say(f"{self._argv[0]}: {'command not found' if missing else error.strerror}")


def _as_shell_status(exit_status: int) -> int:
    """128 + n for the -n of a process that signal n ended."""
    return exit_status if exit_status >= 0 else 128 - exit_status


def _choose_stdin() -> int | None:
    """The stdin of tapescope, except a terminal that another process has in its foreground.

    The command has a session of its own, so the terminal would not stop the command from taking
    the input of that process.
    """
    try:
        if os.isatty(0) and os.tcgetpgrp(0) != os.getpgrp():
            return subprocess.DEVNULL
    except OSError:
        pass  # not the controlling terminal: no other process shares it
    return None


class _OutputWriter:
    """Writes to a descriptor of this process, in a thread: it may be a pipe that is never read.

    The descriptor is not made non-blocking, for it may be shared with the shell that started
    tapescope. The thread is a daemon: a reader that never reads cannot keep tapescope from ending.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"tapescope-output-{fd}", daemon=True).start()

    async def write(self, chunk: bytes) -> None:
        """Returns once the chunk is written. Raises ``OSError``."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((chunk, done))
        await done

    def _work(self) -> None:
        while True:
            chunk, done = self._waiting.get()
            error: OSError | None = None
            try:
                self._write(chunk)
            except OSError as raised:
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nothing waits for the chunk any more
                self._loop.call_soon_threadsafe(_settle, done, error)

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another process that shares it has made it non-blocking
                select.select([], [self._fd], [])


def _settle(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
