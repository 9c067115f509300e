"""One command in front of whoever started us: its streams, and the signals that we are sent."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final

from tapescope.cli.output import say
from tapescope.cli.passage import Passage
from tapescope.cli.settings import EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND
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
        self._passages = {"stdout": Passage(1), "stderr": Passage(2)}
        self._broken: set[str] = set()
        self._child: Child | None = None
        self._on_signal: Callable[[signal.Signals], None] | None = None
        self._main = asyncio.current_task()
        self.recorder = LineRecorder(None)
        self.begun = asyncio.Event()
        """Set when the command is to be started, whether it can be or not."""
        self.status: int | None = None
        """The exit status, as a shell tells it: 128 + n when signal n ended the command."""
        self.signal: signal.Signals | None = None
        """The first signal that told us to stop."""

    async def execute(self, recorder: LineRecorder, traceparent: str | None) -> dict[str, object]:
        """Run the command with these to tell of it. Raises ``OSError`` and ``CommandFailed``."""
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
            found = error.exit_status
            self.status = found if found >= 0 else 128 - found
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
        """Hear Ctrl-C, SIGTERM, SIGHUP and Ctrl-Z, but those that our caller has us ignore."""
        loop = asyncio.get_running_loop()
        heard = [n for n in _ENDING_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        for number in heard:
            loop.add_signal_handler(number, self._hear, number)
        if stops := signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        try:
            yield
        finally:
            for number in [*heard, *([signal.SIGTSTP] if stops else [])]:
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
            # The command is over and only the store is waited for: asked twice, we go at once, as
            # if we were killed. The tape stays open.
            say("gone without waiting for the store: the end of the task is not on its tape")
            os._exit(128 + number)

    def _suspend(self) -> None:
        """Ctrl-Z reaches us alone, for the command has a session of its own: stop it along."""
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
            found = ended.result()
            self.status = found if found >= 0 else 128 - found

    async def _hand_on(self, stream: str, chunk: bytes) -> None:
        try:
            await self._passages[stream].write(chunk)
        except OSError as error:
            if error.errno != errno.EPIPE and stream not in self._broken:
                say(f"{stream} cannot be written ({error.strerror}): the command loses it, too")
            self._broken.add(stream)
            raise

    def _explain(self, error: OSError) -> None:
        """Say why it cannot be started, as a shell does, and with a shell's exit status."""
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        self.status = EXIT_NOT_FOUND if missing else EXIT_CANNOT_EXECUTE
        say(f"{self._argv[0]}: {'command not found' if missing else error.strerror}")


def _choose_stdin() -> int | None:
    """Our stdin, but for a terminal that belongs to somebody else while we are in the background.

    The command's session is its own, so the terminal would not stop it from taking their input.
    """
    try:
        if os.isatty(0) and os.tcgetpgrp(0) != os.getpgrp():
            return subprocess.DEVNULL
    except OSError:
        pass  # not our controlling terminal: nobody shares it with us
    return None
