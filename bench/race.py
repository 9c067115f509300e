"""``make bench-peers``: tapescope beside other task systems, in turn, in one run. No verdict.

Each peer is a program of its own in ``bench/peers``, in an environment that uv makes of the
packages that it names, in uv's cache: none is ever installed here. All have the same cap on what
runs at once and the same number of tasks; the submits are in the time. A figure is a ratio of one
round; the median of the rounds counts, and the spread is told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table

from tests.support.services import Postgres, postgres_program, running_postgres

_PROGRAMS: Final = Path(__file__).with_name("peers")
_RESULTS: Final = Path(__file__).with_name("results")
_UV: Final = Path(sys.executable).with_name("uv")
_WITHIN: Final = 600.0
"""Seconds for one program: what takes longer is told as missing."""
OURS: Final = "tapescope"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who races: a program, on one database."""

    name: str
    program: str
    database: str
    works: tuple[str, ...]
    """What it can be asked for: others have no bulk submit, or nothing that is like an event."""


PEERS: Final = (
    Peer(OURS, "ours", "postgresql", ("one", "bulk", "events")),
    Peer("pgqueuer", "pgqueuer_peer", "postgresql", ("one", "bulk")),
    Peer("Procrastinate", "procrastinate_peer", "postgresql", ("one", "bulk")),
    Peer("DBOS", "dbos_peer", "postgresql", ("one", "events")),
    Peer(OURS, "ours", "sqlite", ("one", "bulk", "events")),
    Peer("huey", "huey_peer", "sqlite", ("one",)),
    Peer("DBOS", "dbos_peer", "sqlite", ("one", "events")),
)
NOT_YET: Final = ("absurd", "awa", "taskiq", "arq", "SAQ", "Temporal")
"""Who is to race, and has no program here yet."""
WORKS: Final = {
    "one": "no-op tasks, one submit each",
    "bulk": "no-op tasks, submitted in bulk",
    "events": "tasks of 10 events or steps",
}


class Missing(Exception):
    """A peer that cannot be raced, with the reason."""


class Databases:
    """An empty database for each program."""

    def __init__(self, folder: Path, server: Postgres | None) -> None:
        self._folder, self._server = folder, server
        self._made = 0

    def make(self, kind: str) -> str:
        """A libpq URL, or the path of a file that is not there yet."""
        self._made += 1
        if kind == "sqlite":
            return str(self._folder / f"race-{self._made}.db")
        assert self._server is not None, "started where a peer needs it"
        name = f"race_{self._made}"
        folder = str(self._server.socket_folder)
        command = (postgres_program("createdb"), "-h", folder, "-U", "postgres", name)
        subprocess.run(command, check=True, capture_output=True)
        return self._server.dsn.replace("/postgres?", f"/{name}?")


def find_python(peer: Peer) -> str:
    """The interpreter of the peer's environment, which is made where it is not there yet.

    Raises ``Missing``.
    """
    if peer.name == OURS:
        return sys.executable
    script = str(_PROGRAMS / f"{peer.program}.py")
    for command in (("sync", "--script", script), ("python", "find", "--script", script)):
        done = subprocess.run((_UV, *command), capture_output=True, encoding="utf-8", check=False)
        if done.returncode != 0:
            raise Missing(f"its environment cannot be made: {_last_line(done.stderr)}")
    return done.stdout.strip()


def list_packages(python: str) -> dict[str, str]:
    """Package → version, of what the peer's own program names and what that needs."""
    command = (_UV, "pip", "list", "--python", python, "--format", "json")
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return {one["name"]: one["version"] for one in json.loads(done.stdout)}


def race(python: str, peer: Peer, database: str, work: str, tasks: int, cap: int) -> dict[str, Any]:
    """Run a peer once, and give its answer. Raises ``Missing``."""
    program = str(_PROGRAMS / f"{peer.program}.py")
    try:
        done = subprocess.run(
            (python, program, database, work, str(tasks), str(cap)),
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=_WITHIN,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"it was not done in {_WITHIN:,.0f} s") from None
    if done.returncode != 0:
        raise Missing(_last_line(done.stderr))
    answer: dict[str, Any] = json.loads(_last_line(done.stdout))
    return answer | {"rate": tasks / answer["seconds"]}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def describe_machine() -> dict[str, Any]:
    """What the figures were made on."""
    return {
        "system": platform.platform(),
        "processors": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def list_ratios(rounds: list[dict[str, dict[str, Any]]], name: str) -> list[float]:
    """Ours by this peer's, round by round."""
    return [one[OURS]["rate"] / one[name]["rate"] for one in rounds if OURS in one and name in one]


class Races:
    """One run: who is asked, for how much, and what they answered."""

    def __init__(self, chosen: argparse.Namespace, databases: Databases) -> None:
        self._chosen, self._databases = chosen, databases
        self._pythons: dict[str, str] = {}
        self._console = Console(highlight=False)
        self.missing: list[dict[str, str]] = []
        self.results: list[dict[str, Any]] = []
        self.packages: dict[str, dict[str, str]] = {}

    def run(self, kind: str, work: str, peers: list[Peer]) -> None:
        """All rounds of one kind of work on one kind of database, the peers in turn."""
        ready = [peer for peer in peers if self._prepare(peer)]
        rounds: list[dict[str, dict[str, Any]]] = []
        for _ in range(self._chosen.rounds):
            found: dict[str, dict[str, Any]] = {}
            for peer in list(ready):
                try:
                    database = self._databases.make(kind)
                    python = self._pythons[peer.program]
                    found[peer.name] = race(
                        python, peer, database, work, self._chosen.tasks, self._chosen.cap
                    )
                except Missing as reason:
                    self._note_missing(peer, work, reason)
                    ready.remove(peer)
            rounds.append(found)
        self.results.append({"database": kind, "work": work, "rounds": rounds})
        self._tell(kind, work, rounds)

    def _prepare(self, peer: Peer) -> bool:
        if peer.program not in self._pythons:
            try:
                python = find_python(peer)
            except Missing as reason:
                self._note_missing(peer, "all", reason)
                return False
            self._pythons[peer.program] = python
            self.packages[peer.name] = list_packages(python)
        return True

    def _note_missing(self, peer: Peer, work: str, reason: Missing) -> None:
        self._console.print(f"missing: {peer.name}, {peer.database}, {work}: {reason}")
        self.missing.append(
            {
                "peer": peer.name,
                "database": peer.database,
                "work": work,
                "reason": str(reason),
            }
        )

    def _tell(self, kind: str, work: str, rounds: list[dict[str, dict[str, Any]]]) -> None:
        table = Table(
            *("", "tasks/s", "least-most", f"{OURS} ÷ it", "least-most"),
            title=f"{WORKS[work]}, {kind}: {self._chosen.tasks:,}, {self._chosen.cap} at once",
        )
        run_with: list[str] = []
        for name in dict.fromkeys(name for one in rounds for name in one):
            answers = [one[name] for one in rounds if name in one]
            rates = [answer["rate"] for answer in answers]
            ratios = list_ratios(rounds, name)
            table.add_row(
                name,
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f}-{max(rates):,.0f}",
                f"{statistics.median(ratios):.2f}" if ratios else "",
                f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else "",
            )
            run_with.append(f"{name}: {answers[0]['settings']}; {answers[0]['durability']}")
        self._console.print(table)
        self._console.print("\n".join(run_with), soft_wrap=True)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Bars of the ratios, with their spread, as a PNG."""
    from matplotlib.figure import Figure

    bars = [
        (f"{name}\n{WORKS[one['work']]}, {one['database']}", ratios)
        for one in results
        for name in dict.fromkeys(name for found in one["rounds"] for name in found)
        if name != OURS and (ratios := list_ratios(one["rounds"], name))
    ]
    if not bars:
        return
    figure: Any = Figure(figsize=(9, 1 + 0.7 * len(bars)), layout="constrained")
    axes = figure.subplots()
    medians = [statistics.median(ratios) for _, ratios in bars]
    spread = [
        [median - min(ratios) for median, (_, ratios) in zip(medians, bars, strict=True)],
        [max(ratios) - median for median, (_, ratios) in zip(medians, bars, strict=True)],
    ]
    axes.barh([label for label, _ in bars], medians, xerr=spread, color="#4477aa", capsize=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"tasks a second, {OURS} ÷ the other: median of the rounds, least to most")
    figure.savefig(path, dpi=120)


def choose(chosen: argparse.Namespace) -> Iterator[tuple[str, str, list[Peer]]]:
    """(database, work, peers) of each race that is asked for."""
    for kind in chosen.store or ["postgresql", "sqlite"]:
        for work in chosen.work or WORKS:
            peers = [
                peer
                for peer in PEERS
                if peer.database == kind and work in peer.works
                if peer.name == OURS or not chosen.peer or peer.name in chosen.peer
            ]
            if len(peers) > 1:
                yield kind, work, peers


def main() -> None:
    """Read the arguments, race, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = sorted({peer.name for peer in PEERS} - {OURS})
    parser.add_argument("--peer", choices=names, action="append", help="default: all")
    parser.add_argument("--store", choices=["postgresql", "sqlite"], action="append")
    parser.add_argument("--work", choices=list(WORKS), action="append")
    parser.add_argument("--tasks", type=int, default=5_000, help="of each race")
    parser.add_argument("--cap", type=int, default=100, help="tasks that may run at once")
    parser.add_argument("--rounds", type=int, default=5, help="the median of them counts")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="where JSON and plot go")
    chosen = parser.parse_args()
    races = list(choose(chosen))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tapes-race-")))
        needs_server = any(kind == "postgresql" for kind, _, _ in races)
        server = stack.enter_context(running_postgres()) if needs_server else None
        machine = describe_machine()
        if server is not None:
            command = (postgres_program("postgres"), "--version")
            machine["postgresql"] = subprocess.check_output(command, encoding="utf-8").split()[-1]
        run = Races(chosen, Databases(folder, server))
        for kind, work, peers in races:
            run.run(kind, work, peers)
    chosen.results.mkdir(parents=True, exist_ok=True)
    path = chosen.results / f"peers-{datetime.now(UTC):%Y-%m-%d-%H%M%S}.json"
    report = {
        "machine": machine,
        "tasks": chosen.tasks,
        "cap": chosen.cap,
        "packages": run.packages,
        "missing": run.missing,
        "not_raced": NOT_YET,
        "races": run.results,
    }
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draw(run.results, path.with_suffix(".png"))
    print(f"not raced: {', '.join(NOT_YET)}. Written: {path} and its plot")


if __name__ == "__main__":
    main()
