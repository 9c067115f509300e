"""``tapescope audit``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tapescope.cli._options import json_option, source_options
from tapescope.cli._output import on_terminal, print_json, print_line, say
from tapescope.cli._settings import EXIT_NOT_CHECKED, EXIT_VIOLATION, name_caller
from tapescope.cli._source import Place, choose_place
from tapescope.cli._store import choose_store, open_store
from tapescope.cli._table import Column, print_table
from tapescope.cli._types import NUMBER
from tapescope.errors import TapescopeError
from tapescope.maintenance.repair import repair_store
from tapescope.model.audit import AuditReport, Violation
from tapescope.model.json_shapes import audit_shape, repair_shape
from tapescope.model.repairs import RepairReport
from tapescope.model.wording import shorten_id
from tapescope.program import run_main
from tapescope.store.opening import OpenMode

__all__ = ["audit"]


@click.command("audit")
@click.option(
    "--grace",
    type=NUMBER,
    default=60.0,
    metavar="SECONDS",
    help="How long after the end of its lease a running task counts as stuck.",
)
@click.option(
    "--rows-per-second",
    "rate",
    type=NUMBER,
    metavar="N",
    help="Read no faster than this. Default: no limit.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Repair what can be repaired, and note each repair in the repair log.",
)
@click.option("--dry-run", is_flag=True, help="Only print what --repair would do.")
@json_option
@source_options
def audit(
    *,
    grace: float,
    rate: float | None,
    repair: bool,
    dry_run: bool,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> int:
    """Check every tape against the invariants, and the store itself.

    The guards of the database must be in place, and a SQLite file must be sound: it is read as a
    whole. Nothing is changed without --repair. The exit status is 0 when all is well, 1 when
    something is wrong, even if it could be repaired, and 2 when the tapes could not be checked.
    """
    place = choose_place(store, server)
    if place.server is not None and (repair or dry_run):
        raise click.BadParameter(
            "a repair works on a store itself: run it where the store is", param_hint="--repair"
        )
    try:
        if repair or dry_run:
            repaired, name = run_main(
                _repair(place, dry_run=dry_run, grace=grace, rows_per_second=rate)
            )
            _print_repairs(repaired, name, dry_run=dry_run, as_json=as_json)
            return EXIT_VIOLATION if repaired.violations else 0
        report, name = run_main(_audit(place, grace=grace, rows_per_second=rate))
    except TapescopeError as error:
        say(str(error))
        return EXIT_NOT_CHECKED
    _print_audit(report, name, as_json=as_json)
    return EXIT_VIOLATION if report.violations else 0


async def _audit(
    place: Place, *, grace: float, rows_per_second: float | None
) -> tuple[AuditReport, str]:
    """What the audit found, and the name of what it read."""
    async with place.open() as source:
        report = await source.audit(grace=grace, rows_per_second=rows_per_second)
        return report, source.name


async def _repair(
    place: Place, *, dry_run: bool, grace: float, rows_per_second: float | None
) -> tuple[RepairReport, str]:
    async with open_store(choose_store(place.store), OpenMode.EXISTING) as store:
        report = await repair_store(
            store,
            by=name_caller(),
            dry_run=dry_run,
            grace=grace,
            rows_per_second=rows_per_second,
        )
        return report, store.name


def _print_audit(report: AuditReport, store: str, *, as_json: bool) -> None:
    if as_json:
        print_json(audit_shape(report) | {"store": store})
        return
    _print_violations(report.violations)
    print_line(f"tapes checked: {report.checked:,}; violations: {len(report.violations):,}")


def _print_repairs(report: RepairReport, store: str, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(repair_shape(report) | {"store": store})
        return
    _print_violations(report.violations)
    if report.repairs:
        rows = [(one.rule.value, one.task_id, one.text) for one in report.repairs]
        _print_found("repair", "would be done" if dry_run else "done", rows)
    print_line(
        f"tapes checked: {report.checked:,}; violations: {len(report.violations):,}; "
        f"{'repairs that would be made' if dry_run else 'repairs'}: {len(report.repairs):,}; "
        f"left as they are: {len(report.left):,}"
    )


def _print_violations(violations: Sequence[Violation]) -> None:
    if violations:
        rows = [(v.rule.value, v.task_id, v.detail) for v in violations]
        _print_found("rule", "detail", rows)


def _print_found(rule: str, detail: str, rows: Sequence[tuple[str, str, str]]) -> None:
    terminal = on_terminal()
    shown = (
        [(rule, shorten_id(task_id), text) for rule, task_id, text in rows] if terminal else rows
    )
    columns = (Column(rule), Column("task_id"), Column(detail, wraps=True))
    print_table(columns, shown, terminal=terminal)
