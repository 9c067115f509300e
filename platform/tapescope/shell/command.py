"""``ShellCommand``: its output becomes ``log`` events, and a cancel ends its processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from tapescope.errors import BadSetting, CommandFailed
from tapescope.model.tape import COMMAND_STARTED, OUTPUT_HELD
from tapescope.shell.process import Child, PipeReader, start_in_session
from tapescope.shell.recorder import LineRecorder
from tapescope.shielded import await_child, raise_defect
from tapescope.store.validation import check_seconds
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.run import Reporter

__all__ = ["ShellCommand", "TraceHeaders"]

_LAST_OUTPUT: Final = 1.0
"""Seconds that the last output of a killed command may hold up its end, while the store or the sink
takes none."""

_SECRET: Final = re.compile(r"TAPESCOPE_STORE$|OTEL_EXPORTER_OTLP_(?:\w+_)?HEADERS$")
"""Variables by which the store and the collector let us in; they are no affair of a command's."""

_log = Logger(__name__)

TraceHeaders = tuple[str | None, str | None, str | None]
"""The ``traceparent`` and the ``tracestate`` of a span, and baggage; ``None`` is left out."""

OutputSink = Callable[[str, bytes], Awaitable[None]]
"""Called with the stream's name and each piece of output, as it came, while it is recorded."""

Starter = Callable[[Sequence[str], Mapping[str, str] | None], Child]
"""Starts a command in an environment, ``None`` for this process's own. Raises ``OSError``."""


class ShellCommand:
    """A runner that runs a command: ``await manager.submit("shell", ShellCommand(["ls", "-l"]))``.

    A string is given to ``/bin/sh``; a sequence is a program and its arguments. The tape says
    ``command_started``, with the process id. Each line of output is a ``log`` event,
    ``{"stream": "stdout", "line": …}``, in order within its stream; a line over 8 KiB is several
    events. Exit status 0 is success, with the result ``{"exit_status": 0}``; any other raises
    ``CommandFailed``. Of output that is too much for the tape its first and its last lines are
    kept; the result and ``lines_left_out`` say how many lines were not recorded.

    A cancel sends SIGTERM to the command's process group, and SIGKILL ``grace`` seconds later: keep
    the grace below the manager's ``cancel_grace``. A process that the command leaves behind does
    not hold up the command's end: its output is read for ``drain`` seconds more, and then
    ``output_held`` says that the process gets a SIGPIPE when it writes on.

    ``env`` and ``cwd`` are as for ``subprocess``, but that without ``env`` a command inherits no
    secret of ours: neither ``TAPESCOPE_STORE`` nor the headers of OTLP. ``env=os.environ`` hands
    them on. ``TRACEPARENT`` and ``TRACESTATE`` name the run span, where there is one, and
    ``BAGGAGE`` has what the submitter's carries, where that is on. ``stdin`` is
    ``subprocess.DEVNULL``, or ``None`` to hand on this process's own.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        grace: float = 5.0,
        drain: float = 1.0,
        sink: OutputSink | None = None,
    ) -> None:
        if not command:
            raise BadSetting("command", command, "a command line, or a program and its arguments")
        self.command = (
            ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(map(str, command))
        )
        self.grace, self.drain = check_seconds("grace", grace), check_seconds("drain", drain)
        self._cwd, self._stdin, self._sink = cwd, stdin, sink
        self._env = None if env is None else dict(env)

    def __repr__(self) -> str:
        return f"ShellCommand({list(self.command)!r})"

    async def __call__(self, report: Reporter) -> dict[str, Any]:
        """Run the command as a task's runner."""
        recorder = LineRecorder(report)
        try:
            return await self.run(recorder, (report.traceparent, report.tracestate, report.baggage))
        finally:
            await recorder.aclose()
            recorder.give_up()

    async def run(
        self, recorder: LineRecorder, trace: TraceHeaders | None, *, start: Starter | None = None
    ) -> dict[str, Any]:
        """Run the command with ``recorder`` for its lines; ``start`` starts it in another way.

        ``trace`` are the ``traceparent``, ``tracestate`` and ``baggage`` of its environment.

        What ``start`` has started is never killed but by a cancel.
        Raises ``OSError`` when the command cannot be started, and ``CommandFailed``.
        """
        inherits_all = start is not None
        env = self._environment(*(trace or (None, None, None)), inherits_all=inherits_all)
        child = (start or self._start)(self.command, env)
        recorder.note(COMMAND_STARTED, {"pid": child.pid})
        pumps = [
            asyncio.create_task(self._pump(name, pipe, recorder))
            for name, pipe in child.streams.items()
        ]
        try:
            try:
                await asyncio.wait([child.ended])
                if child.told is not None:
                    await self._stop(child, pumps)  # it did as it was told; what it left is to, too
            except asyncio.CancelledError:
                await self._stop(child, pumps)
                await _record_last(recorder)
                raise
            if start is not None:
                child.release()  # what it left is no affair of a cancel's from now on
            await self._drain(child, pumps, recorder)
            if start is None:
                await recorder.settle()  # who starts it in another way waits for that, or does not
        finally:
            for pump in pumps:
                pump.cancel()
            if start is None and not child.ended.done():
                child.kill()  # the loop ends, and with it all that would look after the command
            child.close()
        return self._result(child, pumps, recorder)

    def _start(self, command: Sequence[str], env: Mapping[str, str] | None) -> Child:
        return start_in_session(
            command, cwd=self._cwd, env=env, stdin=self._stdin, refused=_log_refusal
        )

    def _environment(
        self,
        traceparent: str | None,
        tracestate: str | None,
        baggage: str | None,
        *,
        inherits_all: bool,
    ) -> dict[str, str] | None:
        """The command's environment; ``None`` for this process's own as it is."""
        env = self._env
        if env is None and not inherits_all:
            env = {name: value for name, value in os.environ.items() if not _SECRET.match(name)}
        if baggage is not None and not (inherits_all and "BAGGAGE" in os.environ):
            env = dict(os.environ if env is None else env) | {"BAGGAGE": baggage}
        if traceparent is None:
            return env
        env = dict(os.environ if env is None else env)
        if env.get("TRACEPARENT") != traceparent:
            env.pop("TRACESTATE", None)  # it belongs to the replaced TRACEPARENT
        if tracestate is not None:
            env["TRACESTATE"] = tracestate
        return env | {"TRACEPARENT": traceparent}

    async def _pump(self, name: str, pipe: PipeReader, recorder: LineRecorder) -> None:
        try:
            while chunk := await pipe.read():
                passed_on = asyncio.ensure_future(self._pass_on(name, chunk))
                try:  # recorded meanwhile, so that the lines of two streams keep their order, too
                    await recorder.record(name, chunk)
                finally:
                    await await_child(passed_on)
            await recorder.end(name)
        except OSError:  # the sink takes no more; the tape has what the command has written by now
            pipe.take_rest()
            pipe.close()  # the command hears of it before that is recorded
            for chunk in pipe.rest:
                await recorder.record(name, chunk)
            await recorder.end(name)
            raise
        finally:
            pipe.close()  # a command that writes on gets a SIGPIPE

    async def _pass_on(self, name: str, chunk: bytes) -> None:
        if self._sink is not None:
            await self._sink(name, chunk)

    async def _drain(
        self, child: Child, pumps: Sequence[asyncio.Task[None]], recorder: LineRecorder
    ) -> None:
        """Read the last output of an ended command; its exit status stands: a cancel is late."""
        timer = asyncio.get_running_loop().call_later(self.drain, _stop_waiting, child)
        try:
            await asyncio.wait(pumps)
            held = [name for name, pipe in child.streams.items() if pipe.held]
            if held:
                recorder.held = held
                recorder.note(OUTPUT_HELD, {"streams": held})
            recorder.finish()
        except asyncio.CancelledError:  # it shortens the wait: the command has ended by itself
            child.terminate()
            _stop_waiting(child)
            await asyncio.wait(pumps, timeout=_LAST_OUTPUT)
            child.kill()
            await _record_last(recorder)
        finally:
            timer.cancel()

    async def _stop(self, child: Child, pumps: Sequence[asyncio.Task[None]]) -> None:
        """End all of the command: with SIGTERM, and with SIGKILL after the grace.

        A command that was told to end by a signal of its caller's has the grace for that first.
        Once it has ended, what it leaves is told by SIGTERM.
        """
        ends: list[asyncio.Future[Any]] = [child.ended, *pumps]
        if child.told is not None:
            await asyncio.wait([child.ended], timeout=self.grace)
        if child.ended.done() or child.told is not signal.SIGTERM:
            child.terminate()
            await asyncio.wait(ends, timeout=self.grace)
        child.kill()
        await asyncio.wait([child.ended])
        _stop_waiting(child)
        await asyncio.wait(pumps, timeout=_LAST_OUTPUT)

    def _result(
        self, child: Child, pumps: Sequence[asyncio.Task[None]], recorder: LineRecorder
    ) -> dict[str, Any]:
        for pump in pumps:
            if pump.done():
                with suppress(OSError):  # the sink is closed, and reports that itself
                    raise_defect(pump)
        status = child.ended.result()
        if status:
            raise CommandFailed(self.command, status, recorder.lost)
        result: dict[str, Any] = {"exit_status": status}
        if recorder.lost:
            result["lines_not_recorded"] = recorder.lost
        return result


async def _record_last(recorder: LineRecorder) -> None:
    recorder.finish()
    with suppress(TimeoutError):  # a store that takes no more is not waited for; the end says so
        async with asyncio.timeout(_LAST_OUTPUT):
            await recorder.settle()


def _stop_waiting(child: Child) -> None:
    for pipe in child.streams.values():
        pipe.stop_waiting()


def _log_refusal(number: int, pid: int) -> None:
    _log.warning("Signal %d to process %d is not permitted: it runs as another user.", number, pid)
