"""The command line as its users meet it: a process with streams, an environment and a status."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import patch

import pytest

from tapescope.cli import main

__all__ = ["READ_A", "Screen", "Tapescope", "read_terminal", "slow"]

READ_A = "until read -t 0.2 a || [ $? -le 128 ]; do :; done"
"""Has bash read a line into ``a``, and run its traps within that time: a signal that falls between
its look for one and its wait for the line is heard of with the line alone."""

_PROGRAM = (sys.executable, "-m", "tapescope.cli")
_ON_TERMINAL = Path(__file__).with_name("terminal.py")
_LONGEST = 60.0
"""Seconds after which a process that hangs is killed, and its test fails."""


def slow(*values: Any) -> Any:
    """One more of like cases, each a process of its own: not for every day."""
    return pytest.param(*values, marks=pytest.mark.slow)


@dataclass(frozen=True)
class Screen:
    """What a terminal showed, and the exit status of the command that wrote it."""

    status: int
    drawn: str
    """What stdout wrote, with the codes of colours."""
    said: str
    """What stderr wrote."""

    @property
    def text(self) -> str:
        """Without them."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.drawn)

    @property
    def lines(self) -> list[str]:
        """The lines of its text."""
        return self.text.splitlines()


class Tapescope:
    """Runs ``tapescope`` on one store, in an environment of its own."""

    def __init__(self, store: str, home: Path) -> None:
        self.store = store
        self.folder: Path | None = None
        """Where it is started; ``None`` for the folder of the tests' own process."""
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TAPESCOPE", "TRACE", "OTEL", "XDG"))
        } | {"TAPESCOPE_STORE": store, "HOME": str(home)}

    def __call__(
        self,
        *arguments: str | bytes,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end."""
        return subprocess.run(
            (*_PROGRAM, *arguments),
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self.env | dict(env or {}),
            timeout=_LONGEST,
            check=False,
        )

    def here(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end in this process: to start one of its own costs half a second.

        For what has no process to show: mistakes, and what is read of a store. Where a loop runs
        it has a thread of its own, in which a command hears no signals.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._run_here(arguments)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._run_here, arguments).result()

    def _run_here(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        shown, said = io.BytesIO(), io.BytesIO()
        stdout = io.TextIOWrapper(shown, "utf-8", write_through=True)
        stderr = io.TextIOWrapper(said, "utf-8", write_through=True)
        status = self._call_main(arguments, stdout, stderr, {})
        return subprocess.CompletedProcess(arguments, status, shown.getvalue(), said.getvalue())

    def screen(
        self,
        *arguments: str,
        columns: int = 80,
        typed: str = "",
        encoding: str = "utf-8",
        env: Mapping[str, str] | None = None,
    ) -> Screen:
        """Run it to its end in this process, on a terminal of its own on which ``typed`` was typed.

        stderr has another one, to be read by itself. The command has a thread, as in ``here``.
        """
        terminal = {"TERM": "xterm", "COLUMNS": str(columns)} | dict(env or {})
        with (
            _opened_terminal(encoding) as (shown, stdin, stdout),
            _opened_terminal(encoding) as (said, _, stderr),
            ThreadPoolExecutor(1) as thread,
        ):
            os.write(shown.end, typed.encode())
            running = thread.submit(
                self._call_main, arguments, stdout, stderr, terminal, stdin=stdin
            )
            status = running.result()
        return Screen(status, shown.read(), said.read())

    def _call_main(
        self,
        arguments: Sequence[str],
        stdout: TextIO,
        stderr: TextIO,
        env: Mapping[str, str],
        *,
        stdin: TextIO | None = None,
    ) -> int:
        """The exit status of the command line, which is run in this thread, and sends nothing.

        The providers that it would send with are a process's own: the next test would have them.
        """
        environ = {
            name: value
            for name, value in {**self.env, **env}.items()
            if not name.startswith("OTEL_")
        }
        with (
            patch.dict(os.environ, environ, clear=True),
            patch("sys.stdin", sys.stdin if stdin is None else stdin),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
            pytest.raises(SystemExit) as ended,
        ):
            main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def json(self, *arguments: str) -> Any:
        """The JSON that it prints, run here."""
        done = self.here(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def newest(self) -> str:
        """The id of the newest task."""
        task_id: str = self.json("list", "--limit", "1")["tasks"][0]["task_id"]
        return task_id

    def tape(self, task_id: str | None = None) -> list[dict[str, Any]]:
        """A task's events; the newest task's where none is named."""
        events: list[dict[str, Any]] = self.json("tape", task_id or self.newest())["events"]
        return events

    @contextmanager
    def started(
        self,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        program: Sequence[str] = _PROGRAM,
    ) -> Generator[subprocess.Popen[bytes]]:
        """Run it meanwhile, as this program; what is left of it is killed."""
        with subprocess.Popen(
            (*program, *arguments),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.env,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def on_terminal(
        self, *arguments: str, program: Sequence[str] = _PROGRAM
    ) -> Generator[tuple[subprocess.Popen[bytes], int]]:
        """Run it on a terminal of its own; gives the terminal's other end.

        Another ``program``, such as a shell, finds the command line as ``$T``.
        """
        ours, theirs = pty.openpty()
        command = (sys.executable, str(_ON_TERMINAL), *program, *arguments)
        try:
            with subprocess.Popen(
                command,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                cwd=self.folder,
                env=self.env
                | {"TERM": "xterm", "COLUMNS": "80", "LINES": "50", "T": " ".join(_PROGRAM)},
                start_new_session=True,
            ) as process:
                os.close(theirs)
                try:
                    yield process, ours
                finally:
                    process.kill()
        finally:
            os.close(ours)


class _Screenful:
    """Reads what is written on a terminal, from its other end, while it is written."""

    def __init__(self, end: int, encoding: str, thread: ThreadPoolExecutor) -> None:
        self.end = end
        self._encoding = encoding
        self._reading = thread.submit(read_terminal, end)

    def read(self) -> str:
        """All of it, once nobody has the terminal open any more."""
        return self._reading.result().decode(self._encoding).replace("\r\n", "\n")


@contextmanager
def _opened_terminal(encoding: str) -> Generator[tuple[_Screenful, TextIO, TextIO]]:
    """What is shown on a terminal, and the terminal itself, to read from and to write to."""
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as thread:
        screenful = _Screenful(ours, encoding, thread)
        try:
            with (
                open(theirs, encoding=encoding, closefd=False) as stdin,
                open(theirs, "w", encoding=encoding, closefd=False) as stdout,
            ):
                yield screenful, stdin, stdout
        finally:
            os.close(theirs)
    os.close(ours)


def read_terminal(end: int, *, until: Sequence[bytes] = ()) -> bytes:
    """What is shown until one of these texts is among it, or the program has ended."""
    shown = b""
    with suppress(OSError):  # Linux's way to say that the other end was closed
        while chunk := os.read(end, 65_536):
            shown += chunk
            if any(text in shown for text in until):
                break
    return shown
