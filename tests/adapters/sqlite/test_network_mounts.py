"""A SQLite file on a network's file system is warned about."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tapescope_adapters.sqlite import SqliteStore, _backend
from tapescope_adapters.sqlite._network_mounts import find_network_type

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /net rw,relatime shared:20 - nfs4 server:/export rw,vers=4.2
41 40 0:36 / /net/here rw,relatime - xfs /dev/sdb1 rw
42 22 0:37 / /win\040share rw - cifs //server/share rw
43 22 0:38 / /remote rw - fuse.sshfs user@host: rw
44 22 0:39 / /twice rw - nfs server:/a rw
45 44 0:40 / /twice rw - tmpfs none rw
46 22 0:41 / /plan rw - 9p host rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/tasks.db", None),
        ("/net/deep/er/tasks.db", "nfs4"),
        ("/net/here/tasks.db", None),
        ("/network/tasks.db", None),
        ("/win share/tasks.db", "cifs"),
        ("/remote/tasks.db", "fuse.sshfs"),
        ("/twice/tasks.db", None),
        ("/plan/tasks.db", "9p"),
    ],
)
def test_innermost_mount_decides(path: str, kind: str | None) -> None:
    """The file system is the one mounted last and deepest above the file."""
    assert find_network_type(path, MOUNTS) == kind


async def test_store_on_a_network_is_warned_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is opened, for it may be mounted by this host alone, and the log says what to use."""

    def on_a_network(path: str) -> str:
        return "nfs4"

    monkeypatch.setattr(_backend, "find_network_type", on_a_network)
    opened = SqliteStore(f"sqlite:///{tmp_path / 'tasks.db'}")
    with caplog.at_level(logging.WARNING, "tapescope"):
        for _ in range(2):
            async with opened:
                pass

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "nfs4" in told[0]
    assert "PostgreSQL" in told[0]
