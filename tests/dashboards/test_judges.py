"""The pack before the judges that others made: Prometheus's own tool, and Grafana's own types.

``make test-observability`` runs it; ``make test`` does not, for each judge takes many seconds. What
the cases cover is in ``test_rules.py``, our own lint of the boards in ``test_boards.py``.
"""

from __future__ import annotations

import copy
import os
import subprocess
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.grafana_types import check_types, install_types
from tests.dashboards.pack import BOARDS, CASES, FOLDER, read_board
from tests.support.services import require

pytestmark = pytest.mark.observability


def run_promtool(*arguments: str | Path) -> str:
    """What promtool says; the test fails with it when it is not content."""
    done = subprocess.run(
        [require("promtool"), *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    """Both Prometheus configurations load, with the rule files that they name."""
    for name in ("prometheus.yml", "prometheus.compose.yml"):
        said = run_promtool("check", "config", FOLDER / "prometheus" / name)

        assert "2 rule files found" in said


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> Generator[Mapping[str, Future[str]]]:
    """By file what promtool says of its cases: as many files at once as there are cores."""
    files = [
        str(item.callspec.params["file"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "answers" in item.fixturenames
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            file: pool.submit(run_promtool, "test", "rules", FOLDER / "prometheus" / "tests" / file)
            for file in files
        }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", CASES)
def test_promtool_runs_the_cases(file: str, answers: Mapping[str, Future[str]]) -> None:
    """Every case of the file has the answer that it expects."""
    assert "SUCCESS" in answers[file].result()


def test_promtool_sees_a_wrong_case(tmp_path: Path) -> None:
    """A case that expects silence where the alert fires is a failure: the tool does compare."""
    text = (FOLDER / "prometheus" / "tests" / "integrity.yml").read_text()
    wrong = text.replace("exp_samples: [{labels: '{}', value: 1}]", "exp_samples: []", 1)
    (tmp_path / "wrong.yml").write_text(wrong.replace("../rules", str(FOLDER / "prometheus/rules")))

    with pytest.raises(AssertionError, match="FAILED"):
        run_promtool("test", "rules", tmp_path / "wrong.yml")


def test_the_boards_hold_to_grafanas_own_types(tmp_path: Path) -> None:
    """A compiler with Grafana's published types accepts each board, and refuses spoilt ones."""
    folder = install_types(tmp_path)
    names = (*BOARDS, "task")
    said = {name: check_types(folder, read_board(name)) for name in names}

    assert said == dict.fromkeys(names, "")
    for path, value in (
        (("panels", 1, "gridPos", "w"), "wide"),
        (("panels", 1, "options", "graphMode"), "areas"),
        (("panels", 1, "options", "graphmode"), "area"),
        (("panels", 1, "fieldConfig", "defaults", "unit"), 5),
        (("panels", 1, "fieldConfig", "defaults", "thresholds", "mode"), "relative"),
        (("templating", "list", 1, "type"), "question"),
        (("annotations", "list", 0, "enable"), "yes"),
        (("links", 0, "type"), "dashboard"),
        (("graphTooltip",), 7),
    ):
        spoilt = copy.deepcopy(read_board("overview"))
        inner: Any = spoilt
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

        assert "error TS" in check_types(folder, spoilt), path
