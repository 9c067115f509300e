"""``tapescope run``: a command as a task.

The exit status is the command's own. A store that cannot be used never keeps the command from
running: what is lost is counted, and one line on stderr says so at the end. Only a command line
that is wrong in itself (an option, the op) ends with 125 before anything is run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from tapescope.cli._caller import continue_callers_trace
from tapescope.cli._foreground import Foreground
from tapescope.cli._options import metrics_host_option, metrics_port_option, store_option
from tapescope.cli._output import say
from tapescope.cli._settings import EXIT_OURS, EXIT_TIMED_OUT, read_trace_headers
from tapescope.cli._signals import Signals, describe_signal, end_as
from tapescope.cli._store import choose_store, prepare_store
from tapescope.cli._telemetry import exporting, make_listener
from tapescope.cli._types import NUMBER, WHOLE_NUMBER
from tapescope.clock import Backoff
from tapescope.errors import (
    BadOp,
    BadSetting,
    CancelRequested,
    CannotListen,
    CommandFailed,
    EventFateUnknown,
    StoreBusy,
    StoreUnavailable,
    TapescopeError,
    TaskCancelled,
    TaskFailed,
)
from tapescope.manager.handle import TaskHandle
from tapescope.manager.identity import name_owner
from tapescope.manager.manager import TaskManager
from tapescope.model.error_codes import TIMEOUT
from tapescope.model.tape import Outcome
from tapescope.model.tasks import (
    Attempt,
    CancelReason,
    CancelRequest,
    ErrorInfo,
    FinalEvent,
    is_op,
)
from tapescope.run.outcome import explain
from tapescope.run.reporter import Reporter
from tapescope.shell.recorder import LineRecorder
from tapescope.shell.replay import replay_spools
from tapescope.spool import SpooledTask, spool_folder
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore
from tapescope.store.validation import check_seconds, new_task_id
from tapescope_telemetry.errors import MissingTelemetryExtra
from tapescope_telemetry.spans import join_trace_context

if TYPE_CHECKING:
    from pathlib import Path

    from tapescope.http.metrics import MetricsListener
    from tapescope.shell.command import TraceHeaders

__all__ = ["run"]

_PATIENCE: Final = 3.0
"""Seconds that a call waits for a store that is away, unless the store's URL says how long."""
_OPEN_WITHIN: Final = 20.0
"""Seconds of one try to open a store that does not answer; the command does not wait for it."""
_LONGEST_WAIT: Final = 2.0
"""Seconds between two tries."""
_BEGIN_WITHIN: Final = 5.0
"""Seconds that the command waits for its task, whose trace it has then; it runs all the same."""
_LOST_AFTER: Final = 86_400.0
"""Seconds of the lease. A command has no second runner: where its wrapper cannot be proven dead,
on its own host, only this long a silence ends its task."""
_HEARTBEAT: Final = 10.0
_CANCEL_WITHIN: Final = 1.0
"""Seconds that a signal waits until its cancel is stored; then it ends the command anyway."""
_ROOM_TO_SETTLE: Final = 5.0
"""Seconds from a SIGKILL to the end of a run's grace, when a run that still lives is fenced."""
_AWAY_WITHIN: Final = 10.0
"""Seconds after the command's end that a store which does not answer is waited for."""
_BUSY_WITHIN: Final = 120.0
"""The same for a store that answers, and is slow or busy."""
_LOOK_EVERY: Final = 1.0
_LAST_LINES: Final = 1.0
"""Seconds that the last lines of a cancelled command may hold up its end."""
_SHOWN_COMMAND: Final = 32_768
"""Characters of the command that its task keeps."""


@click.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] --",
)
@click.argument("command", nargs=-1, required=True, help="The command with its arguments.")
@click.option(
    "--op", default="shell", metavar="OP", help="The op of the task: what kind of work it is."
)
@click.option(
    "--timeout",
    type=NUMBER,
    metavar="SECONDS",
    help="End the command after this time, with exit status 124.",
)
@click.option(
    "--grace",
    type=NUMBER,
    default=5.0,
    metavar="SECONDS",
    help="The time from one step to the next when the command is ended: the signal that "
    "tapescope was sent, SIGTERM, SIGKILL.",
)
@click.option(
    "--drain",
    type=NUMBER,
    default=1.0,
    metavar="SECONDS",
    help="How long to read on when the command has ended and a process that it left still "
    "has its output open.",
)
@click.option(
    "--lines",
    type=WHOLE_NUMBER,
    metavar="N",
    help="Lines of output that the tape keeps: the first, and the last of each stream; 0 for none. "
    "Default: as many as the store takes.",
)
@click.option(
    "--die-together",
    is_flag=True,
    help="Have the command killed, too, when tapescope is killed; else it runs on. Linux only.",
)
@click.option(
    "--pty",
    is_flag=True,
    help="Give the command terminals to write on, whatever our output is: it keeps its "
    "colours, and writes each line at once. The tape has the codes of the colours, too.",
)
@click.option(
    "--hide-arguments",
    is_flag=True,
    help="Keep the command's arguments out of the store: the task has its first word alone.",
)
@metrics_port_option
@metrics_host_option
@store_option
def run(
    *,
    command: tuple[str, ...],
    op: str,
    timeout: float | None,
    grace: float,
    drain: float,
    lines: int | None,
    die_together: bool,
    pty: bool,
    hide_arguments: bool,
    metrics_port: int | None,
    metrics_host: str,
    store: str | None,
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
        if timeout is not None:
            check_seconds("--timeout", timeout, over_zero=True)
        check_seconds("--grace", grace)
        check_seconds("--drain", drain)
        if lines is not None and not lines >= 0:
            raise BadSetting("--lines", lines, "a number of lines, 0 or more")
        if die_together and sys.platform != "linux":
            raise BadSetting("--die-together", "on", "off: only Linux can do it")
        status = EXIT_OURS
        with Signals() as signals:  # before there is any thread
            try:
                listener = make_listener(metrics_host, metrics_port)
            except MissingTelemetryExtra as error:  # no reason not to run a command
                say(f"nothing can be scraped. {error}")
                metrics_port = None
                listener = make_listener(metrics_host, metrics_port)
            with exporting(*listener.readers), _serving(listener, metrics_port):

                async def main() -> int:
                    foreground = Foreground(
                        command, grace, drain, signals, die_together=die_together, pty=pty
                    )
                    shown = _show_command(command, 1 if hide_arguments else len(command))
                    task = _CommandTask(foreground, shown, op, timeout, grace, lines, listener)
                    return await task.run(store)

                status = asyncio.run(main())
            if status < 0:
                end_as(status)
        return status
    except TapescopeError as error:
        say(str(error))
        return EXIT_OURS


class _CommandTask:
    """A command, its task, and what could not be recorded of it; times are in seconds.

    The command runs for itself. The task is made beside it: its run waits for the command's end and
    sends what the backlog has. So the command waits for no store, and is not ended for one.
    """

    def __init__(
        self,
        foreground: Foreground,
        shown: Sequence[str],
        op: str,
        timeout: float | None,
        grace: float,
        lines: int | None,
        listener: MetricsListener,
    ) -> None:
        self._shown, self._op, self._timeout, self._grace = list(shown), op, timeout, grace
        self._foreground, self._listener = foreground, listener
        self._recorder = LineRecorder(None, lines)
        self._command: asyncio.Task[dict[str, Any]] | None = None
        self._may_begin = asyncio.Event()
        self._began_at = time.monotonic()
        self._ended_at: float | None = None
        self._background: set[asyncio.Task[bool]] = set()
        self._store: TaskStore | None = None
        self._handle: TaskHandle | None = None
        self._attempt: Attempt | None = None
        self._owner = name_owner()
        self._key = f"run-{os.urandom(16).hex()}"
        self._end: TapescopeError | None = None
        self._away: TapescopeError | None = None
        self._left_for_replay = False
        self._spool: Path | None = None
        self._timed_out = False
        self._terminal = sys.stderr.isatty()

    async def run(self, url: str | None) -> int:
        """From the store to the exit status: -n where signal n is to end us, too."""
        foreground = self._foreground
        foreground.on_end(self._cancel)
        recording = asyncio.create_task(self._record(url), name="tapescope-record")
        may_begin = asyncio.create_task(self._may_begin.wait())
        try:
            await asyncio.wait(
                [recording, may_begin], timeout=_BEGIN_WITHIN, return_when=asyncio.FIRST_COMPLETED
            )
            if self._command is None and not isinstance(self._end, TaskCancelled):
                _ = self._begin((*read_trace_headers(), None))  # it inherits our BAGGAGE
            if self._command is not None:
                await self._await_command()
        except asyncio.CancelledError:
            if foreground.signal is None:
                raise  # else it was told to end before it began
        finally:
            may_begin.cancel()
        self._ended_at = time.monotonic()
        loss = await self._settle(recording)
        self._say_loss(loss)
        status = self._choose_status()
        if self._terminal and loss is None and self._handle is not None:
            took = self._ended_at - self._began_at
            say(f"{self._describe()} in {took:.1f} s: tapescope tape {self._handle.task_id}")
        return status

    # --- the command ------------------------------------------------------------------------------

    def _begin(self, trace: TraceHeaders) -> asyncio.Task[dict[str, Any]]:
        """Start the command, once."""
        execute = self._foreground.execute(self._recorder, trace)
        self._command = asyncio.create_task(execute, name="tapescope-command")
        self._may_begin.set()
        return self._command

    async def _await_command(self) -> None:
        """Wait for the command's end; ``--timeout`` is kept here where no run keeps it."""
        assert self._command is not None, "begun"
        await asyncio.wait([self._command], timeout=self._timeout)
        if not self._command.done() and self._attempt is None:
            self._timed_out = True
            self._foreground.end()
        await asyncio.wait([self._command])
        if not self._command.cancelled():
            self._command.exception()  # looked at, also where no run does: its status is known

    def _cancel(self, number: int) -> None:
        """A process asked for the command's end: so does the tape, where it can be told."""
        task = asyncio.get_running_loop().create_task(self._request_cancel(number))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _request_cancel(self, number: int) -> bool:
        """Ctrl-C is a user's cancel, the other signals are a shutdown's; whether it is stored."""
        if self._handle is not None:
            request = self._describe_cancel(number)
            try:
                async with asyncio.timeout(_CANCEL_WITHIN):
                    await self._handle.cancel(request.message, reason=request.reason)
            except (TapescopeError, TimeoutError):
                pass  # the command ends all the same, and what ended it is known here
            else:
                if self._attempt is not None and self._end is None:
                    return True  # the run is told, and ends the command
        self._foreground.end()
        return False

    def _describe_cancel(self, number: int) -> CancelRequest:
        reason = CancelReason.USER if number == signal.SIGINT else CancelReason.SHUTDOWN
        message = signal.strsignal(number) or describe_signal(number)
        return CancelRequest(reason, message, None, time.time_ns() // 1_000)

    # --- its task ---------------------------------------------------------------------------------

    async def _record(self, url: str | None) -> None:
        """Make the command's task, and wait for its end; a store that is away is tried again.

        Raises ``TapescopeError`` where the store cannot be used, or the end not be written.
        """
        backoff = Backoff()
        chosen = choose_store(url)
        self._store = store = find_store(chosen, patience=_PATIENCE)
        store.open_mode = prepare_store(chosen) or store.open_mode
        self._recorder.fit(store.limits.tape_events)  # the command begins later
        while True:
            try:
                await self._open(store)
                break
            except StoreUnavailable as error:
                self._note_away(error)
                await backoff.wait(_LONGEST_WAIT)
        async with (
            _closing(store),
            TaskManager(
                store,
                max_running=1,
                lease=_LOST_AFTER,
                heartbeat=_HEARTBEAT,
                settle_within=_BUSY_WITHIN,
                cancel_grace=2 * self._grace + _ROOM_TO_SETTLE,
                drain=0.0,
            ) as manager,
        ):
            self._owner = manager.owner
            self._listener.watch(manager)
            self._handle = handle = await self._submit(manager)
            if self._terminal:
                say(f"task {handle.task_id}")
            replaying = asyncio.create_task(replay_spools(store, spool_folder()))
            try:
                await handle.result()
            except (TaskFailed, TaskCancelled) as end:
                self._end = end
                if self._command is not None:  # it may run on: what it says is late, and kept so
                    await asyncio.wait([self._command])
                    await self._settle_last()
            finally:
                replaying.cancel()
                await asyncio.wait([replaying])

    async def _open(self, store: TaskStore) -> None:
        try:
            async with asyncio.timeout(_OPEN_WITHIN):
                await store.open()
        except TimeoutError as error:
            why = f"it does not answer within {_OPEN_WITHIN:g} s"
            raise StoreUnavailable(store.name, why) from error

    async def _submit(self, manager: TaskManager) -> TaskHandle:
        """Once, however often it is tried: the key is this command's alone."""
        backoff = Backoff()
        with continue_callers_trace():
            while True:
                try:
                    return await manager.submit(
                        self._op,
                        self._accompany,
                        params={"command": self._shown},
                        timeout=self._timeout,
                        idempotency_key=self._key,
                    )
                except (StoreUnavailable, EventFateUnknown) as error:
                    self._note_away(error)
                    await backoff.wait(_LONGEST_WAIT)

    def _note_away(self, error: TapescopeError) -> None:
        self._away = None if isinstance(error, StoreBusy) else error
        if self._terminal and not self._may_begin.is_set():
            say(f"the command begins without its tape, which may follow: {error}")
        self._may_begin.set()

    async def _accompany(self, report: Reporter, command: Sequence[str]) -> dict[str, Any]:
        """The runner. ``command`` is text for readers of the task; what is run may be any bytes."""
        running = self._command
        if running is None:
            if self._ended_at is not None or self._foreground.signal is not None:
                raise CommandFailed(self._shown, EXIT_OURS)  # it was told to end before it began
            running = self._begin((report.traceparent, report.tracestate, report.baggage))
        attached_at = time.monotonic()
        self._attempt = Attempt(report.task_id, report.attempt, self._owner)
        self._recorder.attach(report)
        try:
            await asyncio.wait([running])
            number = await self._foreground.find_cause()
            if number is not None and await self._request_cancel(number):
                await asyncio.sleep(_CANCEL_WITHIN)  # the cancel comes meanwhile
            await self._recorder.settle()
            if self._left_for_replay:
                await asyncio.Event().wait()  # the end is in the spool file, with what is before it
        except asyncio.CancelledError:
            due = self._timeout is not None and time.monotonic() - attached_at >= self._timeout
            if _is_taken(report) and not due:
                raise  # the command is nobody else's: it goes on
            self._foreground.end()
            await asyncio.wait([running])
            await self._settle_last()
            raise
        if self._timed_out:
            raise TimeoutError(f"the command ran longer than its timeout of {self._timeout:g} s")
        return self._read_result(running)

    def _read_result(self, command: asyncio.Task[dict[str, Any]]) -> dict[str, Any]:
        """What the command gave, or raised, with the lines that its tape lacks."""
        lost = self._recorder.lost
        try:
            result = command.result()
        except CommandFailed as error:
            error.lines_not_recorded = lost
            raise
        return result | ({"lines_not_recorded": lost} if lost else {})

    async def _settle_last(self) -> None:
        with suppress(TimeoutError):  # the end must not wait for long: it says what is missing
            async with asyncio.timeout(_LAST_LINES):
                await self._recorder.settle()

    # --- its end ----------------------------------------------------------------------------------

    async def _settle(self, recording: asyncio.Task[None]) -> TapescopeError | None:
        """Wait until the task has its end. Gives the error where it has not: then it is spooled."""
        assert self._ended_at is not None, "the command is over"
        away_within, busy_within = self._choose_patience()
        while not recording.done():
            await asyncio.wait([recording], timeout=min(_LOOK_EVERY, away_within + 0.1))
            waited = time.monotonic() - self._ended_at
            if waited >= busy_within or (waited >= away_within and not await self._answers()):
                break
        if recording.done():
            try:
                recording.result()
            except TapescopeError as error:
                loss = error
            else:
                await self._recorder.aclose()
                self._recorder.give_up()
                return None
        else:
            loss = self._away or StoreUnavailable(
                "" if self._store is None else self._store.name, "it does not answer"
            )
        await self._leave_for_replay(recording)
        return loss

    def _choose_patience(self) -> tuple[float, float]:
        """Seconds to wait after the command's end: for a store that is away, and for a busy one.

        Where the URL says how long, as long. A store that was away all along is waited for no more.
        """
        if self._store is not None and self._store.patience != _PATIENCE:
            return self._store.patience, self._store.patience
        return (
            0.0 if self._away is not None and self._handle is None else _AWAY_WITHIN
        ), _BUSY_WITHIN

    async def _answers(self) -> bool:
        """Whether the store is there, be it slow or busy."""
        if self._store is None or self._handle is None:
            return self._away is None
        try:
            async with asyncio.timeout(_AWAY_WITHIN):
                await self._handle.status()
        except StoreBusy:
            return True
        except (TapescopeError, TimeoutError):
            return False
        return True

    async def _leave_for_replay(self, recording: asyncio.Task[None]) -> None:
        """Put what the store was not told into a spool file. The store is told no more."""
        self._left_for_replay = True
        await self._recorder.aclose()
        store = self._store
        if store is None:  # its URL cannot be used: there is nothing to replay to
            self._recorder.give_up()
            return
        with suppress(TimeoutError, TapescopeError):  # what it still took is found by the replay
            async with asyncio.timeout(_PATIENCE):
                await store.aclose()
        if self._foreground.begun.is_set():
            rest = self._describe_rest(store, await self._foreground.find_cause())
            try:
                self._spool = await asyncio.to_thread(rest.write, spool_folder())
            except OSError as error:
                self._recorder.count_lost(rest.events)
                say(f"the rest of the tape cannot be kept in {spool_folder()}: {error.strerror}")
        self._recorder.backlog.close()
        recording.cancel()
        await asyncio.wait([recording], timeout=_PATIENCE)

    def _describe_rest(self, store: TaskStore, cause: int | None) -> SpooledTask:
        """What the store was not told, or was perhaps not told."""
        return SpooledTask(
            store=store.name,
            task_id=new_task_id() if self._handle is None else self._handle.task_id,
            op=self._op,
            params={"command": self._shown},
            timeout=self._timeout,
            idempotency_key=self._key,
            traceparent=join_trace_context(*read_trace_headers()),
            owner=self._owner,
            attempt=None if self._attempt is None else self._attempt.number,
            confirmed=self._recorder.backlog.confirmed,
            events=tuple(self._recorder.backlog.remaining()),
            final=self._describe_final(cause),
            ended_us=time.time_ns() // 1_000,
        )

    def _describe_final(self, cause: int | None) -> FinalEvent:
        assert self._command is not None, "begun"
        if self._timed_out:
            message = f"the command ran longer than its timeout of {self._timeout:g} s"
            return FinalEvent.failed(ErrorInfo(TIMEOUT, message))
        if cause is not None:
            return FinalEvent.cancelled(self._describe_cancel(cause))
        try:
            return FinalEvent.succeeded(self._read_result(self._command))
        except (CommandFailed, OSError) as error:
            return FinalEvent.failed(explain(error))

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
                task = "" if self._handle is None else f" on task {self._handle.task_id}"
                say(f"{lines} not recorded{task}: {why}")
        elif self._spool is not None:
            say(
                f"{loss} What its tape lacks is kept in {self._spool}: 'tapescope spool replay' "
                "adds it, and so does the next 'tapescope run' on this store"
            )
        else:
            missing = f"; {lines} not recorded" if recorder.lost else ""
            say(f"{loss} The command has no tape{missing}.")

    def _describe(self) -> Outcome:
        if isinstance(self._end, TaskCancelled):
            return Outcome.CANCELLED
        return Outcome.FAILED if isinstance(self._end, TaskFailed) else Outcome.SUCCEEDED


@asynccontextmanager
async def _closing(store: TaskStore) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await store.aclose()


def _is_taken(report: Reporter) -> bool:
    """Whether the run was told to stop because its task is another's: it has lost its lease."""
    try:
        report.raise_if_cancelled()
    except CancelRequested as stop:
        return stop.reason is CancelReason.SUPERSEDED
    return False


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


def _show_command(argv: Sequence[str], words: int) -> list[str]:
    """So many words of the command as JSON can keep it: bytes that are not UTF-8 are escaped.

    A long one is cut.
    """
    shown: list[str] = []
    room = _SHOWN_COMMAND
    for argument in argv[:words]:
        text = os.fsencode(argument).decode(errors="backslashreplace")
        shown.append(text if len(text) <= room else f"{text[:room]}…")
        room -= len(text)
        if room <= 0:
            break
    if len(shown) < len(argv):
        shown.append(f"… {len(argv) - len(shown)} more")
    return shown
