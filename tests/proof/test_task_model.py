"""The model of a task's life, ``task.pml``, holds in all its states; without a rule it breaks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.services import require

_MODEL = Path(__file__).with_name("task.pml")

_NEVER_ENDING = {"Rescuer", "Clock"}
"""Processes of the model whose last step, the end of their loop, is never reached."""

_BROKEN = [
    # The rule that is left out, and the claim of the model that must fail, in its words.
    ("STATUS_AND_FINAL_APART", "terminal(status) == (finals == 1)"),
    ("NO_FENCING", "n == attempt"),
    ("NO_SHIELD", "terminal(status) || (status == pending && !alive[1] && !alive[2])"),
    ("NO_IDENTITY", "reports[1] <= 1 && reports[2] <= 1"),
    ("CLAIM_NOT_ASKED", "!cancel_on_record"),
    ("CANCEL_NOT_ASKED", "!cancel_on_record"),
    ("LATE_UNCOUNTED", "died || offered == stored + dropped"),
    ("WRAPPER RESCUE_BY_LEASE", "said == truth"),
    ("WRAPPER SPOOL_NOT_ASKED", "!claimed || said == truth"),
]


def _check(folder: Path, flags: str, *settings: str) -> str:
    """What spin's verifier says of the model with these names defined."""
    shutil.copy(_MODEL, folder)  # spin leaves its files beside it
    _spin(folder, flags, "-a")
    _run(folder, require("gcc"), "-w", "-DSAFETY", "-DCOLLAPSE", *settings, "-opan", "pan.c")
    return _run(folder, "./pan", "-m100000")


def _spin(folder: Path, flags: str, *options: str) -> str:
    defined = [f"-D{name}" for name in flags.split()]
    return _run(folder, require("spin"), *options, *defined, _MODEL.name)


def _run(folder: Path, *command: str) -> str:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def _figure(said: str, what: str) -> int:
    found = re.search(rf"(?m)^.*?(\d+) {what}|{what}: (\d+)", said)
    assert found is not None, said
    return int(found[1] or found[2])


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "WRAPPER"])
def test_every_state_holds_the_rules(flags: str, tmp_path: Path) -> None:
    """No state breaks a rule, none was left out, and no step of the model is idle."""
    said = _check(tmp_path, flags, "-O2")

    assert _figure(said, "errors") == 0, said
    assert "Search not completed" not in said
    assert "max search depth too small" not in said
    idle = {
        (process, step)
        for process, steps in re.findall(r"unreached in (?:proctype )?(\S+)\n((?:\t.*\n)*)", said)
        for step in re.findall(r'"(.*)"', steps)
    }
    assert idle == {(process, "-end-") for process in _NEVER_ENDING}
    print(f"\n{flags or 'OP':<32} {_figure(said, 'states, stored'):>9} states, 0 errors")


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "claim"), _BROKEN, ids=[flags for flags, _ in _BROKEN])
def test_without_a_rule_a_state_breaks(flags: str, claim: str, tmp_path: Path) -> None:
    """The shortest way to it is found, and it breaks just what the rule is for."""
    said = _check(tmp_path, flags, "-DBFS")

    assert _figure(said, "errors") == 1, said
    way = _spin(tmp_path, flags, "-t", "-p")
    failed = re.search(r"task\.pml:(\d+), Error: assertion violated", way)
    assert failed is not None, way
    line = _MODEL.read_text().splitlines()[int(failed[1]) - 1]
    assert f"assert({claim})" in line
    steps = re.search(r"trail ends after (\d+) steps", way)
    assert steps is not None
    print(f"\n{flags:<32} {steps[1]:>9} steps to a state without: {claim}")


@pytest.mark.slow
def test_every_rule_that_can_be_left_out_is_left_out() -> None:
    """A rule that the model names is in the list above."""
    named = set(re.findall(r"(?m)^ \*   ([A-Z_]+) ", _MODEL.read_text()))
    asked = set(re.findall(r"(?m)^#ifn?def ([A-Z_]+)", _MODEL.read_text()))

    assert named == {flags.removeprefix("WRAPPER ") for flags, _ in _BROKEN}
    assert asked == named | {"WRAPPER"}
