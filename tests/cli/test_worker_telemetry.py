"""``tapescope worker``: its scrape, its health, its log, and what it sends before it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tapescope import DroppedEvent, TaskCancelled, TaskManager
from tapescope.http.health import HealthListener
from tapescope.testing import until
from tests.cli.command import Tapescope, read_terminal
from tests.cli.program import Program, begun, read_log
from tests.support.scrapes import fetch, scrape
from tests.support.services import Collector

pytestmark = pytest.mark.observability

SERVED = re.compile(r"Metrics and health are served on (http://127\.0\.0\.1:\d+)\.")


@pytest.fixture
def program(tapescope: Tapescope, tmp_path: Path) -> Program:
    """A program on a fresh SQLite store."""
    return Program(tapescope, tmp_path)


@contextmanager
def scraped_worker(program: Program) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    """A worker that has found its store, and where it is scraped."""
    options = ("--app", "program:manager", "--store", program.tapescope.store)
    with program.tapescope.started("worker", *options, "--metrics-port", "0") as process:
        served = SERVED.fullmatch(read_log(process)["message"])
        assert served is not None
        assert read_log(process)["message"].startswith("Worker ")
        yield served[1], process


async def test_a_worker_is_scraped(program: Program) -> None:
    """The app's manager tells the scrape of its tasks, with exemplars, as the named service."""
    program.tapescope.env["OTEL_SERVICE_NAME"] = "shop"
    with scraped_worker(program) as (url, process):
        await until(lambda: fetch(f"{url}/readyz?verbose").status == 200)
        program.tapescope.json("submit", "double", "--params", '{"n": 3}', "--wait")
        scraped = scrape(url)
        process.terminate()
        process.communicate(timeout=30)
    finished = "tapescope_task_duration_seconds_count"

    assert process.returncode == 0
    assert scraped.value("target_info", service_name="shop") == 1
    assert scraped.value(finished, task_op="double", task_outcome="succeeded") == 1
    assert any(name.startswith("tapescope_task_duration") for name, _ in scraped.exemplars)


async def test_a_worker_that_drains_is_not_ready(program: Program) -> None:
    """From SIGTERM on /readyz says that it drains, /livez and the scrape answer to the end."""
    with scraped_worker(program) as (url, process):
        task_id = program.submit("wait", file=str(program.file))
        async with TaskManager(program.tapescope.store, work=False) as manager:
            await begun(manager.handle(task_id))
        process.send_signal(signal.SIGTERM)
        assert "Draining" in read_log(process)["message"]
        ready, live = fetch(f"{url}/readyz?verbose"), fetch(f"{url}/livez")
        running = scrape(url).value("tapescope_task_active", task_op="wait", task_state="running")
        program.file.touch()
        process.communicate(timeout=30)

    assert (ready.status, live.status, running) == (503, 200, 1)
    assert "[-] manager: draining or closed\n" in ready.text
    assert process.returncode == 0


async def test_a_late_event_leads_to_its_run(program: Program) -> None:
    """The scrape's drop has for exemplar the run that the quarantine and the log name."""
    with scraped_worker(program) as (url, process):
        task_id = program.submit("deaf", file=str(program.file))
        async with TaskManager(program.tapescope.store, work=False) as manager:
            task = manager.handle(task_id)
            await begun(task)
            await task.cancel("enough")
            with suppress(TaskCancelled):
                await task.result(timeout=30)
            program.file.touch()

            async def find_drops() -> Sequence[DroppedEvent]:
                return (await manager.drops(task_id)).drops

            (drop,) = await until(find_drops)
        scraped = scrape(url)
        process.terminate()
        _, stderr = process.communicate(timeout=30)
    logged = [json.loads(line) for line in stderr.splitlines()]
    exemplars = {
        trace for (name, _), trace in scraped.exemplars.items() if "tape_event_dropped" in name
    }

    assert scraped.total("tapescope_tape_event_dropped_total") == 1
    assert exemplars == {drop.trace_id}
    assert [line["trace_id"] for line in logged if "after_terminal" in line["message"]] == [
        drop.trace_id
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_ends_sends_what_it_has(
    program: Program, collector: Collector, number: signal.Signals
) -> None:
    """After a signal the spans, metrics and logs of its tasks arrive, the drained one's too."""
    service = f"worker-{number.name}"
    with_collector = collector.variables("grpc", service)
    program.tapescope.env |= with_collector
    with program.worker() as process:
        task_id = program.submit("wait", file=str(program.file))
        async with TaskManager(program.tapescope.store, work=False) as manager:
            await begun(manager.handle(task_id))
        process.send_signal(number)
        assert "Draining" in read_log(process)["message"]
        program.file.touch()
        process.communicate(timeout=30)

    def runs() -> list[str]:
        return [s["name"] for s in collector.received.spans(service) if s["name"] == "run wait"]

    def finished() -> list[int]:
        return [
            point["value"]
            for point in collector.received.metrics(service)
            if point["name"] == "tapescope.task.duration"
        ]

    await until(lambda: runs() and finished())

    assert process.returncode == 0
    assert (runs(), finished()) == (["run wait"], [1])
    assert "The worker has stopped." in [log["body"] for log in collector.received.logs(service)]


def test_a_taken_port_ends_a_worker(program: Program) -> None:
    """A worker that cannot be scraped takes no task: status 1, and one line says what to do."""
    options = ("--app", "program:manager", "--store", program.tapescope.store)
    with HealthListener(tuple, port=0) as taken:
        done = program.tapescope("worker", *options, "--metrics-port", str(taken.port))

    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"Choose another --metrics-port; 0 takes a free one." in done.stderr


def test_an_app_with_a_telemetry_of_its_own_is_told(program: Program, tmp_path: Path) -> None:
    """What is not scraped is said: the manager's own telemetry goes where the program sends it."""
    app = (tmp_path / "program.py").read_text()
    app = app.replace("heartbeat=0.2", "heartbeat=0.2, telemetry=Telemetry(trace_mode='child')")
    app = app.replace("import Ops, Reporter,", "import Ops, Reporter, Telemetry,")
    (tmp_path / "program.py").write_text(app)
    options = ("--app", "program:manager", "--store", program.tapescope.store)
    with program.tapescope.started("worker", *options, "--metrics-port", "0") as process:
        told = read_log(process)
        process.terminate()
        process.communicate(timeout=30)

    assert told["level"] == "warning"
    assert "its own telemetry" in told["message"]


def test_the_log_on_a_terminal_is_text(program: Program) -> None:
    """A person reads lines of text, a program JSON, where no setting says otherwise."""
    options = ("--app", "program:manager", "--store", program.tapescope.store)
    with program.tapescope.on_terminal("worker", *options) as (process, end):
        shown = read_terminal(end, until=[b"deaf, fail"])
        process.terminate()
        shown += read_terminal(end)

    assert b"INFO Worker " in shown
    assert b"INFO The worker has stopped." in shown


def test_the_logging_of_the_program_stands(program: Program, tmp_path: Path) -> None:
    """A program that configures logging gets the lines its own way, and no second time."""
    setting = "import logging; logging.basicConfig(level='INFO', format='own: %(message)s')\n"
    app = (tmp_path / "program.py").read_text()
    (tmp_path / "program.py").write_text(app.replace("import asyncio\n", setting, 1))
    (tmp_path / "program.py").write_text(
        (tmp_path / "program.py").read_text().replace("import time\n", "import asyncio, time\n", 1)
    )
    options = ("--app", "program:manager", "--store", program.tapescope.store)
    with program.tapescope.started("worker", *options) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.terminate()
        _, rest = process.communicate(timeout=30)

    assert first.startswith(b"own: Worker ")
    assert rest.splitlines()[-1] == b"own: The worker has stopped."
