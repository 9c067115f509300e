"""A fleet of three namespaces with jobs of other names, before a real Prometheus.

Each has its own boards and alerts, whatever its jobs are called; what is not tapescope's has none.
``make test-observability`` runs it; ``make test`` does not, for it is some seconds of waiting.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.metrics import MeterProvider

from dashboards import settings
from dashboards.build import main as build
from tapescope import Reporter, TaskFailed, TaskManager, Telemetry
from tapescope.http.health import serve_health
from tapescope.testing import MemoryStore, until
from tapescope_telemetry.prometheus import PrometheusReader
from tests.dashboards.observed import Live, Webhook, running_service
from tests.dashboards.pack import fill_in, list_questions
from tests.support.services import find_ports

pytestmark = [pytest.mark.observability, pytest.mark.timeout(180)]

SCALE = 60
"""Five minutes are 5 seconds."""
FLEETS = {"shop": ("shop-web", 3), "mail": ("smtp out", 5), "data": ("etl/night", 7)}
"""By namespace the name of its job, and its slots."""
ELSEWHERE = "other-team"
"""A namespace whose target is nobody's of tapescope, and down."""
FAILURES = settings.FAILURE_MINIMUM + 5


@dataclass(frozen=True)
class Fleet:
    """One process of a namespace."""

    manager: TaskManager
    address: str
    leave: AsyncExitStack
    """Its end."""

    async def work(self, *, fails: bool) -> None:
        """Do a task of the op that all three have."""

        async def send(report: Reporter) -> None:
            if fails:
                raise ConnectionError("no answer")

        with suppress(TaskFailed):
            await (await self.manager.submit("send", send)).result(30)


@asynccontextmanager
async def running_fleet(slots: int) -> AsyncGenerator[Fleet]:
    """A manager that is scraped, as a process of its own would be."""
    reader = PrometheusReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    async with AsyncExitStack() as leave:
        leave.callback(meters.shutdown)
        store = MemoryStore(telemetry=Telemetry(meter_provider=meters))
        await leave.enter_async_context(store)
        manager = await leave.enter_async_context(TaskManager(store, max_running=slots))
        health = leave.enter_context(serve_health(manager, metrics=reader, port=0))
        yield Fleet(manager, health.url.removeprefix("http://"), leave)


def configure(folder: Path, addresses: dict[str, str]) -> None:
    """The pack's rules, sixty times as fast, and the scrapes of this fleet."""
    build(["--output", str(folder), "--time-scale", str(SCALE)])
    path = folder / "prometheus" / "prometheus.yml"
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    del config["alerting"]
    every = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    config["global"] |= dict.fromkeys(every, "1s")  # three are in one process
    jobs = {namespace: job for namespace, (job, _) in FLEETS.items()} | {ELSEWHERE: "tapescope"}
    config["scrape_configs"] = [
        {
            "job_name": jobs[namespace],
            "static_configs": [{"targets": [address], "labels": {"namespace": namespace}}],
        }
        for namespace, address in addresses.items()
    ]
    path.write_text(json.dumps(config))  # which is YAML, too


async def test_each_namespace_has_its_own_boards_and_alerts(tmp_path: Path) -> None:
    """In one the tasks fail, from one the process goes, and the third is well."""
    port, nobody = find_ports(2)
    async with AsyncExitStack() as stack:
        fleets = {
            namespace: await stack.enter_async_context(running_fleet(slots))
            for namespace, (_, slots) in FLEETS.items()
        }
        addresses = {namespace: fleet.address for namespace, fleet in fleets.items()}
        configure(tmp_path, addresses | {ELSEWHERE: f"127.0.0.1:{nobody}"})
        serving = running_service(tmp_path, "prometheus", port)
        await asyncio.to_thread(stack.enter_context, serving)
        live = Live(tmp_path, [], f"http://127.0.0.1:{port}", Webhook())
        await until(lambda: asyncio.to_thread(count_up, live), within=30)
        for _ in range(FAILURES):
            for namespace, fleet in fleets.items():
                await fleet.work(fails=namespace == "mail")
        boards = await asyncio.to_thread(read_boards, live)
        deadline = time.monotonic() + 30
        while boards[2] and time.monotonic() < deadline:  # a scrape of one may be late
            boards = await asyncio.to_thread(read_boards, live)
        await fleets["data"].leave.aclose()
        fired: set[tuple[str, str, str]] = set()

        async def has_fired() -> bool:
            for namespace in ("shop", "mail"):  # a page is for what goes on
                await fleets[namespace].work(fails=namespace == "mail")
            fired.update(await asyncio.to_thread(list_firing, live))
            names = {(name, namespace) for name, namespace, _ in fired}
            return {("TapescopeOpFailureBudgetBurn", "mail"), ("TapescopeTargetDown", "data")} <= (
                names
            )

        assert await until(has_fired, within=40), fired

    limits, leaks, silent, choices = boards
    assert {(namespace, job) for _, namespace, job in fired} == {
        ("mail", "smtp out"),
        ("data", "etl/night"),
    }
    assert limits == {**{ns: slots for ns, (_, slots) in FLEETS.items()}, ".*": 15}
    assert leaks == []
    assert silent == []
    assert choices == {
        "namespace": set(FLEETS),
        "job": {job for job, _ in FLEETS.values()},
        "job of shop": {"shop-web"},
    }


def count_up(live: Live) -> bool:
    """Whether all three were scraped."""
    return len(live.ask("query", query="tapescope_build_info")["result"]) == len(FLEETS)


def list_firing(live: Live) -> set[tuple[str, str, str]]:
    """The alerts that fire: name, namespace and job."""
    return {
        (alert["labels"]["alertname"], alert["labels"]["namespace"], alert["labels"]["job"])
        for alert in live.ask("alerts")["alerts"]
        if alert["state"] == "firing"
    }


def choose(expr: str, namespace: str) -> str:
    """The query of a board on which this namespace is chosen, and all else."""
    return fill_in(expr.replace('"$namespace"', f'"{namespace}"'), interval="5s", span="1m")


def read_boards(
    live: Live,
) -> tuple[dict[str, float], list[str], list[str], dict[str, set[str]]]:
    """What the boards say of each namespace: its slots; what answers for one that is not there;
    what of one has no answer though that of all has one; what there is to choose from."""

    def answers(expr: str, namespace: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = live.ask("query", query=choose(expr, namespace))["result"]
        return found

    questions = [one for one in list_questions() if one.label is None]
    (limit,) = [
        one.expr
        for one in questions
        if (one.board, one.where) == ("overview", "Active by state, against the limit")
        and "task_limit" in one.expr
    ]
    limits = {
        namespace: float(answers(limit, namespace)[0]["value"][1]) for namespace in (*FLEETS, ".*")
    }
    leaks = [str(one) for one in questions if answers(one.expr, "nobody")]
    busy = [
        one
        for one in questions
        if one.board in ("overview", "op", "fleet") and answers(one.expr, "shop")
    ]
    silent = [str(one) for one in busy if not answers(one.expr, "data")]
    choices: dict[str, set[str]] = {}
    for one in list_questions():
        if one.board == "overview" and one.label in ("namespace", "job"):
            for suffix, namespace in (("", ".*"), (" of shop", "shop")):
                expr = choose(one.expr, namespace)
                if suffix and one.label == "namespace":
                    continue
                values = live.ask(f"label/{one.label}/values", **{"match[]": expr})
                choices[one.label + suffix] = set(values)
    return limits, leaks, silent, choices
