"""The rooms' rules hold: each contract of import-linter is kept, and broken by what it forbids."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("platform", "adapters", "telemetry")

ROOMS = "The rooms of the platform"
CIRCLES = "No circle of imports"
PRIVATE = "A private module stays in its room"
TELEMETRY = "Telemetry knows no other room"
GROUND = "Telemetry stands on the words and the errors, below every other room"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A copy of the packages and of their contracts, for a test to build in."""
    for folder in SOURCE_ROOTS:
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def check_contracts(tree: Path) -> tuple[dict[str, str], str]:
    """The verdict on each contract of a tree, by its name, and all that import-linter says."""
    packages = os.pathsep.join(str(tree / folder) for folder in SOURCE_ROOTS)
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": packages, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert verdicts, done.stdout + done.stderr
    assert done.returncode == ("BROKEN" in verdicts.values())
    return verdicts, done.stdout


def list_broken(verdicts: dict[str, str]) -> set[str]:
    """The names of the contracts that are broken."""
    return {name for name, verdict in verdicts.items() if verdict == "BROKEN"}


def test_every_contract_is_kept(scratch: Path) -> None:
    """The tree as it stands keeps every contract that ``pyproject.toml`` names."""
    verdicts, said = check_contracts(scratch)
    names = re.findall(r'^name = "(.+)"\ntype = ', (ROOT / "pyproject.toml").read_text(), re.M)

    assert list_broken(verdicts) == set(), said
    assert list(verdicts) == names


@pytest.mark.parametrize(
    ("modules", "broken", "says"),
    [
        pytest.param(
            {"platform/tapescope/stray.py": ""},
            {ROOMS},
            "stray",
            id="a module outside the rooms",
        ),
        pytest.param(
            {"platform/tapescope/lobby/__init__.py": ""},
            {ROOMS},
            "lobby",
            id="a room that the plan does not have",
        ),
        pytest.param(
            {"platform/tapescope/store/upward.py": "import tapescope.manager.worker\n"},
            {ROOMS, CIRCLES},
            "tapescope.store.upward -> tapescope.manager.worker",
            id="an import of a higher room",
        ),
        pytest.param(
            {"platform/tapescope/maintenance/sideways.py": "import tapescope.shell.lines\n"},
            {ROOMS},
            "tapescope.maintenance.sideways -> tapescope.shell.lines",
            id="an import of the room beside",
        ),
        pytest.param(
            {
                "platform/tapescope/store/first.py": "import tapescope.store.second\n",
                "platform/tapescope/store/second.py": (
                    "def use() -> None:\n    import tapescope.store.first\n"
                ),
            },
            {CIRCLES},
            "No cycles are allowed in tapescope.store",
            id="a circle in a room",
        ),
        pytest.param(
            {"platform/tapescope/manager/nosy.py": "import tapescope.store._pending\n"},
            {PRIVATE},
            "tapescope.manager.nosy -> tapescope.store._pending",
            id="a private module of another room",
        ),
        pytest.param(
            {"adapters/tapescope_adapters/sqlite/nosy.py": "import tapescope.store._pending\n"},
            {PRIVATE},
            "tapescope_adapters.sqlite.nosy -> tapescope.store._pending",
            id="a private module of the platform in an adapter",
        ),
        pytest.param(
            {
                "platform/tapescope/lobby/__init__.py": "",
                "telemetry/tapescope_telemetry/nosy.py": "import tapescope.lobby\n",
            },
            {ROOMS, TELEMETRY},
            "tapescope_telemetry.nosy -> tapescope.lobby",
            id="a room that telemetry may not know, be it new",
        ),
        pytest.param(
            {"platform/tapescope/model/nosy.py": "import tapescope_telemetry.names\n"},
            {GROUND},
            "tapescope.model.nosy -> tapescope_telemetry.names",
            id="telemetry in the model",
        ),
    ],
)
def test_what_a_contract_forbids_breaks_it(
    scratch: Path, modules: dict[str, str], broken: set[str], says: str
) -> None:
    """A module in the wrong place, or an import the wrong way, breaks its contract and no other."""
    for name, text in modules.items():
        (scratch / name).parent.mkdir(exist_ok=True)
        (scratch / name).write_text(text)
    verdicts, said = check_contracts(scratch)

    assert list_broken(verdicts) == broken, said
    assert says in said
