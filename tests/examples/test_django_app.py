"""The project with Django: its own tests, and orders that are placed while a worker runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tapescope.testing import until
from tests.support.services import find_ports

PROJECT = Path(__file__).parents[2] / "examples/django_app"


def variables(data: Path) -> dict[str, str]:
    """The environment of a project with its data in a folder of the test's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO")}
    return {**kept, "ORDERS_DATA": str(data)}


def run(data: Path, *words: str) -> str:
    """A command in the project's folder: what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        cwd=PROJECT,
        env=variables(data),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(data: Path, *words: str) -> Generator[subprocess.Popen[str]]:
    """A command that goes on until the block ends."""
    command = [sys.executable, "-W", "error", *words]
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=variables(data),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.slow
def test_its_own_tests_pass(tmp_path: Path) -> None:
    """Those that a user of the project runs, and the migration is what the model is."""
    assert "Ran 3 tests" in run(tmp_path, "manage.py", "test")


@pytest.mark.slow
async def test_orders_get_their_receipts(tmp_path: Path) -> None:
    """Over HTTP and from a shell, from a server, a command and a worker that share a database."""
    run(tmp_path, "manage.py", "migrate")
    run(tmp_path, "manage.py", "makemigrations", "--check", "orders")
    store = f"sqlite:///{tmp_path}/orders.db"
    run(tmp_path, "-m", "tapescope.cli", "migrate", "--store", store)
    (port,) = find_ports(1)
    url = f"http://127.0.0.1:{port}"
    worker = ["-m", "tapescope.cli", "worker", "--app", "orders.worker:ops", "--store", store]
    fields = urlencode({"email": "ann@example.com", "things": 7}).encode()

    def place_over_http() -> int:
        with urlopen(f"{url}/orders", fields) as answer:
            return int(answer.status)

    def is_served() -> bool:
        try:
            with urlopen(f"{url}/receipts/none"):
                return False
        except OSError as error:
            return getattr(error, "code", None) == 404

    with (
        running(tmp_path, "manage.py", "runserver", "--noreload", str(port)),
        running(tmp_path, *worker),
    ):
        await until(is_served, within=60)
        placed = place_over_http()
        shown = run(tmp_path, "manage.py", "place", "bob@example.com", "8", "--wait", "60")
        await until(lambda: len(list((tmp_path / "mail").glob("*"))) == 2, within=60)
    mails = "".join(file.read_text() for file in (tmp_path / "mail").iterdir())

    assert placed == 201
    assert "receipt sent to bob@example.com" in shown
    assert "To: ann@example.com" in mails
    assert "8 things" in mails
