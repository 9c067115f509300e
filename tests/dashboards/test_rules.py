"""The rules, and what their test cases cover; ``test_judges.py`` runs those cases."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from dashboards import settings
from tests.dashboards.pack import CASES, list_rules, read_use, read_yaml

CASE_NAME = re.compile(r"(?P<key>Tapescope\w+(?:/\w+)?) (?P<how>fires|stays quiet): .+")


def list_keys() -> set[str]:
    """Every alert rule's key: its name, with the window of a burn-rate alert."""
    keys: set[str] = set()
    for rule in list_rules():
        if "alert" in rule:
            window = rule["labels"].get("window")
            keys.add(f"{rule['alert']}/{window}" if window else rule["alert"])
    return keys


def count_cases() -> Counter[tuple[str, str]]:
    """How often each alert is shown to fire, and to stay quiet, by what the cases really ask."""
    counted: Counter[tuple[str, str]] = Counter()
    for file in CASES:
        for case in read_yaml(f"prometheus/tests/{file}")["tests"]:
            named = CASE_NAME.fullmatch(case["name"])
            if named is not None:
                assert shows(case, named["key"], fires=named["how"] == "fires"), case["name"]
                counted[named["key"], named["how"]] += 1
    return counted


def shows(case: dict[str, Any], key: str, *, fires: bool) -> bool:
    """Whether one of the case's questions is of this alert, with that answer."""
    alert, _, window = key.partition("/")
    for asked in case["promql_expr_test"]:
        about = f'alertname="{alert}"' in asked["expr"]
        whole = not window or f'window="{window}"' in asked["expr"]
        whole = whole or f'window="{window}"' in str(asked["exp_samples"])
        whole = whole or 'window="' not in asked["expr"]
        if about and whole and bool(asked["exp_samples"]) == fires:
            return True
    return False


def test_each_alert_is_shown_to_fire_and_to_stay_quiet() -> None:
    """No alert rule without a case of each kind, and no case of an alert that is not there."""
    counted = count_cases()

    assert {key for key, _ in counted} == list_keys()
    for key in list_keys():
        assert counted[key, "fires"], f"{key} has no case that fires"
        assert counted[key, "stays quiet"], f"{key} has no case that stays quiet"


def test_each_trap_has_its_case() -> None:
    """A ratio whose part is absent, a newborn series, and few events are cases of their own."""
    names = [case["name"] for case in read_yaml("prometheus/tests/traps.yml")["tests"]]

    for trap in ("trap, ratio:", "trap, newborn:", "trap, few events:"):
        assert any(name.startswith(trap) for name in names), trap


def test_each_rule_parses_and_is_told_apart() -> None:
    """Every expression is PromQL; no rule has the name, or the name and window, of another."""
    names = Counter(
        rule.get("record") or (rule["alert"], rule["labels"].get("window")) for rule in list_rules()
    )

    assert max(names.values()) == 1
    for rule in list_rules():
        assert read_use(rule["expr"]).metrics, rule


def test_each_alert_says_how_bad_it_is_and_where_to_read() -> None:
    """Each alert has a severity that the routes know, a summary, a description and a runbook."""
    for rule in list_rules():
        if "alert" in rule:
            notes = rule["annotations"]

            assert rule["alert"].startswith("Tapescope")
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert notes["summary"].endswith(".")
            assert notes["description"].endswith(".")
            assert notes["runbook_url"].endswith(f"/{rule['alert']}.md")
            board, _, chosen = notes["dashboard_url"].partition("?")
            assert board.startswith(f"{settings.DASHBOARDS_URL}/d/tapescope-")
            for label in settings.AGGREGATION_LABELS:
                assert f"var-{label}={{{{ $labels.{label} | urlquery }}}}" in chosen
