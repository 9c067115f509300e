"""The tutorial is followed word for word: its files are written, its commands run, and what they
print is what it says."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from tapescope.testing import until
from tests.support.services import find_ports, require

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$|(?<=: )(http://localhost\S+)", re.MULTILINE | re.DOTALL)
PATIENCE = 60
"""Seconds in which what is asked for has to be so."""
END = "the command has ended"

# What differs from run to run, in their order.
VARIES = [
    (re.compile(pattern), name)
    for pattern, name in [
        (r"\S+:\d+:[0-9.-]+(-[0-9a-f]+)?:[0-9a-f]{16}", "OWNER"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "ID"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{6}\b", "SHORT"),
        (r"\b[0-9a-f]{32}\b", "TRACE"),
        (r"\b[0-9a-f]{16}\b", "SPAN"),
        (r"\d\d:\d\d:\d\d\.\d{3}", "TIME"),
        (r"\d{4}-\d\d-\d\d", "DATE"),
        (r"\+\d+\.\d{3}", "LATER"),
        (r"@\[[\d.]+\]", "AT"),
        (r"\b\d+(\.\d+)?m?s\b", "TOOK"),
        (r"by \S+@\S+,", "BY"),
        (r"closed by event \d+", "CLOSED"),
        (r'\{"level".*…', "BODY"),
        (r" +", " "),
    ]
]


def settle(text: str) -> str:
    """The text without what differs from run to run."""
    kept = [line for line in text.splitlines() if not line.startswith("tapescope: store ")]
    text = "\n".join(line.rstrip() for line in kept).strip()
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return text


def is_as_told(told: str, printed: str) -> bool:
    """A line ``…`` of the page stands for any lines."""
    parts = [re.escape(settle(part)) for part in re.split(r"^…\n", told, flags=re.MULTILINE)]
    return re.fullmatch(r"\n(?:.*\n)*?".join(parts), settle(printed)) is not None


class Shell:
    """A shell on a terminal of 80 columns, which remembers what was set in it."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._screen, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        self._process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=terminal,
            stderr=terminal,
            text=True,
        )
        os.close(terminal)

    def run(self, command: str) -> str:
        """What the command printed."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\necho '{END}'\n")
        self._process.stdin.flush()
        shown = b""
        while not shown.endswith(f"{END}\r\n".encode()):
            ready, _, _ = select.select([self._screen], [], [], PATIENCE)
            assert ready, f"{command} goes on: {shown.decode()}"
            shown += os.read(self._screen, 65_536)
        text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")
        return text.removesuffix(f"{END}\n")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        os.close(self._screen)


@contextmanager
def running(command: str, folder: Path, variables: dict[str, str]) -> Generator[None]:
    """A command that stays in the foreground of a shell of its own, until Ctrl-C."""
    said = folder / f"{command.split()[0]}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            f"exec {command}", shell=True, cwd=folder, env=variables, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


def is_answered(url: str) -> bool:
    """Whether somebody listens there, and has the page."""
    try:
        with urlopen(url) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def read_commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a block, and what it is said to print."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, told = part.partition("\n")
        yield command, told


@pytest.fixture
def page() -> str:
    """The tutorial, at ports that are free."""
    web, prometheus = find_ports(2)
    text = PAGE.read_text(encoding="utf-8")
    return text.replace("8000", str(web)).replace("9090", str(prometheus))


@pytest.mark.slow
@pytest.mark.timeout(400)  # the reader's commands, one by one, in processes of their own
async def test_the_tutorial_is_as_it_says(tmp_path: Path, page: str) -> None:
    """From the first file to the alert that fires; what is asked is asked until it is so."""
    require("prometheus")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {"PATH": path, "HOME": str(tmp_path), "NO_COLOR": "1", "TERM": "xterm", "TZ": "UTC"}
    asked = 0
    with ExitStack() as stack:
        shell = Shell(tmp_path, kept)
        stack.callback(shell.close)
        for language, text, url in BLOCK.findall(page):
            if url:
                assert await until(partial(is_answered, url), within=PATIENCE)
            elif language in {"python", "yaml"}:
                (tmp_path / text.partition("\n")[0].removeprefix("# ")).write_text(text)
            elif language == "sh":
                stack.enter_context(running(text.strip(), tmp_path, kept))
                port = re.findall(r"(?:--port |:)(\d+)$", text.strip())[0]
                served = f"http://127.0.0.1:{port}/{'docs' if 'uvicorn' in text else '-/ready'}"
                assert await until(partial(is_answered, served), within=PATIENCE)
            else:
                for command, told in read_commands(text):
                    if "venv" in command or "pip install" in command:
                        continue  # this is the environment of the tests
                    printed = shell.run(command)
                    if told and command.split()[0] in {"promtool", "tapescope"}:
                        deadline = time.monotonic() + PATIENCE
                        while not is_as_told(told, printed) and time.monotonic() < deadline:
                            printed = shell.run(command)
                    assert is_as_told(told, printed), f"{command}\n{printed}"
                    asked += bool(told)

    assert asked >= 10
