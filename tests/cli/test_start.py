"""What a process of the command line loads, and when it begins to look for garbage."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import Here

NOT_FOR_A_COMMAND = (
    "asyncpg",
    "email",
    "fastapi",
    "http.client",
    "importlib.metadata",
    "matplotlib",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "prometheus_client",
    "pydantic",
    "rich",
    "starlette",
    "tapescope.demo",
    "tapescope.drills",
    "tapescope.testing",
    "tapescope_adapters.postgres",
    "typer",
    "urllib.request",
)
OURS_AT_MOST = 200
"""Modules of ours that ``tapescope run -- true`` loads; a new one is a reason to look here."""
RUN_AND_TELL = """
import gc, json, sys
from tapescope.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, gc.isenabled(), gc.get_freeze_count(), gc.get_threshold()[0],
                      sorted(sys.modules)]))
"""


def test_run_loads_what_a_command_needs_and_no_more(sqlite_url: str, tmp_path: Path) -> None:
    """``tapescope run -- true`` has no SDK, driver of another store, server or tables to load; and
    the garbage of its imports was not looked for, that of its run is."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_TELL, "run", "--store", sqlite_url, "--", "true"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=60,
    )
    status, collects, kept, young, modules = json.loads(done.stdout)

    assert status == 0
    assert (collects, kept > 10_000, young) == (True, True, 700)
    assert [
        name
        for name in modules
        if any(name == heavy or name.startswith(f"{heavy}.") for heavy in NOT_FOR_A_COMMAND)
    ] == []
    assert len([name for name in modules if name.startswith("tapescope")]) <= OURS_AT_MOST


@pytest.mark.parametrize("service", [("worker",), ("serve", "--port", "0")], ids=lambda s: s[0])
def test_a_service_collects_no_program(
    sqlite_url: str, tmp_path: Path, service: Sequence[str]
) -> None:
    """What it has loaded when it begins to serve stays: no collection stands still for it. What
    comes and goes is looked through less often, as beside many streams each time is long. And what
    keeps several processes is not loaded for one."""
    (tmp_path / "shop.py").write_text(
        "from tapescope import Ops\n"
        "ops = Ops()\n"
        "ops.op('x')(print)\n"
        "many = [[] for _ in range(300_000)]\n"
    )
    with subprocess.Popen(
        [
            *(sys.executable, "-c", RUN_AND_TELL, *service),
            *("--app", "shop:ops", "--store", sqlite_url),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()  # it serves
        process.terminate()
        told, _ = process.communicate(timeout=60)
    status, collects, kept, young, modules = json.loads(told)

    assert (status, collects, kept > 300_000, young) == (0, True, True, 5_000)
    assert "tapescope.cli._processes" not in modules


def test_the_collector_of_another_process_is_left_alone(here: Here) -> None:
    """A program that calls the command line has its garbage collected as before."""
    before = gc.get_freeze_count()
    here("list")

    assert (gc.isenabled(), gc.get_freeze_count()) == (True, before)
