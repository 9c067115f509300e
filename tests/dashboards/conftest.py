"""The live run, once for all that looks at it: the program under load, and its drills."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapescope.drills.catalogue import find_drill
from tests.dashboards.observed import WATCHED, Firing, Live, running_stack, wait_for
from tests.support.services import Collector


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the live run keeps everything."""
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="package")
def live(folder: Path, collector: Collector) -> Iterator[Live]:
    """The stack, with the load under way."""
    with running_stack(folder, collector, len(WATCHED)) as live:
        yield live


@pytest.fixture(scope="package")
def firings(live: Live) -> dict[str, Firing]:
    """Every drill made once, to the moment that the webhook was told of its alert."""
    firings: dict[str, Firing] = {}
    for name in WATCHED:
        (alert,) = find_drill(name).alerts
        with live.drill(name) as since:
            told = wait_for(lambda: live.webhook.find(alert, "firing", since), 60)  # noqa: B023  # called before the next round
            firings[name] = Firing(alert, since, time.monotonic() - since, told["annotations"])
    return firings
