"""The server keeps what its OpenAPI document says, whatever it is asked within it and beside it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tapescope import NewTask, Reporter, TaskManager
from tapescope.http.access import Grant
from tapescope.http.api import make_app
from tapescope.http.tokens import TokenFile
from tapescope.store.validation import new_task_id
from tests.http.client import serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
"""What is held against each answer. Left out is that all which the document allows is done: it
cannot say which ops there are, nor what is a cursor."""


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_answer_breaks_the_document(sqlite_url: str, tmp_path: Path) -> None:
    """What the document's examples give, to a real server, with a token and without: no 5xx, no
    status, type, header or shape that is not in it, and what it forbids is refused."""
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("ann", [Grant.parse("admin")], 0)
    manager = TaskManager(sqlite_url, work=False)
    manager.op("resize")(_resize)
    async with manager, serving(make_app(manager, tokens=tokens)) as (server, _):
        await manager.schedules.add("nightly", "resize", every=3_600)
        task, _ = await manager.store.create(NewTask(new_task_id(), "resize"))
        await manager.store.request_cancel(task.task_id)
        done = await asyncio.to_thread(_ask, server.url, token, tmp_path)
        audit = await manager.audit()

    told = done.stdout.replace(token, "TOKEN")
    assert done.returncode == 0, told[-8_000:]
    assert "Selected: 28/28" in told
    assert "Unresolvable references" not in told
    assert audit.violations == ()


async def _resize(report: Reporter, folder: str = "") -> None:
    pass


def _ask(url: str, token: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Ask a server what the document's examples give; the same requests each time."""
    return subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run", f"{url}/v1/openapi.json"),
            *("--header", f"Authorization: Bearer {token}"),
            *("--checks", ",".join(CHECKS)),
            *("--phases", "examples"),
            *("--generation-deterministic", "--continue-on-failure", "--no-color"),
            *("--request-timeout", "90"),
        ],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
