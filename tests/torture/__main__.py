"""``make torture``: the attacks, one after the other, and one table of what came of them.

Exits with 1 if anything was violated. What an attack does is drawn from its seed, which the table
has; when things meet is up to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from typing import Final

from tests.stress.claims import CLAIMS
from tests.stress.fleet import FLEET_KILLED
from tests.stress.harness import Result, tabulate
from tests.stress.kinds import KINDS
from tests.stress.orphans import CANCELLED_SUBMITS
from tests.stress.pauses import PAUSE
from tests.stress.races import RESCUE
from tests.stress.run import place, stress, tell_result
from tests.support.services import running_postgres
from tests.torture.disturbances import LOCKED, REPLIES, RESTARTS, SESSIONS, play_disturbed
from tests.torture.kills import KILLS, SYNCS, play_failing_syncs, play_kills

STORES: Final = ("sqlite", "postgresql")
STRESS: Final = "stress"
DISTURBED: Final = {"sqlite": (LOCKED,), "postgresql": (RESTARTS, SESSIONS, REPLIES)}
ATTACKS: Final = (KILLS, SYNCS, LOCKED, RESTARTS, SESSIONS, REPLIES, STRESS)
_STRESS_KINDS: Final = (*KINDS, CLAIMS, RESCUE, CANCELLED_SUBMITS, PAUSE, FLEET_KILLED)
_KILLS: Final = 20
"""Of N = 1; so are those below."""
_RUNS: Final = 64
_TIMES: Final = {LOCKED: 20, RESTARTS: 2, SESSIONS: 20, REPLIES: 20}
_PATIENCE: Final = 120.0


def attack(name: str, store: str, n: int, seed: int) -> list[Result]:
    """One attack on one store."""
    if name == STRESS:
        return asyncio.run(stress(store, [*_STRESS_KINDS], n * _RUNS, seed, _PATIENCE))
    if name == SYNCS and not (store == "sqlite" and shutil.which("strace")):
        if store == "sqlite":
            print(f"\n{SYNCS} is left out: strace is not installed")
        return []
    if name in (KILLS, SYNCS):
        with place(store) as url:
            assert url is not None, "it outlives a process"
            play = play_kills if name == KILLS else play_failing_syncs
            return [play(store, url, n * _KILLS, seed)]
    if name not in DISTURBED[store]:
        return []
    runs, times = n * _RUNS, n * _TIMES[name]
    if store == "sqlite":
        with tempfile.TemporaryDirectory(prefix="tapes-torture-") as folder:
            url = f"sqlite:///{folder}/tasks.db"
            return [asyncio.run(play_disturbed(name, store, url, None, runs, seed, times=times))]
    with running_postgres() as server:
        url = server.url()
        return [asyncio.run(play_disturbed(name, store, url, server, runs, seed, times=times))]


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="make torture", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--n", type=int, default=1, help="how long: 1 is some minutes")
    parser.add_argument("--store", choices=STORES, action="append", help="both if not given")
    parser.add_argument("--attack", choices=ATTACKS, action="append", help="repeat for several")
    parser.add_argument("--seed", type=int, default=None, help="a random one if not given")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(100_000) if options.seed is None else options.seed
    results: list[Result] = []
    for store in options.store or STORES:
        for name in options.attack or ATTACKS:
            found = attack(name, store, options.n, seed)
            if name != STRESS:  # which tells them as it goes on
                for result in found:
                    tell_result(result)
            results += found
    print()
    print("\n".join(tabulate(results)))
    bad = sum(len(result.bad) for result in results)
    print(f"\n{sum(result.runs for result in results)} scenarios, {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
