"""What is in a release: all that the code reads beside itself."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("platform", "adapters", "telemetry")


@pytest.mark.slow
def test_a_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    """Templates, scripts with their licences, and statements in SQL, not the modules alone."""
    listed = subprocess.run(
        ["git", "ls-files", *SOURCES], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout.splitlines()
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as built:
        has = set(built.namelist())
    wanted = {path.partition("/")[2] for path in listed}

    assert {path.rpartition(".")[2] for path in wanted} >= {"py", "sql", "html", "js", "css", "svg"}
    assert wanted - has == set()
