"""``tapescope drill``: a real fault, seen from outside, and nothing left of it.

``make test-observability`` runs it; ``make test`` does not, for it takes about a minute.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager

import pytest

from tapescope.drills.catalogue import DRILLS
from tapescope.testing import until
from tests.cli.command import Tapescope
from tests.cli.conftest import Here
from tests.support.scrapes import OPENMETRICS, Scraped, fetch, scrape
from tests.support.services import Postgres

pytestmark = pytest.mark.observability

SAYS = re.compile(r"tapescope: metrics and health on (http://127\.0\.0\.1:\d+)\n")


@pytest.fixture(autouse=True)
def store_that_is_there(tapescope: Tapescope) -> None:
    """A drill makes no store but a scratch one."""
    assert tapescope.here("migrate").returncode == 0


@contextmanager
def holding(
    tapescope: Tapescope, name: str, *options: str
) -> Generator[tuple[Scraped, subprocess.Popen[bytes]]]:
    """A drill whose fault was made, and what is scraped of it."""
    command = ("drill", name, "--metrics-port", "0", "--hold", "60", *options)
    with tapescope.started(*command) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = SAYS.fullmatch(process.stderr.readline().decode())
        assert said is not None
        for line in process.stdout:
            if line.startswith(b"waiting"):
                scrape(said[1])
            if line.startswith(b"holding"):
                break
        yield scrape(said[1]), process


@pytest.mark.parametrize(
    ("name", "metric", "labels", "value"),
    [
        ("late-event", "tape_event_dropped_total", {"drop_reason": "after_terminal"}, 200),
        ("zombie-worker", "tape_event_dropped_total", {"drop_reason": "stale_attempt"}, 20),
        ("duplicate-final", "tape_event_dropped_total", {"drop_reason": "duplicate_final"}, 3),
        ("cancel-storm", "task_duration_seconds_count", {"task_outcome": "cancelled"}, 30),
        ("failure-burst", "task_duration_seconds_count", {"task_outcome": "failed"}, 30),
        ("stuck-task", "task_active", {"task_state": "running"}, 1),
        ("no-worker", "task_submitted_total", {}, 20),
        ("backlog", "task_active", {"task_state": "pending"}, 20),
        ("store-outage", "task_duration_seconds_count", {"task_outcome": "succeeded"}, 30),
    ],
)
def test_a_fault_is_on_the_scrape_and_nothing_of_it_stays(
    tapescope: Tapescope, name: str, metric: str, labels: dict[str, str], value: float
) -> None:
    """Prometheus sees it under the drill's op while the drill holds on; Ctrl-C ends it well."""
    with holding(tapescope, name) as (scraped, process):
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=60)

    assert scraped.total(f"tapescope_{metric}", task_op=f"drill.{name}", **labels) == value
    assert (process.returncode, complaints) == (0, b"")
    assert b"cleaned" in said
    assert tapescope.json("list")["tasks"] == []
    assert tapescope("audit").returncode == 0
    if name == "stuck-task":  # the alert asks for two hours
        assert scraped.total("tapescope_task_oldest_active_age_seconds") > 2 * 3_600
    if name == "store-outage":
        assert scraped.total("tapescope_tape_event_failed_total", event_type="log") == 30


def test_the_zeros_are_scraped_before_the_fault(tapescope: Tapescope) -> None:
    """Until a scrape has read its zeros nothing happens: a rate of the sum sees it grow."""
    dropped = "tapescope_tape_event_dropped_total"
    late = {"drop_reason": "after_terminal", "event_type": "log", "tape_outcome": "cancelled"}
    found: list[tuple[float, float]] = []
    with tapescope.started("drill", "late-event", "--metrics-port", "0", "--hold", "60") as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = SAYS.fullmatch(process.stderr.readline().decode())
        assert said is not None
        for line in process.stdout:
            if line.startswith((b"waiting", b"holding")):
                scraped = scrape(said[1])
                zero = scraped.value(dropped, task_op="_OTHER", **late)
                found.append((zero, scraped.total(dropped, **late)))
            if line.startswith(b"holding"):
                break
        process.terminate()
        process.communicate(timeout=60)

    assert found == [(0, 0), (0, 200)]


def test_what_a_killed_drill_left_is_cleaned_up(tapescope: Tapescope) -> None:
    """A pending task of the drill's op neither comes in its way nor stays."""
    assert tapescope("submit", "drill.zombie-worker").returncode == 0
    done = tapescope("drill", "zombie-worker", "--hold", "0")

    assert done.returncode == 0
    assert b"all of them dropped, reason stale_attempt" in done.stdout
    assert tapescope.json("list")["tasks"] == []


@pytest.mark.parametrize("name", ["late-event", "zombie-worker", "store-outage", "undispatched"])
def test_a_drill_runs_on_postgres_too(tapescope: Tapescope, postgres_url: str, name: str) -> None:
    """It names its alert and its runbook, says what happened, and the store is as it was."""
    tapescope.env["TAPESCOPE_STORE"] = postgres_url
    tapescope.here("migrate")
    done = tapescope("drill", name, "--hold", "0")
    said = done.stdout.decode()

    assert (done.returncode, done.stderr) == (0, b"")
    (drill,) = (drill for drill in DRILLS if drill.name == name)
    for alert in drill.alerts:
        assert f"dashboards/runbooks/{alert}.md" in said
    assert re.search(r"^happened  .+", said, re.MULTILINE)
    assert "30 of 30 appends failed" in said or name != "store-outage"
    assert tapescope.json("list")["tasks"] == []
    assert tapescope("audit").returncode == 0


def test_tasks_for_an_engine_that_is_away_are_overdue(tapescope: Tapescope) -> None:
    """A scrape has them from the first on, while the drill holds on; nothing of them stays."""
    with holding(tapescope, "undispatched") as (scraped, process):
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)

    assert scraped.total("tapescope_engine_task_overdue", engine_name="drill") == 20
    assert (process.returncode, complaints) == (0, b"")
    assert tapescope.json("list")["tasks"] == []


def test_a_crash_loop_is_seen_by_who_scrapes(tapescope: Tapescope) -> None:
    """The port is that of one process after the other: each told its own start, and was killed."""
    starts: list[float] = []
    with tapescope.started("drill", "crash-loop", "--metrics-port", "0") as process:
        assert process.stderr is not None
        served = SAYS.fullmatch(process.stderr.readline().decode())
        assert served is not None

        def scrape_next() -> bool:
            answer = fetch(f"{served[1]}/metrics", OPENMETRICS)
            if answer.status == 200:  # else the process behind the port is being replaced
                start = Scraped(answer.text).value("process_start_time_seconds")
                starts.extend([start] if start not in starts else [])
            return len(starts) == 5

        assert asyncio.run(until(scrape_next, within=120))
        assert process.stdout is not None
        said: list[bytes] = []
        while not said or not said[-1].startswith(b"holding"):
            said.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)

    assert (process.returncode, complaints) == (0, b"")
    assert b"began anew, 4 times" in said[-2]
    assert starts == sorted(starts)


def test_a_violation_is_found_by_an_audit_and_counted(tapescope: Tapescope) -> None:
    """The audit of the drill's own process finds the hole, and the scrape says so."""
    with holding(tapescope, "integrity-violation") as (scraped, process):
        process.terminate()
        said, _ = process.communicate(timeout=60)

    assert scraped.total("tapescope_tape_audit_violations_total", audit_rule="sequence_gap") == 1
    assert process.returncode == 0
    assert b"quarantine" not in said


def test_slow_cancels_leave_zombies_until_the_drill_ends(tapescope: Tapescope) -> None:
    """The cancels take longer than the alert's ten seconds, and the runners go on meanwhile."""
    with holding(tapescope, "slow-cancel") as (scraped, process):
        process.terminate()
        process.communicate(timeout=60)

    assert scraped.total("tapescope_task_zombies", task_op="drill.slow-cancel") == 6
    assert scraped.total("tapescope_cancel_duration_seconds_bucket", le="10.0") == 0
    assert scraped.total("tapescope_cancel_duration_seconds_count") == 6
    assert process.returncode == 0
    assert tapescope.json("list")["tasks"] == []


def test_a_signal_before_the_fault_was_made_cleans_up(tapescope: Tapescope) -> None:
    """The status says which signal it was, and the store holds nothing of the drill."""
    with tapescope.started("drill", "slow-cancel", "--hold", "0") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"look"):
                break
        process.terminate()
        process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGTERM
    assert tapescope.json("list")["tasks"] == []


def test_a_store_with_tasks_of_others_is_refused(tapescope_on: Tapescope) -> None:
    """One line says so; told otherwise the drill goes on, and the others' tasks stay."""
    assert tapescope_on("run", "--op", "backup", "--", "true").returncode == 0
    refused = tapescope_on("drill", "failure-burst", "--hold", "0")
    left = tapescope_on.json("list")["tasks"]
    told = tapescope_on("drill", "failure-burst", "--hold", "0", "--on-real-store")

    assert refused.returncode == 1
    assert refused.stdout == b""
    assert re.fullmatch(rb"tapescope: \S+ holds tasks [^\n]+'backup'[^\n]+\n", refused.stderr)
    assert told.returncode == 0
    assert tapescope_on.json("list")["tasks"] == left


def test_a_violation_is_made_on_a_scratch_store_only(tapescope: Tapescope) -> None:
    """The store that is named keeps its tasks and its guards, and need not be free of tasks."""
    assert tapescope("run", "--", "true").returncode == 0
    path = tapescope.store.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as conn:
        before = list(conn.iterdump())
    done = tapescope("drill", "integrity-violation", "--hold", "0")
    with closing(sqlite3.connect(path)) as conn:
        after = list(conn.iterdump())

    assert done.returncode == 0
    assert b"a scratch store" in done.stdout
    assert after == before


def test_without_a_store_it_makes_one_that_goes_with_it(tapescope: Tapescope) -> None:
    """Neither the user's own store nor a file stays behind."""
    del tapescope.env["TAPESCOPE_STORE"]
    done = tapescope("drill", "duplicate-final", "--hold", "0")

    assert done.returncode == 0
    assert b"a scratch store" in done.stdout
    assert tapescope("list").returncode == 2  # there is no default store


def test_what_is_not_watched_is_said(tapescope: Tapescope) -> None:
    """Without a port that is scraped the drill does not hold on, and says why."""
    done = tapescope("drill", "duplicate-final")

    assert done.returncode == 0
    assert b"--metrics-port" in done.stdout
    assert b"holding" not in done.stdout


def test_no_password_is_shown(tapescope: Tapescope, postgres_server: Postgres) -> None:
    """The store is named without its password, also where the command to look with is."""
    url = postgres_server.url().replace("postgres@", "postgres:swordfish@")
    assert "swordfish" in url
    tapescope.env["TAPESCOPE_STORE"] = url
    tapescope.here("migrate")
    done = tapescope("drill", "store-outage", "--hold", "0")

    assert done.returncode == 0
    assert b"swordfish" not in done.stdout + done.stderr


def test_the_list_names_every_drill_and_its_alert(tapescope: Tapescope) -> None:
    """``--list`` is a table with a line a drill."""
    lines = tapescope("drill", "--list").stdout.decode().splitlines()

    assert [line.split()[0] for line in lines[1:]] == [drill.name for drill in DRILLS]
    for line, drill in zip(lines[1:], DRILLS, strict=True):
        assert ", ".join(drill.alerts) in line


@pytest.mark.parametrize(
    ("arguments", "says", "status"),
    [
        (["no-such-thing"], "There is no drill 'no-such-thing'. There are: late-event, ", 1),
        ([], "Name a drill. There are: late-event, ", 1),
        (["late-event", "--hold", "-1"], "--hold is -1.0", 1),
        (["late-event", "--hold", "nan"], "--hold is nan", 1),
        (["store-outage", "--store", "sqlite:///:memory:"], "There is no store at ", 2),
    ],
)
def test_a_mistake_is_one_line(here: Here, arguments: list[str], says: str, status: int) -> None:
    """What is wrong is told in one line, with what there is instead."""
    done = here("drill", *arguments)

    assert done.returncode == status
    assert done.stderr.startswith(b"tapescope: ")
    assert done.stderr.count(b"\n") == 1
    assert says in done.stderr.decode()
