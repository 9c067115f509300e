"""The shorter programs of the pages run, too, each with the names that its page leaves to you."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import os
import re
import signal
import sqlite3
from contextlib import closing
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiosqlite
import asyncpg
import pytest
from fastapi import FastAPI, Request
from opentelemetry import trace

import tapescope
from tapescope import Ops, Reporter, TaskManager, TaskStatus
from tapescope.http.api import make_app
from tapescope.model import ToldKind
from tapescope.sync import SyncManager
from tapescope.testing import until
from tests.http.client import asking, serving
from tests.support.lenders import path_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def read_programs(page: str) -> list[str]:
    """The programs of a page, in their order."""
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def find_program(page: str, part: str) -> str:
    """The one that has this in it."""
    (found,) = [program for program in read_programs(page) if part in program]
    return found


async def run(program: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run it in this loop, where it may wait, and give its names; those given are its own."""
    names.setdefault("__name__", "page")
    running = eval(compile(program, "page", "exec", flags=FLAGS, dont_inherit=True), names)
    if inspect.isawaitable(running):
        await running
    return names


def test_every_block_is_python() -> None:
    """Of each page; a block that begins further in is part of a class's body, or of a test's."""
    blocks = [(page.name, block) for page in PAGES for block in read_programs(str(page))]

    assert len(blocks) > 60
    for name, block in blocks:
        within = f"async def within():\n{block}" if block.startswith(" ") else block
        compile(within, name, "exec", FLAGS)


# --- the README -----------------------------------------------------------------------------------


async def test_the_first_task_of_the_readme_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder that has tests."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("a\nb\n")
    monkeypatch.chdir(tmp_path)
    program = find_program("README.md", "async def count")
    code = compile(program, "README.md", "exec", dont_inherit=True)
    await asyncio.to_thread(exec, code, {"__name__": "__main__"})

    assert capsys.readouterr().out.splitlines() == [
        "1 task_started",
        "2 progress",
        "3 final",
        "{'files': 1, 'lines': 2}",
    ]


async def test_the_other_programs_of_the_readme_submit(sqlite_url: str) -> None:
    """To ops that are registered, through a server, and without a loop."""
    registry = find_program("README.md", "ops = Ops()").replace("...", "return {folder: 1}")
    registry = registry.replace("postgresql://app@localhost/shop", sqlite_url)
    names = await run(registry, {"Ops": Ops, "Reporter": Reporter, "TaskManager": TaskManager})
    through = find_program("README.md", "async with Client(")
    without = find_program("README.md", "SyncManager(")
    without = without.replace("postgresql://app@localhost/shop", sqlite_url)
    client = (await run("from tapescope.client import Client", {}))["Client"]
    async with names["manager"] as manager, serving(make_app(manager)) as (server, _):
        by_server = await run(
            through.replace("http://127.0.0.1:8470", server.url), {"Client": client}
        )
        given = {"ops": names["ops"], "resize": names["resize"]}
        code = compile(without, "README.md", "exec", dont_inherit=True)
        await asyncio.to_thread(exec, code, given)
        await asyncio.to_thread(given["tasks"].close)

    assert by_server["result"] == {"photos": 1}
    assert given["sizes"] == {"photos": 1}


# --- workers and their settings -------------------------------------------------------------------


async def test_the_retries_page_tries_again(sqlite_url: str) -> None:
    """What has no page is given up at once, what fails otherwise is tried again."""
    fetching, once, importing = read_programs("docs/howto/retries.md")
    answers = {"a": SimpleNamespace(status=200, body=b"abc"), "b": SimpleNamespace(status=404)}

    async def get(url: str) -> Any:
        return answers[url]

    def read(path: str) -> list[str]:
        return [path, path]

    names = await run(fetching, {"get": get})
    calls: list[int] = []

    async def work(report: Reporter) -> None:
        calls.append(report.attempt)
        if len(calls) == 1:
            raise ConnectionError

    async with TaskManager(sqlite_url, ops=names["ops"], retry_delay=0.01) as manager:
        length = await (await names["fetch"].submit("a")).result(30)
        missing = await names["fetch"].submit("b")
        with pytest.raises(tapescope.TaskFailed, match="no such page"):
            await missing.result(30)
        again = {"manager": manager, "work": work, "RetryPolicy": tapescope.RetryPolicy}
        await run(once, again)
        await until(lambda: len(calls) == 2, within=30)
        imported = await run(importing, {**names, "read": read})
        await (await imported["import_rows"].submit("file")).result(30)

    assert length == 3
    assert calls == [1, 2]


async def test_the_settings_of_the_pages_are_taken(sqlite_url: str) -> None:
    """A retention, a redaction, an op of a manager, slots that are lent."""
    retention = find_program("docs/howto/retention.md", "Retention(")
    redaction = find_program("docs/howto/what-is-kept.md", "def redact")
    worker = find_program("docs/howto/workers.md", 'manager.op("resize"').replace(
        "postgresql://app@db/shop", sqlite_url
    )
    lent = find_program("docs/howto/embed.md", "max_lent")
    names: dict[str, Any] = {"TaskManager": TaskManager, "url": sqlite_url, "scrub": repr}
    names |= {"ToldKind": ToldKind, "Telling": tapescope.Telling, "__name__": "page"}
    managers = [
        (await run(program.replace("sqlite:///tasks.db", sqlite_url), dict(names)))["manager"]
        for program in (retention, redaction, worker, lent)
    ]

    async def tell(report: Reporter) -> str:
        return "secret"

    for manager in managers:
        async with manager:
            task = await manager.submit("tell", tell)
            told = await task.result(30)
            assert told == ("'secret'" if manager is managers[1] else "secret")


async def test_tasks_are_found_by_what_they_belong_to(sqlite_url: str) -> None:
    """By the tags and by the parent of the page on context; and a request's context is carried."""
    tags, parents, of_request = read_programs("docs/howto/context.md")
    ops, person = Ops(), ContextVar("person", default="")

    async def work(report: Reporter, folder: str = "") -> None:
        pass

    async def send_welcome(report: Reporter, to: str) -> str:
        return person.get()

    resize, clean_up = ops.op("resize")(work), ops.op("clean_up")(work)
    async with TaskManager(sqlite_url, ops=ops) as manager:
        names = await run(tags, {"resize": resize, "manager": manager})
        more = {"ops": ops, "resize": resize, "clean_up": clean_up, "Reporter": Reporter}
        run_import = (await run(parents, {**more, "manager": manager}))["run_import"]
        task = await run_import.submit(["a", "b"])
        await task.result(30)
        children = (await manager.store.list(parent_id=task.task_id)).tasks
        person.set("ann")
        given = {"manager": manager, "address": "a", "send_welcome": send_welcome}
        await run(of_request, given)
        (welcome,) = (await manager.store.list(op="welcome")).tasks
        told = await manager.handle(welcome.task_id).result(30)

    assert len(names["page"].tasks) == sum(names["counts"].values()) == 1
    assert [(one.op, one.cancel_with_parent) for one in children] == [("resize", True)] * 2
    assert told == "ann"


async def test_what_a_runner_logs_goes_on_its_tape(sqlite_url: str) -> None:
    """With the handler of the page on embedding."""
    handlers = list(logging.getLogger().handlers)

    async def talk(report: Reporter) -> None:
        logging.getLogger("shop").warning("little is left")

    try:
        await run(find_program("docs/howto/embed.md", "TapeHandler("), {})
        async with TaskManager(sqlite_url) as manager:
            task = await manager.submit("talk", talk)
            await task.result(30)
            types = [event.type for event in (await task.tape()).events]
    finally:
        for handler in set(logging.getLogger().handlers) - set(handlers):
            logging.getLogger().removeHandler(handler)

    assert types == ["task_started", "log", "final"]


def test_the_program_of_the_embed_page_ends_by_a_signal(sqlite_url: str) -> None:
    """It serves until it is told to stop, and its manager is closed then."""
    program = find_program("docs/howto/embed.md", "run_main(main()")
    assert "        ...  # serve\n" in program
    program = program.replace("sqlite:///tasks.db", sqlite_url).replace(
        "        ...  # serve\n",
        "        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)\n"
        "        await asyncio.Event().wait()\n",
    )
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    names: dict[str, Any] = {"__name__": "__main__", "asyncio": asyncio, "os": os}
    with pytest.raises((SystemExit, KeyboardInterrupt, asyncio.CancelledError)):
        exec(compile(program, "embed.md", "exec", dont_inherit=True), names)

    assert not names["manager"].is_open
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


# --- telemetry and HTTP ---------------------------------------------------------------------------


async def test_the_telemetry_page_sets_up(sqlite_url: str) -> None:
    """Providers of its own, a sampler for links, and a handler that knows the trace."""
    program = find_program("docs/howto/opentelemetry.md", "async with setup(")
    program = program.replace("        ...", "        seen = manager.is_open")
    opened = await run(program, {"url": sqlite_url})
    sampled = await run(find_program("docs/howto/opentelemetry.md", "LinkSampler("), {})
    handler = logging.StreamHandler()
    await run(find_program("docs/howto/opentelemetry.md", "TraceFilter()"), {"handler": handler})
    span = sampled["provider"].get_tracer("page").start_span("one")

    assert opened["seen"]
    assert span.get_span_context() != trace.INVALID_SPAN_CONTEXT
    assert len(handler.filters) == 1


async def test_the_application_of_the_serve_page_knows_its_users(sqlite_url: str) -> None:
    """Whom it finds may read; whom it does not is refused."""
    names: dict[str, Any] = {"FastAPI": FastAPI, "Request": Request, "lifespan": None}

    def find_user(request: Request) -> str | None:
        return request.headers.get("user")

    names["find_user"] = find_user
    async with TaskManager(sqlite_url) as manager:
        names["manager"] = manager
        app = (await run(find_program("docs/howto/serve.md", "make_app(manager, who="), names))[
            "app"
        ]
        async with asking(app) as client:
            known = await client.get("/tasks/v1/tasks", headers={"user": "ann"})
            unknown = await client.get("/tasks/v1/tasks")

    assert (known.status_code, unknown.status_code) == (200, 401)


# --- transactions ---------------------------------------------------------------------------------


def make_bill() -> tuple[Ops, Any]:
    """The op that the page on transactions submits."""
    ops = Ops()

    @ops.op("bill")
    async def bill(report: Reporter, number: int) -> int:
        return number

    return ops, bill


async def test_the_transactions_page_submits_on_sqlite(sqlite_url: str) -> None:
    """By the driver, with calls that block and with such that are awaited."""
    ops, bill = make_bill()
    file = path_of(sqlite_url)
    async with TaskManager(sqlite_url, ops=ops, work=False) as manager:
        names: dict[str, Any] = {"bill": bill, "tasks": SyncManager(sqlite_url, ops=ops)}

        def order() -> None:
            program = find_program("docs/howto/transactions.md", "import sqlite3")
            exec(compile(program, "transactions.md", "exec", dont_inherit=True), names)
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("CREATE TABLE orders (number int)")
                names["tasks"].open()
                names["order"](connection, 1)
            names["tasks"].close()

        await asyncio.to_thread(order)
        await run(find_program("docs/howto/transactions.md", "import aiosqlite"), names)
        async with aiosqlite.connect(file) as awaited:
            await names["order"](awaited, 2)
        found = {task.params["number"] for task in (await manager.store.list()).tasks}

    assert found == {1, 2}


async def test_the_postgres_page_lends_a_pool_and_a_connection(postgres_url: str) -> None:
    """The pool of the page carries a manager; a transaction of asyncpg carries a submit."""
    dsn, _, schema = postgres_url.partition("&schema=")
    pooled = find_program("docs/howto/postgres.md", "create_pool(dsn)")
    pooled = pooled.replace('"tapescope"', repr(schema)).replace("    ...", "    seen = store.name")
    names = await run(
        pooled,
        {
            "asyncpg": asyncpg,
            "dsn": dsn,
            "TaskManager": TaskManager,
            "PostgresStore": (await run("from tapescope_adapters.postgres import *", {}))[
                "PostgresStore"
            ],
        },
    )
    await names["store"].aclose()
    await names["pool"].close()
    submitting = find_program("docs/howto/postgres.md", 'submit("bill"')
    table = f"orders_{schema}"
    submitting = submitting.replace("INSERT INTO orders ...", f"INSERT INTO {table} VALUES (7)")
    async with TaskManager(postgres_url, work=False) as manager:
        connection = await asyncpg.connect(dsn)
        await connection.execute(f"CREATE TABLE {table} (number int)")
        told = await run(submitting, {"connection": connection, "manager": manager})
        status = (await told["task"].status()).status
        await connection.close()

    assert names["seen"]
    assert status is TaskStatus.PENDING
