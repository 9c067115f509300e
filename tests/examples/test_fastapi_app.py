"""The application with FastAPI under a real server: streams, a page, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tapescope.testing import until
from tests.support.services import find_ports

PROJECT = Path(__file__).parents[2] / "examples/fastapi_app"


@pytest.fixture
def port() -> int:
    """A free port."""
    return find_ports(1)[0]


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """As its README starts it."""
    folders = {"EXPORTS_FOLDERS": tmp_path, "EXPORTS_ARCHIVES": tmp_path / "archives"}
    settings = {name: str(folder) for name, folder in folders.items()}
    settings["EXPORTS_STORE"] = f"sqlite:///{tmp_path}/exports.db"
    words = ["uvicorn", "exports.web:app", "--timeout-graceful-shutdown", "5"]
    command = [sys.executable, "-m", *words, "--port", str(port)]
    with subprocess.Popen(command, cwd=PROJECT, env=os.environ | settings) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(url: str, body: object = None) -> tuple[int, bytes]:
    """The status and the body of an answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, {"Content-Type": "application/json"})) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""  # nobody listens yet


@pytest.mark.slow
async def test_it_serves_and_ends(
    server: subprocess.Popen[bytes], port: int, tmp_path: Path
) -> None:
    """A folder is packed while its events are read; the page shows the task; SIGTERM ends it."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.txt").write_bytes(b"a")
    url = f"http://127.0.0.1:{port}"
    await until(lambda: ask(f"{url}/exports/none")[0] == 404, within=60)
    begun = json.loads(ask(f"{url}/exports", {"folder": "photos"})[1])
    path = f"{url}/exports/{begun['id']}"
    events = ask(f"{path}/events")[1].decode()
    archive = ask(f"{path}/archive")[1]
    page = ask(f"{url}/tasks/")[1].decode()
    server.send_signal(signal.SIGTERM)

    assert events.count("event: final") == 1
    assert zipfile.ZipFile(BytesIO(archive)).namelist() == ["a.txt"]
    assert "exports.pack" in page
    assert server.wait(60) in {0, -signal.SIGTERM}  # uvicorn raises the signal again
