"""``tapescope audit``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tapescope.audit import AuditReport, Violation, audit_store
from tapescope.cli.output import make_printable, print_json, print_line, say
from tapescope.cli.rendering import print_table
from tapescope.cli.settings import EXIT_NOT_CHECKED, EXIT_VIOLATION
from tapescope.cli.tasks import open_store
from tapescope.errors import TapescopeError
from tapescope.shapes import audit_shape

__all__ = ["audit_tapes"]


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


def _print(violations: Sequence[Violation], *, terminal: bool) -> None:
    if violations:
        rows = [(v.rule.value, v.task_id, make_printable(v.detail)) for v in violations]
        print_table(("rule", "task_id", "detail"), rows, terminal=terminal)
