"""Who owns a run: one manager in one process, under a name that is never used again."""

from __future__ import annotations

import os
import socket
import time

__all__ = ["name_owner"]


def name_owner() -> str:
    """``host:pid:start:random``: tells a living process from a later one with the same pid."""
    pid = os.getpid()
    return f"{socket.gethostname()}:{pid}:{_read_start_time(pid)}:{os.urandom(8).hex()}"


def _read_start_time(pid: int) -> int:
    """When the process began: in clock ticks since boot where Linux tells, else now, in seconds."""
    try:
        # Not pathlib, which is slow to import.
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
    except OSError:
        return int(time.time())
    return int(stat.rpartition(")")[2].split()[19])  # field 22; the name before it may hold spaces
