"""Spool files: whole, durable, private, and on the tape once."""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tapescope.errors import BadSpool
from tapescope.model.tasks import FinalEvent
from tapescope.shell.replay import replay_spools
from tapescope.spool import SpooledEvent, SpooledTask, find_spools, read_spool, spooled_by
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryStore


def spooled(store: str = "memory") -> SpooledTask:
    """What a wrapper could not tell: a task that was never claimed, with two lines."""
    return SpooledTask(
        store=store,
        task_id=new_task_id(),
        op="work",
        params={},
        timeout=None,
        idempotency_key=None,
        traceparent=None,
        owner="host:1:0:aa",
        attempt=None,
        confirmed=0,
        events=tuple(SpooledEvent("log", n, {"line": str(n)}) for n in range(2)),
        final=FinalEvent.succeeded(),
        ended_us=9,
    )


def test_a_file_is_durable_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First what is in it is on the disk, then its name in the folder."""
    sync, synced = os.fsync, list[str]()

    def note(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        sync(fd)

    monkeypatch.setattr(os, "fsync", note)
    folder = tmp_path / "spool"
    path = spooled().write(folder)

    assert [Path(one).parent for one in synced] == [folder, tmp_path]
    assert read_spool(path).op == "work"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_leaves_no_half(tmp_path: Path) -> None:
    """What stands in the way of its name stays as it is, alone."""
    task = spooled()
    path = task.write(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        task.write(tmp_path)

    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"tapescope_spool":1', b'"tapescope_spool":2', "newer version"),
        (b'"final"', b'"last"', "not a whole spool file"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_to_be(
    tmp_path: Path, old: bytes, new: bytes, why: str
) -> None:
    """One of a newer version, and one that is not whole."""
    path = spooled().write(tmp_path)
    path.write_bytes(path.read_bytes().replace(old, new))

    with pytest.raises(BadSpool, match=why):
        read_spool(path)


async def test_a_file_is_replayed_once(tmp_path: Path) -> None:
    """While another process has it, it is left alone; then its task has it all, and it is gone."""
    task = spooled()
    path = task.write(tmp_path)
    async with MemoryStore() as store:
        with path.open("rb") as taken:
            fcntl.flock(taken, fcntl.LOCK_EX)
            beside = await replay_spools(store, tmp_path)
        told = await replay_spools(store, tmp_path)
        task.write(tmp_path)
        again = await replay_spools(store, tmp_path)
        events = (await store.read_tape(task.task_id)).events

    assert beside == []
    assert [len(one) for one in (told, again)] == [1, 1]
    assert [event.type for event in events] == ["task_started", "log", "log", "final"]
    assert find_spools(tmp_path) == []


async def test_a_file_that_cannot_be_replayed_is_kept(tmp_path: Path) -> None:
    """One that is damaged is told of; one of another store, whatever its name says, is not."""
    damaged, other = spooled(), spooled()
    bad = damaged.write(tmp_path)
    bad.write_bytes(b"{}\n")
    path = other.write(tmp_path)
    replace(other, store="elsewhere").write(tmp_path / "of another").replace(path)
    async with MemoryStore() as store:
        told = await replay_spools(store, tmp_path)

    assert [(name, type(answer)) for name, answer in told] == [(bad, BadSpool)]
    assert set(find_spools(tmp_path)) == {bad, path}


def test_an_owner_that_left_a_file_is_known(tmp_path: Path) -> None:
    """What it knows is not lost with it."""
    spooled().write(tmp_path)

    assert spooled_by(["host:1:0:aa", "host:1:0:bb"], tmp_path) == {"host:1:0:aa"}
