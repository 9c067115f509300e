"""The runbooks: one for each alert, each with every part, each with commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dashboards import settings
from dashboards.alerts import list_alerts
from dashboards.promql import Durations
from tapescope.cli.app import app
from tapescope.drills.catalogue import DRILLS, Drill
from tests.dashboards.pack import FOLDER, list_rules

RUNBOOKS = sorted((FOLDER / "runbooks").glob("*.md"))
PARTS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Drill"]
INLINE = re.compile(r"`(tapescope [^`]+)`|^(tapescope [^\n#]+)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")


def list_commands(text: str) -> list[list[str]]:
    """Every ``tapescope`` command of a text, as its words."""
    return [shlex.split(inline or block) for inline, block in INLINE.findall(text)]


def list_known() -> dict[str, set[str]]:
    """The program's commands, with their options."""
    return {
        name: {option for parameter in sub.params for option in parameter.opts}
        for name, sub in app.commands.items()
    }


def test_the_list_of_alerts_has_each_one() -> None:
    """With its severities, as the rules have them; and no other one."""
    rows = [line.split("|") for line in (FOLDER / "README.md").read_text().splitlines()]
    listed = {
        name: set(row[2].strip().split(", "))
        for row in rows
        if len(row) == 5
        for name in re.findall(r"\(runbooks/(\w+)\.md\)", row[1])
    }
    rules: dict[str, set[str]] = {}
    for rule in list_rules():
        if "alert" in rule:
            rules.setdefault(rule["alert"], set()).add(rule["labels"]["severity"])

    assert listed == rules


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
        if name.startswith("--"):
            continue
        assert name in known, name
        for word in words[: words.index("--")] if "--" in words else words:
            assert not word.startswith("--") or word in known[name], f"{name} {word}"
    for link in LINK.findall(text):
        assert (file.parent / link).exists(), link
    for named in re.findall(r"dashboards/prometheus/tests/\w+\.yml", text):
        assert (FOLDER.parent / named).exists(), named


def test_drills_and_runbooks_agree() -> None:
    """A runbook's drill raises its alert, and the runbook of each alert of a drill has it."""
    told: dict[str, list[str]] = {}
    for file in RUNBOOKS:
        part = file.read_text(encoding="utf-8").partition("\n## Drill\n")[2]
        for command in list_commands(part):
            if command[1] == "drill":
                told.setdefault(command[2], []).append(file.stem)

    assert {name: sorted(alerts) for name, alerts in told.items()} == {
        drill.name: sorted(drill.alerts) for drill in DRILLS
    }


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_a_drill_holds_on_until_its_alert_fires(drill: Drill) -> None:
    """What it says of the shipped rules' waits is so, with two scrapes and two evaluations."""
    for alert in drill.alerts:
        rules = [rule for rule in list_alerts(Durations()) if rule.name == alert]
        assert min(rule.wait for rule in rules) == drill.wait

    assert drill.hold >= drill.wait + 2 * (settings.SCRAPE + settings.EVALUATION)
    assert drill.op.startswith("drill.")
