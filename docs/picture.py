"""``make picture``: the integrity story over two drills, from the data of a real Prometheus.

It runs the program under load, ``tapescope drill`` and a Prometheus with time-scaled rules, as the
live run of the pack does, and draws what Prometheus then answers. It takes some minutes.
"""

# matplotlib's **kwargs have no types:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from dashboards import settings
from tapescope.drills.catalogue import find_drill
from tests.dashboards.observed import SCALE, Live, running_stack, wait_for
from tests.support.services import running_collector

PICTURE: Final = Path(__file__).parent / "explanation" / "integrity-drill.png"
DRILLS: Final = ("late-event", "zombie-worker")
QUIET: Final = 30.0
"""Seconds before the first drill and after each one."""
STEP: Final = 0.5
WINDOW: Final = "5s"

OFFERED: Final = f"sum by (job) (rate(tapescope_tape_event_offered_total[{WINDOW}]))"
DROPPED: Final = (
    f"sum by (job, tapescope_drop_reason) (rate(tapescope_tape_event_dropped_total[{WINDOW}])) > 0"
)
FINALS: Final = (
    'sum(tapescope_tape_event_appended_total{tapescope_event_type="final"})'
    " / sum(tapescope_task_duration_seconds_count)"
)
UNACCOUNTED: Final = "max(abs(tapescope_tape_event_unaccounted))"
FIRING: Final = (
    f'ALERTS{{alertstate="firing", severity="critical", job="{settings.DRILL_JOB}"}}'
    f' or ALERTS{{alertstate="firing", alertname="TapescopeUnaccountedEvents"}}'
)


@dataclass(frozen=True)
class Series:
    """One line: its labels, and its points; times in seconds since the picture begins."""

    labels: dict[str, str]
    times: list[float]
    values: list[float]


@dataclass(frozen=True)
class Story:
    """What is drawn."""

    drills: dict[str, tuple[float, float]]
    """From the fault to the end of the drill."""
    series: dict[str, list[Series]]
    """By query."""
    length: float


def collect() -> Story:
    """Run it all, and ask Prometheus."""
    with (
        tempfile.TemporaryDirectory(prefix="tapescope-picture-") as folder,
        running_collector() as collector,
        running_stack(Path(folder), collector, len(DRILLS)) as live,
    ):
        began = time.time()
        wait(QUIET)
        drills: dict[str, tuple[float, float]] = {}
        for name in DRILLS:
            (alert,) = find_drill(name).alerts
            with live.drill(name) as (_, since):
                fault = time.time() - began
                wait_for(lambda: live.webhook.find(alert, "firing", since), 60)  # noqa: B023  # called before the next round
                wait(QUIET / 3)
                drills[name] = (fault, time.time() - began)
            wait(QUIET / 2)
        wait(QUIET / 2)  # a budget's longer windows fire later
        wait_for(lambda: not live.ask("query", query=FIRING)["result"], 180)
        wait(QUIET / 3)
        length = time.time() - began
        queries = (OFFERED, DROPPED, FINALS, UNACCOUNTED, FIRING)
        return Story(drills, {q: ask(live, q, began, length) for q in queries}, length)


def wait(seconds: float) -> None:
    """Let the load go on."""
    time.sleep(seconds)


def ask(live: Live, query: str, began: float, length: float) -> list[Series]:
    """The query's answer over the whole picture."""
    data: dict[str, Any] = live.ask(
        "query_range", query=query, start=str(began), end=str(began + length), step=str(STEP)
    )
    return [
        Series(
            one["metric"],
            [float(at) - began for at, _ in one["values"]],
            [float(value) for _, value in one["values"]],
        )
        for one in data["result"]
    ]


def draw(story: Story) -> None:
    """Four charts over one axis of time."""
    mpl.use("Agg")
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left"})
    figure, charts = plt.subplots(
        4, 1, figsize=(10, 9), sharex=True, height_ratios=(2, 2, 1.4, 1), layout="constrained"
    )
    offered, dropped, whole, firing = charts
    figure.suptitle(
        f"Two drills beside a program under load, as Prometheus saw them (rules {SCALE} times"
        " faster than shipped)"
    )
    offered.set_title("Events offered, by job")
    offered.set_ylabel("events / s")
    draw_lines(offered, story.series[OFFERED], ("job",))
    dropped.set_title("Events dropped: refused, counted and kept, by job and reason")
    dropped.set_ylabel("events / s")
    draw_lines(dropped, story.series[DROPPED], ("job", "tapescope_drop_reason"), marker=".")
    whole.set_title("What must not move: finals per finished task (1), unaccounted events (0)")
    whole.set_ylabel("ratio; events")
    for query, name in ((FINALS, "finals / finished"), (UNACCOUNTED, "unaccounted")):
        for series in story.series[query]:
            whole.plot(series.times, series.values, label=name)
    whole.set_ylim(-0.2, 1.4)
    whole.legend(loc="center right")
    firing.set_title("Alerts of the drills that page an engineer (budgets: by their long window)")
    names = sorted({name_alert(one) for one in story.series[FIRING]})
    for series in story.series[FIRING]:
        rows = [names.index(name_alert(series))] * len(series.times)
        firing.scatter(series.times, rows, marker="s", s=30, color="tab:red")
    firing.set_yticks(range(len(names)), names)
    firing.set_ylim(-0.6, len(names) - 0.4)
    firing.set_xlabel("seconds since the picture begins")
    firing.set_xlim(0, story.length)
    for chart in charts:
        for name, (fault, end) in story.drills.items():
            chart.axvspan(fault, end, color="tab:orange", alpha=0.15)
            if chart is offered:
                chart.annotate(
                    f" {name}", (fault, 0.93), xycoords=("data", "axes fraction"), fontsize=8
                )
        chart.grid(alpha=0.3)
    figure.savefig(PICTURE, dpi=110)


def name_alert(series: Series) -> str:
    """The alert's name, short, with the long window of a budget's."""
    window = series.labels.get("window", "")
    return f"{series.labels['alertname'].removeprefix('Tapescope')} {window}".strip()


def draw_lines(chart: Axes, lines: Sequence[Series], by: Sequence[str], marker: str = "") -> None:
    """A line a series, with these of its labels as its name."""
    for one in sorted(lines, key=lambda one: [one.labels[name] for name in by]):
        name = ", ".join(one.labels[name] for name in by)
        chart.plot(one.times, one.values, marker=marker, markersize=3, label=name)
    chart.set_ylim(0, 1.3 * max(value for one in lines for value in one.values))
    chart.legend(loc="upper right")


if __name__ == "__main__":
    draw(collect())
    print(PICTURE)
