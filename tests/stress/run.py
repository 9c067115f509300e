"""The long run of the stress harness: ``python tests/stress/run.py --store all --runs 2560``.

Prints the seeds, the delays that were drawn, and a table of what became of the runs. Exits with 1
if any run was bad, 0 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":  # started as a file: the root is not on the path yet
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.stress.benches import open_bench
from tests.stress.claims import CLAIMS
from tests.stress.fleet import FLEET, FLEET_KILLED, KILL_EVERY, play_fleet
from tests.stress.harness import AT_ONCE, Result, play, tabulate
from tests.stress.kinds import KINDS, RETRY
from tests.stress.orphans import CANCELLED_SUBMITS, play_cancelled_submits
from tests.stress.over_http import OVER_HTTP, play_over_http
from tests.stress.pauses import PAUSE, play_pauses
from tests.stress.races import RESCUE, play_rescues
from tests.stress.rates import RATED, play_rates
from tests.stress.slots import SLOTTED, play_slots
from tests.support.faulty_telemetry import Fault
from tests.support.services import running_postgres

REAL = ("memory", "sqlite", "postgresql")
ALL_KINDS = (
    *KINDS,
    CLAIMS,
    RESCUE,
    CANCELLED_SUBMITS,
    OVER_HTTP,
    PAUSE,
    FLEET,
    FLEET_KILLED,
    SLOTTED,
    RATED,
)
CORE_KINDS = tuple(kind for kind in KINDS if kind != RETRY)
"""What is played with telemetry that fails."""
FAULTS: dict[str, Callable[[int], Fault]] = {
    "raise": lambda seed: Fault(chance=0.5, seed=seed),
    "slow": lambda seed: Fault(seconds=0.1),
}
SLOW_AT_ONCE = 4
"""Scenarios at once where each hook holds up the loop for 0.1 s: with more of them, a call of the
store would not come back within its patience, whatever the store does."""
PAUSE_SHARE = 10
"""Of so many runs of the others one is of a process that is paused: each takes seconds."""


@contextmanager
def place(store: str) -> Generator[str | None]:
    """Where a store of this name lives for one run: a server, a file, or nowhere."""
    if store == "postgresql":
        with running_postgres() as server:
            yield server.url()
    elif store == "sqlite":
        with tempfile.TemporaryDirectory(prefix="tapes-stress-") as folder:
            yield f"sqlite:///{folder}/tasks.db"
    else:
        yield None


async def stress(
    store: str,
    kinds: list[str],
    runs: int,
    seed: int,
    patience: float,
    fault: Fault | None = None,
) -> list[Result]:
    """Every kind on one store, one after the other; ``fault``: at the hooks of its telemetry."""
    results: list[Result] = []
    with place(store) as url:
        async with open_bench(store, url, fault) as bench:
            for kind in kinds:
                if kind == RESCUE:
                    results.append(await play_rescues(bench, runs, seed))
                elif kind == CANCELLED_SUBMITS:
                    results.append(await play_cancelled_submits(bench, runs, seed))
                elif kind == OVER_HTTP:
                    results.append(await play_over_http(bench, runs, seed, patience=patience))
                elif kind == PAUSE:
                    if url is None:
                        continue  # no other process has this memory
                    results.append(await play_pauses(store, url, max(3, runs // PAUSE_SHARE)))
                elif kind == SLOTTED:
                    if url is None:
                        continue  # as above
                    with place(store) as empty:
                        assert empty is not None, "as above"
                        results.append(await play_slots(store, empty, runs))
                elif kind == RATED:
                    if url is None:
                        continue  # as above
                    with place(store) as empty:
                        assert empty is not None, "as above"
                        results.append(await play_rates(store, empty, runs))
                elif kind in (FLEET, FLEET_KILLED):
                    if url is None:
                        continue  # as above
                    every = KILL_EVERY if kind == FLEET_KILLED else None
                    with place(store) as empty:
                        assert empty is not None, "as above"
                        results.append(await play_fleet(store, empty, runs, kill_every=every))
                else:
                    slow = fault is not None and fault.slow
                    at_once = SLOW_AT_ONCE if slow else AT_ONCE
                    results.append(
                        await play(bench, kind, runs, seed, patience=patience, at_once=at_once)
                    )
                tell_result(results[-1])
    return results


def tell_result(result: Result) -> None:
    """Print what became of the runs of a kind."""
    print(f"\n{result.kind} on {result.store}, seed {result.seed}")
    for line in result.delays:
        print(f"  {line}")
    for line in result.figures:
        print(f"  {line}")
    if result.cancels:
        print("  cancels met:", ", ".join(f"{n} {met}" for met, n in result.cancels.most_common()))
    for what, violations in list(result.bad.items())[:10]:
        print(f"  BAD {what}: {'; '.join(violations)[:400]}")
    if len(result.bad) > 10:
        print(f"  … and {len(result.bad) - 10} more")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", choices=[*REAL, "two-transactions", "all"], default="all")
    parser.add_argument("--kind", choices=ALL_KINDS, action="append", help="repeat for several")
    parser.add_argument(
        "--runs",
        type=int,
        default=2560,
        help=f"of each kind on each store (paused-worker: 1/{PAUSE_SHARE} of them)",
    )
    parser.add_argument("--seed", type=int, default=None, help="a random one if not given")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for a task to end")
    parser.add_argument(
        "--faulty-telemetry",
        choices=FAULTS,
        help="each hook of spans, metrics and logs raises every other time, or takes 0.1 s; "
        f"of the kinds, these: {', '.join(CORE_KINDS)}",
    )
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(100_000) if options.seed is None else options.seed
    stores = list(REAL) if options.store == "all" else [options.store]
    print(f"seed {seed}, {options.runs} runs of each kind, {os.cpu_count()} CPUs")
    results: list[Result] = []
    for store in stores:
        fault = None if options.faulty_telemetry is None else FAULTS[options.faulty_telemetry](seed)
        kinds = options.kind or [*(ALL_KINDS if fault is None else CORE_KINDS)]
        results += asyncio.run(stress(store, kinds, options.runs, seed, options.patience, fault))
        if fault is not None:
            print(f"\nfaults on {store}:", ", ".join(f"{n} {h}" for h, n in fault.hooks.items()))
    print()
    print("\n".join(tabulate(results)))
    bad = sum(len(result.bad) for result in results)
    print(f"\n{sum(result.runs for result in results)} runs, {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
