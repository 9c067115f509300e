"""A process that changes its folder while a store is open: a runner may do so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tapescope import Reporter, TaskManager
from tapescope.testing import until
from tapescope_adapters.postgres._url import parse_url


async def test_a_runner_that_changes_the_folder_spoils_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is that of the folder in which the store was opened."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)  # and back at the end

    async def go(report: Reporter) -> str:
        os.chdir(elsewhere)
        await report.log("info", "gone")
        return os.getcwd()

    async with TaskManager("sqlite:///tasks.db", heartbeat=0.01) as manager:
        for _ in range(2):
            task = await manager.submit("go", go)
            assert await task.result() == str(elsewhere)
        beats = manager.check_health()
        await until(lambda: manager.check_health() != beats)
        audited = await manager.audit()

        assert [check for check in manager.check_health() if not check.ok] == []
        assert audited.violations == ()
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "tasks.db").exists()


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile"])
def test_a_file_of_a_url_is_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are made at any time: what they read is where it was when the URL was read."""
    monkeypatch.chdir(tmp_path)
    address = parse_url(f"postgresql://db/app?{name}=ours/file")

    assert f"{name}={str(tmp_path / 'ours/file').replace('/', '%2F')}" in address.dsn
