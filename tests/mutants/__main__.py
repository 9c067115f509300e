"""``make mutants``: remove each guard in turn, and see that a test notices."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, get_args

from tests.mutants.guard import ROOT, EditError, Guard, Kind, mutate
from tests.mutants.scratch import Scratch, running_scratch
from tests.mutants.table import GUARDS

_SMOKE: Final = "tests/mutants/test_smoke.py::test_a_task_runs_to_its_end"
_WIDTH: Final = 80


class Result(NamedTuple):
    """What became of a mutant."""

    name: str
    verdict: str
    """``killed``, ``lives``, or ``broken``: its row shows nothing."""
    killer: str
    seconds: float
    output: str

    @property
    def line(self) -> str:
        """The result in one line of 80 columns."""
        said = self.killer if self.verdict == "killed" else self.verdict.upper()
        name = f"{self.name:<30} "
        room = _WIDTH - len(name)
        return name + (said if len(said) <= room else f"…{said[1 - room :]}")


def main(arguments: Sequence[str]) -> int:
    """Run the mutants that are asked for; 0 when each of them was noticed."""
    asked = _parse(arguments)
    guards = _choose(asked)
    if not guards:
        print("No guard has such a name. See tests/mutants/table.", file=sys.stderr)
        return 2
    try:
        texts = {guard.name: mutate(guard, GUARDS) for guard in guards}
    except EditError as error:
        print(error, file=sys.stderr)
        return 2
    known = _read(asked.results) if asked.resume else {}
    left = [guard for guard in guards if known.get(guard.name, {}).get("mark") != guard.mark]
    if len(left) < len(guards):
        print(f"{len(guards) - len(left)} of them are known from {asked.results}.")
    with ExitStack() as stack:
        workers = [
            stack.enter_context(running_scratch(ROOT)) for _ in range(min(asked.workers, len(left)))
        ]
        if left and not asked.unproven and not _prove(left, workers[0]):
            return 2
        results = _run(left, texts, workers, known, asked.results)
    bad = [result for result in results if result.verdict != "killed"]
    for result in bad:
        print(f"\n--- {result.name}: {GUARDS[result.name].holds}\n{result.output[-3_000:]}")
    print(f"\n{len(guards)} guards removed: {len(guards) - len(bad)} noticed, {len(bad)} not.")
    return 1 if bad else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="guards, as 'sqlite.*'; all where none is named")
    parser.add_argument("--on", help="only those of this store: memory, sqlite or postgresql")
    parser.add_argument("--part", type=float, default=1.0, help="a part of them, as 0.1, by chance")
    parser.add_argument("--seed", type=int, help="makes the same choice again")
    parser.add_argument("--workers", type=int, default=2, help="mutants at once")
    parser.add_argument("--results", type=Path, help="a JSON file to write the results to")
    parser.add_argument("--resume", action="store_true", help="run no mutant that it knows killed")
    parser.add_argument("--unproven", action="store_true", help="leave the unchanged tree untested")
    asked = parser.parse_args(arguments)
    if asked.resume and asked.results is None:
        parser.error("--resume needs --results, the file to go on from")
    return asked


def _choose(asked: argparse.Namespace) -> list[Guard]:
    chosen = [
        guard
        for guard in GUARDS.values()
        if not asked.names or any(fnmatchcase(guard.name, name) for name in asked.names)
        if asked.on in (None, guard.on)
    ]
    if asked.part < 1:
        seed = random.randrange(2**32) if asked.seed is None else asked.seed
        print(f"Chosen with --seed {seed}.")
        number = max(1, round(len(chosen) * asked.part))
        chosen = random.Random(seed).sample(chosen, min(number, len(chosen)))
    return chosen


def _prove(guards: Sequence[Guard], scratch: Scratch) -> bool:
    """Whether the tests pass on the tree as it is: only then does a failure show anything."""
    tests = sorted({test for guard in guards for test in guard.tests})
    run = scratch.run([_SMOKE, *tests], {}, stop=False)
    if run.verdict != "passed":
        print(run.output[-6_000:], file=sys.stderr)
        print("The tests do not pass on the unchanged tree: mend that first.", file=sys.stderr)
    return run.verdict == "passed"


def _run(
    guards: Sequence[Guard],
    texts: Mapping[str, Mapping[str, str]],
    workers: Sequence[Scratch],
    known: dict[str, dict[str, Any]],
    file: Path | None,
) -> list[Result]:
    free: SimpleQueue[Scratch] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def one(guard: Guard) -> Result:
        scratch = free.get()
        try:
            return _judge(guard, scratch, texts[guard.name])
        finally:
            free.put(scratch)

    results: list[Result] = []
    with ThreadPoolExecutor(max(len(workers), 1)) as pool:
        try:
            for done in as_completed([pool.submit(one, guard) for guard in guards]):
                result = done.result()
                results.append(result)
                print(result.line, flush=True)
                known[result.name] = {
                    "mark": GUARDS[result.name].mark if result.verdict == "killed" else None,
                    "verdict": result.verdict,
                    "killer": result.killer,
                    "seconds": round(result.seconds, 1),
                }
                if file is not None:
                    file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        except BaseException:  # interrupted: no server of a test stays behind
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.stop()
            raise
    return results


def _judge(guard: Guard, scratch: Scratch, texts: Mapping[str, str]) -> Result:
    start = time.monotonic()
    smoke = f"{_SMOKE}[{guard.on}]"
    others = " or ".join(kind for kind in get_args(Kind) if kind != guard.on)
    run = scratch.run([smoke, *guard.tests], texts, but=others, stop=True)
    seconds = time.monotonic() - start
    by_smoke = run.verdict == "failed" and "test_smoke" in run.test
    if run.verdict == "passed":
        return Result(guard.name, "lives", "", seconds, run.output)
    if run.verdict == "broken" or by_smoke != guard.vital:
        return Result(guard.name, "broken", run.test, seconds, run.output)
    return Result(guard.name, "killed", run.test.removeprefix("tests."), seconds, run.output)


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        known: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return known


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
