"""What is in a release: all that the code reads beside itself."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("platform", "adapters", "telemetry")
_WRITE_DASHBOARDS = """
from pathlib import Path
import tapescope
from tapescope.cli import main
print(Path(tapescope.__file__).parents[1], flush=True)
main(["dashboards", "--to", "pack"])
"""


@pytest.mark.slow
def test_a_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    """Templates, scripts with their licences, and statements in SQL, not the modules alone; and the
    boards and rules that ``tapescope dashboards`` writes."""
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

    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    written = subprocess.run(
        [sys.executable, "-c", _WRITE_DASHBOARDS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        encoding="utf-8",
    )
    boards = {path.name for path in (tmp_path / "pack" / "grafana").glob("*.json")}

    assert {path.rpartition(".")[2] for path in wanted} >= {"py", "sql", "html", "js", "css", "svg"}
    assert wanted - has == set()
    assert written.stdout.splitlines()[0] == str(tmp_path / "installed"), written.stderr
    assert boards == {path.name for path in (ROOT / "dashboards" / "grafana").glob("*.json")}
