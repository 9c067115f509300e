"""The server keeps what its OpenAPI document says, whatever it is asked within it and beside it.

``CONTRACT_EXAMPLES`` says how many requests the long run makes up for each path:
``CONTRACT_EXAMPLES=500 make test-slow PYTEST_ARGS='-k contract -s'``.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapescope import NewTask, Reporter, TaskManager
from tapescope.http.access import Grant
from tapescope.http.api import ApiLimits, make_app
from tapescope.http.tokens import TokenFile
from tapescope.store.validation import new_task_id
from tests.http.client import serving

CONFIGURATION = """
[checks]
positive_data_acceptance.enabled = false
ensure_resource_availability.enabled = false
use_after_free.enabled = false

[[operations]]
include-name = "POST /v1/tasks:batch"
checks.negative_data_rejection.enabled = false
"""
"""Every check of an answer, but that all which the document allows is done: it cannot say which
ops there are, nor what is a cursor, nor that what was removed is gone. A batch answers each
submission for itself: what one may not be is in its place, with a 200."""


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("phases", ["examples", "coverage", "fuzzing"])
async def test_no_answer_breaks_the_document(
    phases: str, sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the document's examples give, what is at the edges of each shape, and what is made up,
    to a real server, with a token and without: no 5xx, no status, type, header or shape that is
    not in it, and what it forbids is refused."""
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("ann", [Grant.parse("admin")], 0)
    manager = TaskManager(sqlite_url, drain=0)  # it works, so that streams end
    manager.op("resize")(_resize)
    app = make_app(manager, tokens=tokens, limits=ApiLimits(longest_wait=1))
    acts = sum(len(path) for path in app.openapi()["paths"].values())
    async with manager, serving(app) as (server, _):
        await manager.schedules.add("nightly", "resize", every=3_600)
        task, _ = await manager.store.create(NewTask(new_task_id(), "resize"))
        await manager.store.request_cancel(task.task_id)
        done = await asyncio.to_thread(_ask, server.url, token, tmp_path, phases)
        audit = await manager.audit()

    told = done.stdout.replace(token, "TOKEN")
    assert done.returncode == 0, told[-8_000:]
    assert f"Selected: {acts}/{acts}" in told
    assert "Unresolvable references" not in told
    assert audit.violations == ()
    with capsys.disabled():
        print(*(line for line in told.splitlines() if "generated, " in line))


async def _resize(report: Reporter, folder: str = "") -> None:
    pass


def _ask(url: str, token: str, home: Path, phases: str) -> subprocess.CompletedProcess[str]:
    """Ask a server what these phases make of its document; the same requests each time, unless
    how many is said."""
    examples = os.environ.get("CONTRACT_EXAMPLES")
    many = ("--max-examples", examples) if examples else ("--max-examples", "5")
    same = () if examples else ("--generation-deterministic",)
    (home / "schemathesis.toml").write_text(CONFIGURATION, encoding="utf-8")
    return subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run", f"{url}/v1/openapi.json"),
            *("--header", f"Authorization: Bearer {token}"),
            *("--phases", phases),
            *(*many, *same, "--continue-on-failure", "--no-color"),
            *("--request-timeout", "5"),
        ],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
