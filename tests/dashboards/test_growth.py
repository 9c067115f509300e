"""Growth that survives what happens to scrapes: the generated matrix, and that it leaves none out.

The matrix itself is one run of ``promtool``, under ``make test-observability``.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.dashboards.growth import (
    FOR_LACK,
    Check,
    counts,
    describe_matrix,
    list_cells,
    list_selectors,
    render_rules,
)
from tests.dashboards.pack import fill_in, list_questions, list_rules
from tests.support.services import require

HELPER = "(max without (grown) ("
AS_THEY_ARE = {"Finals per finished task"}
"""What reads counters since their processes began, and says so."""


def test_growth_is_counted_in_one_way() -> None:
    """No rule and no panel counts growth by itself: ``rate`` where much comes, or the helper."""
    expressions = {rule.get("record") or rule["alert"]: rule["expr"] for rule in list_rules()}
    for question in list_questions():
        if question.label is None:
            expressions[f"{question.where} {question.expr[:40]}"] = fill_in(question.expr)

    for where, expr in expressions.items():
        helped = expr.count(HELPER)
        assert expr.count("increase(") == helped, where
        assert not re.search(r"\b(i?delta|irate)\(", expr), where
        reads = any(s.name and counts(s.name) for s in list_selectors(expr))
        sums = ":sum" in where or where.removesuffix(expr[:40]).strip() in AS_THEY_ARE
        assert helped or "rate(" in expr or sums or not reads, where


def test_the_matrix_leaves_none_out() -> None:
    """Each alert and each panel that counts growth is asked in every cell, false and missed."""
    files = render_rules()
    described, checks = describe_matrix(files)
    asked = {(check.key, check.what) for check in checks}
    panels = {q.where for q in list_questions() if HELPER in q.expr}
    recorded = {r["record"] for r in list_rules() if "record" in r and HELPER in r["expr"]}
    alerts = {
        rule["alert"]
        for rule in list_rules()
        if "alert" in rule
        and (HELPER in rule["expr"] or any(f"{name} " in rule["expr"] for name in recorded))
    }

    assert len(described["tests"][0]["promql_expr_test"]) == len(checks)
    for key in panels:
        assert {(key, "false"), (key, "missed")} <= asked
    for name in alerts:
        keys = {key for key, _ in asked if f'"{name}"' in key}
        wanted = {"false"} if name in FOR_LACK else {"false", "missed"}
        assert keys, name
        assert all({(key, what) for what in wanted} <= asked for key in keys)
    assert len({cell.job for cell in list_cells()}) == len(list(list_cells()))


@pytest.mark.observability
@pytest.mark.timeout(400)
def test_nothing_false_and_nothing_missed(tmp_path: Path) -> None:
    """Each alert and panel over each fleet: failed scrapes, gaps, restarts, deploys, pushes."""
    files = render_rules()
    described, checks = describe_matrix(files)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "matrix.yml").write_text(json.dumps(described))

    done = subprocess.run(
        [require("promtool"), "test", "rules", tmp_path / "matrix.yml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, "\n".join(read_faults(done.stdout + done.stderr, checks))


def read_faults(said: str, checks: list[Check]) -> list[str]:
    """What promtool found, a line for each question that has another answer, with its jobs."""
    asked = {check.expr: check for check in checks}
    faults: list[str] = []
    for found in re.finditer(
        r'expr: (".*"), time: \w+,\s+exp:(.*)\s+got:(.*(?:\n(?!\s+expr).*)*)', said
    ):
        check = asked[json.loads(found[1])]
        expected, got = (set(re.findall(r'job="([^"]+)"', found[n])) for n in (2, 3))
        faults.append(f"{check.what}: {check.key}: {sorted(expected ^ got)}")
    return faults or [said]
