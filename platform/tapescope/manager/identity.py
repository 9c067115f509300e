"""The owner of a run: one manager in one process, under a name that is never used again."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable

from tapescope.spool import spool_folder, spooled_by

__all__ = ["find_dead_owners", "name_owner"]


def name_owner() -> str:
    """``host:pid:start:random``: tells a living process from a later one with the same pid.

    On Linux the start is in clock ticks since boot, with the number of the pid namespace behind it:
    containers may share a host's name, and see other processes under the same pids.
    """
    pid = os.getpid()
    start = _read_start(pid) or str(int(time.time()))
    return f"{socket.gethostname()}:{pid}:{start}:{os.urandom(8).hex()}"


def find_dead_owners(owners: Iterable[str]) -> list[str]:
    """The owners that are surely dead: processes of this host that have ended.

    An owner on another host, or in another pid namespace, is never among them: its lease decides.
    Nor is one that left a spool file for this user: a replay ends its task with what really was.
    """
    host, namespace = socket.gethostname(), _read_namespace()
    dead: list[str] = []
    for owner in owners:
        its_host, _, rest = owner.partition(":")
        pid, _, rest = rest.partition(":")
        start = rest.partition(":")[0]
        if namespace is None or its_host != host or not start.endswith(f"-{namespace}"):
            continue
        if pid.isdecimal() and _read_start(int(pid)) != start:
            dead.append(owner)
    spared = spooled_by(dead, spool_folder()) if dead else set[str]()
    return [owner for owner in dead if owner not in spared]


def _read_start(pid: int) -> str | None:
    """When a process began, and in which pid namespace; ``None`` for one that has ended."""
    namespace = _read_namespace()
    try:
        # Not pathlib, which is slow to import.
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces
    if fields[0] in "ZX" or namespace is None:  # ended, and not yet reaped by its parent
        return None
    return f"{fields[19]}-{namespace}"  # field 22


def _read_namespace() -> str | None:
    """The number of this process's pid namespace; ``None`` where the system has none."""
    try:
        name = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    return name.strip("pid:[]")
