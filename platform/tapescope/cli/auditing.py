"""``tapescope audit``."""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Sequence

from tapescope.cli.output import make_printable, print_json, print_line, say
from tapescope.cli.rendering import print_table
from tapescope.cli.settings import EXIT_NOT_CHECKED, EXIT_VIOLATION
from tapescope.cli.tasks import open_store
from tapescope.errors import TapescopeError
from tapescope.maintenance.audit import audit_store
from tapescope.maintenance.repair import repair_store
from tapescope.model.audit import AuditReport, Violation
from tapescope.model.json_shapes import audit_shape, repair_shape
from tapescope.model.repairs import RepairReport

__all__ = ["audit_tapes", "repair_tapes"]


def audit_tapes(
    url: str, *, grace: float, rows_per_second: float | None, as_json: bool, terminal: bool
) -> int:
    """Check every tape of the store and print what is wrong; gives the exit status."""

    async def read() -> AuditReport:
        async with open_store(url) as store:
            return await audit_store(store, grace=grace, rows_per_second=rows_per_second)

    try:
        report = asyncio.run(read())
    except TapescopeError as error:
        say(str(error))
        return EXIT_NOT_CHECKED
    if as_json:
        print_json(audit_shape(report))
    else:
        _print(report.violations, terminal=terminal)
        print_line(f"tapes checked: {report.checked:,}; violations: {len(report.violations):,}")
    return EXIT_VIOLATION if report.violations else 0


def repair_tapes(
    url: str,
    *,
    dry_run: bool,
    grace: float,
    rows_per_second: float | None,
    as_json: bool,
    terminal: bool,
) -> int:
    """Check every tape, mend what can be, and print both; gives the exit status.

    It is that of the audit: a violation that was mended is still one that somebody must look into.
    """

    async def mend() -> RepairReport:
        async with open_store(url) as store:
            return await repair_store(
                store,
                by=_name_caller(),
                dry_run=dry_run,
                grace=grace,
                rows_per_second=rows_per_second,
            )

    try:
        report = asyncio.run(mend())
    except TapescopeError as error:
        say(str(error))
        return EXIT_NOT_CHECKED
    if as_json:
        print_json(repair_shape(report))
    else:
        _print(report.violations, terminal=terminal)
        if report.repairs:
            rows = [
                (one.rule.value, one.task_id, make_printable(one.text)) for one in report.repairs
            ]
            would = "would be done" if dry_run else "done"
            print_table(("repair", "task_id", would), rows, terminal=terminal)
        print_line(
            f"tapes checked: {report.checked:,}; violations: {len(report.violations):,}; "
            f"{'repairs that would be made' if dry_run else 'repairs'}: {len(report.repairs):,}; "
            f"left as they are: {len(report.left):,}"
        )
    return EXIT_VIOLATION if report.violations else 0


def _name_caller() -> str:
    """Who asks for a repair, for the trace."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need have no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def _print(violations: Sequence[Violation], *, terminal: bool) -> None:
    if violations:
        rows = [(v.rule.value, v.task_id, make_printable(v.detail)) for v in violations]
        print_table(("rule", "task_id", "detail"), rows, terminal=terminal)
