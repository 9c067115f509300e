"""``tapescope run --metrics-port``: the real program, scraped while it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import psutil
import pytest

from tapescope.http.health import HealthListener
from tests.cli.command import Tapescope
from tests.cli.conftest import Here
from tests.support.scrapes import Answer, fetch, scrape

pytestmark = pytest.mark.observability

SAYS = re.compile(rb"tapescope: metrics and health on (http://127\.0\.0\.1:\d+)\n")


@contextmanager
def serving(tapescope: Tapescope, *options: str) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    """A command that runs until it is given a line, and where it is scraped."""
    arguments = ("run", *options, "--metrics-port", "0", "--", "sh", "-c", "echo ready; read x")
    with tapescope.started(*arguments, stdin=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = SAYS.fullmatch(process.stderr.readline())
        assert said is not None
        assert process.stdout.readline() == b"ready\n"
        yield said[1].decode(), process


def test_it_is_scraped_while_it_runs(tapescope_on: Tapescope) -> None:
    """The command's task is on the scrape with the process's own metrics, and the listener ends."""
    with serving(tapescope_on, "--op", "backup") as (url, process):
        live, ready = fetch(f"{url}/livez"), fetch(f"{url}/readyz?verbose")
        scraped = scrape(url)
        _, said = process.communicate(b"go\n", timeout=60)

    assert (process.returncode, said) == (0, b"")
    assert live.status == 200
    assert "[+] manager: it takes tasks\n" in ready.text
    assert scraped.value("tapescope_task_submitted_total", task_op="backup") == 1
    assert scraped.value("tapescope_task_active", task_op="backup", task_state="running") == 1
    assert scraped.value("tapescope_tape_event_appended_total", event_type="final") == 0
    assert {"process_cpu_seconds", "python_info", "target", "tapescope_build"} <= set(
        scraped.families
    )


def test_an_exporter_that_is_unknown_leaves_the_scrape_alone(tapescope: Tapescope) -> None:
    """One odd signal is told, and takes neither the others nor the scrape along."""
    tapescope.env["OTEL_METRICS_EXPORTER"] = "prometheus"
    arguments = ("run", "--metrics-port", "0", "--", "sh", "-c", "echo ready; read x")
    with tapescope.started(*arguments, stdin=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        told = process.stderr.readline()
        said = SAYS.fullmatch(process.stderr.readline())
        assert said is not None
        process.stdout.readline()
        scraped = scrape(said[1].decode())
        process.communicate(b"go\n", timeout=60)

    assert b"OTEL_METRICS_EXPORTER is 'prometheus'" in told
    assert scraped.value("tapescope_task_submitted_total", task_op="shell") == 1


def test_it_listens_on_this_machine_only(tapescope: Tapescope) -> None:
    """Every address that the program listens on is 127.0.0.1, unless another is named."""
    with serving(tapescope) as (_, process):
        found = [
            connection.laddr.ip
            for connection in psutil.Process(process.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        process.communicate(b"go\n", timeout=60)

    assert found == ["127.0.0.1"]


def test_a_taken_port_is_said_and_stops_no_command(tapescope: Tapescope) -> None:
    """The command runs with its own status; one line on stderr says which option to change."""
    with HealthListener(tuple, port=0) as taken:
        done = tapescope("run", "--metrics-port", str(taken.port), "--", "sh", "-c", "exit 3")

    assert done.returncode == 3
    assert done.stderr.decode() == (
        f"tapescope: Metrics and health cannot be served on 127.0.0.1 port {taken.port}: "
        "Address already in use. Choose another --metrics-port; 0 takes a free one.\n"
    )


def test_a_store_that_is_away_is_seen(tapescope: Tapescope) -> None:
    """The listener is there although no store is: not ready, and scraped all the same."""
    tapescope.env["TAPESCOPE_STORE"] = "postgresql://nobody@127.0.0.1:1/none"
    with serving(tapescope) as (url, process):
        ready: Answer = fetch(f"{url}/readyz?verbose")
        scraped = scrape(url)
        process.communicate(b"go\n", timeout=60)

    assert process.returncode == 0
    assert ready.status == 503
    assert "[-] manager: the store is not open yet\n" in ready.text
    assert "process_cpu_seconds" in scraped.families


def test_a_missing_extra_is_no_reason_not_to_run(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can scrape it, which one line says; the command runs and has its own status."""
    room = "tapescope_telemetry.prometheus"
    for name in [name for name in sys.modules if name.startswith((room, "prometheus_client"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    done = here("run", "--metrics-port", "0", "--", "sh", "-c", "exit 3")

    assert done.returncode == 3
    assert done.stderr.startswith(b"tapescope: nothing can be scraped. ")
    assert done.stderr.endswith(b"pip install 'tapescope[prometheus]'\n")


def test_a_port_out_of_range_is_a_wrong_command_line(here: Here) -> None:
    """The command is not run, the status is 125, and one line says what a port may be."""
    done = here("run", "--metrics-port", "70000", "--", "true")

    assert done.returncode == 125
    assert (
        done.stderr == b"tapescope: --metrics-port is 70000; it must be a port from 0 to 65535.\n"
    )
