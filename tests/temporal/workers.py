"""Worker processes that a test starts, freezes and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["WorkerProcess"]


class WorkerProcess:
    """``tapescope worker`` with the program of these tests."""

    def __init__(self, store: str, engine: str | None, log: Path, **settings: object) -> None:
        env = {**os.environ, "TEST_STORE": store, "PYTHONPATH": os.getcwd()}
        if engine is not None:
            env["TEST_ENGINE"] = engine
        env |= {f"TEST_{name.upper()}": str(value) for name, value in settings.items()}
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tapescope.cli", "worker"),
                    *("--app", "tests.temporal.worker_app:manager"),
                ],
                stdout=out,
                stderr=out,
                env=env,
            )

    @property
    def pid(self) -> int:
        """Stands in the name of its owner, too."""
        return self._process.pid

    def kill(self) -> None:
        """As a crash does."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """It stands still."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on, as if no time had passed."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """As a deployment does; gives its status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()
