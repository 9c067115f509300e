"""The board "Task": one id, its tape and its late events, as a PostgreSQL store has them.

Prometheus knows no task: no id is on a metric. So this board asks the store itself, through
Grafana's PostgreSQL source; its user is the role ``reader``, with the store's schema as its
``search_path``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import table, text
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import text as text_models

from dashboards.rendering import clean, explore_traces, list_links

__all__ = ["ASKED", "NOBODY", "QUESTIONS", "SqlQuestion", "render_task_board"]

ASKED: Final = "${task:sqlstring}"
"""The id that was typed, as Grafana quotes it for SQL."""
NOBODY: Final = "00000000-0000-0000-0000-000000000000"
_ROWS: Final = 1_000
_SOURCE: Final = common.DataSourceRef(type_val="grafana-postgresql-datasource", uid="${database}")


@dataclass(frozen=True, slots=True)
class SqlQuestion:
    """One table: what it asks the store, and what is said where there are no rows."""

    title: str
    description: str
    sql: str
    empty: str
    height: int


QUESTIONS: Final = (
    SqlQuestion(
        "Task",
        "The row of the task.",
        f"""\
SELECT op, status, attempt, retries - retries_spent AS "retries left", error_code AS error,
       cancel_reason AS cancelled, to_timestamp(created_at / 1e6) AS submitted,
       to_timestamp(run_at / 1e6) AS due, to_timestamp(claimed_at / 1e6) AS claimed,
       to_timestamp(finished_at / 1e6) AS ended, owner
FROM tasks WHERE task_id = {ASKED}""",
        "The store has no such task: give its whole id above. Tasks that were pruned are gone.",
        4,
    ),
    SqlQuestion(
        "Traces of its attempts",
        "Where an attempt's run span records. The trace id leads to Tempo.",
        f"""\
SELECT a.attempt, a.trace_id AS trace, a.span_id AS span
FROM attempts_traced AS a JOIN tasks AS t ON t.id = a.task
WHERE t.task_id = {ASKED} ORDER BY a.attempt""",
        "No attempt of it was traced.",
        5,
    ),
    SqlQuestion(
        "Tape",
        f"The first {_ROWS:,} events; tapescope tape shows all of them.",
        f"""\
SELECT e.seq, to_timestamp(e.ts / 1e6) AS at, e.attempt, e.type, e.body
FROM events AS e JOIN tasks AS t ON t.id = e.task
WHERE t.task_id = {ASKED} ORDER BY e.seq LIMIT {_ROWS}""",
        "It has not been claimed yet: a tape begins with the first attempt.",
        12,
    ),
    SqlQuestion(
        "Late events",
        f"The first {_ROWS:,} events that were kept off the tape.",
        f"""\
SELECT to_timestamp(ts / 1e6) AS at, attempt, type, reason, late_us / 1e6 AS "late by (s)", owner,
       trace_id AS trace, body
FROM quarantine WHERE task_id = {ASKED} ORDER BY id LIMIT {_ROWS}""",
        "No event of it was late.",
        8,
    ),
)

_HINT: Final = (
    "On a machine that has the store: `tapescope show $task`, `tapescope tape $task`,"
    " `tapescope drops $task`; these read a SQLite store as well, for which Grafana has no source"
    " of its own. From an exemplar's trace to the id: `tapescope trace TRACE_ID`."
)


def render_task_board() -> str:
    """The dashboard as JSON text, the same each time."""
    dashboard = (
        dashboards.Dashboard("tapescope: task")
        .uid("tapescope-task")
        .description("One task by its id: its row, its traces, its tape, its late events.")
        .tags(["tapescope"])
        .time("now-1h", "now")
        .timezone("browser")
        .readonly()
        .variables(
            [
                dashboards.DatasourceVariable("database")
                .label("Database")
                .type("grafana-postgresql-datasource"),
                dashboards.TextBoxVariable("task").label("Task").default_value(NOBODY),
            ]
        )
        .annotations([])
        .links(list(list_links()))
        .version(1)
        .build()
    )
    dashboard.panels = [_hint(), *_draw()]
    content = clean(dashboard)
    for panel, question in zip(content["panels"][1:], QUESTIONS, strict=True):
        panel["targets"] = [
            {
                "datasource": panel["datasource"],
                "editorMode": "code",
                "format": "table",
                "rawQuery": True,
                "rawSql": question.sql,
                "refId": "A",
            }
        ]
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _hint() -> models.Panel:
    return (
        text.Panel()
        .title("By command")
        .description("The same without Grafana, and for a SQLite store.")
        .mode(text_models.TextMode.MARKDOWN)
        .content(_HINT)
        .id(1)
        .grid_pos(models.GridPos(h=3, w=24, x=0, y=0))
        .build()
    )


def _draw() -> list[models.Panel]:
    panels: list[models.Panel] = []
    top = 3
    link = {"title": "Trace in Tempo", "url": explore_traces("${__value.raw}")}
    for number, question in enumerate(QUESTIONS, start=2):
        panels.append(
            table.Panel()
            .title(question.title)
            .description(question.description)
            .datasource(_SOURCE)
            .show_header(True)
            .cell_options(common.TableAutoCellOptions())
            .no_value(question.empty)
            .unit("none")
            .override_by_name("trace", [models.DynamicConfigValue("links", [link])])
            .id(number)
            .grid_pos(models.GridPos(h=question.height, w=24, x=0, y=top))
            .build()
        )
        top += question.height
    return panels
