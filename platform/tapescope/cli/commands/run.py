"""``tapescope run``: a command as a task.

The exit status is the command's own. A store that cannot be used never keeps the command from
running: what is lost is counted, and one line on stderr says so at the end. Only a command line
that is wrong in itself (the URL, the op) ends with 125 before anything is run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from opentelemetry import context as contexts
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from tapescope.cli._foreground import Foreground, describe_signal
from tapescope.cli._options import MetricsHostOption, MetricsPortOption, StoreOption
from tapescope.cli._output import say
from tapescope.cli._settings import EXIT_OURS, EXIT_TIMED_OUT, read_traceparent
from tapescope.cli._signals import Signals, end_as
from tapescope.cli._store import choose_store, prepare_store
from tapescope.cli._telemetry import exporting, make_listener
from tapescope.errors import (
    BadOp,
    BadSetting,
    BadStoreUrl,
    CannotListen,
    CommandFailed,
    MissingExtra,
    StoreUnavailable,
    TapescopeError,
    TaskCancelled,
    TaskFailed,
    UnknownStoreScheme,
)
from tapescope.manager.handle import TaskHandle
from tapescope.manager.manager import TaskManager
from tapescope.model.error_codes import TIMEOUT
from tapescope.model.tape import Outcome
from tapescope.model.tasks import CancelReason, is_op
from tapescope.run.reporter import Reporter
from tapescope.shell.recorder import LineRecorder
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore
from tapescope_telemetry.spans import parse_traceparent

if TYPE_CHECKING:
    from tapescope.http.metrics import MetricsListener

__all__ = ["run"]

_PATIENCE: Final = 3.0
"""Seconds that a call waits for a store that is away, unless the store's URL says how long. After
that the command runs without a tape, and a line of output is not recorded."""
_OPEN_WITHIN: Final = 5.0
"""Seconds to wait for a store that does not answer at all."""
_BEGIN_WITHIN: Final = 5.0
"""Seconds to wait after that until the task is claimed."""
_LEASE: Final = 10.0
"""Seconds; also how long tapescope tries to write the end of a command."""
_CANCEL_WITHIN: Final = 1.0
"""Seconds that a signal waits until its cancel is stored; then it ends the command anyway."""
_ROOM_TO_SETTLE: Final = 5.0
"""Seconds from a SIGKILL to the end of a run's grace, when a run that still lives is fenced."""
_SHOWN_COMMAND: Final = 32_768
"""Characters of the command that its task keeps."""


def run(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND", help="The command with its arguments.", show_default=False
        ),
    ],
    op: Annotated[
        str, typer.Option("--op", metavar="OP", help="The op of the task: what kind of work it is.")
    ] = "shell",
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="End the command after this time, with exit status 124.",
        ),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            help="The time from one step to the next when the command is ended: the signal that "
            "tapescope was sent, SIGTERM, SIGKILL.",
        ),
    ] = 5.0,
    drain: Annotated[
        float,
        typer.Option(
            "--drain",
            metavar="SECONDS",
            help="How long to read on when the command has ended and a process that it left still "
            "has its output open.",
        ),
    ] = 1.0,
    lines: Annotated[
        int | None,
        typer.Option(
            "--lines",
            metavar="N",
            help="Lines of output that the tape keeps: the first, and the last of each stream. "
            "Default: as many as the store takes.",
            show_default=False,
        ),
    ] = None,
    die_together: Annotated[
        bool,
        typer.Option(
            "--die-together",
            help="Have the command killed, too, when tapescope is killed; else it runs on. "
            "Linux only.",
        ),
    ] = False,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    store: StoreOption = None,
) -> int:
    """Run a command as a task, and record its output.

    The output passes through, and each line of it goes on the task's tape. Signals that tapescope
    gets are passed on to the command as they are.

    tapescope ends as the command does: with its exit status, or by the signal that ended it, which
    a shell shows as 128 + n. The status is 127 when the command is not found, 126 when it is not
    executable, 124 after --timeout, 125 when tapescope was called wrongly, and 1 when the command
    said 0 and some of its output could not be written.

    When the store cannot be used the command runs all the same, and a line on stderr says what is
    lost.
    """
    try:
        if not is_op(op):
            raise BadOp(op)
        if timeout is not None and not timeout > 0:
            raise BadSetting("--timeout", timeout, "a number of seconds over 0")
        for option, seconds in (("--grace", grace), ("--drain", drain)):
            if not 0 <= seconds < 1e6:
                raise BadSetting(option, seconds, "a number of seconds, 0 or more")
        if lines is not None and not lines >= 0:
            raise BadSetting("--lines", lines, "a number of lines, 0 or more")
        if die_together and sys.platform != "linux":
            raise BadSetting("--die-together", "on", "off: only Linux can do it")
        status = EXIT_OURS
        with Signals() as signals:  # before there is any thread
            listener = make_listener(metrics_host, metrics_port)
            with exporting(*listener.readers), _serving(listener, metrics_port):

                async def main() -> int:
                    foreground = Foreground(
                        command, grace, drain, signals, die_together=die_together
                    )
                    task = _CommandTask(foreground, command, op, timeout, grace, lines, listener)
                    return await task.run(store)

                status = asyncio.run(main())
            if status < 0:
                end_as(status)
        return status
    except TapescopeError as error:
        say(str(error))
        return EXIT_OURS


class _CommandTask:
    """A command, its task, and what could not be recorded of it; times are in seconds."""

    def __init__(
        self,
        foreground: Foreground,
        argv: Sequence[str],
        op: str,
        timeout: float | None,
        grace: float,
        lines: int | None,
        listener: MetricsListener,
    ) -> None:
        self._argv, self._op, self._timeout, self._grace = tuple(argv), op, timeout, grace
        self._foreground, self._lines = foreground, lines
        self._listener = listener
        self._handle: TaskHandle | None = None
        self._end: TapescopeError | None = None
        self._timed_out = False
        self._task_id: str | None = None
        self._given_up = False
        self._background: set[asyncio.Task[bool]] = set()
        self._terminal = sys.stderr.isatty()

    async def run(self, url: str | None) -> int:
        """From the store to the exit status: -n where signal n is to end us, too."""
        foreground = self._foreground
        began = time.monotonic()
        loss: TapescopeError | None = None
        try:
            try:
                await self._run_recorded(url)
            except (BadStoreUrl, UnknownStoreScheme, MissingExtra):
                raise
            except TapescopeError as error:
                loss = error
            if loss is not None and not foreground.begun.is_set():
                await self._run_bare(loss)
        except asyncio.CancelledError:
            if foreground.signal is None:
                raise
        self._say_loss(loss)
        status = self._choose_status()
        if self._terminal and loss is None:
            took = time.monotonic() - began
            say(f"{self._describe()} in {took:.1f} s: tapescope tape {self._task_id}")
        return status

    async def _run_recorded(self, url: str | None) -> None:
        """Run the command as a task. Raises ``TapescopeError`` if it, or its end, is not stored."""
        url = choose_store(url)
        store = find_store(url, patience=_PATIENCE)
        store.open_mode = prepare_store(url) or store.open_mode
        grace = 2 * self._grace + _ROOM_TO_SETTLE
        async with (
            _opened(store),
            TaskManager(
                store,
                max_running=1,
                lease=_LEASE,
                heartbeat=_LEASE / 3,
                cancel_grace=grace,
                drain=0.0,
            ) as manager,
        ):
            self._listener.watch(manager)
            with _inherited_trace():
                handle = await manager.submit(
                    self._op,
                    self._execute,
                    params={"command": _show_command(self._argv)},
                    timeout=self._timeout,
                )
            self._task_id = handle.task_id
            self._handle = handle
            self._foreground.on_end(lambda number: self._cancel(handle, number))
            if self._terminal:
                say(f"task {handle.task_id}")
            await self._await_end(handle, store.name)

    async def _execute(self, report: Reporter, command: Sequence[str]) -> dict[str, Any]:
        """The runner. ``command`` is text for readers of the task; what is run may be any bytes."""
        if self._given_up or self._foreground.signal is not None:
            raise CommandFailed(self._argv, EXIT_OURS)  # too late: the command is run no more
        foreground = self._foreground
        result: dict[str, Any] = {}
        failure: CommandFailed | None = None
        try:
            recorder = LineRecorder(report, self._lines)
            result = await foreground.execute(recorder, report.traceparent)
        except CommandFailed as error:
            failure = error
        number = await foreground.find_cause()
        if (
            number is not None
            and self._handle is not None
            and await self._request_cancel(self._handle, number)
        ):
            await asyncio.sleep(_CANCEL_WITHIN)  # the cancel comes meanwhile
        if failure is not None:
            raise failure
        return result

    async def _await_end(self, handle: TaskHandle, store: str) -> None:
        foreground = self._foreground
        result = asyncio.create_task(handle.result())
        begun = asyncio.create_task(foreground.begun.wait())
        try:
            await asyncio.wait(
                [result, begun], timeout=_BEGIN_WITHIN, return_when=asyncio.FIRST_COMPLETED
            )
            if not foreground.begun.is_set() and not result.done():
                self._given_up = True
                raise StoreUnavailable(store, "the task could not be claimed in time")
            await result
        except (TaskFailed, TaskCancelled) as end:
            self._end = end
        finally:
            begun.cancel()
            result.cancel()

    def _cancel(self, handle: TaskHandle, number: int) -> None:
        task = asyncio.get_running_loop().create_task(self._request_cancel(handle, number))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _request_cancel(self, handle: TaskHandle, number: int) -> bool:
        """Ctrl-C is a user's cancel, the other signals are a shutdown's; whether it is stored."""
        reason = CancelReason.USER if number == signal.SIGINT else CancelReason.SHUTDOWN
        try:
            async with asyncio.timeout(_CANCEL_WITHIN):
                message = signal.strsignal(number) or describe_signal(number)
                await handle.cancel(message, reason=reason)
        except (TapescopeError, TimeoutError):
            self._foreground.end()  # the cancel is not stored, but the command ends
            return False
        return True

    async def _run_bare(self, loss: TapescopeError) -> None:
        """Run the command without a task: a store that fails does not keep it from running."""
        if self._terminal:
            say(f"running without a tape: {loss}")
        self._foreground.on_end(None)
        try:
            async with asyncio.timeout(self._timeout):
                await self._foreground.execute(LineRecorder(None), read_traceparent())
        except TimeoutError:
            self._timed_out = True
        except (CommandFailed, OSError):
            pass  # the foreground has its status

    # --- what the user is told --------------------------------------------------------------------

    def _choose_status(self) -> int:
        """The command's own, -n where signal n ended it; 124 after ``--timeout``."""
        foreground = self._foreground
        if self._timed_out or (
            isinstance(self._end, TaskFailed) and self._end.error.code == TIMEOUT
        ):
            return EXIT_TIMED_OUT
        status, asked = foreground.status, foreground.signal
        if asked is not None and (status is None or foreground.ended_by_us):
            return -asked  # not begun, or ended by us for that signal
        if isinstance(self._end, TaskCancelled) and asked is None:
            if status is None:
                say(str(self._end))
            if not status:
                return 128 + signal.SIGTERM  # a cancel: no success, whatever the command said
        return EXIT_OURS if status is None else status

    def _say_loss(self, loss: TapescopeError | None) -> None:
        recorder = self._foreground.recorder
        lines = f"{recorder.lost:,} {'line' if recorder.lost == 1 else 'lines'} of output"
        if recorder.held:
            say(
                f"a process that the command left still has its {' and '.join(recorder.held)} "
                "open; what it writes from now on is lost. --drain waits longer for it"
            )
        if loss is None:
            if recorder.lost:
                why = recorder.cause or (
                    f"the tape keeps {recorder.limit:,}, the first and the last. --lines and "
                    "?tape_events= of the store's URL change that"
                )
                say(f"{lines} not recorded on task {self._task_id}: {why}")
        elif self._task_id is None or self._given_up:
            say(f"{loss} The command has no tape; {lines} not recorded.")
        else:
            say(f"{loss} The end of task {self._task_id} is not on its tape; {lines} not recorded.")

    def _describe(self) -> Outcome:
        if isinstance(self._end, TaskCancelled):
            return Outcome.CANCELLED
        return Outcome.FAILED if isinstance(self._end, TaskFailed) else Outcome.SUCCEEDED


@asynccontextmanager
async def _opened(store: TaskStore) -> AsyncGenerator[None]:
    within = max(_OPEN_WITHIN, store.patience)
    try:
        async with asyncio.timeout(within):
            await store.open()
    except TimeoutError as error:
        why = f"it does not answer within {within:g} s"
        raise StoreUnavailable(store.name, why) from error
    try:
        yield
    finally:
        await store.aclose()


@contextmanager
def _serving(listener: MetricsListener, port: int | None) -> Generator[None]:
    """Listen inside. A taken port is one line on stderr; the command runs all the same."""
    with ExitStack() as stack:
        try:
            stack.enter_context(listener)
            if port == 0:  # only this line says which port it is
                say(f"metrics and health on {listener.url}")
        except CannotListen as error:
            say(str(error))
        yield


@contextmanager
def _inherited_trace() -> Generator[None]:
    """Make the trace of the calling process current, so that the task is linked to it."""
    caller = parse_traceparent(read_traceparent())
    if caller is None:
        yield
        return
    token = contexts.attach(set_span_in_context(NonRecordingSpan(caller)))
    try:
        yield
    finally:
        contexts.detach(token)


def _show_command(argv: Sequence[str]) -> list[str]:
    """The command as JSON can keep it: bytes that are not UTF-8 are escaped, a long one is cut."""
    shown: list[str] = []
    room = _SHOWN_COMMAND
    for argument in argv:
        text = os.fsencode(argument).decode(errors="backslashreplace")
        shown.append(text if len(text) <= room else f"{text[:room]}…")
        room -= len(text)
        if room <= 0 and len(shown) < len(argv):
            shown.append(f"… {len(argv) - len(shown)} more")
            break
    return shown
