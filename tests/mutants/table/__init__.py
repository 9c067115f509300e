"""The guards of the product, room by room; ``make mutants`` removes each in turn.

A new guard gets a row here: see CONTRIBUTING.md. ``tests/mutants/test_table.py`` finds the triggers,
constraints, shields and locks that have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Final

from tests.mutants.guard import Guard
from tests.mutants.table import (
    client,
    context,
    engines,
    expiry,
    http,
    limits,
    manager,
    messages,
    order,
    pauses,
    postgres,
    processes,
    queues,
    run,
    schedules,
    shell,
    sqlite,
    store,
    sync,
    telemetry,
    testing,
)

__all__ = ["GUARDS"]


def _by_name() -> dict[str, Guard]:
    rooms = (
        run,
        store,
        manager,
        shell,
        http,
        client,
        sqlite,
        postgres,
        sync,
        schedules,
        pauses,
        order,
        context,
        messages,
        limits,
        engines,
        queues,
        processes,
        expiry,
        telemetry,
        testing,
    )
    named: dict[str, Guard] = {}
    for guard in chain.from_iterable(room.GUARDS for room in rooms):
        assert guard.name not in named, f"{guard.name} stands twice in the table"
        named[guard.name] = guard
    return named


GUARDS: Final[Mapping[str, Guard]] = _by_name()
"""Every row by its name."""
