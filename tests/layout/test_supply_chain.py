"""What is installed for development and for a release has its hashes, and can be asked about."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tapescope_telemetry import __version__

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[\w.+!]+)(?: ;.*)? \\$", re.MULTILINE)


def read_lock(name: str) -> dict[str, str]:
    """The versions of a lock, by name."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    return {found["name"]: found["version"] for found in PINNED.finditer(text)}


def list_wanted(*, dev: bool) -> Iterator[Requirement]:
    """What pyproject.toml asks for."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = told["project"]["optional-dependencies"]
    groups = [told["project"]["dependencies"], *(extras[e] for e in ("otlp", "postgres"))]
    groups += [extras["prometheus"]]
    groups += [told["dependency-groups"]["dev"]] if dev else []
    for group in groups:
        yield from map(Requirement, group)


@pytest.mark.parametrize(
    ("lock", "dev"), [("requirements.lock", False), ("requirements-dev.lock", True)]
)
def test_a_lock_has_what_is_asked_for(lock: str, dev: bool) -> None:
    """Every requirement is in it, in a version that it allows; `make lock` brings it up to date."""
    locked = read_lock(lock)

    for wanted in list_wanted(dev=dev):
        name = wanted.name.lower().replace("_", "-")
        assert name in locked, wanted
        assert wanted.specifier.contains(locked[name], prereleases=True), wanted


def test_both_locks_agree() -> None:
    """What a release is made with is what was tested."""
    ours = read_lock("requirements.lock")

    assert ours.items() <= read_lock("requirements-dev.lock").items()


FLAW = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"]}
GOOD: dict[str, Any] = {"name": "good", "version": "1", "vulns": []}
BAD: dict[str, Any] = {"name": "bad", "version": "1", "vulns": [FLAW]}
UNKNOWN: dict[str, Any] = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status", "says"),
    [
        ([GOOD], 0, "1 of 1 packages were audited."),
        ([GOOD, BAD], 1, "bad 1: PYSEC-1, CVE-1; mended in 2.0"),
        ([GOOD, UNKNOWN], 2, "Of the others no advisory could be read: not found"),
        ([BAD, UNKNOWN], 1, "1 of 2 packages were audited."),
        (None, 2, "Nothing was audited: the source of the advisories cannot be reached."),
    ],
)
def test_an_audit_says_what_it_could_not_ask(
    packages: list[Any] | None, status: int, says: str
) -> None:
    """Silence about a package is not told as good news."""
    judge = runpy.run_path(str(ROOT / ".ci" / "audit_dependencies.py"))["judge"]
    report = None if packages is None else {"dependencies": packages}

    told, lines = judge(report)

    assert told == status
    assert says in lines


@pytest.mark.slow
def test_the_list_of_parts_names_the_release(tmp_path: Path) -> None:
    """Its root is the project in its version, although the project's own file has none."""
    parts = tmp_path / "parts.json"
    subprocess.run(["make", f"LIST={parts}", str(parts)], cwd=ROOT, check=True, timeout=60)
    root = json.loads(parts.read_text())["metadata"]["component"]

    assert (root["name"], root["version"]) == ("tapescope", __version__)
    assert list(tmp_path.iterdir()) == [parts]
