"""The tests of the page about tests pass, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.services import Postgres

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "test-your-tasks.md"
FILES = {"shop.py", "conftest.py", "test_shop.py", "test_plain.py", "test_views.py"}


@pytest.mark.slow
def test_the_tests_of_the_page_pass(tmp_path: Path, postgres_server: Postgres) -> None:
    """Each block says of which file it is part; the server is real."""
    files: defaultdict[str, str] = defaultdict(str)
    blocks = re.findall(r"```(?:python|ini)\n# (\S+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    for name, text in blocks:
        files[name] += f"{text}\n\n"
    assert len(blocks) == PAGE.read_text("utf-8").count("```") / 2
    assert set(files) == FILES | {"pytest.ini"}
    url = re.sub(r"[?&]schema=[^&]*", "", postgres_server.url())
    settings = files["pytest.ini"].replace("postgresql://app@localhost/shop", url)
    files["pytest.ini"] = (
        f"{settings}filterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    files["test_server.py"] = files["test_shop.py"].replace(
        "tapescope_memory)", "tapescope_postgres)"
    )
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert re.search(r"^14 passed", done.stdout, re.MULTILINE), done.stdout
