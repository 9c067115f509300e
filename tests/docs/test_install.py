"""The page on installing names what can be installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/install.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_extra_is_told() -> None:
    """In the table, once; every extra that a page installs is one."""
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    extras = PROJECT["optional-dependencies"]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/README.md")]
    named = [
        extra
        for page in pages
        for extras in re.findall(r"pip install '?[^'\s]*\[([\w,]+)\]", page.read_text("utf-8"))
        for extra in extras.split(",")
    ]

    assert sorted(rows) == sorted(extras)
    assert len(named) > 8
    assert set(named) - {"tapescope"} <= extras.keys()  # that one is an extra of the reader's


def test_the_requirement_can_be_read() -> None:
    """As a line of somebody's project."""
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    requirement = Requirement(tomllib.loads(block)["dependencies"][0])

    assert (requirement.name, requirement.extras) == (PROJECT["name"], {"postgres"})


@pytest.mark.slow
def test_a_clone_can_be_installed(tmp_path: Path) -> None:
    """Its packages are there, and the command; what it needs is here already."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
            *("--no-deps", "--no-index", "--no-build-isolation", "--target", str(tmp_path)),
            f"{ROOT}[server]",
        ],
        check=True,
        timeout=100,
    )

    packages = {"tapescope", "tapescope_adapters", "tapescope_telemetry"}
    assert packages <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "bin/tapescope").is_file()
