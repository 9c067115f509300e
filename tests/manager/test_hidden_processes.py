"""Alive or dead is proven: where a host hides processes or has others, the lease decides.

As root, in mount and pid namespaces of their own, which `unshare` makes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tapescope import NewTask, TaskStatus, find_store
from tapescope.store.validation import new_task_id
from tests.support.services import require

LIVE = (
    "import os, sys; from tapescope.manager.identity import name_owner; "
    "os.setgroups([]); os.setgid(4001); os.setuid(4001); "
    "print(name_owner(), flush=True); sys.stdin.read()"
)
"""A process of another user, which says its name and lives until its input ends."""
JUDGE = (
    "import os, sys; from tapescope.manager.identity import find_dead_owners; "
    "find_dead_owners(sys.argv[1:]); "  # it imports what that user may not read
    "os.setgroups([]); os.setgid(4002); os.setuid(4002); "
    "print(*find_dead_owners(sys.argv[1:]), flush=True)"
)
"""A third user, which says who of the owners is surely dead."""
HIDDEN = "mount -t proc -o hidepid=2 proc /proc"
OTHER_PIDS = ("--pid", "--fork")
MOUNTS = "--mount --propagation private"


def in_namespaces(*options: str, first: str = "true") -> list[str]:
    """The words that run what follows in namespaces of its own, after the command ``first``."""
    script = f'{first} && exec "$@"'
    return [require("unshare"), *MOUNTS.split(), *options, "--", "sh", "-c", script, "sh"]


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    """Skip with the reason where namespaces cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("only root may make the namespaces")
    made = subprocess.run(
        [*in_namespaces(*OTHER_PIDS, first=HIDDEN), "true"], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no namespaces can be made here: {made.stderr.decode().strip()}")


def python(code: str, *arguments: str) -> list[str]:
    """The words that run a program text."""
    return [sys.executable, "-c", code, *arguments]


@contextmanager
def living(*before: str) -> Generator[str]:
    """The name of an owner that lives, started behind these words."""
    with subprocess.Popen(
        [*before, *python(LIVE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        assert owner
        yield owner


def judge(owners: list[str], *before: str) -> list[str]:
    """Those of the owners that a process behind these words takes for dead."""
    told = subprocess.run(
        [*before, *python(JUDGE, *owners)], capture_output=True, text=True, check=True
    )
    return told.stdout.split()


def gone(owner: str) -> str:
    """The same place, and a pid that no process has."""
    host, _, start, name = owner.split(":")
    return f"{host}:{2**22 + 1}:{start}:{name}"


def reused(owner: str) -> str:
    """The same process under the name of one that had its pid before."""
    host, pid, start, name = owner.split(":")
    ticks, _, place = start.partition("-")
    return f"{host}:{pid}:{int(ticks) - 1}-{place}:{name}"


async def test_hidden_process_is_not_dead(sqlite_url: str) -> None:
    """Behind hidepid a free pid alone proves an end: a live run stays, another's lease ends it."""
    with living() as owner:
        owners = [owner, reused(owner), gone(owner)]
        hidden = judge(owners, *in_namespaces(first=HIDDEN))
        seen = judge(owners)
        async with find_store(sqlite_url) as store:
            runs: dict[str, str] = {}
            for one, lease in zip(owners, (60.0, 0.001, 60.0), strict=True):
                new, _ = await store.create(NewTask(new_task_id(), "x"))
                await store.claim_if_pending(new, one, lease)
                runs[one] = new.task_id
            rescued: set[str] = set()
            while len(rescued) < 2:
                rescued |= {
                    lost.task.task_id
                    for lost in await store.leases.rescue_expired(dead_owners=hidden)
                }
            live = await store.get(runs[owner])

    assert hidden == [gone(owner)]
    assert seen == [reused(owner), gone(owner)]
    assert rescued == {runs[reused(owner)], runs[gone(owner)]}
    assert live.status is TaskStatus.RUNNING


def test_process_of_another_pid_namespace_is_not_dead() -> None:
    """Neither from the inside nor from the outside, with a /proc of its own or of others."""
    own_proc = "mount -t proc proc /proc"
    with living() as outside, living(*in_namespaces(*OTHER_PIDS, first=own_proc)) as inside:
        both = [outside, inside, gone(outside)]
        assert judge(both, *in_namespaces(*OTHER_PIDS, first=own_proc)) == []
        assert judge(both, *in_namespaces(*OTHER_PIDS)) == []
        assert judge(both) == [gone(outside)]


def test_proc_of_another_pid_namespace_proves_nothing() -> None:
    """Where /proc shows other processes under the same pids only a free pid is a proof."""
    code = (
        "import os; from tapescope.manager.identity import *; own = name_owner(); "
        "host, pid, start, name = own.split(':'); ticks, _, place = start.partition('-'); "
        "later = f'{host}:{pid}:{int(ticks) + 1}-{place}:{name}'; "
        "free = f'{host}:{2**22 + 1}:{start}:{name}'; "
        "print(find_dead_owners([own, later, free]) == [free])"
    )
    told = subprocess.run(
        [*in_namespaces(*OTHER_PIDS), *python(code)], capture_output=True, text=True, check=True
    )

    assert told.stdout.strip() == "True"
