"""A child process: its pipes, its signals, its exit status."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

__all__ = ["Child", "PipeReader", "Refused", "start_in_place", "start_in_session"]

_CHUNK: Final = 65_536
"""Bytes of one read, and of a pipe as Linux makes it."""
_FLOOD_CHUNK: Final = 262_144
"""The same for a command whose pipe was full: fewer turns for as many bytes. No more than that, for
Linux lets a user have 64 MiB of pipes (pipe(7)), and the next ones are small."""
_LAST_READ: Final = 1_048_576
"""Bytes that are read at most once nothing more is waited for: Linux lets no pipe grow larger
unasked."""
_FIRST_LINE: Final = 80
"""Bytes that bash looks at, too, to tell a script from a program."""
_USUAL_SIZE: Final = (24, 80)
_SHIM: Final = """
import ctypes, errno, os, signal, sys
ours, path, *argv = sys.argv[1:]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(ours):
    os.kill(os.getpid(), signal.SIGKILL)
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
try:
    os.execv(path, argv)
except OSError as error:
    if error.errno == errno.ENOEXEC:
        os.execv("/bin/sh", ["/bin/sh", path, *argv[1:]])
    sys.exit(f"tapescope: {argv[0]}: {error.strerror}")
"""
"""Asks for a SIGKILL at its parent's end (``PR_SET_PDEATHSIG``), sees that its parent has not ended
meanwhile, and becomes the command."""

Refused = Callable[[int, int], None]
"""Called with a signal that may not be sent, and the process id that it was for."""


class PipeReader:
    """The reading end of a pipe, or of a terminal that a command writes on; without a thread."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self._loop = asyncio.get_running_loop()
        self._readable: asyncio.Future[None] | None = None
        self._left: int | None = None
        self._chunk = _CHUNK
        self.ended = False
        """Whether every writer has closed the other end."""
        self.held = False
        """Whether it was read to what is there now, while a process still held the other end."""
        self.rest: list[bytes] = []
        """What ``take_rest`` has read."""
        os.set_blocking(fd, False)

    async def read(self) -> bytes:
        """The next bytes, as soon as there are any; none at the end or after ``stop_waiting``."""
        while self._fd is not None:
            if self._left is not None and self._left <= 0:
                self.held = True
                break
            try:
                chunk = _read(self._fd, self._chunk)
            except BlockingIOError:
                if self._left is not None:
                    self.held = True
                    break
                await self._wait(self._fd)
                continue
            if not chunk:
                self.ended = True
            elif self._left is not None:
                self._left -= len(chunk)
            elif len(chunk) == _CHUNK:
                self._prepare_for_a_flood(self._fd)
            return chunk
        return b""

    def take_rest(self) -> int:
        """Read what is in the pipe now into ``rest``; how many bytes that was.

        No more than a pipe holds: a command may fill it as fast as it is read.
        """
        taken = 0
        while self._fd is not None and taken < _LAST_READ:
            try:
                chunk = _read(self._fd, self._chunk)
            except BlockingIOError:
                break
            if not chunk:
                self.ended = True
                break
            self.rest.append(chunk)
            taken += len(chunk)
        return taken

    def resize(self, size: tuple[int, int]) -> None:
        """Give a terminal so many lines and columns."""
        if self._fd is not None:
            termios.tcsetwinsize(self._fd, size)

    def stop_waiting(self) -> None:
        """Read the rest of the pipe and then end, though a process holds its other end open."""
        if self._left is None:
            self._left = _LAST_READ
        self._wake()

    def close(self) -> None:
        """Close this end: a process that still writes gets a SIGPIPE. May be called twice."""
        if self._fd is not None:
            if self._readable is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._wake()
            os.close(self._fd)
            self._fd = None

    def _prepare_for_a_flood(self, fd: int) -> None:
        if self._chunk == _CHUNK:
            self._chunk = _FLOOD_CHUNK
            if sys.platform == "linux":
                with suppress(OSError):  # a terminal, or its user has all the pipes there may be
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _FLOOD_CHUNK)

    async def _wait(self, fd: int) -> None:
        self._readable = self._loop.create_future()
        self._loop.add_reader(fd, self._wake)
        try:
            await self._readable
        finally:
            if self._fd is not None and not self._loop.is_closed():
                self._loop.remove_reader(fd)
            self._readable = None

    def _wake(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)


def _read(fd: int, most: int) -> bytes:
    """The next bytes; none at the end. Raises ``BlockingIOError`` where there are none yet."""
    try:
        return os.read(fd, most)
    except OSError as error:
        if error.errno == errno.EIO:  # Linux's way to say that nobody has the terminal open
            return b""
        raise


class Child:
    """A running command: its output, its end, and the signals for it and what it has started.

    ``owns_group`` says that it leads a process group of its own: a signal for all of it goes to the
    group. Else it shares ours, as on a terminal, and a signal goes to the command and to each of
    its descendants that can be found (on Linux; elsewhere to the command alone).

    ``refused`` is called for each signal that the system does not permit: the command has become
    another user's, as under sudo.
    """

    def __init__(
        self,
        pid: int,
        streams: Mapping[str, int],
        reap: Callable[[], object],
        *,
        owns_group: bool,
        refused: Refused,
        stopped: Callable[[int], None] | None = None,
    ) -> None:
        self.pid: Final = pid
        """Its process id."""
        self.owns_group: Final = owns_group
        self.streams: Final = {name: PipeReader(fd) for name, fd in streams.items()}
        """Its output, by the names of its streams."""
        self.told: int | None = None
        """The signal, sent by ``forward``, that asked it to end; an end begins with it."""
        self.sent: set[int] = set()
        """Signals that we have sent to end it, of our own accord."""
        self._reap, self._refused, self._stopped = reap, refused, stopped
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        """Its exit status, negative for the signal that ended it. Never cancel this future."""
        self._handles: dict[int, int] = {}
        self._may_be_reaped = threading.Event()
        # A daemon: a process that cannot be killed must not hold up the interpreter's exit.
        threading.Thread(target=self._watch, name="tapescope-child", daemon=True).start()

    @property
    def exit_status(self) -> int | None:
        """As ``ended``; ``None`` while it runs."""
        return self.ended.result() if self.ended.done() else None

    def forward(self, number: int) -> None:
        """A signal for the command alone, as a caller sent it."""
        if not self.ended.done():
            self._send(os.kill, self.pid, number)

    def resize(self) -> None:
        """Give the terminals of its output the size that ours has now, and tell it."""
        for stream in self.streams.values():
            stream.resize(_find_size())
        self.forward(signal.SIGWINCH)

    def is_stopped(self) -> bool:
        """Whether the command is stopped; where the system does not say: that it may be."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as facts:
                return facts.read().rpartition(b") ")[2][:1] == b"T"
        except OSError:
            return True

    def remember(self) -> None:
        """Note what the command has started: once it has ended, its descendants are not found."""
        if not self.owns_group and not self._may_be_reaped.is_set():
            for pid in _list_descendants(self.pid):
                if pid not in self._handles:
                    with suppress(OSError):  # it has just ended
                        self._handles[pid] = os.pidfd_open(pid)

    def terminate(self) -> None:
        """SIGTERM to all of it, and SIGCONT, for a stopped process handles no SIGTERM."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        self._signal(signal.SIGKILL)

    def release(self) -> None:
        """Let an ended command be reaped: who waits for its end by its id sees that. May be called
        twice; from now on nothing is signalled."""
        self._may_be_reaped.set()

    def close(self) -> None:
        """Close the pipes, and let the process be reaped. May be called twice."""
        for stream in self.streams.values():
            stream.close()
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()
        self.release()

    def _signal(self, number: int) -> None:
        if self._may_be_reaped.is_set():
            return  # from now on its id may be another process's
        if not self.ended.done():
            self.sent.add(number)
        if self.owns_group:
            self._send(os.killpg, self.pid, number)
            return
        self.remember()
        self.forward(number)
        for pid, handle in self._handles.items():
            self._send(partial(_send_by_handle, handle), pid, number)

    def _send(self, send: Callable[[int, int], None], pid: int, number: int) -> None:
        try:
            send(pid, number)
        except ProcessLookupError:
            pass  # it has ended
        except PermissionError:
            self._refused(number, pid)

    def _watch(self) -> None:
        if sys.platform == "darwin":  # without waitid before Python 3.13: reaped at its end
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._tell(self._end, status)
            return
        while True:
            wanted = os.WEXITED | (0 if self._stopped is None else os.WSTOPPED)
            end = os.waitid(os.P_PID, self.pid, wanted | os.WNOWAIT)
            assert end is not None, "only a call with WNOHANG returns None"
            if end.si_code != os.CLD_STOPPED:
                break
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
            if self._stopped is not None:
                self._tell(self._stopped, end.si_status)
        status = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        self._tell(self._end, status)
        self._may_be_reaped.wait()
        self._reap()

    def _tell(self, told: Callable[..., None], *facts: object) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nothing waits for it any more
            self._loop.call_soon_threadsafe(told, *facts)

    def _end(self, status: int) -> None:
        if not self.ended.done():
            self.ended.set_result(status)


def start_in_session(
    argv: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
    stdin: int | None,
    refused: Refused,
) -> Child:
    """Start a command in a session of its own: a signal reaches its processes, and no other.

    Raises ``OSError`` when there is no such program, or it cannot be executed.
    """
    settings: dict[str, Any] = {
        "bufsize": 0,
        "stdin": stdin,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "cwd": cwd,
        "env": env,
        "start_new_session": True,
    }
    try:
        process = subprocess.Popen[bytes](argv, **settings)
    except PermissionError:
        _find_program(argv[0], env)  # raises where a folder of PATH only may not be searched
        raise
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        script = _as_script(_find_program(argv[0], env)[0], argv, error)
        process = subprocess.Popen[bytes](script, **settings)
    assert process.stdout is not None
    assert process.stderr is not None
    streams = {"stdout": os.dup(process.stdout.fileno()), "stderr": os.dup(process.stderr.fileno())}
    process.stdout.close()
    process.stderr.close()
    return Child(process.pid, streams, process.wait, owns_group=True, refused=refused)


def _find_program(program: str, env: Mapping[str, str] | None) -> list[str]:
    """The files that the name may mean, in the order of PATH, as a shell looks for it.

    Raises ``FileNotFoundError`` when there is none: a folder of PATH that may not be searched holds
    none for us.
    """
    if os.sep in program:
        return [program]
    found = [
        path
        for folder in os.get_exec_path(env)
        if program and os.path.exists(path := os.path.join(folder or os.curdir, program))
    ]
    if not found:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    return found


def start_in_place(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    mask: Iterable[int],
    owns_group: bool,
    merged: bool,
    refused: Refused,
    stopped: Callable[[int], None],
    dies_with_us: bool = False,
    terminals: bool = False,
) -> Child:
    """Start a command where this process is: in its session, with its stdin and descriptors.

    It joins our process group too, unless it ``owns_group``. ``mask`` is its signal mask; signals
    that we ignore it ignores. Its stdout and stderr are two pipes, or ``terminals``; or one, which
    is called "stdout", where they are ``merged``. ``stopped`` is called with each signal that has
    stopped it. With ``dies_with_us``, on Linux, it gets a SIGKILL when the thread that calls this
    has ended.

    Raises ``OSError`` when there is no such program, or it cannot be executed.
    """
    env = os.environ if env is None else env
    open_ends = _open_terminal if terminals else os.pipe
    read, write = open_ends()
    streams, ends = {"stdout": read}, {1: write}
    if not merged:
        streams["stderr"], ends[2] = open_ends()
    actions = [(os.POSIX_SPAWN_DUP2, ends.get(fd, write), fd) for fd in (1, 2)]
    settings: dict[str, Any] = {
        "file_actions": actions,
        "setsigmask": mask,
        "setsigdef": (signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them
    }
    if owns_group:
        settings["setpgroup"] = 0
    try:
        pid = _spawn(argv, env, settings, dies_with_us=dies_with_us)
    except BaseException:  # interrupted, too: the ends of the pipes are known only here
        for fd in streams.values():
            os.close(fd)
        raise
    finally:
        for fd in ends.values():
            os.close(fd)
    return Child(
        pid,
        streams,
        lambda: os.waitpid(pid, 0),
        owns_group=owns_group,
        refused=refused,
        stopped=stopped,
    )


def _open_terminal() -> tuple[int, int]:
    """A terminal that changes no byte, and has the size of ours: where to read, where to write."""
    read, write = os.openpty()
    attributes = termios.tcgetattr(write)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(write, termios.TCSANOW, attributes)
    termios.tcsetwinsize(write, _find_size())
    return read, write


def _find_size() -> tuple[int, int]:
    """The lines and columns of our terminal; the usual ones where we have none."""
    for fd in (2, 1, 0):
        with suppress(termios.error):  # it is not a terminal
            return termios.tcgetwinsize(fd)
    return _USUAL_SIZE


def _spawn(
    argv: Sequence[str], env: Mapping[str, str], settings: dict[str, Any], *, dies_with_us: bool
) -> int:
    refusal: OSError | None = None
    for path in _find_program(argv[0], env):
        if dies_with_us and os.access(path, os.X_OK):
            shim = (sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), path, *argv)
            return os.posix_spawn(sys.executable, shim, env, **settings)
        try:
            return os.posix_spawn(path, tuple(argv), env, **settings)
        except PermissionError as error:  # another folder of PATH may have one that we may run
            refusal = refusal or error
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return os.posix_spawn("/bin/sh", _as_script(path, argv, error), env, **settings)
    assert refusal is not None, "there is a program, and it was tried"
    raise refusal


def _as_script(path: str, argv: Sequence[str], error: OSError) -> tuple[str, ...]:
    """What runs a file that the system cannot execute: ``/bin/sh``, as any shell does.

    Raises the ``error`` for what is not text in its first line, such as another machine's program.
    """
    with open(path, "rb") as file:
        if b"\0" in file.read(_FIRST_LINE).partition(b"\n")[0]:
            raise error
    return ("/bin/sh", path, *argv[1:])


def _send_by_handle(handle: int, _: int, number: int) -> None:
    signal.pidfd_send_signal(handle, number)


def _list_descendants(pid: int) -> list[int]:
    """What a process has started, and what that has started; none where the system is silent."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        folder = f"/proc/{waiting.pop()}/task"
        with suppress(OSError):  # it has ended, or this is no Linux
            for thread in os.listdir(folder):
                with open(f"{folder}/{thread}/children", encoding="ascii") as children:
                    waiting += (more := [int(child) for child in children.read().split()])
                    found += more
    return found
