"""``ShellCommand``: its output becomes ``log`` events, and a cancel ends its processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from tapescope.errors import BadSetting, CommandFailed
from tapescope.shell.lines import LineSplitter
from tapescope.shell.process import Child, PipeReader
from tapescope.shell.recorder import LineRecorder

if TYPE_CHECKING:
    from tapescope.run import Reporter

__all__ = ["ShellCommand"]

_LAST_OUTPUT: Final = 1.0
"""Seconds that the last output of a killed command may hold up its end, while the store or the sink
takes none."""

OutputSink = Callable[[str, bytes], Awaitable[None]]
"""Called with the stream's name and each piece of output, as it came, while it is recorded."""


class ShellCommand:
    """A runner that runs a command: ``await manager.submit("shell", ShellCommand(["ls", "-l"]))``.

    A string is given to ``/bin/sh``; a sequence is a program and its arguments. Each line of output
    is a ``log`` event, ``{"stream": "stdout", "line": …}``, in order within its stream; a line over
    8 KiB is several events. Exit status 0 is success, with the result ``{"exit_status": 0}``; any
    other raises ``CommandFailed``. When the tape takes no more, the command runs on, and the result
    says how many lines were not recorded.

    A cancel sends SIGTERM to the command's process group, and SIGKILL ``grace`` seconds later: keep
    the grace below the manager's ``cancel_grace``. A process that the command leaves behind does
    not hold up the command's end: its output is read for ``drain`` seconds more.

    ``env`` and ``cwd`` are as for ``subprocess``. ``TRACEPARENT`` names the run span, where there
    is one. ``stdin`` is ``subprocess.DEVNULL``, or ``None`` to hand on this process's own.
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
        if not grace >= 0:
            raise BadSetting("grace", grace, "a number of seconds, 0 or more")
        if not drain >= 0:
            raise BadSetting("drain", drain, "a number of seconds, 0 or more")
        self.command = (
            ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(map(str, command))
        )
        self.grace, self.drain = grace, drain
        self._cwd, self._stdin, self._sink = cwd, stdin, sink
        self._env = None if env is None else dict(env)

    def __repr__(self) -> str:
        return f"ShellCommand({list(self.command)!r})"

    async def __call__(self, report: Reporter) -> dict[str, Any]:
        """Run the command as a task's runner."""
        return await self.run(LineRecorder(report), report.traceparent)

    async def run(
        self,
        recorder: LineRecorder,
        traceparent: str | None,
        *,
        started: Callable[[Child], None] | None = None,
    ) -> dict[str, Any]:
        """Run the command with ``recorder`` for its lines; ``started`` is called with the child.

        Raises ``OSError`` when the command cannot be started, and ``CommandFailed``.
        """
        env = self._environment(traceparent)
        child = Child(self.command, cwd=self._cwd, env=env, stdin=self._stdin)
        pumps = [
            asyncio.create_task(self._pump("stdout", child.stdout, recorder)),
            asyncio.create_task(self._pump("stderr", child.stderr, recorder)),
        ]
        try:
            if started is not None:
                started(child)
            try:
                await asyncio.wait([child.ended])
            except asyncio.CancelledError:
                await self._stop(child, pumps)
                raise
            await self._drain(child, pumps, recorder)
        finally:
            for pump in pumps:
                pump.cancel()
            child.close()
        return self._result(child, pumps, recorder)

    def _environment(self, traceparent: str | None) -> dict[str, str] | None:
        if traceparent is None:
            return self._env
        env = dict(os.environ if self._env is None else self._env)
        if env.get("TRACEPARENT") != traceparent:
            env.pop("TRACESTATE", None)  # it belongs to the replaced TRACEPARENT
        return env | {"TRACEPARENT": traceparent}

    async def _pump(self, name: str, pipe: PipeReader, recorder: LineRecorder) -> None:
        lines = LineSplitter(name)
        try:
            while chunk := await pipe.read():
                passed_on = asyncio.ensure_future(self._pass_on(name, chunk))
                try:  # recorded meanwhile, so that the lines of two streams keep their order, too
                    await recorder.record(lines.feed(chunk))
                finally:
                    await passed_on
            await recorder.record(lines.end())
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
            await recorder.settle()
        except asyncio.CancelledError:  # it shortens the wait: the command has ended by itself
            child.terminate()
            _stop_waiting(child)
            await asyncio.wait(pumps, timeout=_LAST_OUTPUT)
            child.kill()
        finally:
            timer.cancel()

    async def _stop(self, child: Child, pumps: Sequence[asyncio.Task[None]]) -> None:
        """End the whole process group: with SIGTERM, and with SIGKILL after the grace."""
        child.terminate()
        ends: list[asyncio.Future[Any]] = [child.ended, *pumps]
        await asyncio.wait(ends, timeout=self.grace)
        child.kill()
        await asyncio.wait([child.ended])
        _stop_waiting(child)
        await asyncio.wait(pumps, timeout=_LAST_OUTPUT)

    def _result(
        self, child: Child, pumps: Sequence[asyncio.Task[None]], recorder: LineRecorder
    ) -> dict[str, Any]:
        for pump in pumps:
            if pump.done() and not pump.cancelled():
                with suppress(OSError):  # the sink is closed, and reports that itself
                    pump.result()
        status = child.ended.result()
        if status:
            raise CommandFailed(self.command, status, recorder.lost)
        result: dict[str, Any] = {"exit_status": status}
        if recorder.lost:
            result["lines_not_recorded"] = recorder.lost
        return result


def _stop_waiting(child: Child) -> None:
    child.stdout.stop_waiting()
    child.stderr.stop_waiting()
