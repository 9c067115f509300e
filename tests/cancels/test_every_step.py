"""A cancel, and what else may come, at every await at which a task of the product ever waits."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tapescope.testing import MemoryBackend
from tests.cancels.scenario import Act, Place, Played, find_steps, play
from tests.cancels.steps import Site

_FRESH_EVERY: Final = 50
"""Scenarios that a database is used for: an audit reads all that is in it."""


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Thousands of disturbed runs tell of it; and each collects what it leaves, and no more."""
    caplog.set_level(logging.CRITICAL + 1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass
class Tally:
    """What the scenarios on a store came to."""

    done: Counter[Act] = field(default_factory=Counter[Act])
    bad: list[Played] = field(default_factory=list[Played])
    sites: set[Site] = field(default_factory=set[Site])

    def note(self, played: Played) -> None:
        """Count a scenario whose act was done; on a real store a step is not met every time."""
        self.sites |= played.conductor.sites
        if played.act is not None and played.conductor.struck:
            self.done[played.act] += 1
        if played.bad:
            self.bad.append(played)

    def describe(self, store: str) -> str:
        """One line an act, and each bad scenario."""
        bad = Counter(played.act for played in self.bad)
        lines = [
            f"{store}, {act.value}: {n} scenarios, {bad[act]} bad" for act, n in self.done.items()
        ]
        lines += [f"{played} at {played.struck_at}: {played.bad}" for played in self.bad]
        return "\n".join(lines)


class Places:
    """Databases of one kind, a fresh one now and then."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self._used = 0

    def take(self) -> Place:
        """Where the next scenario keeps its tasks."""
        self._used += 1
        if self.url == "memory:":
            return Place(self.url, MemoryBackend())
        if self.url.startswith("sqlite"):
            return Place(f"sqlite:///{self._folder / f'{self._used // _FRESH_EVERY}.db'}")
        return Place(f"{self.url}_{self._used // _FRESH_EVERY}")


def play_all(places: Places, seed: int, *, stride: int, most: int) -> Tally:
    """A scenario, undisturbed, and then with every act at every so-manieth of its steps."""
    tally = Tally()
    undisturbed = play(places.take(), seed)
    tally.note(undisturbed)
    steps = [(step, act) for act in Act for step in find_steps(undisturbed, act)]
    for step, act in steps[seed % stride :: stride][:most]:
        tally.note(play(places.take(), seed, step, act))
    return tally


@pytest.mark.parametrize(("url", "stride"), [("memory:", 37), ("sqlite:", 163)])
def test_no_act_at_any_step_breaks_a_tape_or_leaves_a_caller_waiting(
    url: str, stride: int, tmp_path: Path
) -> None:
    """Some of the steps and acts of one scenario: all tapes are whole, all callers answered."""
    tally = play_all(Places(url, tmp_path), seed=1, stride=stride, most=60)

    assert tally.bad == [], tally.describe(url)
    assert tally.done.total() >= 10
