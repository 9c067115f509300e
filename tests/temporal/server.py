"""A real Temporal server of the test's own: one process, on ports of 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

from tapescope.testing import until

__all__ = ["TemporalProcess", "find_program"]

_UP_WITHIN: Final = 60.0


def find_program() -> Path:
    """The server's program, beside this Python."""
    return Path(sys.executable).with_name("temporal")


def _find_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class TemporalProcess:
    """A server that can be stopped, frozen and killed. Its data is in a file, so that it may come
    back with it, or without."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.port = _find_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For ``TaskManager(engine=…)``."""
        return f"temporal://127.0.0.1:{self.port}/default"

    @property
    def target(self) -> str:
        """For a client of the SDK's."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin; it does not answer yet."""
        command = [
            *(str(find_program()), "server", "start-dev", "--headless"),
            *("--ip", "127.0.0.1", "--port", str(self.port)),
            *("--db-filename", str(self._folder / "temporal.db"), "--log-level", "error"),
        ]
        with (self._folder / "server.log").open("ab") as log:  # a pipe that nobody reads blocks it
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(self._folder)},
                start_new_session=True,
            )

    async def wait_up(self) -> None:
        """Until it answers."""
        await until(self._answers, within=_UP_WITHIN)

    def _answers(self) -> bool:
        with closing(socket.socket()) as one:
            one.settimeout(0.2)
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It stands still, and its connections with it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def lose_data(self) -> None:
        """What it knew is gone, while it is down."""
        for file in self._folder.glob("temporal.db*"):
            file.unlink()
