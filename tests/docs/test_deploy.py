"""What the page on services says of workers is so: options, paths, times and metrics."""

from __future__ import annotations

import configparser
import re
import shlex
from inspect import signature
from pathlib import Path
from typing import Any

import click
import promql_parser
import pytest
import yaml

from tapescope import TaskManager
from tapescope.cli.app import app
from tapescope.cli.commands.worker import worker
from tapescope_telemetry import METRICS

PAGE = Path(__file__).parents[2] / "docs/howto/deploy.md"
GRACE: float = signature(TaskManager).parameters["cancel_grace"].default


def read_blocks(language: str) -> list[str]:
    """The code of the page in one language."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def manifests() -> dict[str, dict[str, Any]]:
    """Those for Kubernetes, by kind."""
    found = [yaml.safe_load(block) for block in read_blocks("yaml")]
    return {one["kind"]: one for one in found}


@pytest.fixture
def unit() -> configparser.SectionProxy:
    """The service of the unit for systemd."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    (block,) = read_blocks("ini")
    parser.read_string(block)
    return parser["Service"]


def parse(words: list[str]) -> dict[str, Any]:
    """What ``tapescope worker`` makes of these words; it refuses what it does not know."""
    whole = click.Context(app, info_name="tapescope", **app.context_settings)
    return worker.make_context("worker", words, parent=whole).params  # alone it forgets -h for ever


def test_the_unit_starts_a_worker_and_waits_for_it(unit: configparser.SectionProxy) -> None:
    """Its command is parsed, and its end is later than drain and grace."""
    program, command, *words = shlex.split(unit["ExecStart"].replace("%i", "1"))
    parsed = parse(words)

    assert (program.rpartition("/")[2], command) == ("tapescope", "worker")
    assert parsed["drain"] + GRACE < int(unit["TimeoutStopSec"])
    assert unit["KillMode"] == "mixed"


def test_the_image_starts_a_worker_that_can_be_scraped() -> None:
    """Without a shell before it."""
    (dockerfile,) = read_blocks("dockerfile")
    (line,) = [line for line in dockerfile.splitlines() if line.startswith("ENTRYPOINT ")]
    program, command, *words = yaml.safe_load(line.removeprefix("ENTRYPOINT "))
    parsed = parse(words)

    assert (program, command) == ("tapescope", "worker")
    assert (parsed["metrics_port"], parsed["metrics_host"]) == (9464, "0.0.0.0")


def test_the_deployment_waits_for_its_pods(manifests: dict[str, dict[str, Any]]) -> None:
    """Longer than drain and grace; and it asks what is served."""
    template = manifests["Deployment"]["spec"]["template"]["spec"]
    (container,) = template["containers"]
    parsed = parse(["--app", "shop.tasks:ops", *container["args"]])
    asked = {probe["httpGet"]["path"] for name, probe in container.items() if "Probe" in name}

    assert parsed["drain"] + GRACE < template["terminationGracePeriodSeconds"]
    assert asked == {"/livez", "/readyz"}


def test_the_query_of_the_scaler_names_metrics(manifests: dict[str, dict[str, Any]]) -> None:
    """It is PromQL, of names that the contract has."""
    scaled = manifests["ScaledObject"]["spec"]
    query = scaled["triggers"][0]["metadata"]["query"]
    names = {row.name.replace(".", "_") for row in METRICS}
    promql_parser.parse(query)

    assert set(re.findall(r"tapescope_\w+(?=\{)", query)) <= names
    assert scaled["scaleTargetRef"] == {"name": manifests["Deployment"]["metadata"]["name"]}
