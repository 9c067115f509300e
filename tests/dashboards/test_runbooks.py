"""The runbooks: one for each alert, each with every part, each with commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tapescope.cli.app import app
from tests.dashboards.pack import FOLDER, list_rules

RUNBOOKS = sorted((FOLDER / "runbooks").glob("*.md"))
PARTS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Drill"]
COMING = {"drill"}
"""Commands that this version does not have yet; take one out when it comes."""
INLINE = re.compile(r"`(tapescope [^`]+)`|^(tapescope [^\n#]+)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")


def list_commands(text: str) -> list[list[str]]:
    """Every ``tapescope`` command of a text, as its words."""
    return [shlex.split(inline or block) for inline, block in INLINE.findall(text)]


def list_known() -> dict[str, set[str]]:
    """The program's commands, with their options."""
    command: Any = get_command(app)
    return {
        name: {option for parameter in sub.params for option in parameter.opts}
        for name, sub in command.commands.items()
    }


def test_each_alert_has_its_runbook() -> None:
    """Alerts and runbooks are one to one."""
    alerts = {rule["alert"] for rule in list_rules() if "alert" in rule}

    assert {file.stem for file in RUNBOOKS} == alerts


@pytest.mark.parametrize("file", RUNBOOKS, ids=lambda file: file.stem)
def test_a_runbook_has_every_part(file: Path) -> None:
    """Meaning, impact, diagnosis with queries and commands, mitigation, drill: none is empty."""
    text = file.read_text(encoding="utf-8")
    title, *parts = re.split(r"^## ", text, flags=re.MULTILINE)

    assert title.strip() == f"# {file.stem}"
    assert [part.split("\n", 1)[0] for part in parts] == PARTS
    assert all(part.split("\n", 1)[1].strip() for part in parts)
    diagnosis = parts[PARTS.index("Diagnosis")]
    assert "```promql" in diagnosis
    assert list_commands(diagnosis), "which command shows it?"


@pytest.mark.parametrize("file", RUNBOOKS, ids=lambda file: file.stem)
def test_a_runbook_names_commands_and_files_that_exist(file: Path) -> None:
    """Each command, each of its options and each link leads to something."""
    text, known = file.read_text(encoding="utf-8"), list_known()

    for _, name, *words in list_commands(text):
        if name.startswith("--") or name in COMING - known.keys():
            continue
        assert name in known, name
        for word in words[: words.index("--")] if "--" in words else words:
            assert not word.startswith("--") or word in known[name], f"{name} {word}"
    for link in LINK.findall(text):
        assert (file.parent / link).exists(), link
    for named in re.findall(r"dashboards/prometheus/tests/\w+\.yml", text):
        assert (FOLDER.parent / named).exists(), named


def test_no_command_is_coming_that_is_here() -> None:
    """What the program has by now is checked with its options, like the rest."""
    assert not COMING & list_known().keys()
