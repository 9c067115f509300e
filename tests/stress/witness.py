"""What the runs of a worker note of themselves: a witness that knows nothing of tapes.

Each run leaves a line beside the store, in a file of its process. A line is one write, so that a
process that is killed leaves a whole one or none.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from pathlib import Path

__all__ = ["note_run", "read_witness"]


def note_run(folder: str, task_id: str, attempt: int) -> None:
    """The run that is begun."""
    os.write(_open(folder), f"{task_id} {attempt}\n".encode())


@cache
def _open(folder: str) -> int:
    path = Path(folder) / f"{os.getpid()}.runs"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def read_witness(folder: Path) -> Counter[tuple[str, int]]:
    """How often each (task id, attempt) ran."""
    noted = (
        line.split() for file in folder.glob("*.runs") for line in file.read_text().splitlines()
    )
    return Counter((task_id, int(attempt)) for task_id, attempt in noted)
