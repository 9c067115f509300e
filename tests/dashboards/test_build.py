"""The generator: what is committed is what it writes, and a time scale touches times only."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dashboards import settings
from dashboards.build import Build, main, render_files
from dashboards.promql import Durations
from tests.dashboards.pack import FOLDER

DURATION = re.compile(
    r"(?<=\[)\w+(?=\])|(?<=offset )\w+|(?<=(?<!_)for: )\w+"
    r"|(?<=\[)\w+(?=:)|(?<=\w:)\w+(?=\])|(?<=[_ ]interval: )\w+|(?<=_timeout: )\w+|(?<=_wait: )\w+"
)
AGE = re.compile(
    r"(?<=process_start_time_seconds < )[\d.e+]+|[\d.e+]+(?= (?:unless|or) last_over_time)"
    r"|(?<=_\], )[\d.e+]+(?=\) < 0)"
)
SIZES = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def measure(duration: str) -> int:
    """A Prometheus duration in milliseconds."""
    found = re.fullmatch(r"(\d+)(d|h|m|s|ms)", duration)
    assert found is not None, duration
    return int(found[1]) * SIZES[found[2]]


def flatten(text: str) -> str:
    """YAML with its folded lines made one."""
    return re.sub(r"\n +(?![ -]|\w+:)", " ", text)


def test_what_is_committed_is_what_the_generator_writes(tmp_path: Path) -> None:
    """Every generated file is committed, byte for byte."""
    main(["--output", str(tmp_path)])
    written = {str(f.relative_to(tmp_path)): f for f in tmp_path.rglob("*") if f.is_file()}

    assert written.keys() == render_files().keys()
    for path, file in written.items():
        assert file.read_bytes() == (FOLDER / path).read_bytes(), f"{path}: run `make dashboards`"


def test_the_same_settings_give_the_same_bytes() -> None:
    """Two builds in one process do not differ: nothing depends on order, time or chance."""
    first, second = render_files(), render_files()

    assert first == second
    assert list(first) == list(second)


@pytest.mark.parametrize("scale", [60.0, 7.0])
def test_a_time_scale_changes_durations_and_nothing_else(scale: float) -> None:
    """Scaled rules are the shipped ones with every window, offset and wait divided."""
    shipped, scaled = render_files(), render_files(Build(time_scale=scale))
    changed = [path for path in shipped if shipped[path] != scaled[path]]

    assert changed == [
        "prometheus/prometheus.yml",
        "prometheus/prometheus.compose.yml",
        "prometheus/rules/recording.yml",
        "prometheus/rules/alerts.yml",
        "alertmanager/alertmanager.yml",
    ]
    for path in changed:
        before, after = flatten(shipped[path]), flatten(scaled[path])
        for pattern in (DURATION, AGE):
            lengths = list(zip(pattern.findall(before), pattern.findall(after), strict=True))
            for was, now in lengths:
                if pattern is AGE:
                    assert float(now) == pytest.approx(float(was) / scale, rel=1e-4)
                else:
                    assert measure(now) == pytest.approx(measure(was) / scale, abs=0.5)
            before, after = pattern.sub("_", before), pattern.sub("_", after)
        assert before.split() == after.split(), path
    assert "increase5m" in scaled["prometheus/rules/recording.yml"]  # names keep their window


def test_durations_are_written_as_prometheus_reads_them() -> None:
    """The largest unit that divides the length; a wait that is not 0 never becomes 0."""
    exact = Durations()

    assert [exact(s) for s in (0, 300, 5400, 3 * settings.DAY, 0.25)] == [
        *("0s", "5m", "90m", "3d", "250ms")
    ]
    assert Durations(60)(15) == "250ms"
    assert Durations(1_000_000)(5) == "1ms"


def test_addresses_and_webhook_are_options(tmp_path: Path) -> None:
    """A drill's own ports go into the configuration from the command line."""
    main(
        [
            *("--output", str(tmp_path), "--target", "127.0.0.1:1111"),
            *("--alertmanager", "127.0.0.1:2222", "--webhook", "http://127.0.0.1:3333/"),
            *("--runbooks", "https://wiki.example/", "--drill", "127.0.0.1:4444"),
        ]
    )
    prometheus = (tmp_path / "prometheus/prometheus.yml").read_text()
    receivers = (tmp_path / "alertmanager/alertmanager.yml").read_text()
    alerts = (tmp_path / "prometheus/rules/alerts.yml").read_text()

    assert "127.0.0.1:1111" in prometheus
    assert "127.0.0.1:2222" in prometheus
    assert re.search(
        r"job_name: tapescope-drill\s+static_configs:[\s-]+targets:[\s-]+127.0.0.1:4444",
        prometheus,
    )
    assert receivers.count("http://127.0.0.1:3333/") == 2
    assert "https://wiki.example/TapescopeTargetDown.md" in alerts


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "fast"])
def test_a_time_scale_that_is_no_number_over_zero_is_refused(
    scale: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad scale is one line on the command line, and nothing is written."""
    with pytest.raises(SystemExit) as ended:
        main(["--time-scale", scale])

    assert ended.value.code == 2
    assert "--time-scale" in capsys.readouterr().err


def test_labels_and_selector_are_settings_of_a_build(tmp_path: Path) -> None:
    """Another name for the cluster and a matcher of one's own reach rules, variables and links."""
    subprocess.run(
        [sys.executable, "-m", "dashboards.build", "--output", str(tmp_path)],
        env={
            **os.environ,
            "DASHBOARDS_SELECTOR": 'team="shop"',
            "DASHBOARDS_AGGREGATION_LABELS": "k8s_cluster,job",
        },
        cwd=FOLDER.parent,
        check=True,
    )
    alerts = (tmp_path / "prometheus/rules/alerts.yml").read_text()
    recording = flatten((tmp_path / "prometheus/rules/recording.yml").read_text())
    board = json.loads((tmp_path / "grafana/overview.json").read_text())

    assert 'tapescope_build_info{team="shop"}' in alerts
    assert "var-k8s_cluster=" in flatten(alerts).replace("\n", "")
    assert "sum by (k8s_cluster, job, instance)" in recording
    assert "namespace" not in alerts + recording
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names == ["datasource", "k8s_cluster", "job", "instance", "op", "store"]
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            assert 'k8s_cluster=~"$k8s_cluster"' in target["expr"]
            assert 'team="shop"' in target["expr"]


def test_targets_that_are_named_need_no_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that never told anything is missed by its job's name, where that is set."""
    path = "prometheus/rules/alerts.yml"
    unnamed = " ".join(render_files()[path].split())
    monkeypatch.setattr(settings, "TARGETS", 'job="shop-worker"')
    named = " ".join(render_files()[path].split())
    wanted = f'or up{{job!="{settings.DRILL_JOB}", job="shop-worker"}} == 0'

    assert wanted in named
    assert wanted not in unnamed


def test_an_op_has_a_number_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a table names it; the others have the default, and neither has both."""
    monkeypatch.setattr(settings, "OLDEST_WAITING", settings.OpTable(900, {"nightly": 28_800}))
    monkeypatch.setattr(settings, "OP_OBJECTIVES", settings.OpTable(0.99, {"mail": 0.95}))
    files = render_files()
    text = " ".join(files["prometheus/rules/alerts.yml"].split())
    (left,) = yaml.safe_load(files["prometheus/rules/recording.yml"])["groups"][1]["rules"]
    others, mail = left["expr"].split(" or ")

    assert '(tapescope_task_oldest_due_age_seconds{tapescope_task_op!~"nightly"}) > 900 or' in text
    assert '(tapescope_task_oldest_due_age_seconds{tapescope_task_op="nightly"}) > 28800)' in text
    assert (others.count('{tapescope_task_op!~"mail"}'), "(0.01 *" in others) == (2, True)
    assert (mail.count('{tapescope_task_op="mail"}'), "(0.05 *" in mail) == (2, True)
