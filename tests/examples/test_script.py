"""The script is run, and its task is on the store that it leaves."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tapescope import TaskManager, TaskStatus

SCRIPT = Path(__file__).parents[2] / "examples/script/checksums.py"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """The script in a folder, on its folder ``texts``."""
    command = [sys.executable, "-W", "error", str(SCRIPT), "texts"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
async def test_the_script_prints_what_its_task_gave(tmp_path: Path) -> None:
    """Once it succeeds; once there is nothing to read, and it says where to look."""
    (tmp_path / "texts").mkdir()
    failed = run(tmp_path)
    (tmp_path / "texts/a.txt").write_bytes(b"a")
    done = run(tmp_path)
    async with TaskManager(f"sqlite:///{tmp_path}/checksums.db", work=False) as manager:
        tasks = (await manager.store.list()).tasks

    assert (failed.returncode, failed.stdout) == (1, "")
    assert "no files in texts" in failed.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (0, f"{hashlib.sha256(b'a').hexdigest()}  a.txt\n")
    assert done.stderr.splitlines() == ["1 task_started", "2 progress", "3 final"]
    assert [one.status for one in tasks] == [TaskStatus.SUCCEEDED, TaskStatus.FAILED]
    assert tasks[1].task_id in failed.stderr
