"""The programs in the how-to pages run as they stand there."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


async def test_the_program_of_the_prometheus_page_runs(sqlite_url: str) -> None:
    """It opens a manager that is scraped: for the test its store and its port are changed."""
    page = (HOWTO / "prometheus.md").read_text(encoding="utf-8")
    program: str = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    program = program.replace("sqlite:///tasks.db", sqlite_url)
    program = program.replace("metrics=reader)", "metrics=reader, port=0)")
    assert program.endswith("            ...\n")
    program = program.replace("...\n", "families = reader.make_families()\n")
    names: dict[str, Any] = {}
    code = compile(program, "prometheus.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, names)
    if inspect.isawaitable(running):
        await running

    assert "tapescope_task_limit" in {family.name for family in names["families"]}
    assert {check.name: check.ok for check in names["manager"].check_health()}["migrations"]
