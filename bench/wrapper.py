"""``tapescope run`` beside the command alone: the time of a short one, the rate of a flood."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Flood", "flood", "start"]

_RUN = (str(Path(sys.executable).with_name("tapescope")), "run")


class Flood:
    """Bytes a second through a pipe, of the command alone and in ``tapescope run``."""

    def __init__(self, size: int, alone: float, wrapped: float) -> None:
        self._megabytes = size / 1e6
        self._alone, self._wrapped = alone, wrapped

    def __str__(self) -> str:
        """Both rates, and the ratio."""
        alone, wrapped = self._megabytes / self._alone, self._megabytes / self._wrapped
        return f"{wrapped:,.0f} MB/s, cat alone {alone:,.0f}: {wrapped / alone:.2f}"


def flood(url: str, folder: Path, line: int, size: int) -> Flood:
    """``cat`` of so many bytes in lines of this length, nearly all beyond what the tape keeps.

    Without the time that ``tapescope run`` takes for ``true``.
    """
    file = folder / f"lines-{line}"
    if not file.exists():
        with file.open("wb") as out:
            text = b"x" * (line - 1) + b"\n"
            for _ in range(size // line):
                out.write(text)
    command = ("cat", str(file))
    run = (*_RUN, "--store", url, "--lines", "100", "--")
    started = _time((*run, "true"))
    return Flood(size, _time(command), _time((*run, *command)) - started)


def start(url: str) -> tuple[float, float]:
    """Seconds of ``true`` alone and in ``tapescope run``."""
    return _time(("true",)), _time((*_RUN, "--store", url, "--", "true"))


def _time(command: Sequence[str]) -> float:
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while process.stdout.read(1 << 20):
            pass
    return time.monotonic() - began
