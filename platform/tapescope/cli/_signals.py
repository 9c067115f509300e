"""The signals of a process that stands before another one: heard, told apart, and died of.

Every signal that can be caught is blocked in all threads, and taken by one thread that waits for
them with ``sigwaitinfo``: it alone says whether the terminal sent a signal or a process, and which.
See ``docs/decisions/0026-who-gets-which-signal.md``.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NamedTuple, NoReturn

__all__ = ["Heard", "Signals", "describe_signal", "end_as"]

_LEFT_ALONE: Final = frozenset(
    {
        *(signal.SIGKILL, signal.SIGSTOP),  # cannot be caught
        *(signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE),  # are about ourselves
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),  # are faults of our own
        *(signal.SIGTRAP, signal.SIGSYS, signal.SIGXCPU, signal.SIGXFSZ),
    }
)
_FROM_KERNEL: Final = 0x80
"""``SI_KERNEL`` of Linux: the terminal's keys, its size, its end."""
_TERMINAL_SENDS: Final = frozenset(
    {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH, signal.SIGHUP}
)


class Heard(NamedTuple):
    """A signal that this process was sent."""

    number: int
    """Real-time signals have no name of their own."""
    by_terminal: bool
    """Whether the system sent it, to all processes of our group: not one process with kill(2)."""
    sender: int
    """The id of the process that sent it; 0 where none did, or it is not known."""

    def is_own(self, number: int) -> bool:
        """Whether this process sent it to itself."""
        return self.number == number and not self.by_terminal and self.sender in (0, os.getpid())


Act = Callable[[Heard], None]


class Signals:
    """Inside, every signal that can be caught is heard, and has no other effect.

    Enter it before any thread is started. A signal that is ignored at that time stays so. ``mask``
    is the signal mask that a child is to have: that of our caller.
    """

    def __init__(self) -> None:
        self.mask: frozenset[int] = frozenset()
        self._taken: frozenset[int] = frozenset()
        self._act: Act | None = None
        self._early: list[Heard] = []
        self._lock = threading.Lock()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._stop: _Stop | None = None
        self.continued = 0
        """How many times SIGCONT has been heard."""

    def __enter__(self) -> Signals:
        self.mask = frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        ignored = {n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN}
        self._taken = frozenset(signal.valid_signals() - _LEFT_ALONE - ignored - self.mask)
        if threading.current_thread() is threading.main_thread():
            if signal.SIGINT in self._taken:
                self._reset(signal.SIGINT)  # to die of it from any thread
            if signal.SIGCHLD in ignored:
                self._reset(signal.SIGCHLD)  # else no exit status is to be had
        signal.pthread_sigmask(signal.SIG_BLOCK, self._taken)
        self._thread = threading.Thread(target=self._work, name="tapescope-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        self._wake()
        if self._thread is not None:
            self._thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)  # children inherit it
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _reset(self, number: signal.Signals) -> None:
        self._handlers[number] = signal.signal(number, signal.SIG_DFL)

    def listen(self, act: Act) -> None:
        """Have ``act`` called, in a thread, with each signal: also with those heard before."""
        with self._lock:
            self._act = act
            early, self._early = self._early, []
            for heard in early:
                act(heard)

    def stop(self, number: int, continued: int) -> None:
        """Stop this process as ``number`` stops one, until it is continued.

        It stays as it is where more than ``continued`` SIGCONTs have come by then: who sent the
        last one sends no other. The thread that takes the signals does it, for only there is none
        on its way from the system to the count.
        """
        if self._taken:
            self._stop = stop = _Stop(number, continued, threading.Event())
            self._wake()
            stop.done.wait()

    def _wake(self) -> None:
        if self._thread is not None and self._thread.ident is not None and self._taken:
            signal.pthread_kill(self._thread.ident, min(self._taken))

    def _work(self) -> None:
        if not self._taken:
            return
        while True:
            heard = _wait(self._taken)
            if self._closing:
                return
            if (stop := self._stop) is not None and heard.is_own(min(self._taken)):
                self._stop = None
                self._stop_here(stop)
                continue
            if heard.number == signal.SIGCONT:
                self.continued += 1
            with self._lock:
                if self._act is None:
                    self._early.append(heard)
                else:
                    self._act(heard)

    def _stop_here(self, stop: _Stop) -> None:
        """A stop signal would take back a SIGCONT that is not taken yet, so none may be there.

        It is raised while it is blocked: where the terminal has sent one, too, which is not taken
        yet, both are pending, and a SIGCONT takes back what has not stopped us by then.
        """
        if self.continued == stop.continued and signal.SIGCONT not in signal.sigpending():
            signal.raise_signal(stop.number)
            before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {stop.number})
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        stop.done.set()


class _Stop(NamedTuple):
    number: int
    continued: int
    done: threading.Event


def describe_signal(number: int) -> str:
    """Its name, such as SIGTERM; a real-time signal has a number only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def end_as(status: int) -> NoReturn:
    """End this process at once with an exit status, or by the signal ``-status``.

    What waits for us is to see what it would see of the command itself: a shell ends its loop when
    a signal has ended the command, and goes on after a status of 130. As process 1, which no signal
    can end so, the status is 128 + n.
    """
    if status < 0 and os.getpid() != 1:
        number = -status
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if threading.current_thread() is threading.main_thread() and number not in (
            signal.SIGKILL,
            signal.SIGSTOP,
        ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.raise_signal(number)
    os._exit(status if status >= 0 else 128 - status)


def _wait(numbers: frozenset[int]) -> Heard:
    if sys.platform != "darwin":
        info = signal.sigwaitinfo(numbers)
        number = info.si_signo
        by_terminal = info.si_code == _FROM_KERNEL
        return Heard(number, by_terminal, 0 if by_terminal else info.si_pid)
    number = int(signal.sigwait(numbers))
    return Heard(number, number in _TERMINAL_SENDS and _in_foreground(), 0)


def _in_foreground() -> bool:
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
