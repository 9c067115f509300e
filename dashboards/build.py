"""``python -m dashboards.build``: writes every generated file of the pack, the same each time."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from dashboards import settings, stack
from dashboards.alerts import list_alerts, render_alert
from dashboards.fleet import FLEET
from dashboards.integrity import INTEGRITY
from dashboards.op import OP_BOARD
from dashboards.overview import OVERVIEW
from dashboards.panels import Board
from dashboards.process import PROCESS
from dashboards.promql import Durations
from dashboards.recording import list_budgets, list_recording_rules
from dashboards.rendering import render_board
from dashboards.storing import STORE
from dashboards.task import render_task_board

__all__ = ["BOARDS", "Build", "main", "render_files"]

HERE: Final = Path(__file__).parent
BOARDS: Final[dict[str, Board]] = {
    "overview": OVERVIEW,
    "op": OP_BOARD,
    "fleet": FLEET,
    "tape-integrity": INTEGRITY,
    "store": STORE,
    "process": PROCESS,
}
_HEADER: Final = (
    "# Written by `make dashboards`: change dashboards/settings.py or the module that has it.\n"
)


@dataclass(frozen=True, slots=True)
class Build:
    """What a build may differ in from the one that is committed."""

    time_scale: float = 1.0
    runbooks: str = settings.RUNBOOKS_URL
    webhook: str | None = None
    addresses: stack.Addresses = field(default_factory=stack.Addresses)


def render_files(build: Build | None = None) -> dict[str, str]:
    """Every generated file, by its path under ``dashboards/``."""
    build = Build() if build is None else build
    durations = Durations(build.time_scale)
    documents: dict[str, Any] = {
        "prometheus/prometheus.yml": stack.describe_prometheus(build.addresses, durations),
        "prometheus/prometheus.compose.yml": stack.describe_prometheus(stack.IN_COMPOSE, durations),
        "prometheus/rules/recording.yml": _list_groups(
            {"name": "tapescope-recording", "rules": list_recording_rules(durations)},
            {
                "name": "tapescope-budgets",
                "interval": durations(settings.BUDGET_STEP),
                "rules": list_budgets(durations),
            },
        ),
        "prometheus/rules/alerts.yml": _list_groups(
            {
                "name": "tapescope-alerts",
                "rules": [
                    render_alert(alert, durations, build.runbooks)
                    for alert in list_alerts(durations)
                ],
            }
        ),
        "alertmanager/alertmanager.yml": stack.describe_alertmanager(durations, build.webhook),
        "grafana/provisioning/datasources/tapescope.yml": stack.describe_datasources(),
        "grafana/provisioning/dashboards/tapescope.yml": stack.describe_boards_provider(),
        "collector/collector.yml": stack.describe_collector(),
        "tempo/tempo.yml": stack.describe_tempo(),
        "compose.yaml": stack.describe_compose(),
    }
    files = {path: _HEADER + _render(content) for path, content in documents.items()}
    files |= {f"grafana/{name}.json": render_board(board) for name, board in BOARDS.items()}
    files["grafana/task.json"] = render_task_board()
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files; the defaults write what is committed."""
    given = _read(arguments)
    build = Build(
        given.time_scale,
        given.runbooks,
        given.webhook,
        stack.Addresses(
            targets=tuple(given.target) or stack.Addresses().targets,
            alertmanager=given.alertmanager,
            prometheus=given.prometheus,
            drills=tuple(given.drill),
        ),
    )
    for path, text in render_files(build).items():
        file = given.output / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dashboards.build", description=__doc__)
    addresses = stack.Addresses()
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to")
    parser.add_argument(
        "--time-scale",
        type=_scale,
        default=1.0,
        metavar="N",
        help="divide every window and wait by N: for drills and tests, never for production",
    )
    parser.add_argument("--runbooks", default=settings.RUNBOOKS_URL, help="where runbooks are read")
    parser.add_argument("--webhook", help="where Alertmanager posts what fires and resolves")
    parser.add_argument(
        "--target", action="append", default=[], metavar="HOST:PORT", help="what is scraped"
    )
    parser.add_argument(
        "--drill",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help=f"where a drill is scraped, as the job {settings.DRILL_JOB}",
    )
    parser.add_argument("--alertmanager", default=addresses.alertmanager, metavar="HOST:PORT")
    parser.add_argument("--prometheus", default=addresses.prometheus, metavar="HOST:PORT")
    return parser.parse_args(arguments)


def _scale(text: str) -> float:
    scale = float(text)
    if not math.isfinite(scale) or scale <= 0:
        raise argparse.ArgumentTypeError("a number over 0")
    return scale


def _list_groups(*groups: dict[str, object]) -> dict[str, object]:
    return {"groups": list(groups)}


class _Dumper(yaml.SafeDumper):
    """Lists stand further in than their key, and no value is ever an alias."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)


def _render(content: object) -> str:
    return yaml.dump(  # pyright: ignore[reportUnknownMemberType]  # its stubs lack width's type
        content, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True
    )


if __name__ == "__main__":
    main()
