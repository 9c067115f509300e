"""``make docs``: the reference pages that are made from the code, so that they cannot lie.

It prints what it wrote. What it writes is committed; a test makes it again and compares.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from docs.roles import make_roles_page
from tapescope import Outcome, errors
from tapescope_telemetry import METRICS, SCHEMA_URL, SCOPE_NAME, SPANS, MetricRow, SpanRow
from tapescope_telemetry.names import EXPORTER_METRICS, SERVER_METRICS, SUBMIT, Attribute
from tapescope_telemetry.scrape_names import name_label, name_metric
from tapescope_telemetry.vocabulary import ATTRIBUTES, CICD_RESULTS, RUN_OUTCOMES, AttributeRow

REFERENCE = Path(__file__).parent / "reference"

_ROW = re.compile(r" *[*x+] [\w.]+$")
"""A row of the tree of errors."""

_MADE = (
    "<!-- Made by `make docs` from tapescope_telemetry and tapescope.model: change it there. -->\n"
)

_SCOPE = f"All have the scope `{SCOPE_NAME}`, the package's version and the schema `{SCHEMA_URL}`."


def make_pages() -> dict[str, str]:
    """The text of each page, by its file's name."""
    return {
        "errors.md": _make_errors(),
        "metrics.md": _make_metrics(),
        "roles.md": make_roles_page(),
        "spans.md": _make_spans(),
    }


def _make_metrics() -> str:
    named = {
        row.name: name_metric(row.name, row.kind, row.unit).query
        for row in (*METRICS, *SERVER_METRICS, *EXPORTER_METRICS)
    }
    used = {key: ATTRIBUTES[key] for key in _order((*METRICS, *SERVER_METRICS))}
    return "\n".join(
        [
            "# Metrics",
            "",
            _MADE,
            _SCOPE,
            "Every name is public: to change one is a breaking change, and is in the changelog.",
            "An attribute in brackets is on some of the series only.",
            "",
            *_tabulate_metrics(METRICS, named),
            "",
            "A process that serves the HTTP API tells, besides:",
            "",
            *_tabulate_metrics(SERVER_METRICS, named),
            "",
            "`tapescope exporter` alone tells the totals that its store keeps:",
            "",
            *_tabulate_metrics(EXPORTER_METRICS, named),
            "",
            "A histogram is `…_bucket`, `…_count` and `…_sum` on the scrape.",
            "Counters are there from the start,",
            "at 0, for the label sets that are known beforehand: an alert sees the first increase.",
            "(Of drops by op those of which one pages.)",
            "Exemplars (`trace_id`, `span_id`) are on histograms, and on the counters",
            "of drops and retries.",
            "",
            "The scrape also has `target_info` (the resource), `tapescope_build_info`, and",
            "`prometheus_client`'s `process_…` and `python_…`.",
            "Metrics of other scopes on the same provider",
            "carry `otel_scope_name` and `otel_scope_version`; ours do not.",
            "",
            "## Attributes and labels",
            "",
            "On the scrape a dot becomes an underscore.",
            "No id and no text of a user's is ever a label.",
            "",
            *_describe_attributes(used, labels=True),
            "",
            "## Buckets",
            "",
            "They are advice to the SDK, in the metric's unit; a view of yours overrules them.",
            "",
            *_table(
                ["histogram", "upper bounds"],
                (
                    [f"`{row.name}`", ", ".join(f"{bound:g}" for bound in row.boundaries)]
                    for row in (*METRICS, *SERVER_METRICS)
                    if row.boundaries
                ),
            ),
            "",
        ]
    )


def _tabulate_metrics(rows: Iterable[MetricRow], named: Mapping[str, str]) -> Iterable[str]:
    return _table(
        ["metric", "kind, unit", "attributes", "on the scrape", "meaning"],
        (
            [
                f"`{row.name}`",
                f"{row.kind}, `{row.unit}`",
                _list_attributes(row),
                f"`{named[row.name]}`",
                row.description,
            ]
            for row in rows
        ),
    )


def _make_spans() -> str:
    used = {key: ATTRIBUTES[key] for row in SPANS for key in (*row.attributes, *row.optional)}
    used[Attribute.LINK] = ATTRIBUTES[Attribute.LINK]
    return "\n".join(
        [
            "# Spans",
            "",
            _MADE,
            _SCOPE,
            "An attribute in brackets is on some of the spans only.",
            "Stores open no spans of their own.",
            "",
            *_table(
                ["span", "kind", "parent", "links", "attributes"],
                (
                    [
                        f"`{row.name}`",
                        row.kind,
                        row.parent,
                        ", ".join(f"`{kind}`" for kind in row.links) or "–",
                        _list_attributes(row),
                    ]
                    for row in SPANS
                ),
            ),
            "",
            "A link says in `tapescope.link` where it leads, from process to process: the submit's",
            "trace context is stored with the task, and so is where each run that was recorded is.",
            "Every run that began has a span that ended ([I8](invariants.md)); but for one whose",
            "process was killed, to which the rescue and the next attempt lead.",
            "",
            "## How a run ended",
            "",
            "`tapescope.task.outcome` says it on the `run` span.",
            "**Cancelled is neither an error nor a success**:",
            "its status is UNSET, as a success's is: ask for the outcome, never for it alone.",
            "",
            *_table(
                ["outcome", "status", "`error.type`", "meaning"],
                (
                    [
                        f"`{one.outcome}`",
                        "ERROR" if one.is_error else "UNSET",
                        "yes" if one.is_error else "–",
                        one.meaning,
                    ]
                    for one in RUN_OUTCOMES
                ),
            ),
            "",
            "## Attributes",
            "",
            *_describe_attributes(used, labels=False),
            "",
            "## Semantic conventions",
            "",
            "There is no convention for tasks. `error.type` and `code.function.name` are borrowed;",
            "the nearest convention is that of CI/CD pipelines; from one to the other:",
            "",
            *_table(
                ["`tapescope.task.outcome`", "`error.type`", "`cicd.pipeline.task.run.result`"],
                (
                    [f"`{outcome}`", f"`{error}`" if error else "any other", f"`{result}`"]
                    if outcome is Outcome.FAILED
                    else [f"`{outcome}`", "–", f"`{result}`"]
                    for outcome, error, result in CICD_RESULTS
                ),
            ),
            "",
            "`retried`, `lost` and `released` are ends of an attempt, not of a task:",
            "they have no such result.",
            "",
            "With `messaging_attributes` on, a span also has what the convention for messaging has",
            "of it, for backends that draw queues: a task is a message, its op a queue.",
            "",
            *_table(
                ["span", *(f"`{key}`" for key in SUBMIT.describe_message("", ""))],
                (
                    [f"`{row.name}`", *row.describe_message("the op", "the task's id").values()]
                    for row in SPANS
                    if row.messaging
                ),
            ),
            "",
        ]
    )


def _make_errors() -> str:
    drawn = [
        line for line in inspect.cleandoc(errors.__doc__ or "").splitlines() if _ROW.match(line)
    ]
    kinds = [getattr(errors, name) for name in errors.__all__]
    kinds.sort(key=lambda kind: list(vars(errors)).index(kind.__name__))
    return "\n".join(
        [
            "# Errors",
            "",
            "<!-- Made by `make docs` from platform/tapescope/errors.py: change it there. -->\n",
            "Each is exported by `tapescope`; its message says what to do next.",
            "",
            "```text",
            *drawn,
            "```",
            "",
            *_table(
                ["error", "when"],
                ([f"`{kind.__name__}`", _first_paragraph(kind)] for kind in kinds),
            ),
            "",
        ]
    )


def _first_paragraph(kind: type[BaseException]) -> str:
    paragraph, _, _ = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    return " ".join(paragraph.replace("``", "`").split())


def _order(rows: Iterable[MetricRow]) -> list[str]:
    """The attributes of these metrics, in the order of the vocabulary."""
    used = {key for row in rows for key in (*row.attributes, *row.optional)}
    return [key for key in ATTRIBUTES if key in used]


def _list_attributes(row: MetricRow | SpanRow) -> str:
    required = [f"`{key}`" for key in row.attributes]
    return ", ".join([*required, *(f"[`{key}`]" for key in row.optional)]) or "–"


def _describe_attributes(rows: Mapping[str, AttributeRow], *, labels: bool) -> list[str]:
    header = ["attribute", *(["label"] if labels else []), "values", "meaning"]
    lines: list[list[str]] = []
    for key, row in rows.items():
        values = ", ".join(f"`{value}`" for value in row.values)
        described = "; ".join(part for part in (values, row.open) if part)
        lines.append(
            [f"`{key}`", *([f"`{name_label(key)}`"] if labels else []), described, row.meaning]
        )
    return _table(header, lines)


def _table(header: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines]


def main() -> None:
    """Write the pages."""
    for name, text in make_pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
