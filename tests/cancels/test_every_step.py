"""A cancel, and what else may come, at every await at which a task of the product ever waits."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, groupby, islice
from pathlib import Path
from typing import Final

import pytest

from tapescope.testing import MemoryBackend
from tests.cancels.awaits import Await, compare, describe
from tests.cancels.scenario import Act, Place, Played, find_steps, judge, look_at_end, play
from tests.cancels.steps import Site, Step

SCENARIOS: Final = int(os.environ.get("CANCEL_SCENARIOS", "20000"))
"""Of the long run, on each store."""
SEED: Final = int(os.environ.get("CANCEL_SEED", "1"))
"""The first of the long run: parts of it run side by side."""
ONLY: Final = os.environ.get("CANCEL_ONLY", "")
"""One scenario of the long run, as it is printed: ``7 Run._run#3 cancel twice``."""

_STRIDE: Final = 25
"""Of the long run: of each seed it does one in so many of all acts at all steps, and of the next
seed the next ones, for what two hundred seeds do finds more than all that eight do."""
_FEW_OF: Final = 300
"""The same, of the run that looks for awaits alone."""
_FEW: Final = 100
_RARE: Final = {("core.py", "_insist_on_flush")}
"""What one in some thousand scenarios meets: the long run does."""
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

    def add(self, other: Tally) -> None:
        """Count another one's scenarios, too."""
        self.done += other.done
        self.bad += other.bad
        self.sites |= other.sites

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
        self.kind = url.partition(":")[0]
        self._url = url
        self._folder = folder
        self._made = 0

    def make(self) -> Place:
        """A fresh one."""
        self._made += 1
        if self.kind == "memory":
            return Place(self._url, MemoryBackend())
        if self.kind == "sqlite":
            return Place(f"sqlite:///{self._folder / f'{self._made}.db'}")
        return Place(f"{self._url}_{self._made}")

    def play(self, seed: int, moments: Iterable[tuple[Step | None, Act | None]]) -> Tally:
        """The scenario with each of these, judged a place at a time.

        Those whose process dies are by themselves: the next manager of this process may end what
        they leave, and die, too.
        """
        tally, one_life = Tally(), 1 if self.kind == "memory" else _FRESH_EVERY
        for _, alike in groupby(moments, lambda moment: moment[1] is not None and moment[1].kills):
            for some in batched(alike, one_life):
                place = self.make()
                played: list[Played] = []
                for step, act in some:
                    played.append(play(place, seed, step, act))
                    look_at_end(place, played[-1])
                judge(place, played)
                for one in played:
                    tally.note(one)
        return tally


def batched(
    moments: Iterable[tuple[Step | None, Act | None]], size: int
) -> Iterator[list[tuple[Step | None, Act | None]]]:
    """So many of them at a time."""
    rest = iter(moments)
    while some := list(islice(rest, size)):
        yield some


def play_all(places: Places, seed: int, *, most: int, stride: int = 1) -> Tally:
    """A scenario, undisturbed, and then with every act at every so-manieth of its steps."""
    place = places.make()
    undisturbed = play(place, seed)
    look_at_end(place, undisturbed)
    judge(place, [undisturbed])
    acts = [act for act in Act if act.can_come(place)]
    moments = [(step, act) for act in acts for step in find_steps(undisturbed, act)]
    tally = places.play(seed, moments[seed % stride :: stride][:most])
    tally.note(undisturbed)
    return tally


@pytest.mark.parametrize(
    "most", [20, pytest.param(60, marks=pytest.mark.slow)], ids=lambda most: f"most {most}"
)
@pytest.mark.parametrize(("url", "stride"), [("memory:", 71), ("sqlite:", 109)])
def test_no_act_at_any_step_breaks_a_tape_or_leaves_a_caller_waiting(
    url: str, stride: int, most: int, tmp_path: Path
) -> None:
    """Some of the steps and acts of one scenario: all tapes are whole, all callers answered."""
    tally = play_all(Places(url, tmp_path), seed=4, stride=stride, most=most)

    assert tally.bad == [], tally.describe(url)
    assert tally.done.total() >= 10


@pytest.mark.slow
@pytest.mark.timeout(900)  # some ninety seeds are enough, and one is less than a second
def test_a_few_seeds_meet_every_await_of_the_platform(tmp_path: Path) -> None:
    """A new await needs a scenario that waits there, or an excuse: the long run is run seldom."""
    places, tally = Places("memory:", tmp_path), Tally()
    missed: list[str] = []
    for seed in range(1, 301):
        tally.add(play_all(places, seed, most=_FEW, stride=_FEW_OF))
        _, unmet = compare(places.kind, tally.sites)
        missed = [str(one) for one in unmet if one.excused is None and not _is_rare(one)]
        if not missed:
            break

    assert tally.bad == [], tally.describe(places.kind)
    assert missed == []


def _is_rare(one: Await) -> bool:
    return (one.file.rpartition("/")[2], one.function) in _RARE


@pytest.mark.cancels
@pytest.mark.timeout(0)  # hours where the machine is slow: its own waits are bounded
@pytest.mark.parametrize("any_url", ["memory", "sqlite", "postgresql"], indirect=True)
def test_every_act_at_every_step_of_every_task(any_url: str, tmp_path: Path) -> None:
    """As many scenarios as are asked for, none bad, and every await of the product reached."""
    places = Places(any_url, tmp_path)
    if ONLY:
        seed, step, act = ONLY.split(maxsplit=2)
        kind_of_task, _, nth = step.partition("#")
        tally = places.play(int(seed), [(Step(kind_of_task, int(nth)), Act(act))])
        assert tally.bad == [], tally.describe(places.kind)
        return
    tally = Tally()
    reached, missed = compare(places.kind, tally.sites)
    for number in count(SEED):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a killed one has left and somebody still held
            gc.unfreeze()
            gc.collect()
        gc.freeze()  # what was imported and learned meanwhile, too: each scenario collects anew
        left = SCENARIOS - tally.done.total()
        played = play_all(places, number, most=left, stride=_STRIDE)
        tally.add(played)
        reached, missed = compare(places.kind, tally.sites)
        open_yet = sum(one.excused is None for one in missed)
        print(
            f"seed {number}: {tally.done.total()} scenarios, {len(tally.bad)} bad, "
            f"{len(reached)} of {len(reached) + len(missed)} awaits reached, {open_yet} open",
            flush=True,
        )
        for one in played.bad:
            print(f"  {one} at {one.struck_at}: {one.bad}", flush=True)
        if tally.done.total() >= SCENARIOS:
            break
    print(f"\n{tally.describe(places.kind)}\n{describe(places.kind, reached, missed)}")

    assert tally.bad == []
    assert [str(one) for one in missed if one.excused is None] == []
