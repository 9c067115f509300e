"""A child process in a process group of its own: its pipes, its signals, its exit status."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

__all__ = ["Child", "PipeReader"]

_CHUNK: Final = 65_536
_LAST_READ: Final = 1_048_576
"""Bytes that are read at most after ``stop_waiting``: Linux lets no pipe grow larger unasked."""


class PipeReader:
    """The reading end of a pipe, without a thread."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self._readable: asyncio.Future[None] | None = None
        self._left: int | None = None
        self.ended = False
        """Whether every writer has closed the other end."""
        os.set_blocking(pipe.fileno(), False)

    async def read(self) -> bytes:
        """The next bytes, as soon as there are any; none at the end or after ``stop_waiting``."""
        while not self._pipe.closed:
            if self._left is not None and self._left <= 0:
                break
            try:
                chunk = os.read(self._pipe.fileno(), _CHUNK)
            except BlockingIOError:
                if self._left is not None:
                    break
                await self._wait()
                continue
            if not chunk:
                self.ended = True
            elif self._left is not None:
                self._left -= len(chunk)
            return chunk
        return b""

    def stop_waiting(self) -> None:
        """Read the rest of the pipe and then end, though a process holds its other end open."""
        if self._left is None:
            self._left = _LAST_READ
        self._wake()

    def close(self) -> None:
        """Close this end: a process that still writes gets a SIGPIPE. May be called twice."""
        if not self._pipe.closed:
            if self._readable is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._pipe.fileno())
            self._wake()
            self._pipe.close()

    async def _wait(self) -> None:
        fd = self._pipe.fileno()
        self._readable = self._loop.create_future()
        self._loop.add_reader(fd, self._wake)
        try:
            await self._readable
        finally:
            if not self._pipe.closed and not self._loop.is_closed():
                self._loop.remove_reader(fd)
            self._readable = None

    def _wake(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)


class Child:
    """A running command in a session of its own: a signal reaches its processes, and no other.

    Starting it raises ``OSError`` when there is no such program, or it cannot be executed.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str] | None,
        stdin: int | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self._process = subprocess.Popen(
                argv,
                bufsize=0,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        except PermissionError as error:
            if _is_in_path(argv[0], env):
                raise
            # A folder of PATH that may not be searched: the program itself was not found.
            text = os.strerror(errno.ENOENT)
            raise FileNotFoundError(errno.ENOENT, text, argv[0]) from error
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdout = PipeReader(self._process.stdout)
        self.stderr = PipeReader(self._process.stderr)
        self.ended: asyncio.Future[int] = self._loop.create_future()
        """Its exit status, negative for the signal that ended it. Never cancel this future."""
        self._may_be_reaped = threading.Event()
        # A daemon: a process that cannot be killed must not hold up the interpreter's exit.
        threading.Thread(target=self._watch, name="tapescope-child", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its group and session."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """As ``ended``; ``None`` while it runs."""
        return self.ended.result() if self.ended.done() else None

    def terminate(self) -> None:
        """SIGTERM to the whole group, and SIGCONT, for a stopped process handles no SIGTERM."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        self._signal(signal.SIGKILL)

    def suspend(self) -> None:
        """Stop the whole group, until ``resume``."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stopped group go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the group if the command still runs, and close the pipes. May be called twice."""
        if not self.ended.done():
            self.kill()
        self.stdout.close()
        self.stderr.close()
        self._may_be_reaped.set()

    def _signal(self, number: signal.Signals) -> None:
        # Until the process is reaped, its id, which is its group's, is given to no other process.
        if not self._may_be_reaped.is_set():
            # The group has ended, or runs as another user by now (sudo).
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _watch(self) -> None:
        if sys.platform == "darwin":  # without waitid before Python 3.13: reaped at its end
            status = self._process.wait()
        else:
            end = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            assert end is not None, "only a call with WNOHANG returns None"
            status = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        with suppress(RuntimeError):  # the loop is closed, and the future with it
            self._loop.call_soon_threadsafe(self._end, status)
        self._may_be_reaped.wait()
        self._process.wait()

    def _end(self, status: int) -> None:
        if not self.ended.done():
            self.ended.set_result(status)


def _is_in_path(program: str, env: Mapping[str, str] | None) -> bool:
    """Whether PATH leads to a file of this name, as a shell would look for it."""
    if os.sep in program:
        return True
    folders = os.get_exec_path(env)
    return any(os.path.exists(os.path.join(folder, program)) for folder in folders)
