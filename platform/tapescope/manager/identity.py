"""The owner of a run: one manager in one process, under a name that is never used again."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable

from tapescope.spool import spool_folder, spooled_by

__all__ = ["find_dead_owners", "name_owner", "retire_owner"]

_retired: set[str] = set()
"""Owners of this process that have ended, and left something that they could not write."""


def name_owner() -> str:
    """``host:pid:start:random``: tells a living process from a later one with the same pid.

    On Linux the start is in clock ticks since boot, and says behind that where it was read:
    ``ticks-pidns.timens-boot``. Hosts and containers may share a name, see other processes under
    the same pids, and read another start of the same process.
    """
    place = _read_place()
    ticks = None if place is None else _read_start("self")
    start = str(int(time.time())) if ticks is None else f"{ticks}-{place}"
    return f"{socket.gethostname()}:{os.getpid()}:{start}:{os.urandom(8).hex()}"


def retire_owner(owner: str) -> None:
    """A manager of this process has ended, and left tasks: to the rescuers of this process it is
    dead, although the process lives."""
    _retired.add(owner)


def find_dead_owners(owners: Iterable[str], *, on_one_host: bool = False) -> list[str]:
    """The owners that are proven to be dead: of processes of this host that have ended, or retired
    in this process.

    What cannot be proven is left to the lease: an owner on another host of the same name, in
    another container, or that this process may not see. ``on_one_host`` says that no other host can
    have an owner in this store: then one of this host's name, of an earlier boot, is dead.
    Nor is one among them that left a spool file for this user: a replay ends its task with what
    really was.
    """
    owners = list(owners)
    host, place = socket.gethostname(), _read_place()
    if place is None:
        return [owner for owner in owners if owner in _retired]
    _, _, boot = place.partition("-")
    dead: list[str] = []
    for owner in owners:
        if owner in _retired:
            dead.append(owner)
            continue
        its_host, _, rest = owner.partition(":")
        pid, _, rest = rest.partition(":")
        ticks, _, its_place = rest.partition(":")[0].partition("-")
        if its_host != host or not (pid.isdecimal() and ticks.isdecimal()):
            continue
        its_boot = its_place.partition("-")[2]
        if (its_place == place and _has_ended(int(pid), ticks)) or (
            on_one_host and its_boot not in ("", boot)
        ):
            dead.append(owner)
    spared = spooled_by(dead, spool_folder()) if dead else set[str]()
    return [owner for owner in dead if owner not in spared]


def _has_ended(pid: int, ticks: str) -> bool:
    """Whether it is certain that the process of this pid, which began at ``ticks``, runs no more.

    The kernel tells whoever asks that a pid is free, also where ``/proc`` hides processes of other
    users (``hidepid``, systemd's ``ProtectProc``). That a pid is taken proves nothing: its process
    is looked at, where that can be.
    """
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is another user's, and there
    except OverflowError:
        return False  # no pid
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return False  # of another pid namespace: its pids mean other processes
    except OSError:
        return False
    now = _read_start(str(pid))
    return now is not None and now != ticks


def _read_start(pid: str) -> str | None:
    """When a process began, empty where it has ended and waits for its parent.

    ``None`` where it cannot be seen: it has ended, or is hidden.
    """
    try:
        # Not pathlib, which is slow to import.
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces
    return "" if fields[0] in "ZX" else fields[19]  # field 22


def _read_place() -> str | None:
    """Where pids and starts mean what they mean to this process; ``None`` where that is unknown."""
    try:
        pids = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            boot = file.read().strip().replace("-", "")[:12]
    except OSError:
        return None
    try:
        times = os.readlink("/proc/self/ns/time").strip("time:[]")
    except OSError:
        times = "0"  # a kernel that has none: one for all
    return f"{pids}.{times}-{boot}"
