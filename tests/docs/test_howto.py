"""The programs in the how-to pages run as they stand there."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from tapescope import (
    CodecFailed,
    ManagerClosed,
    NewTask,
    Overlap,
    Reporter,
    TaskHandle,
    TaskManager,
    read_firing,
)
from tapescope.http.api import make_app
from tapescope.store.validation import new_task_id
from tapescope.testing import JudgedManager, run_op
from tests.http.client import serving
from tests.support.django_project import django

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


def read_files(folder: Path) -> bytes:
    """All that the files of a folder hold."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


def read_programs(page: str) -> list[str]:
    """The programs of a page, in their order."""
    text = (HOWTO / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


async def test_the_program_of_the_prometheus_page_runs(sqlite_url: str) -> None:
    """It opens a manager that is scraped: for the test its store and its port are changed."""
    program = read_programs("prometheus.md")[0]
    program = program.replace("sqlite:///tasks.db", sqlite_url)
    program = program.replace("metrics=reader)", "metrics=reader, port=0)")
    assert program.endswith("            ...\n")
    program = program.replace("...\n", "families = reader.make_families()\n")
    names: dict[str, Any] = {}
    code = compile(program, "prometheus.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, names)
    if inspect.isawaitable(running):
        await running

    assert "tapescope_task_limit" in {family.name for family in names["families"]}
    assert {check.name: check.ok for check in names["manager"].check_health()}["migrations"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_streams_of_the_embed_page_end_when_the_server_is_told_to(
    sqlite_url: str, number: signal.Signals
) -> None:
    """A signal reaches the server's own handler, and ends the streams of tasks near and far."""
    (program,) = [one for one in read_programs("embed.md") if "lifespan" in one]
    manager = TaskManager(sqlite_url, drain=0.0, cancel_grace=5.0)
    told: list[int] = []
    names: dict[str, Any] = {
        name: importlib.import_module(name) for name in ("asyncio", "json", "signal")
    }
    names |= {
        "AsyncIterator": AsyncIterator,
        "FastAPI": object,
        "ManagerClosed": ManagerClosed,
        "asynccontextmanager": asynccontextmanager,
        "manager": manager,
    }
    exec(compile(program, "embed.md", "exec", dont_inherit=True), names)

    async def go_on(report: Reporter) -> None:
        await report.emit("begun")
        await asyncio.Event().wait()

    async def read(task: TaskHandle, begun: asyncio.Event) -> list[str]:
        lines: list[str] = []
        async for line in names["stream"](task.task_id, 0):
            lines.append(line)
            begun.set()
        return lines

    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    for one in handlers:
        signal.signal(one, lambda number, _: told.append(number))  # a server's
    try:
        async with names["lifespan"](None):
            here, far = await manager.submit("here", go_on), await manager.submit("far")
            begun = asyncio.Event()
            streams = asyncio.gather(read(here, begun), read(far, asyncio.Event()))
            await begun.wait()
            signal.raise_signal(number)
            near, other = await asyncio.wait_for(streams, 20)
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)

    assert told == [number]
    assert '"outcome": "cancelled"' in near[-1]
    assert other == []


async def test_the_rich_types_of_the_codec_page_come_back(sqlite_url: str) -> None:
    """An op is given the object that was submitted, and each type of the page comes back."""
    names: dict[str, Any] = {"__name__": "codec_page"}
    # Its dataclass looks its module up; the annotations of the page are not ours.
    exec(compile(read_programs("codec.md")[0], "codec.md", "exec", dont_inherit=True), names)
    manager, codec = names["manager"], names["RichTypes"]()
    order = names["Order"](uuid4(), datetime.now(UTC), Decimal("9.50"))
    manager.reconfigure(store=sqlite_url)
    async with manager:
        task = await manager.submit("invoice", params={"order": order})
        result = await task.result(30)

    assert result == Decimal("19.00")
    for value in (order, order.number, order.placed, order.total, b"\0\xff"):
        assert codec.decode(codec.encode(value)) == value


async def test_the_types_page_converts(sqlite_url: str) -> None:
    """The runner of the page is given an order, and its result is a number."""
    names: dict[str, Any] = {"__name__": "types_page"}
    exec(compile(read_programs("types.md")[0], "types.md", "exec", dont_inherit=True), names)
    order = names["Order"](uuid4(), datetime.now(UTC), [Decimal("9.50"), Decimal(1)])
    async with TaskManager(sqlite_url, ops=names["ops"]):
        result = await (await names["invoice"].submit(order)).result(30)

    assert result == Decimal("10.50")


async def test_the_sealed_values_of_the_codec_page_come_back(
    sqlite_url: str, tmp_path: Path
) -> None:
    """The store's files have no plain text, and another key opens nothing."""
    names: dict[str, Any] = {}
    exec(compile(read_programs("codec.md")[1], "codec.md", "exec", dont_inherit=True), names)
    sealed, other = names["Sealed"](b"a key"), names["Sealed"](b"another")

    async def greet(report: Any, name: str) -> str:
        await report.emit("greeted", {"name": name})
        return f"Hello {name}"

    async with TaskManager(sqlite_url, codec=sealed) as manager:
        first, second = [
            await manager.submit("greet", greet, params={"name": "Ada"}, idempotency_key="k")
            for _ in range(2)
        ]
        result = await first.result()
        async with TaskManager(sqlite_url, codec=other) as stranger:
            with pytest.raises(CodecFailed, match="sealed with another key"):
                await stranger.handle(first.task_id).result()
        files = await asyncio.to_thread(read_files, tmp_path)

    assert result == "Hello Ada"
    assert not second.created  # sealed in the same way, it is the same submit
    assert b"greeted" in files
    assert b"Ada" not in files


async def test_the_programs_of_the_schedules_page_run(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the page declares is in the store, and its functions do what they say."""
    names: dict[str, Any] = {"read_firing": read_firing}
    for program in read_programs("schedules.md"):
        exec(compile(program, "schedules.md", "exec", dont_inherit=True), names)
    manager = names["manager"]
    manager.reconfigure(store=sqlite_url)
    async with manager:
        declared = {one.name: one for one in (await manager.schedules.list()).schedules}
        await names["let_customers_choose"](manager)
        handle = await manager.schedules.trigger("nightly-eu")
        said = await names["tell_of"](manager, handle.task_id)
        fired = NewTask(new_task_id(), "x", idempotency_key=declared["often"].key_of(0))
        await manager.store.create(fired)
        said_of_fired = await names["tell_of"](manager, fired.task_id)
        by_caller = await names["build_report"].submit("us")
        said_of_other = await names["tell_of"](manager, by_caller.task_id)
    shown = capsys.readouterr().out

    assert declared["nightly-eu"].params == {"region": "eu"}
    assert (declared["nightly-eu"].time_zone, declared["often"].every) == ("Europe/Berlin", 900)
    assert declared["often"].overlap is Overlap.SKIP
    assert shown.startswith("eu: 1 days\n[('customer-7', datetime.datetime(")
    assert said == "nightly-eu, by hand"
    assert said_of_fired == "often, for 1970-01-01 00:00 UTC"
    assert said_of_other == "submitted by a caller"


async def test_the_program_of_the_incident_page_runs(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It pauses an op, says why, and resumes it."""
    names: dict[str, Any] = {"TaskManager": TaskManager}
    (program,) = read_programs("incident.md")
    exec(compile(program, "incident.md", "exec", dont_inherit=True), names)
    async with TaskManager(sqlite_url) as manager:
        await names["wait_for_the_relay"](manager)
        left = (await manager.list_paused()).pauses
    shown = capsys.readouterr().out.splitlines()

    assert shown[0].startswith("mail 20")
    assert shown[0].endswith("the relay is down")
    assert shown[1:] == ["['mail']"]
    assert left == ()


async def test_the_hooks_page_carries_a_tenant(sqlite_url: str) -> None:
    """From the submit to the run, by a param; a submit that a hook refuses makes no task."""
    (program,) = read_programs("hooks.md")
    names: dict[str, Any] = {"__name__": "hooks_page"}
    exec(compile(program, "hooks.md", "exec", dont_inherit=True), names)
    async with TaskManager(sqlite_url, ops=names["ops"]) as manager:
        names["tenant"].set("acme")
        task = await names["greet"].submit("Ada")

        assert await task.result(30) == "Ada of acme"
        assert (await task.status()).params == {"name": "Ada", "tenant_id": "acme"}
        assert [event.type for event in (await task.tape()).events][1] == "log"
        names["closed_accounts"].add("acme")
        with pytest.raises(names["AccountClosed"]):
            await names["greet"].submit("Ada")
        assert len((await manager.store.list()).tasks) == 1


async def test_the_program_of_the_messages_page_runs(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message is sent, and taken; the program ends with what it has brought about."""
    (program,) = read_programs("messages.md")
    program = program.replace("sqlite:///tasks.db", sqlite_url)
    code = compile(program, "messages.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, {"__name__": "messages_page"})

    assert capsys.readouterr().out == "published\n"


async def test_the_programs_of_the_resources_page_run(
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A real file is counted, several resources are one, and a test has another in its place."""
    monkeypatch.chdir(tmp_path)
    first, use, several, tests = read_programs("resources.md")
    names: dict[str, Any] = {
        "TaskManager": TaskManager,
        "__name__": "resources_page",
        "dataclass": dataclass,
        "run_op": run_op,
    }
    for program in (first, several, tests.replace("@pytest.fixture\n", "")):
        exec(compile(program, "resources.md", "exec", dont_inherit=True), names)
    async with names["open_shop"]() as shop:
        await shop.catalogue.executescript("CREATE TABLE items AS SELECT 9.5 AS price")
        await shop.catalogue.commit()
    use = use.replace("sqlite:///tasks.db", sqlite_url)
    code = compile(use, "resources.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, names)

    assert capsys.readouterr().out == "1\n"
    await names["test_the_function_alone"]()
    async with JudgedManager(ops=names["ops"], **names["tapescope_settings"]()) as manager:
        await names["test_cheap_items_are_counted"](manager)


async def test_the_ops_of_the_embed_page_are_submitted(sqlite_url: str) -> None:
    """The registry of the page, and the submit beside it."""
    programs = read_programs("embed.md")
    names: dict[str, Any] = {"TaskManager": TaskManager, "url": sqlite_url, "__name__": "embed"}
    exec(compile(programs[0], "embed.md", "exec", dont_inherit=True), names)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    await eval(compile(programs[1], "embed.md", "exec", flags=flags, dont_inherit=True), names)

    assert names["sizes"] == {"photos": 200}


def read_sync_page(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The names of each program of the page, as its module has them."""
    modules = [ModuleType(name) for name in ("script", "shop.tasks", "shop.views", "web")]
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    with django("test").override_settings(TASKS_URL=sqlite_url):
        for module, program in zip(modules, read_programs("sync.md"), strict=True):
            monkeypatch.setitem(sys.modules, module.__name__, module)
            program = program.replace("sqlite:///tasks.db", sqlite_url)
            exec(compile(program, "sync.md", "exec", dont_inherit=True), vars(module))
    return [vars(module) for module in modules]


def test_the_programs_of_the_sync_page_submit(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script is run as one, the views of Django and of Flask are asked by a client each."""
    script, in_django, views, in_flask = read_sync_page(sqlite_url, monkeypatch)
    (program, *_) = read_programs("sync.md")
    program = program.replace("sqlite:///tasks.db", sqlite_url)
    exec(compile(program, "sync.md", "exec", dont_inherit=True), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    with in_django["tasks"] as tasks:
        request = django("test").RequestFactory().post("/")
        codes = [views["begin"](request, "photos").status_code for _ in range(2)]
        (task,) = tasks.list(op="resize", idempotency_key="photos").tasks
        shown = views["show"](request, task.task_id).content
        missing = views["show"](request, "no-task").status_code
    in_flask["tasks"].reconfigure(work=True)
    with in_flask["tasks"]:
        client = in_flask["app"].test_client()
        greeted = client.post("/greet/Ada").get_json()["task"]
        lines = client.get(f"/tasks/{greeted}/events").text.splitlines()

    assert printed.splitlines()[-1] == "{'photos': 200}"
    assert script["ops"].get("resize") is not None
    assert (codes, shown, missing) == ([201, 200], b'{"status": "pending"}', 404)
    assert lines == ["1 task_started", "2 log", "3 final"]


async def test_the_programs_of_the_client_page_submit(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is run as a program, in a thread beside the server that it asks."""
    manager = TaskManager(sqlite_url, drain=0)

    @manager.op("resize")
    async def resize(report: Reporter, folder: str) -> dict[str, int]:
        return {folder: 200}

    async with manager, serving(make_app(manager)) as (server, _):
        for program in read_programs("client.md"):
            program = program.replace("http://127.0.0.1:8470", server.url)
            code = compile(program, "client.md", "exec", dont_inherit=True)
            await asyncio.to_thread(exec, code, {"__name__": "__main__"})
        tasks = (await manager.store.list()).tasks

    printed = capsys.readouterr().out.splitlines()
    assert printed == ["1 task_started", "2 final", "{'photos': 200}", "{'photos': 200}"]
    assert tasks[0].idempotency_key == "order-17"
